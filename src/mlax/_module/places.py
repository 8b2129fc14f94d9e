"""Nodes of a model by their place: found, listed and replaced."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from mlax._jax.trees import (
    KeyPath,
    class_of,
    flatten_with_path,
    leaves_with_path,
    map_with_path,
)
from mlax._module.apart import modules_in
from mlax._module.branches import Container, is_container
from mlax._module.flattening import is_flattened
from mlax._module.nodes import ENode, is_leaf_state, is_state
from mlax.tree import keystr

__all__ = [
    "depth_of",
    "map_modules",
    "modules_inside",
    "node_at",
    "own_nodes",
    "own_path_to",
    "paths_to",
    "with_node",
]


def own_nodes(module: Any) -> Iterator[tuple[str, ENode[Any]]]:
    """Yield the name and node of each leaf node in the module's own fields, not in submodules."""
    for name in module._aux_data.flattening.children:
        yield from _nodes(name, getattr(module, name))


def _nodes(name: str, value: Any) -> Iterator[tuple[str, ENode[Any]]]:
    if is_leaf_state(value):
        yield name, value
    elif is_container(value):
        yield from _nodes(f"{name}.states", value.states)
    elif not is_state(value):
        for path, node in leaves_with_path(value, is_leaf=is_state):
            if is_state(node):
                yield from _nodes(name + keystr(path), node)


def modules_inside(module: Any) -> list[tuple[KeyPath, Any]]:
    """Return the modules directly inside a module, with their paths."""
    found = leaves_with_path(module, is_leaf=lambda node: node is not module and is_flattened(node))
    return [(path, node) for path, node in found if is_flattened(node)]


def depth_of(tree: Any) -> int:
    """Return how many modules are nested in one another in a module, or any other tree."""
    depth, level = 0, modules_in([tree])
    while level:
        depth += 1
        level = [
            inside
            for outer in level
            for inside in modules_in(outer._aux_data.flattening.flatten(outer)[0])
        ]
    return depth


def map_modules(function: Callable[[KeyPath, Any], Any], module: Any) -> Any:
    """Return a module with the modules directly inside it replaced by `function(path, submodule)`."""

    def visit(path: KeyPath, node: Any) -> Any:
        return function(path, node) if is_flattened(node) else node

    return map_with_path(
        visit, module, is_leaf=lambda node: node is not module and is_flattened(node)
    )


def own_path_to(child: Any, module: Any, hints: dict[str, int]) -> KeyPath | None:
    """Return the path to a submodule in a field, or in a tuple, list or dict of a field; None if it is elsewhere.

    Args:
        child: The submodule.
        module: The module.
        hints: For each field with a tuple or list, the place after the one that was found last.
            Children are mostly called in order, so that finding each of many takes no search.
    """
    names = module._aux_data.flattening.children
    for name in names:
        if getattr(module, name) is child:
            return (_field_key(name),)
    for name in names:
        value = getattr(module, name)
        if isinstance(value, dict):
            for key, item in cast("dict[Any, object]", value).items():
                if item is child:
                    return _field_key(name), DictKey(key)
        elif class_of(value) is tuple or isinstance(value, list):
            number = _index_of(child, cast("Any", value), hints.get(name, 0))
            if number is not None:
                hints[name] = number + 1
                return _field_key(name), SequenceKey(number)
    return None


def _index_of(child: object, items: Sequence[object], hint: int) -> int | None:
    if hint < len(items) and items[hint] is child:
        return hint
    return next((number for number, item in enumerate(items) if item is child), None)


_field_key = functools.cache(GetAttrKey)


def paths_to(child: Any, node: Any, *, deep: bool) -> list[KeyPath]:
    """Return the paths to a child inside a node; only if `deep`, also those inside submodules."""
    found: list[KeyPath] = []
    for path, inner in _inside(node):
        if inner is child:
            found.append(path)
        elif isinstance(inner, (tuple, list, dict, Container)) or (deep and is_flattened(inner)):
            found += [path + further for further in paths_to(child, inner, deep=deep)]
    return found


def _inside(node: Any) -> list[tuple[KeyPath, Any]]:
    """Return the children of a node with their keys."""
    return leaves_with_path(node, is_leaf=lambda inner: inner is not node)


def node_at(node: Any, path: KeyPath) -> Any:
    """Return the node of a tree that is at a path."""
    for key in path:
        if isinstance(key, GetAttrKey):
            node = getattr(node, key.name)
        elif isinstance(key, SequenceKey):
            node = node[key.idx]
        else:
            node = next(inner for found, inner in _inside(node) if found == (key,))
    return node


def with_node(node: Any, path: KeyPath, new: Any) -> Any:
    """Return a copy of a tree with one node replaced. Everything that is not on the path stays the same object."""
    if not path:
        if is_flattened(new):
            new._aux_data.is_held = True
        return new
    key = path[0]
    if is_flattened(node):
        flattening = node._aux_data.flattening
        children, aux_data = flattening.flatten(node)
        place = flattening.children.index(key.name)
        inner = with_node(children[place], path[1:], new)
        return flattening.unflatten(aux_data, (*children[:place], inner, *children[place + 1 :]))
    if type(node) is tuple:
        return (*node[: key.idx], with_node(node[key.idx], path[1:], new), *node[key.idx + 1 :])
    inside, treedef = flatten_with_path(node, is_leaf=lambda inner: inner is not node)
    return treedef.unflatten(
        [with_node(inner, path[1:], new) if found == path[:1] else inner for found, inner in inside]
    )
