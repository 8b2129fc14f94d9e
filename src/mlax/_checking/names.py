"""Arguments that a function does not have: what they are called here, if it is known."""

import difflib
from collections.abc import Collection, Iterable

__all__ = ["refuse_unknown"]

_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "accumulator_dtype": ("slot_dtype",),
    "alpha": ("decay", "b2"),
    "beta1": ("b1",),
    "beta2": ("b2",),
    "beta_1": ("b1",),
    "beta_2": ("b2",),
    "betas": ("b1", "b2", "b3"),
    "decay": ("rho", "b2", "momentum", "weight_decay"),
    "epsilon": ("eps",),
    "eta": ("trust_coefficient",),
    "l2": ("weight_decay",),
    "lr": ("learning_rate",),
    "max_lr": ("learning_rate", "max_learning_rate"),
    "mu_dtype": ("slot_dtype",),
    "rho": ("decay", "b2"),
    "step_size": ("learning_rate",),
    "stepsize": ("learning_rate",),
    "wd": ("weight_decay",),
    "weight_decay_rate": ("weight_decay",),
}
"""Names in PyTorch, Optax, MLX and Keras, and what they may be here."""


def refuse_unknown(where: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise an error that names an unknown argument and what it may be called here; none if all are known.

    Args:
        where: What is called, for the message: `Adam`.
        given: Names of the keyword arguments.
        known: Names that there are.

    Raises:
        TypeError: One of the names is unknown.
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{where}: there is no argument {name!r}.\n  {_cure(name, known)}")


def _cure(name: str, known: Collection[str]) -> str:
    here = [one for one in _ELSEWHERE.get(name, ()) if one in known]
    if name == "betas" and here:  # one argument for several; the others may be one of several
        return f"Here it is {' and '.join(here)}."
    if len(here) == 1:
        return f"Here it is {here[0]}."
    if here := here or difflib.get_close_matches(name, known, n=1):
        return f"Is {' or '.join(here)} meant?"
    return f"The arguments are {', '.join(known)}." if known else "It takes none."
