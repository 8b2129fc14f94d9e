"""Predicates and numbers that depend on a weight's path."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from jaxtyping import Array

from mlax._trees import map_with_path
from mlax.tree import dotted

__all__ = ["PathPredicate", "as_callable", "map_with_dotted_path"]

T = TypeVar("T")

PathPredicate: TypeAlias = Callable[[str, Array], bool]
"""Of a weight's path, `"layers.0.kernel"`, and the weight. It may look at shape and dtype; values may be tracers."""


def as_callable(value: Any) -> Any:
    """Return a function of a path and a weight as it is, or refuse what is none."""
    if not callable(value):
        raise TypeError("a function of a path and a weight")
    return value


def map_with_dotted_path(function: Callable[[str, Any], Any], tree: T) -> T:
    """Return the tree with each leaf replaced by `function(path, leaf)`, the path as in `"layers.0.kernel"`."""
    result: T = map_with_path(lambda path, leaf: function(dotted(path), leaf), tree)
    return result
