"""Freezing Parameters, and the opposite: optimizers leave a frozen one alone."""

from typing import Any, TypeVar

from mlax._jax.recursion import make_room
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import KeyPath, class_of, flatten_with_path
from mlax._module.flattening import is_flattened
from mlax._module.nodes import is_leaf_state, is_parameter, with_frozen
from mlax._module.places import depth_of
from mlax.tree import path_text

__all__ = ["freeze", "unfreeze"]

T = TypeVar("T")


@trimmed
def freeze(tree: T) -> T:
    """Return the tree with all its Parameters frozen: optimizers and gradients leave them alone.

    `mlax.at(model, lambda m: m.encoder).apply(mlax.freeze)` freezes a part of a model.

    Args:
        tree: A model, a node, or any PyTree of them. What has nothing to change stays the same
            object.
    """
    make_room(depth_of(tree))
    frozen: T = _with_frozen(tree, (), frozen=True)
    return frozen


@trimmed
def unfreeze(tree: T) -> T:
    """Return the tree with none of its Parameters frozen.

    Args:
        tree: A model, a node, or any PyTree of them. What has nothing to change stays the same
            object.

    Raises:
        TypeError: A frozen Parameter holds integers, bools or keys, which cannot be trained.
    """
    make_room(depth_of(tree))
    unfrozen: T = _with_frozen(tree, (), frozen=False)
    return unfrozen


def _with_frozen(node: Any, path: KeyPath, *, frozen: bool) -> Any:
    if is_parameter(node):
        name = f"mlax.unfreeze: {path_text(path) or 'Parameter'}"
        return with_frozen(node, frozen, name, _OTHERS)
    if is_leaf_state(node):
        return node
    if is_flattened(node) and node._original() is not node:
        name, kind = ("freeze" if frozen else "unfreeze"), class_of(node).__name__
        raise TypeError(
            f"mlax.{name}: {path_text(path) or 'the tree'} is a {kind}, in which frozen Parameters are stored apart.\n"
            f"  Unpack it first: mlax.pack(mlax.{name}(packed.unpack()))"
        )
    children, treedef = flatten_with_path(node, is_leaf=lambda inner: inner is not node)
    if not children or not children[0][0]:  # a leaf
        return node
    new = [_with_frozen(child, path + key, frozen=frozen) for key, child in children]
    unchanged = all(child is old for child, (_, old) in zip(new, children, strict=True))
    return node if unchanged else treedef.unflatten(new)


_OTHERS = "Unfreeze other parts only: mlax.at(model, where).apply(mlax.unfreeze)"
