"""Flatten and unflatten, written for each class of Module as a person would write them for that class.

    model -- flatten --> children + AuxData -- unflatten --> model

Which fields are children is decided by their values, so a class can have several layouts (an optional field that
once is None and once a number). Each gets functions of its own, made on first use and entered in `linecache`, so
that a debugger steps through them and tracebacks show their lines.
"""

import functools
import linecache
from collections.abc import Callable, Hashable
from typing import Any

from jax.tree_util import GetAttrKey

__all__ = ["AuxData", "Layout", "is_laid_out", "layout_of"]


class Layout:
    """Which fields of a class are children, which are static, and the functions for that.

    Attributes:
        cls: The class of Module; has the slot `_aux_data`.
        children: Names of the fields that are children, in their order.
        static: Names of the other fields, in their order.
        flatten: From a module to its children.
        flatten_with_keys: From a module to pairs of key and child.
        unflatten: From AuxData and children to a module.
    """

    __slots__ = ("children", "cls", "flatten", "flatten_with_keys", "static", "unflatten")
    flatten: Callable[[Any], tuple[tuple[Any, ...], "AuxData"]]
    flatten_with_keys: Callable[[Any], tuple[tuple[tuple[Any, Any], ...], "AuxData"]]
    unflatten: Callable[["AuxData", Any], Any]

    def __init__(self, cls: Any, children: tuple[str, ...], static: tuple[str, ...]) -> None:
        self.cls = cls
        self.children = children
        self.static = static
        namespace: dict[str, Any] = {
            "cls": cls,
            "new": object.__new__,
            "set_aux_data": cls._aux_data.__set__,
        }
        namespace |= {f"key_{name}": GetAttrKey(name) for name in children}
        source = _source(children, static)
        filename = f"<mlax layout of {cls.__module__}.{cls.__qualname__}: {', '.join(children) or 'no children'}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), namespace)
        self.flatten = namespace["flatten"]
        self.flatten_with_keys = namespace["flatten_with_keys"]
        self.unflatten = namespace["unflatten"]


def _source(children: tuple[str, ...], static: tuple[str, ...]) -> str:
    """Return the source of `flatten`, `flatten_with_keys` and `unflatten`."""
    values = "".join(f"module.{name}, " for name in children)
    pairs = "".join(f"(key_{name}, module.{name}), " for name in children)
    lines = [
        "def flatten(module):",
        f"    return ({values.rstrip()}), module._aux_data",
        "",
        "def flatten_with_keys(module):",
        f"    return ({pairs.rstrip()}), module._aux_data",
        "",
        "def unflatten(aux_data, children):",
        "    module = new(cls)",
        "    set_aux_data(module, aux_data)",
    ]
    if children or static:
        lines.append("    fields = module.__dict__")
    for names, source in ((static, "aux_data.values"), (children, "children")):
        if names:
            lines.append(
                "    " + "".join(f'fields["{name}"], ' for name in names).rstrip() + f" = {source}"
            )
    lines.append("    return module")
    return "\n".join(lines) + "\n"


@functools.cache
def layout_of(cls: Any, children: tuple[str, ...], static: tuple[str, ...]) -> Layout:
    """Return the one layout of a class with these children and static fields."""
    return Layout(cls, children, static)


class AuxData:
    """Everything of a module but its children: made once, at construction, and shared by all copies.

    Attributes:
        layout: The layout of the module.
        values: Values of the static fields, in the order of `layout.static`.
        label: None, or during `mlax.set_up` the path of the module in the whole model.
    """

    __slots__ = ("_hash", "_tags", "label", "layout", "values")

    def __init__(
        self,
        layout: Layout,
        values: tuple[Any, ...],
        tags: tuple[Hashable, ...],
        label: Hashable = None,
    ) -> None:
        self.layout = layout
        self.values = values
        self.label = label
        self._tags = tags
        self._hash = hash((tags, label))

    def labelled(self, label: Hashable) -> "AuxData":
        """Return a copy with another label."""
        return AuxData(self.layout, self.values, self._tags, label)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, AuxData)
            and self.layout is other.layout
            and self._tags == other._tags
            and self.label == other.label
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return ", ".join(
            f"{name}={value!r}" for name, value in zip(self.layout.static, self.values, strict=True)
        )


def is_laid_out(node: object) -> bool:
    """Whether a node is a Module, for files that `mlax.module` imports."""
    return hasattr(node, "_aux_data")
