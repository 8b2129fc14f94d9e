"""Nodes of a model by the place where they are: found, listed and replaced."""

from collections.abc import Callable, Iterator
from typing import Any

from mlax._jax.trees import KeyPath, flatten_with_path, leaves_with_path, map_with_path
from mlax._module.branches import Container, is_container
from mlax._module.flattening import is_flattened
from mlax._module.nodes import ENode, is_leaf_state, is_state
from mlax.tree import keystr

__all__ = ["map_modules", "modules_inside", "own_nodes", "paths_to", "with_node"]


def own_nodes(module: Any) -> Iterator[tuple[str, ENode[Any]]]:
    """Yield name and node for each ENode of the module's own fields; submodules are left out."""
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


def map_modules(function: Callable[[KeyPath, Any], Any], module: Any) -> Any:
    """Return a module with the modules directly inside it replaced by `function(path, submodule)`."""

    def visit(path: KeyPath, node: Any) -> Any:
        return function(path, node) if is_flattened(node) else node

    return map_with_path(
        visit, module, is_leaf=lambda node: node is not module and is_flattened(node)
    )


def paths_to(child: Any, node: Any, *, deep: bool) -> list[KeyPath]:
    """Return the paths to a child inside a node, beneath its submodules only if `deep`."""
    found: list[KeyPath] = []
    for path, inner in _inside(node):
        if inner is child:
            found.append(path)
        elif isinstance(inner, (tuple, list, dict, Container)) or (deep and is_flattened(inner)):
            found += [path + further for further in paths_to(child, inner, deep=deep)]
    return found


def _inside(node: Any) -> list[tuple[KeyPath, Any]]:
    """Return what is directly inside a node, with its keys."""
    return leaves_with_path(node, is_leaf=lambda inner: inner is not node)


def with_node(node: Any, path: KeyPath, new: Any) -> Any:
    """Return a copy of a tree with one node replaced; all that is beside the path stays the same object."""
    if not path:
        return new
    inside, treedef = flatten_with_path(node, is_leaf=lambda inner: inner is not node)
    return treedef.unflatten(
        [with_node(inner, path[1:], new) if key == path[:1] else inner for key, inner in inside]
    )
