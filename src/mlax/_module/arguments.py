"""Arguments that a constructor does not take: what to write instead, for users of other libraries too."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mlax._checking.names import refuse_unknown
from mlax._module.printing import shorten

__all__ = ["refuse_arguments", "takes_input"]

_STARS: dict[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_SIZES = "The size of the input is that of the first input"
_SIZES_OF_INPUTS = [
    *("in_features", "in1_features", "in2_features", "in_channels", "in_size", "in_dim"),
    *("input_size", "input_dim", "input_dims", "input_features", "num_features", "num_channels"),
    *("normalized_shape", "channels", "dim", "dims", "d_model", "embed_dim", "query_size"),
]
_OPTIONS = [
    "deterministic",
    "inference",
    "inference_mode",
    "train",
    "training",
    "use_running_average",
]

_INSTEAD = {
    **dict.fromkeys(
        _OPTIONS,
        "It is an option of a call: mlax.training(model, rng=key)(x), mlax.inference(model)(x).",
    ),
    **dict.fromkeys(
        ["key", "rng", "rngs"],
        "Keys are given to mlax.set_up and mlax.training: leave it out.",
    ),
    **dict.fromkeys(
        ["dtype", "param_dtype"],
        "Parameters have the dtype of the first input, or their own by Parameter(dtype=...). To compute in another "
        "dtype, wrap the model: nn.Compute(model, dtype).",
    ),
    "bias_init": "Write bias=Parameter(init=...).",
    "kernel_init": "Write kernel=Parameter(init=...).",
    "scale_init": "Write scale=Parameter(init=...).",
    "use_bias": "Write bias=None for none.",
    "use_scale": "Write scale=None for none.",
    "use_weight": "Write scale=None for none.",
    "affine": "Write scale=None and bias=None for none.",
    "elementwise_affine": "Write scale=None and bias=None for none.",
}
"""Names in PyTorch, Equinox, Flax and MLX of what is not an argument of a layer here, and what to do."""


def takes_input(set_up: Callable[..., Any]) -> bool:
    """Return whether a `set_up` is given more than a key: sizes follow from the first input."""
    return not {*list(inspect.signature(set_up).parameters)[1:]} <= {"rng"}


def refuse_arguments(
    cls: type,
    init: Callable[..., None],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    infers: bool,
) -> None:
    """Raise a readable error if a constructor does not take some arguments or lacks others; none if it is content.

    Args:
        cls: The class.
        init: Its `__init__`.
        args: The arguments by position, without `self`.
        kwargs: Those by keyword.
        infers: Whether modules of the class make their nodes from the first input.

    Raises:
        TypeError: There are too many, a name is unknown, or one is missing.
    """
    parameters = list(inspect.signature(init).parameters.values())[1:]
    kinds = [each.kind for each in parameters]
    positional = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    twice = [name for name in positional[: len(args)] if name in kwargs]
    if twice or (len(args) > len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds):
        given = [*map(shorten, args), *(f"{name}={shorten(kwargs[name])}" for name in twice)]
        if infers and len(given) == len(positional) + 1:
            cure = (
                f"If {given[0]} is the size of the input: it is that of the first input, so write "
                f"{cls.__name__}({', '.join(given[1:])})."
            )
        elif others := [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]:
            cure = f"These are given by name: {', '.join(others)}."
        else:
            cure = "Leave the others out."
        taken = f"{', '.join(positional)} by position" if positional else "nothing by position"
        raise TypeError(f"{cls.__name__} takes {taken}, got {', '.join(given)}.\n  {cure}")
    names = [f"{_STARS.get(each.kind, '')}{each.name}" for each in parameters]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        sizes = dict.fromkeys(_SIZES_OF_INPUTS if infers else (), f"{_SIZES}: leave it out.")
        refuse_unknown(cls.__name__, kwargs, names, _INSTEAD | sizes)
    given_names = {*positional[: len(args)], *kwargs}
    missing = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in _STARS and each.name not in given_names
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise TypeError(
            f"{cls.__name__}: {' and '.join(missing)} {verb} missing.\n  The arguments are {', '.join(names)}."
        )
