"""Leaf nodes as PyTrees: their registration with JAX, the keys of their data, flatten and unflatten.

    node -- flatten --> (data,) + aux data -- unflatten --> node

The aux data of a node are None, or whether it is frozen. Those of an unset node with a recipe are a tuple of that,
the recipe and the uses of recipes in the running `set_up`. So a recipe ends with the unset data, however a node gets
its data. Other nodes pay for it with about 10 ns of 250, when they are flattened and when they are made.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
from jax.tree_util import GetAttrKey

from mlax._jax.trees import class_of
from mlax._module.exporting import register_node
from mlax._module.recipes import Recipe, current_uses
from mlax._module.unset import UNSET
from mlax._module.written import read, written

__all__ = ["recipe_of", "register_as_tree", "unflattened"]


class _DataKey(GetAttrKey):  # type: ignore[misc]  # mypy sees no class there
    """The key of a node's `data`, if that is a PyTree: `model.kernel.data['a']`."""

    def __init__(self) -> None:
        super().__init__("data")

    def __repr__(self) -> str:
        return "<data>"


class _ArrayKey(_DataKey):
    """The key of a node's `data`, if that is one array. It adds nothing to a path: `model.kernel`, not
    `model.kernel.data`.

    The keys of all nodes are equal, whatever the nodes hold: JAX compares keys to explain why trees
    do not match.
    """

    def __str__(self) -> str:
        return ""


_ARRAY = _ArrayKey()
_TREE = _DataKey()


def _data_key(data: Any) -> object:
    empty = data is UNSET or data is None
    return _ARRAY if empty or jax.tree_util.all_leaves([data]) else _TREE


_Flatten: TypeAlias = Callable[[Any], tuple[tuple[Any], Any]]
_Unflatten: TypeAlias = Callable[[Any, Any], Any]
_unflatten: dict[type, _Unflatten] = {}


def register_as_tree(cls: Any) -> None:
    """Register a class of nodes as a PyTree.

    An object is filled while its class is `mutable`, which has the same layout and plain
    assignment; then its class is set to `cls`. This is a third faster than bypassing
    `State.__setattr__` for each attribute.
    """
    mutable = type(
        cls.__name__,
        (cls,),
        {
            "__slots__": (),
            "__init__": object.__init__,
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,  # one slot of the type serves both
        },
        register=False,
    )
    flatten, unflatten = (_with_frozen if hasattr(cls, "frozen") else _with_data)(cls, mutable)

    def flatten_with_keys(node: Any) -> tuple[tuple[tuple[Any, Any]], Any]:
        (data,), aux_data = flatten(node)
        return ((_data_key(data), data),), aux_data

    _unflatten[cls] = unflatten
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    register_node(cls, write=_written_aux_data, read=_read_aux_data, unflatten=unflatten)


def _aux_data_if_unset(node: Any) -> Any:
    frozen, recipe = getattr(node, "frozen", None), recipe_of(node)
    return frozen if recipe is None else (frozen, recipe, current_uses())


def _written_aux_data(aux_data: Any) -> Any:
    if not isinstance(aux_data, tuple):
        return aux_data
    frozen, own, _ = cast("tuple[Any, Recipe, Any]", aux_data)
    return [frozen, written(own.init, "init"), written(own.dtype, "dtype")]


def _read_aux_data(text: Any) -> Any:
    if text is None or isinstance(text, bool):
        return text
    frozen, init, dtype = text
    return frozen, Recipe(read(init, "init"), read(dtype, "dtype")), None


def _with_data(cls: Any, mutable: Any) -> tuple[_Flatten, _Unflatten]:
    """Return flatten and unflatten for nodes that have only `data`."""

    def flatten(node: Any) -> tuple[tuple[Any], Any]:
        data = node.data
        return (data,), _aux_data_if_unset(node) if data is UNSET else None

    def unflatten(aux_data: Any, children: Any) -> Any:
        node = mutable()
        (node.data,) = children
        if aux_data:
            _, node._recipe, _ = aux_data
        node.__class__ = cls
        return node

    return flatten, unflatten


def _with_frozen(cls: Any, mutable: Any) -> tuple[_Flatten, _Unflatten]:
    """Return flatten and unflatten for nodes that have `data` and `frozen`."""

    def flatten(node: Any) -> tuple[tuple[Any], Any]:
        data = node.data
        return (data,), _aux_data_if_unset(node) if data is UNSET else node.frozen

    def unflatten(aux_data: Any, children: Any) -> Any:
        node = mutable()
        (node.data,) = children
        node.frozen = aux_data
        if aux_data and aux_data is not True:
            node.frozen, node._recipe, _ = aux_data
        node.__class__ = cls
        return node

    return flatten, unflatten


def recipe_of(node: Any) -> Recipe | None:
    """Return how an unset node is to be made, if it was told; None for all other nodes."""
    return getattr(node, "_recipe", None) if node.data is UNSET else None


def unflattened(node: Any, data: Any, frozen: bool | None) -> Any:
    """Return a node like another one, with these data. If they are UNSET, it keeps its recipe."""
    own = recipe_of(node) if data is UNSET else None
    return _unflatten[class_of(node)](frozen if own is None else (frozen, own, None), (data,))
