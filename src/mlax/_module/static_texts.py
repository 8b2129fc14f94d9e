"""Readable text for all static data of a tree. Files store it, and it is compared when they are loaded."""

import dataclasses
import enum
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jax.tree_util import GetAttrKey

from mlax._jax.trees import KeyPath, class_of, flatten_with_path
from mlax._module.flattening import AuxData
from mlax._module.nodes import ENode
from mlax.tree import dotted

__all__ = [
    "AN_ARRAY",
    "IN_THE_STATE",
    "StaticParts",
    "older_texts",
    "static_defaults",
    "static_texts",
]

IN_THE_STATE = "<in the state>"
"""The text of a hyperparameter that the state of an optimizer holds beside the others, as a leaf."""


AN_ARRAY = "<an array>"
"""The text of a hyperparameter that is an array, a leaf of the hyperparameters."""


class StaticParts(ABC):
    """Base class for static values of a module that consist of parts with texts of their own."""

    __slots__ = ()

    @abstractmethod
    def static_parts(self) -> tuple[dict[KeyPath, str], Any]:
        """Return texts by path in the module, and a tree whose static data are listed in place of this value."""


_BUILT_IN = (tuple, list, dict, type(None))  # their static data are keys, already part of the paths


class _Static(NamedTuple):
    """A static value: a field of a module, or a node without leaves such as hyperparameters."""

    path: KeyPath
    value: Any
    is_node: bool
    field: "dataclasses.Field[Any] | None" = None


class _Told(NamedTuple):
    """A static value with its text, and the field of a dataclass that it is the value of, if it is one."""

    path: str
    text: str
    field: "dataclasses.Field[Any] | None"


def static_texts(tree: object) -> Iterator[tuple[str, str]]:
    """Yield the path and text of all static data in a tree: fields of modules, hyperparameters, schedules.

    For a Packed: the contents of each flat array at its path, and under `layout` the static data of
    the original tree.

    If hyperparameters are a node of their own, other hyperparameters that contain them (an
    optimizer around another) give only their name. Whether a Parameter is frozen is left out,
    because it says who trains the parameter, not what it is.
    """
    for told in _told(tree):
        yield told.path, told.text


def static_defaults(tree: object, paths: Collection[str]) -> dict[str, Any]:
    """Return by path the defaults of fields in a tree: of those that have their default, and of numbers in a state.

    Args:
        tree: Any tree.
        paths: Which fields to look at.
    """
    defaults: dict[str, Any] = {}
    for path, told, field in _told(tree):
        if field is not None and path in paths:
            default = _default(field)
            if default is not dataclasses.MISSING and told in (IN_THE_STATE, text(default, ())):
                defaults[path] = default
    return defaults


def older_texts(tree: object) -> dict[str, re.Pattern[str]]:
    """Return by path what a static value may have been called before classes of its parts, such as that of a
    schedule, had all their fields: the text without fields that have their default.
    """
    regex = str.maketrans({_BEGIN: "(?:", _END: ")?", _COMMA: r"(?:, |(?=\)))"})
    return {
        path: re.compile(re.escape(told).translate(regex))
        for path, told, _ in _told(tree, marked=True)
        if _BEGIN in told
    }


_BEGIN, _END, _COMMA = "\x02", "\x03", "\x1f"
"""In a marked text: around a field that has its default, and behind each field."""


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory is not dataclasses.MISSING
    return cast("Any", field.default_factory)() if made else field.default


def _told(tree: object, *, marked: bool = False) -> Iterator[_Told]:
    found = list(_static(tree, ()))
    nodes = [one.value for one in found if one.is_node and dataclasses.is_dataclass(one.value)]
    for path, value, is_node, field in found:
        if not (is_node and dataclasses.is_dataclass(value)):
            yield _Told(dotted(path), text(value, nodes, marked=marked), field)
            continue
        yield _Told(dotted(path), class_of(value).__name__, None)
        for inner in dataclasses.fields(value):
            key = GetAttrKey(inner.name)
            told = text(getattr(value, inner.name), nodes, marked=marked)
            yield _Told(dotted((*path, key)), told, inner)


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
                field = cast("Any", cls).__dataclass_fields__[name]
                yield _Static(inner, value, is_node=False, field=field)
    elif aux_data is not None and not issubclass(cls, (*_BUILT_IN, ENode)):
        yield _Static(path, tree if not children else aux_data, is_node=True)
    for key, child in children:
        yield from _static(child, (*path, *key))


def text(value: Any, known: Sequence[Any], *, marked: bool = False) -> str:
    """Return a static value as text that is the same in every process: callables by name, without addresses.

    Args:
        value: Anything.
        known: Dataclasses that are listed elsewhere. Only their names are given.
        marked: Whether to mark fields of dataclasses, for `older_texts`.
    """
    told = functools.partial(text, known=known, marked=marked)
    if isinstance(value, enum.Enum):
        return str(value)
    cls = class_of(value)
    name: str = cls.__name__
    if dataclasses.is_dataclass(cls):
        if any(class_of(other) is cls and other == value for other in known):
            return name
        fields = {f: f"{f.name}={told(getattr(value, f.name))}" for f in dataclasses.fields(cls)}
        if not marked:
            return f"{name}({', '.join(fields.values())})"
        for f, entry in fields.items():
            is_default = text(getattr(value, f.name), ()) == text(_default(f), ())
            begin, end = (_BEGIN, _END) if is_default else ("", "")
            fields[f] = f"{begin}{entry}{_COMMA}{end}"
        return f"{name}({''.join(fields.values())})"
    if issubclass(cls, tuple):
        return f"({', '.join(told(each) for each in value)}{',' if len(value) == 1 else ''})"
    if issubclass(cls, frozenset):
        return f"{{{', '.join(sorted(told(each) for each in value))}}}"
    if issubclass(cls, functools.partial):
        arguments = [told(each) for each in value.args]
        arguments += [f"{name}={told(each)}" for name, each in value.keywords.items()]
        return f"{told(value.func)}({', '.join(arguments)})"
    if isinstance(value, np.dtype):
        return value.name
    qualified = getattr(value, "__qualname__", None)
    if isinstance(qualified, str):
        return qualified
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
