"""Flatten and unflatten, generated for each class of Module as a person would write them for that class.

    module -- flatten --> children + AuxData -- unflatten --> module

Values decide which fields are children, so a class can have several flattenings: an optional field
may be None in one module and a number in another. Each flattening has its own functions. They are
generated when first needed and entered in `linecache`, so that a debugger steps through them and
tracebacks show their lines. JAX knows only one pair of functions for each class, those of its first
flattening; they delegate modules with other flattenings.

Why generated: a module with 3 arrays and 3 static fields takes about 300 ns to flatten and 300 ns
to unflatten. With `jax.tree_util.register_dataclass`, unflattening takes 1,190 ns, because it calls
the class. Equinox takes 1,320 ns and 860 ns.
"""

import itertools
import linecache
import threading
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

import jax
from jax.tree_util import GetAttrKey

from mlax._jax.trees import class_of

__all__ = [
    "AuxData",
    "Flattened",
    "Flattening",
    "Unfinished",
    "flattening_of",
    "is_flattened",
    "register_redefined",
]


class Flattening:
    """Which fields of a class are children and which are static, and functions for exactly these fields.

    Attributes:
        cls: The class.
        children: Names of the fields that are children, in their order.
        static: Names of the other fields, in their order.
        flatten: From a module to children and AuxData.
        flatten_with_keys: From a module to pairs of key and child, and AuxData.
        unflatten: From AuxData and children to a module. Runs no user code and no checks.
    """

    __slots__ = ("children", "cls", "flatten", "flatten_with_keys", "static", "unflatten")
    cls: type
    children: tuple[str, ...]
    static: tuple[str, ...]
    flatten: Callable[[Any], tuple[tuple[Any, ...], "AuxData"]]
    flatten_with_keys: Callable[[Any], tuple[tuple[tuple[Any, Any], ...], "AuxData"]]
    unflatten: Callable[["AuxData", Any], Any]

    def __init__(self, cls: Any, children: tuple[str, ...], static: tuple[str, ...]) -> None:
        self.cls = cls
        self.children = children
        self.static = static
        namespace: dict[str, Any] = {"cls": cls, "flattening": self, "mutable": cls._mutable}
        namespace |= {"new": object.__new__, "assign": object.__setattr__}
        namespace |= {f"key_{name}": GetAttrKey(name) for name in children}
        source = _source(children, static, swaps=cls._mutable is not None)
        filename = _filename(cls, children, source)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), namespace)
        self.flatten = namespace["flatten"]
        self.flatten_with_keys = namespace["flatten_with_keys"]
        self.unflatten = namespace["unflatten"]


def _filename(cls: type, children: tuple[str, ...], source: str) -> str:
    """Return a file name for the source of a flattening. Only classes with the same source share a name."""
    name = (
        f"mlax: {cls.__module__}.{cls.__qualname__} with children {', '.join(children) or 'none'}"
    )
    names = itertools.chain([f"<{name}>"], (f"<{name} ({i})>" for i in itertools.count(2)))
    return next(name for name in names if "".join(linecache.getlines(name)) in ("", source))


def _source(children: tuple[str, ...], static: tuple[str, ...], *, swaps: bool) -> str:
    """Return the source of `flatten`, `flatten_with_keys` and `unflatten`.

    Args:
        children: Names of the fields that are children.
        static: Names of the other fields.
        swaps: Whether the class has a mutable twin: an object is filled as one of these, then its
            class is swapped.
    """

    def targets(names: tuple[str, ...]) -> str:
        return "".join(f"module.{name}, " for name in names).rstrip()

    pairs = "".join(f"(key_{name}, module.{name}), " for name in children).rstrip()
    lines: list[str] = []
    for function, result in (("flatten", targets(children)), ("flatten_with_keys", pairs)):
        lines += [
            f"def {function}(module):",
            "    aux_data = module._aux_data",
            "    if aux_data.flattening is not flattening:",
            f"        return aux_data.flattening.{function}(module)",
            f"    return ({result}), aux_data",
            "",
        ]
    lines += [
        "def unflatten(aux_data, children):",
        "    if aux_data.flattening is not flattening:",
        "        return aux_data.flattening.unflatten(aux_data, children)",
    ]
    if not swaps:
        lines += [
            "    module = new(cls)",
            "    assign(module, '_aux_data', aux_data)",
            "    for name, value in zip(flattening.static, aux_data.values):",
            "        assign(module, name, value)",
            "    for name, child in zip(flattening.children, children):",
            "        assign(module, name, child)",
            "    return module",
        ]
        return "\n".join(lines) + "\n"
    lines += ["    module = mutable()", "    module._aux_data = aux_data"]
    if static:
        lines.append(f"    {targets(static)} = aux_data.values")
    if children:
        lines.append(f"    {targets(children)} = children")
    lines += ["    module.__class__ = cls", "    return module"]
    return "\n".join(lines) + "\n"


