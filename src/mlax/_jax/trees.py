"""`jax.tree_util` with complete types: parts of JAX's own are unknown to type checkers."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import jax

__all__ = [
    "KeyPath",
    "TreeDef",
    "UnsortableError",
    "class_of",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map_leaves",
    "map_with_path",
]

KeyPath: TypeAlias = tuple[Any, ...]
"""Keys from the root of a tree to one of its nodes."""

_IsLeaf: TypeAlias = Callable[[Any], bool] | None
_tree_util: Any = jax.tree_util


class TreeDef(Protocol):
    """The structure of a tree."""

    def __hash__(self) -> int: ...

    def unflatten(self, leaves: Iterable[Any], /) -> Any:
        """Return the tree with these leaves."""
        ...

    def flatten_up_to(self, tree: Any, /) -> list[Any]:
        """Return what another tree has where this structure has leaves."""
        ...


def class_of(value: object) -> Any:
    """Return `type(value)`, as Any. For a value of type Any, checkers would find `type(value)` partly unknown."""
    return type(value)


class UnsortableError(TypeError):
    """The keys of a dict cannot be sorted, in whose order JAX flattens it. JAX's own error names none."""

    def __init__(self, place: str, *keys: object) -> None:
        found = " and ".join(f"{key!r} ({type(key).__name__})" for key in keys)
        where = f", {place}," if place else ""
        # Of tuples, for example, it is the parts that have no order.
        of_one_type = len({type(key) for key in keys}) == 1
        cure = "keys that Python can compare" if of_one_type else "keys of one type"
        super().__init__(
            f"the keys of a dict{where} cannot be sorted: {found}; use {cure}, such as str"
        )


def flatten(tree: Any, is_leaf: _IsLeaf = None) -> tuple[list[Any], TreeDef]:
    """Return the leaves and the structure of a tree.

    Raises:
        UnsortableError: The keys of a dict cannot be sorted.
    """
    try:
        found, treedef = _tree_util.tree_flatten(tree, is_leaf)
    except ValueError:
        _refuse_unsortable(tree, is_leaf)
        raise
    return found, treedef


def flatten_with_path(
    tree: Any, is_leaf: _IsLeaf = None
) -> tuple[list[tuple[KeyPath, Any]], TreeDef]:
    """Return the leaves with their paths, and the structure of a tree.

    Raises:
        UnsortableError: The keys of a dict cannot be sorted.
    """
    try:
        found, treedef = _tree_util.tree_flatten_with_path(tree, is_leaf)
    except ValueError:
        _refuse_unsortable(tree, is_leaf)
        raise
    return found, treedef


def _refuse_unsortable(tree: Any, is_leaf: _IsLeaf, place: str = "") -> None:
    """Raise an error for the first two keys, in one dict of a tree, that have no order."""
    if is_leaf is not None and is_leaf(tree):
        return
    if issubclass(class_of(tree), dict):
        items: dict[Any, Any] = tree
        for pair in itertools.pairwise(items):
            try:
                sorted(pair)
            except TypeError:
                raise UnsortableError(place, *pair) from None
        children = [(f"[{key!r}]", child) for key, child in items.items()]
    else:
        entries = flatten_with_path(tree, lambda inner: inner is not tree)[0]
        children = [(jax.tree_util.keystr(path), child) for path, child in entries if path]
    for key, child in children:
        _refuse_unsortable(child, is_leaf, place + key)


def leaves(tree: Any, is_leaf: _IsLeaf = None) -> list[Any]:
    """Return the leaves of a tree."""
    return flatten(tree, is_leaf)[0]


def leaves_with_path(tree: Any, is_leaf: _IsLeaf = None) -> list[tuple[KeyPath, Any]]:
    """Return the leaves of a tree with their paths."""
    return flatten_with_path(tree, is_leaf)[0]


def map_leaves(function: Callable[[Any], Any], tree: Any, is_leaf: _IsLeaf = None) -> Any:
    """Return the tree with each leaf replaced by `function(leaf)`."""
    found, treedef = flatten(tree, is_leaf)
    return treedef.unflatten(map(function, found))


def map_with_path(
    function: Callable[[KeyPath, Any], Any], tree: Any, is_leaf: _IsLeaf = None
) -> Any:
    """Return the tree with each leaf replaced by `function(path, leaf)`."""
    found, treedef = flatten_with_path(tree, is_leaf)
    return treedef.unflatten(function(path, leaf) for path, leaf in found)
