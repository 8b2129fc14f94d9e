"""Labels: hyperparameters that each leaf of the weights may have otherwise.

    blocks: Annotated[Label[Literal["leaf", "row"]], label("leaf", "row")] = "leaf"

A label is one value for all leaves, or a function of the path and the array of each. `Optimizer.labelled` calls it
once, when a state is made, and puts a tuple with the label of each leaf in its place: that is static, and part of the
structure of the state. `Optimizer.per_leaf` returns the hyperparameters as each leaf sees them, with one value again.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

from jaxtyping import Array

from mlax._checking import predicates
from mlax._packing.weights import weights_in
from mlax.optimizer._specified import Specification, is_plain, shown
from mlax.tree import describe

__all__ = ["Label", "label", "labels_of"]

L = TypeVar("L")

Label: TypeAlias = L | Callable[[str, Array], L]
"""A value for all leaves, or a function of a leaf's path, `"layers.0.kernel"`, and the leaf, which returns its value.
Only shape and dtype are known under `jit`."""


def label(*choices: str | bool) -> Specification:
    """Describe a hyperparameter that is one of some words, or True or False, and that may differ between leaves."""
    expected = f"one of {', '.join(map(repr, choices))}, or a function of a path and a weight"

    def normalise(value: Any) -> Any:
        if type(value) is tuple:  # the labels of all leaves, from a state
            return tuple(_choice(one, choices, expected) for one in cast("Any", value))
        return value if callable(value) else _choice(value, choices, expected)

    spelling = f"label({', '.join(map(repr, choices))})"
    return Specification(normalise, labels=choices, spelling=spelling)


def _choice(value: Any, choices: tuple[str | bool, ...], expected: str) -> str | bool:
    plain = value.item() if is_plain(value) else value
    if not isinstance(plain, str | bool) or plain not in choices:
        raise ValueError(expected)
    return plain


def labels_of(
    cls: str, name: str, function: Callable[[str, Any], Any], choices: Any, weights: object
) -> tuple[str | bool, ...]:
    """Return the label of each leaf of the weights.

    Args:
        cls: The optimizer, for messages.
        name: Its hyperparameter.
        function: Returns the label of a weight, given its path and the weight.
        choices: The allowed labels.
        weights: A tree of arrays.

    Raises:
        ValueError: A label is not allowed, or weights in one flat array of a `Packed` have different ones.
    """
    expected = f"one of {', '.join(map(repr, choices))}"
    labels: list[str | bool] = []
    for entry in weights_in(weights)[0]:
        found: dict[str | bool, str] = {}
        for path, weight in entry.weights:
            where = functools.partial("{!r}, {}".format, path, describe(weight))
            answer = predicates.asked(f"{cls}.{name}", function, (path, weight), where)
            try:
                found.setdefault(_choice(answer, choices, expected), path)
            except ValueError:
                text = f"{cls}: {name} of {path!r} must be {expected}, got {shown(answer)}"
                raise ValueError(text) from None
        if len(found) > 1:
            (one, first), (other, second), *_ = found.items()
            raise ValueError(
                f"{cls}: {name} is {one!r} for {first!r}, but {other!r} for {second!r}; both are in one flat array.\n"
                "  Pack them separately: mlax.pack(tree, group=...), with a function of a path and an array that also "
                "returns different results for them"
            )
        labels += found
    return tuple(labels)
