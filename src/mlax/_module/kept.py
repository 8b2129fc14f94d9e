"""Which nodes of a module its `set_up` may make, and which it has to keep."""

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mlax._jax.trees import KeyPath, leaves, leaves_with_path, map_with_path
from mlax._module.node_trees import recipe_of
from mlax._module.nodes import UNSET, ENode, is_leaf_state
from mlax._module.places import modules_inside, node_at
from mlax._module.recipes import Recipe
from mlax.tree import path_text

__all__ = ["with_nodes_of"]


def with_nodes_of(made: Any, given: Any, used: Iterable[Recipe]) -> Any:
    """Return a module made by a `set_up`, keeping all nodes that already had data.

    Parameters that were frozen stay frozen. A child may become a stack of copies.

    Args:
        made: What the `set_up` returned.
        given: The module before.
        used: The recipes that were used meanwhile, once for each node.

    Raises:
        TypeError: The `set_up` replaced an unset node, but did not use its init and dtype; or there is no place for a
            node that had data.
    """
    where = f"{type(given).__name__}.set_up"
    uses = Counter(map(id, used))
    children = modules_inside(given)
    untouched = {id(child) for _, child in children} & {
        id(child) for _, child in modules_inside(made)
    }

    def is_node(node: Any) -> bool:
        return node is None or is_leaf_state(node) or id(node) in untouched

    before = {path: node for path, node in leaves_with_path(given, is_node) if is_leaf_state(node)}
    missing = {path: node for path, node in before.items() if leaves(node.data)}

    @functools.cache
    def arrays() -> set[int]:
        return set(map(id, leaves(made)))

    def lost(path: KeyPath) -> list[KeyPath]:
        """Return the places inside this one of missing nodes that are not in another field either."""
        return [
            place
            for place, node in missing.items()
            if place[: len(path)] == path and not arrays().issuperset(map(id, leaves(node.data)))
        ]

    def kept(path: KeyPath, node: Any) -> Any:
        if node is None:
            restored = lost(path)
            for place in restored:
                del missing[place]
            return node_at(given, path) if restored else None
        old = before.get(path)
        missing.pop(path, None)
        if old is None or not is_leaf_state(node):
            return node
        if old.data is not UNSET or node.data is UNSET:
            is_own = not any(path[: len(child)] == child for child, _ in children)
            return old if is_own or not _is_stack(node, old) else node
        recipe = recipe_of(old)
        if recipe is not None:
            if not uses[id(recipe)]:
                raise _ignored(where, path, old, node)
            uses[id(recipe)] -= 1
        if getattr(old, "frozen", False) and type(node) is type(old):
            return old.with_data(node.data)
        return node

    result = map_with_path(kept, made, is_node)
    for path in lost(()):
        raise TypeError(
            f"{where}: {path_text(path)} was given as {missing[path]!r}, but set_up returned a module without it.\n"
            f"  Keep it: a set_up makes the nodes that are UNSET, and replaces no others."
        )
    return result


def _is_stack(node: ENode[Any], one: ENode[Any]) -> bool:
    """Whether a node has the data of another one with axes in front, as `vmap` makes them."""
    pairs: list[tuple[Any, Any]] = list(zip(leaves(node.data), leaves(one.data), strict=False))
    return bool(pairs) and all(
        many.dtype == leaf.dtype
        and many.ndim > leaf.ndim
        and many.shape[many.ndim - leaf.ndim :] == leaf.shape
        for many, leaf in pairs
    )


def _ignored(where: str, path: KeyPath, old: Any, new: Any) -> TypeError:
    name = path_text(path)
    return TypeError(
        f"{where}: {name} is {old!r}, but set_up replaced it by {new!r} and did not use its init and dtype.\n"
        f"  Make the node with self.{name}.made(rng, shape, init, dtype)."
    )
