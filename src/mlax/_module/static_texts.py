"""Readable text for everything static in a tree, which files keep and compare."""

import dataclasses
import enum
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jax.tree_util import GetAttrKey

from mlax._jax.trees import KeyPath, class_of, flatten_with_path
from mlax._module.flattening import AuxData
from mlax._module.nodes import ENode
from mlax.tree import dotted

__all__ = ["StaticParts", "static_texts"]


class StaticParts(ABC):
    """Base of a static value of a module that says of which static parts it is made."""

    __slots__ = ()

    @abstractmethod
    def static_parts(self) -> tuple[dict[KeyPath, str], Any]:
        """Return text by path in the module; and a tree, whose own static parts stand where this value does."""


_BUILT_IN = (tuple, list, dict, type(None))  # their static data are keys, which paths have


class _Static(NamedTuple):
    """Something static: a field of a module, or a node without leaves such as hyperparameters."""

    path: KeyPath
    value: Any
    is_node: bool


def static_texts(tree: object) -> Iterator[tuple[str, str]]:
    """Yield path and text of everything static in a tree: the fields of modules, hyperparameters, schedules.

    Of a Packed: at the path of each flat array what lies in it, and under `layout` what is static in the tree that was.

    Hyperparameters that are a node of their own stand in others by name only: those of an optimizer around it.
    Whether a Parameter is frozen is left out: it says who trains it, not what it is.
    """
    found = list(_static(tree, ()))
    nodes = [one.value for one in found if one.is_node and dataclasses.is_dataclass(one.value)]
    for path, value, is_node in found:
        if not (is_node and dataclasses.is_dataclass(value)):
            yield dotted(path), text(value, nodes)
            continue
        yield dotted(path), class_of(value).__name__
        for field in dataclasses.fields(value):
            key = GetAttrKey(field.name)
            yield dotted((*path, key)), text(getattr(value, field.name), nodes)


def _static(tree: object, path: KeyPath) -> Iterator[_Static]:
    children, treedef = flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    node: tuple[type, Any] | None = cast("Any", treedef).node_data()
    if node is None:
        return
    cls, aux_data = node
    if isinstance(aux_data, AuxData):
        for name, value in zip(aux_data.flattening.static, aux_data.values, strict=True):
            inner = (*path, GetAttrKey(name))
            if isinstance(value, StaticParts):
                texts, within = value.static_parts()
                for at, told in texts.items():
                    yield _Static((*path, *at), told, is_node=False)
                yield from _static(within, inner)
            else:
                yield _Static(inner, value, is_node=False)
    elif aux_data is not None and not issubclass(cls, (*_BUILT_IN, ENode)):
        yield _Static(path, tree if not children else aux_data, is_node=True)
    for key, child in children:
        yield from _static(child, (*path, *key))


def text(value: Any, known: Sequence[Any]) -> str:
    """Return a static value as text that is the same in every process: callables by name, no addresses.

    Args:
        value: Anything.
        known: Dataclasses that are told elsewhere; their name is enough.
    """
    if isinstance(value, enum.Enum):
        return str(value)
    cls = class_of(value)
    name: str = cls.__name__
    if dataclasses.is_dataclass(cls):
        if any(class_of(other) is cls and other == value for other in known):
            return name
        fields = (
            f"{f.name}={text(getattr(value, f.name), known)}" for f in dataclasses.fields(cls)
        )
        return f"{name}({', '.join(fields)})"
    if issubclass(cls, tuple):
        return f"({', '.join(text(each, known) for each in value)})"
    if issubclass(cls, frozenset):
        return f"{{{', '.join(sorted(text(each, known) for each in value))}}}"
    if issubclass(cls, functools.partial):
        arguments = [text(each, known) for each in value.args]
        arguments += [f"{name}={text(each, known)}" for name, each in value.keywords.items()]
        return f"{text(value.func, known)}({', '.join(arguments)})"
    if isinstance(value, np.dtype):
        return value.name
    qualified = getattr(value, "__qualname__", None)
    if isinstance(qualified, str):
        return qualified
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
