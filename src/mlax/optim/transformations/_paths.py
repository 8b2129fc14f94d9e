"""Functions of a weight's path: predicates and scales."""

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array

from mlax._checking import predicates
from mlax._packing.weights import WeightsIn, weights_in
from mlax.optimizer._narrow import outside
from mlax.tree import describe, keystr

__all__ = ["PathPredicate", "answers", "as_callable", "asked", "holds", "warn_of_none"]

PathPredicate: TypeAlias = Callable[[str, Array], bool]
"""A function of a weight's path, `"layers.0.kernel"`, and the weight. Only shape and dtype are known under `jit`."""


def as_callable(value: Any) -> Any:
    """Return a function; raise an error for anything that cannot be called."""
    if not callable(value):
        raise TypeError("a function of a path and a weight")
    return value


def answers(name: str, function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Return the tree with each leaf replaced by `function(path, leaf)`, where a path is `"layers.0.kernel"`.

    For a flat array in a `Packed`, the function is called for each weight in it, with the weight's
    original path, and its shape and dtype in place of the weight. All results have to be equal.

    Args:
        name: The option, for the message: `MultiOptimizer.filters`.
        function: Returns something that can be compared.
        tree: A tree of arrays.

    Raises:
        ValueError: The results for weights in one flat array differ.
    """
    found, treedef = weights_in(tree)
    return treedef.unflatten(_answer(name, function, entry) for entry in found)


def asked(name: str, function: Callable[[str, Any], Any], path: str, weight: Any) -> Any:
    """Return `function(path, weight)`. An error that it raises gets a note that says for which weight."""
    return predicates.asked(name, function, (path, weight), lambda: _shown(path, weight))


def holds(name: str, predicate: PathPredicate, path: str, weight: Any) -> bool:
    """Return the answer of a predicate.

    Raises:
        TypeError: The answer is neither True nor False.
    """
    cure = "Decide by the path, and by `shape`, `ndim` and `dtype` of the weight: lambda path, w: w.ndim > 1."
    return predicates.holds(name, predicate, (path, weight), lambda: _shown(path, weight), cure)


def _shown(path: str, weight: Any) -> str:
    return f"{path!r}, {describe(weight)}"


def warn_of_none(name: str, tree: Any) -> None:
    """Warn that a predicate accepts no weight of a tree that has some: it is perhaps misspelt.

    Args:
        name: The option, for the message: `MultiOptimizer.filters[0]`.
        tree: A tree of arrays.
    """
    paths = [path for entry in weights_in(tree)[0] for path, _ in entry.weights]
    if paths:
        shown = ", ".join(map(repr, paths[:3])) + (", ..." if len(paths) > 3 else "")
        warnings.warn(
            f"{name} accepts no weight.\n  It is asked about paths such as {shown}.",
            UserWarning,
            stacklevel=outside(),
        )


def _answer(name: str, function: Callable[[str, Any], Any], entry: WeightsIn) -> Any:
    (first, weight), *others = entry.weights
    answer = function(first, weight)
    for path, other in others:
        different = function(path, other)
        if different != answer:
            raise ValueError(
                f"{name}: the result is {describe(answer)} for {first!r}, {describe(weight)}, but "
                f"{describe(different)} for {path!r}, {describe(other)}; both are in one flat array, "
                f"{keystr(entry.path)}.\n  Pack them separately: mlax.pack(tree, group=...), with a function of "
                "a path and an array that also returns different results for them"
            )
    return answer
