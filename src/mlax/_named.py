"""Trees as dicts: a dotted path for every leaf, and readable text for everything that is static."""

import dataclasses
import enum
import functools
import re
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from mlax._layout import AuxData
from mlax._trees import KeyPath, TreeDef, class_of, flatten_with_path
from mlax.state import ENode
from mlax.tree import keystr

__all__ = ["dotted", "leaves_by_name", "static_texts"]


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: `m.layers.0.kernel`; of a tree that is one leaf the empty string."""
    parts: list[str] = []
    for key in path:
        match key:
            case GetAttrKey():
                parts.append(key.name)
            case SequenceKey():
                parts.append(str(key.idx))
            case DictKey() | FlattenedIndexKey():
                parts.append(str(key.key))
            case _ if part := str(key).removeprefix("."):  # a node's one array has none
                parts.append(part)
            case _:
                pass
    return ".".join(parts)


def leaves_by_name(where: str, name: str, tree: object) -> tuple[dict[str, Any], TreeDef]:
    """Return the leaves of a tree by dotted path, in their order, and its structure.

    Args:
        where: Who asks: `mlax.save`.
        name: What the tree is called there.
        tree: The tree.

    Raises:
        ValueError: Two leaves have the same dotted path; names both.
    """
    found, treedef = flatten_with_path(tree)
    leaves = {dotted(path): leaf for path, leaf in found}
    if len(leaves) < len(found):
        seen: dict[str, KeyPath] = {}
        for path, _ in found:
            other = seen.setdefault(dotted(path), path)
            if other is not path:
                raise ValueError(
                    f"{where}: {name}{keystr(other)} and {name}{keystr(path)} have one path, "
                    f"{dotted(path)!r}; rename a key"
                )
    return leaves, treedef


_BUILT_IN = (tuple, list, dict, type(None))  # their static data are keys, which paths have


def static_texts(tree: object, path: KeyPath = ()) -> Iterator[tuple[str, str]]:
    """Yield path and text of everything static in a tree: the fields of modules, hyperparameters, schedules.

    Whether a Parameter is frozen is left out: it says who trains it, not what it is.
    """
    children, treedef = flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    node: tuple[type, Any] | None = cast("Any", treedef).node_data()
    if node is None:
        return
    cls, aux_data = node
    if isinstance(aux_data, AuxData):
        for name, value in zip(aux_data.layout.static, aux_data.values, strict=True):
            yield dotted((*path, GetAttrKey(name))), text(value)
    elif aux_data is not None and not issubclass(cls, (*_BUILT_IN, ENode)):
        value = tree if not children else aux_data
        if dataclasses.is_dataclass(value):
            yield dotted(path), class_of(value).__name__
            for field in dataclasses.fields(value):
                key = GetAttrKey(field.name)
                yield dotted((*path, key)), text(getattr(value, field.name))
        else:
            yield dotted(path), text(value)
    for key, child in children:
        yield from static_texts(child, (*path, *key))


def text(value: Any) -> str:
    """Return a static value as text that is the same in every process: callables by name, no addresses."""
    if isinstance(value, enum.Enum):
        return str(value)
    cls = class_of(value)
    if dataclasses.is_dataclass(cls):
        fields = (f"{f.name}={text(getattr(value, f.name))}" for f in dataclasses.fields(cls))
        return f"{class_of(value).__name__}({', '.join(fields)})"
    if issubclass(cls, tuple):
        return f"({', '.join(map(text, value))})"
    if issubclass(cls, frozenset):
        return f"{{{', '.join(sorted(map(text, value)))}}}"
    if issubclass(cls, functools.partial):
        arguments = [text(argument) for argument in value.args]
        arguments += [f"{name}={text(argument)}" for name, argument in value.keywords.items()]
        return f"{text(value.func)}({', '.join(arguments)})"
    if isinstance(value, np.dtype):
        return value.name
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
