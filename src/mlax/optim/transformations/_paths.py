"""Predicates and numbers that depend on a weight's path."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array

from mlax._packing.weights import WeightsIn, weights_in
from mlax.tree import describe, keystr

__all__ = ["PathPredicate", "answers", "as_callable"]

PathPredicate: TypeAlias = Callable[[str, Array], bool]
"""Of a weight's path, `"layers.0.kernel"`, and the weight. It may look at shape and dtype; values may be tracers."""


def as_callable(value: Any) -> Any:
    """Return a function of a path and a weight as it is, or refuse what is none."""
    if not callable(value):
        raise TypeError("a function of a path and a weight")
    return value


def answers(name: str, function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Return the tree with each leaf replaced by `function(path, leaf)`, the path as in `"layers.0.kernel"`.

    Of a flat array in a `Packed` the function is asked for each weight in it, with the path that it had, and with shape
    and dtype in the place of the weight.

    Args:
        name: Who asks: `MultiOptimizer.filters`.
        function: Gives something that can be compared.
        tree: A tree of arrays.

    Raises:
        ValueError: Weights in one flat array have different answers.
    """
    found, treedef = weights_in(tree)
    return treedef.unflatten(_answer(name, function, entry) for entry in found)


def _answer(name: str, function: Callable[[str, Any], Any], entry: WeightsIn) -> Any:
    (first, weight), *others = entry.weights
    answer = function(first, weight)
    for path, other in others:
        different = function(path, other)
        if different != answer:
            raise ValueError(
                f"{name}: the answer is {describe(answer)} for {first!r}, {describe(weight)}, and "
                f"{describe(different)} for {path!r}, {describe(other)}, and both lie in one flat array, "
                f"{keystr(entry.path)}.\n  Pack them apart: mlax.pack(tree, group=...), with a function of a "
                "path and an array that gives them different answers too"
            )
    return answer