class _OfItsModules:
    """Flattens each module as that module says. For a class that was defined again.

    IPython's `%autoreload` makes the objects of the class before objects of this one. They bring their
    aux data along, and the first of them may come before any module of this class is constructed.
    """

    @staticmethod
    def flatten(module: Any) -> Any:
        return _adopted(module).flatten(module)

    @staticmethod
    def flatten_with_keys(module: Any) -> Any:
        return _adopted(module).flatten_with_keys(module)

    @staticmethod
    def unflatten(aux_data: "AuxData", children: Any) -> Any:
        return aux_data.flattening.unflatten(aux_data, children)


def _adopted(module: Any) -> Flattening:
    """Return the flattening of a module, for its own class."""
    aux_data: AuxData = module._aux_data
    cls = class_of(module)
    old = aux_data.flattening
    if old.cls is not cls and {*old.children, *old.static} == {*cls._names}:
        aux_data = aux_data.of(flattening_of(cls, old.children, old.static))
        object.__setattr__(module, "_aux_data", aux_data)
    return aux_data.flattening


def register_redefined(cls: type) -> None:
    """Register a class that was defined again with JAX at once, not when its first module is constructed."""
    _register(cls, _OfItsModules)
    _redefined.add(cls)


def _register(cls: type, functions: Any) -> None:
    if cls not in _redefined:
        jax.tree_util.register_pytree_with_keys(
            cls, functions.flatten_with_keys, functions.unflatten, functions.flatten
        )


_redefined: set[type] = set()
_lock = threading.Lock()
_flattenings: dict[type, dict[tuple[str, ...], Flattening]] = {}


def flattening_of(cls: type, children: tuple[str, ...], static: tuple[str, ...]) -> Flattening:
    """Return the flattening of a class with these children and static fields; the first one registers the class."""
    with _lock:
        flattenings = _flattenings.setdefault(cls, {})
        if children not in flattenings:
            flattening = Flattening(cls, children, static)
            if not flattenings:
                _register(cls, flattening)
            flattenings[children] = flattening
        return flattenings[children]


class AuxData:
    """Everything in a module except its children. It is made once, when the module is constructed, and shared by
    its copies.

    JAX compares aux data in each dispatch of a jitted function. So the static values are turned
    into tags at construction, and the hash is computed once. JAX's hash of a whole treedef ignores
    aux data: a function called with 300 variants of static data takes 15 us per dispatch instead of
    4.3.

    Attributes:
        flattening: The flattening of the module.
        values: Values of the static fields, in the order of `flattening.static`.
        label: During `mlax.set_up`, the path of the module in the whole model; otherwise None.
        is_held: Whether another module may hold the module, a copy of it, or a part of it; see `apart`.
    """

    __slots__ = ("_hash", "_tags", "flattening", "is_held", "label", "values")

    def __init__(
        self,
        flattening: Flattening,
        values: tuple[Any, ...],
        tags: tuple[Hashable, ...],
        label: Hashable = None,
        *,
        is_held: bool = True,
    ) -> None:
        self.flattening = flattening
        self.values = values
        self.label = label
        self.is_held = is_held
        self._tags = tags
        self._hash = hash((tags, label))

    def of(self, flattening: Flattening) -> "AuxData":
        """Return a copy with another flattening, of the same fields."""
        return AuxData(flattening, self.values, self._tags, self.label)

    def labelled(self, label: Hashable) -> "AuxData":
        """Return a copy with another label."""
        return AuxData(self.flattening, self.values, self._tags, label)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, AuxData)
            and self.flattening is other.flattening
            and self._tags == other._tags
            and self.label == other.label
        )

    def __hash__(self) -> int:
        return self._hash

    def differences(self, other: "AuxData") -> list[tuple[str, Any, Any]]:
        """Return name and both values of each static field that differs in two modules of one class."""
        theirs = {
            name: (tag, value)
            for name, tag, value in zip(
                other.flattening.static, other._tags, other.values, strict=True
            )
        }
        return [
            (name, value, theirs[name][1])
            for name, tag, value in zip(
                self.flattening.static, self._tags, self.values, strict=True
            )
            if name in theirs and theirs[name][0] != tag
        ]

    def __repr__(self) -> str:
        return ", ".join(
            f"{name}={value!r}"
            for name, value in zip(self.flattening.static, self.values, strict=True)
        )


class Unfinished:
    """Takes the place of AuxData while `__init__` runs, and permanently if it fails. Any use of the module
    raises an error.
    """

    def __init__(self, cls: type, *, failed: bool) -> None:
        why = "raised an error" if failed else "has not finished"
        self.refusal = f"this {cls.__name__} is not complete: its __init__ {why}"
        self.failed = failed

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name in ("refusal", "failed"):  # asked for by copy and pickle
            raise AttributeError(name)
        raise TypeError(self.refusal)


class Flattened:
    """Marker base class of `Module`: files that Module imports use it to recognise modules."""

    __slots__ = ()

    def _original(self) -> Any:
        """Return the model that this one stands for. Its leaves may be anything: only classes and paths are used."""
        return self

    def _unpacked(self) -> Any:
        """Return the model that this one stands for, with its arrays."""
        return self


def is_flattened(node: object) -> bool:
    """Whether a node is a Module."""
    return isinstance(node, Flattened)
