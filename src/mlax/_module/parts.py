"""What the nodes of a tree are made of, as users reach it (`.name`, `[key]`), and copies with other parts.

Beyond JAX's children, these are static fields, `frozen`, and the fields of dataclasses.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, cast

from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from mlax._jax.trees import KeyPath, TreeDef, class_of, flatten_with_path
from mlax._module.branches import Container, is_container
from mlax._module.containers import with_items
from mlax._module.flattening import is_flattened
from mlax._module.nodes import is_leaf_state, with_parts

__all__ = ["parts_of", "with_changes"]


def parts_of(node: Any) -> dict[Any, Any]:
    """Return the parts of a node by JAX's key. There are none if nothing inside it can be replaced.

    An item of a NamedTuple has the key of its field.
    """
    names = _field_names(node)
    if names is not None:
        return {GetAttrKey(name): getattr(node, name) for name in names}
    if isinstance(node, dict):
        items = cast("dict[Any, object]", node).items()
        return {DictKey(key): item for key, item in items}
    if isinstance(node, (tuple, list)):
        return {SequenceKey(i): item for i, item in enumerate(cast("Iterable[Any]", node))}
    return {path[0]: child for path, child in _children(node)[0] if path}


def _field_names(node: Any) -> Iterable[str] | None:
    """Return the names of the fields of a node, static ones too; None if it has no such thing."""
    names: Iterable[str] | None = None
    if is_flattened(node):
        names = node._names
    elif is_leaf_state(node):
        names = ("data", "frozen") if hasattr(node, "frozen") else ("data",)
    elif is_container(node):
        names = ("states",)
    elif isinstance(node, tuple):
        names = getattr(cast("Any", node), "_fields", None)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [each.name for each in dataclasses.fields(node)]
    return names


def _children(node: Any) -> tuple[list[tuple[KeyPath, Any]], TreeDef]:
    return flatten_with_path(node, is_leaf=lambda inner: inner is not node)


def with_changes(node: Any, changes: Mapping[Any, Any]) -> Any:
    """Return a copy of a node with some of its parts replaced, checked as its class checks them.

    Args:
        node: The node. A list or dict of a module stays frozen.
        changes: New parts by their key in `parts_of(node)`.
    """
    if _field_names(node) is not None:
        return _with_fields(node, {key.name: part for key, part in changes.items()})
    if isinstance(node, dict):
        return with_items(node, {key.key: item for key, item in changes.items()})
    if isinstance(node, list):
        return with_items(node, {key.idx: item for key, item in changes.items()})
    if isinstance(node, tuple):
        items = [changes.get(key, item) for key, item in parts_of(node).items()]
        return class_of(cast("object", node))(items)
    children, treedef = _children(node)
    return treedef.unflatten([changes.get(path[0], child) for path, child in children])


def _with_fields(node: Any, fields: dict[str, Any]) -> Any:
    if is_flattened(node):
        return node.replace(**fields)
    if is_leaf_state(node):
        return with_parts(node, **fields)
    if is_container(node):
        return Container(**fields)
    if isinstance(node, tuple):
        return cast("Any", node)._replace(**fields)
    return dataclasses.replace(node, **fields)
