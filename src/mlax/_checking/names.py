"""Arguments that a function does not have: what they are called here, if it is known."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

__all__ = ["refuse_unknown"]

_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "accumulator_dtype": ("slot_dtype",),
    "activation_fn": ("activation",),
    "alpha": ("decay", "b2"),
    "beta1": ("b1",),
    "beta2": ("b2",),
    "beta_1": ("b1",),
    "beta_2": ("b2",),
    "betas": ("b1", "b2", "b3"),
    "cell_type": ("cell",),
    "decay": ("rho", "b2", "momentum", "weight_decay"),
    "dilation_rate": ("dilation",),
    "drop_rate": ("rate",),
    "dropout": ("rate",),
    "dropout_rate": ("rate",),
    "embed_dim": ("features",),
    "embedding": ("kernel",),
    "embedding_dim": ("features",),
    "embedding_size": ("features",),
    "epsilon": ("eps",),
    "eta": ("trust_coefficient",),
    "feature_group_count": ("groups",),
    "features": ("out_features", "out_channels"),
    "groups": ("num_groups",),
    "head_dim": ("head_features",),
    "hidden_dim": ("hidden_features", "features"),
    "hidden_dims": ("hidden_features", "features"),
    "hidden_size": ("hidden_features", "features"),
    "intermediate_size": ("hidden_features",),
    "is_causal": ("causal",),
    "kernel_dilation": ("dilation",),
    "l2": ("weight_decay",),
    "lr": ("learning_rate",),
    "max_lr": ("learning_rate", "max_learning_rate"),
    "mu_dtype": ("slot_dtype",),
    "n_heads": ("num_heads",),
    "nhead": ("num_heads",),
    "num_layers": ("depth",),
    "num_query_heads": ("num_heads",),
    "out_features": ("out_channels",),
    "out_size": ("out_features",),
    "output_dim": ("out_features",),
    "output_dims": ("out_features",),
    "p": ("rate",),
    "qk_size": ("head_features",),
    "r": ("rank",),
    "rho": ("decay", "b2"),
    "step_size": ("learning_rate",),
    "stepsize": ("learning_rate",),
    "strides": ("stride",),
    "theta": ("rope_base", "base"),
    "use_query_bias": ("query_bias",),
    "vocab_size": ("num_embeddings",),
    "wd": ("weight_decay",),
    "weight": ("kernel", "scale"),
    "weight_decay_rate": ("weight_decay",),
    "window_shape": ("kernel_size",),
}
"""Names in PyTorch, Optax, Equinox, Flax, MLX and Keras, and what they may be here."""


def refuse_unknown(
    where: str,
    given: Iterable[str],
    known: Collection[str],
    instead: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise an error that names an unknown argument and what it may be called here; none if all are known.

    Args:
        where: What is called, for the message: `Adam`.
        given: Names of the keyword arguments.
        known: Names that there are.
        instead: What to do in place of giving some arguments, by their names elsewhere.

    Raises:
        TypeError: One of the names is unknown.
    """
    for name in given:
        if name not in known:
            raise TypeError(
                f"{where}: there is no argument {name!r}.\n  {_cure(name, known, instead)}"
            )


def _cure(name: str, known: Collection[str], instead: Mapping[str, str]) -> str:
    here = [one for one in _ELSEWHERE.get(name, ()) if one in known]
    if name == "betas" and here:  # one argument for several; the others may be one of several
        return f"Here it is {' and '.join(here)}."
    if len(here) == 1:
        return f"Here it is {here[0]}."
    if not here and name in instead:
        return instead[name]
    if here := here or difflib.get_close_matches(name, known, n=1):
        return f"Is {' or '.join(here)} meant?"
    return f"The arguments are {', '.join(known)}." if known else "It takes none."
