"""Leaf nodes as PyTrees: their registration with JAX, the keys of their data, flatten and unflatten.

    node -- flatten --> (data,) + aux data -- unflatten --> node

The aux data of a node are `_frozen`: whether it is frozen, or None if its class has no such thing. An unset node
with a recipe has no `_frozen`, but `_told`, a pair of that and the recipe; its aux data are the pair and the uses of
recipes in the running `set_up`. So a recipe ends with the unset data, however a node gets its data. Flattening other
nodes costs nothing more for it, since a `try` is free; making them costs 2 % (one test).
"""

import types
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
from jax.tree_util import GetAttrKey

from mlax._jax.trees import class_of
from mlax._module.exporting import register_node
from mlax._module.recipes import Recipe, current_uses
from mlax._module.unset import UNSET
from mlax._module.written import read, written

__all__ = ["fill", "frozen_of", "recipe_of", "register_as_tree", "unflattened"]


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

    def flatten(node: Any) -> tuple[tuple[Any], Any]:
        try:
            return (node.data,), node._frozen
        except AttributeError:
            return (node.data,), (*node._told, current_uses())

    def unflatten(aux_data: Any, children: Any) -> Any:
        node = mutable()
        (node.data,) = children
        node._frozen = aux_data
        if aux_data:
            _tell(node, aux_data)
        node.__class__ = cls
        return node

    flatten, unflatten = _with_own_code(flatten), _with_own_code(unflatten)

    def flatten_with_keys(node: Any) -> tuple[tuple[tuple[Any, Any]], Any]:
        (data,), aux_data = flatten(node)
        return ((_data_key(data), data),), aux_data

    _unflatten[cls] = unflatten
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    register_node(cls, write=_written_aux_data, read=_read_aux_data, unflatten=unflatten)


def _with_own_code(function: Any) -> Any:
    """Return a copy of a function. CPython specializes code for the first class that it sees, so classes that share
    code are slower: by 10 % if Parameters and Variables alternate.
    """
    code, free = function.__code__.replace(), function.__closure__
    return types.FunctionType(code, function.__globals__, function.__name__, None, free)


def _tell(node: Any, aux_data: Any) -> None:
    if aux_data is True:
        return
    frozen, recipe, _ = aux_data
    if node.data is UNSET:
        del node._frozen
        node._told = frozen, recipe
    else:
        node._frozen = frozen


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


def fill(node: Any, data: Any, frozen: bool | None, recipe: Recipe | None) -> None:
    """Give a new node its parts. Those of a node never change after that.

    Args:
        node: The node, without any part.
        data: Its data, checked before.
        frozen: Whether it is frozen; None if its class has no such thing.
        recipe: How an unset node is to be made, if it was told.
    """
    object.__setattr__(node, "data", data)
    if recipe is None:
        object.__setattr__(node, "_frozen", frozen)
    else:
        object.__setattr__(node, "_told", (frozen, recipe))


def frozen_of(node: Any) -> Any:
    """Return whether a node is frozen; None if its class has no such thing."""
    try:
        return node._frozen
    except AttributeError:
        return node._told[0]


def recipe_of(node: Any) -> Recipe | None:
    """Return how an unset node is to be made, if it was told; None for all other nodes."""
    _, recipe = getattr(node, "_told", (None, None))
    return recipe


def unflattened(node: Any, data: Any, frozen: bool | None) -> Any:
    """Return a node like another one, with these data. If they are UNSET, it keeps its recipe."""
    own = recipe_of(node)
    return _unflatten[class_of(node)](frozen if own is None else (frozen, own, None), (data,))
