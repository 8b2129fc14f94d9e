"""Static values as text that can be read back in another process. Nothing in such a text is executed.

`jax.export` writes the structure of a function's arguments and results into a file, and a module's static fields are
part of it. So they are written as JSON: numbers and strings as they are, tuples and frozen dataclasses by their parts,
functions and classes by name. To read a name, its module has to be imported already.

    written(("relu", jax.nn.relu, 1.5), "Net.act")
    {"tuple": ["relu", {"name": "jax.nn:relu"}, {"float": "0x1.8000000000000p+0"}]}
"""

import dataclasses
import enum
import functools
import pathlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mlax._jax.trees import class_of
from mlax.tree import describe

__all__ = [
    "UnreadableError",
    "is_namedtuple",
    "named",
    "read",
    "read_dataclass",
    "require_fields",
    "writable",
    "written",
    "written_fields",
]

_PLAIN = (type(None), bool, int, str)  # JSON tells these apart
_PUBLIC_JAX = ("jax.nn", "jax.numpy", "jax.lax", "jax.random", "jax")


_OF_DEVICES: Any = (
    jax.Device,
    jax.sharding.Sharding,
    jax.sharding.Mesh,
    jax.sharding.AbstractMesh,
)
_others: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


class UnreadableError(ValueError):
    """A text cannot be read in this process, because it was written by other code than is imported here."""


def writable(cls: type, write: Callable[[Any], Any], read: Callable[[Any], Any]) -> None:
    """Let values of a class be written and read, by functions to and from a tree of JSON's types."""
    _others[cls] = write, read


for _cls in (type(pathlib.Path()), pathlib.PurePosixPath, pathlib.PureWindowsPath):
    writable(_cls, str, _cls)


def written(value: Any, place: str) -> Any:
    """Return a static value as a tree of JSON's types.

    Args:
        value: The value.
        place: What to call it in messages: `Net.act`.

    Raises:
        TypeError: It has a part that has no name, such as a lambda, or that cannot be read back as it is.
    """
    cls = class_of(value)
    if cls in _PLAIN:
        return value
    if _is_enum(cls) and value.name in cls.__members__:
        return {"enum": [named(cls, place), value.name]}
    if isinstance(value, enum.Flag):
        bits = {each.name: each.value for each in cls if each in value}
        return {"flags": [named(cls, place), list(bits), value.value & ~sum(bits.values())]}
    if cls is float:
        return {"float": value.hex()}
    if cls is complex:
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if cls is bytes:
        return {"bytes": value.hex()}
    if issubclass(cls, np.dtype):
        return {"dtype": _dtype_text(value, place)}
    if issubclass(cls, np.generic) and cls not in (np.str_, np.bytes_, np.void):
        return {"number": [_dtype_text(value.dtype, place), value.tobytes().hex()]}
    if cls is tuple:
        return {"tuple": [written(each, f"{place}[{i}]") for i, each in enumerate(value)]}
    if is_namedtuple(cls):
        names: tuple[str, ...] = value._fields
        _refuse_other_attributes(value, names, place)
        return {"namedtuple": [named(cls, place), dict(_parts(value, names, place))]}
    if cls is frozenset:
        return {"frozenset": sorted((written(each, place) for each in value), key=repr)}
    if cls in (slice, range):
        return {cls.__name__: [written(each, place) for each in _bounds(value)]}
    if cls is functools.partial:
        _refuse_other_attributes(value, (), place)
        return {
            "partial": [
                written(value.func, f"{place}.func"),
                written(value.args, f"{place}.args"),
                {name: written(each, f"{place}.{name}") for name, each in value.keywords.items()},
            ]
        }
    if cls in _others:
        return {"other": [named(cls, place), _others[cls][0](value)]}
    if _is_dataclass(cls):
        return {"dataclass": [named(cls, place), written_fields(value, place)]}
    if value is PartitionSpec.UNCONSTRAINED:
        return {"name": "jax.sharding:PartitionSpec.UNCONSTRAINED"}
    return {"name": named(value, place)}


def written_fields(value: Any, place: str) -> dict[str, Any]:
    """Return the fields of a dataclass as a tree of JSON's types, by name. See `written`."""
    names = tuple(field.name for field in dataclasses.fields(value))
    _refuse_other_attributes(value, names, place)
    return dict(_parts(value, names, place))


def _parts(value: Any, names: Any, place: str) -> Iterator[tuple[str, Any]]:
    for name in names:
        yield name, written(getattr(value, name), f"{place}.{name}")


def _bounds(value: Any) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


def _dtype_text(dtype: Any, place: str) -> str:
    """Return a text of which `jnp.dtype` makes the same dtype. NumPy's and ml_dtypes' have different ones."""
    texts: tuple[str, ...] = dtype.name, dtype.str, dtype.char
    for text in texts:
        try:
            found: Any = jnp.dtype(text)
        except TypeError:
            continue
        if (type(found), found, found.metadata) == (type(dtype), dtype, dtype.metadata):
            return text
    raise _unwritable(dtype, place)


def _refuse_other_attributes(value: Any, names: Sequence[str], place: str) -> None:
    """Raise an error if an object has attributes besides its fields: they would be missing when it is read."""
    cls = class_of(value)
    for name in getattr(value, "__dict__", {}):
        cached = isinstance(getattr(cls, name, None), functools.cached_property)
        if name not in names and not cached:
            raise TypeError(
                f"{place}: {cls.__name__}.{name} is not a field, so it cannot be written to a file.\n"
                f"  Declare it as a field of a dataclass, or make it a property."
            )


def named(value: Any, place: str) -> str:
    """Return the name of a function, class or singleton: `package.module:Class.method`.

    Args:
        value: Anything.
        place: What to call it in messages.

    Raises:
        TypeError: It has no name, or another object has this name now.
    """
    home: object = getattr(value, "__module__", None) or "builtins"  # as of Ellipsis
    name: object = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        name = _reduced(value)
    if isinstance(home, str) and isinstance(name, str):
        homes = [home, "types"] if home == "builtins" else [home]  # as of NoneType
        if home.startswith("jax._src."):
            homes = [*_PUBLIC_JAX, home]
        for each in homes:
            found = _global(each, name)
            if found is value or (isinstance(value, types.MethodType) and found == value):
                return f"{each}:{name}"
    if isinstance(value, type):
        raise TypeError(
            f"{place}: the class {name} cannot be written to a file by name: {home} has no such class"
            f"{', or it was defined again' if '<locals>' not in str(name) else ''}.\n"
            f"  Define it at the top level of a module."
        )
    raise _unwritable(value, place)


def _unwritable(value: Any, place: str) -> TypeError:
    problem = f"{place} is {describe(value)}, which cannot be written to a file"
    if hasattr(value, "__name__"):
        return TypeError(
            f"{problem}: it has no name by which another process could find it.\n"
            f"  Use a function defined at the top level of a module, or a frozen dataclass, in place of a lambda, "
            f"a closure or a method."
        )
    if isinstance(value, _OF_DEVICES):
        return TypeError(
            f"{problem}: it belongs to the devices of this process.\n"
            f"  Keep names of axes or a PartitionSpec in its place, and make it from these where it is used."
        )
    return TypeError(
        f"{problem}: no text of it could be read back.\n"
        f"  Keep what it is made of in its place, such as strings, numbers, tuples, or a frozen dataclass of these."
    )


def _reduced(value: Any) -> Any:
    """Return the name of a singleton that is copied and pickled as a global; of anything else, not a string."""
    try:
        return value.__reduce_ex__(2)
    except Exception:
        return None


_MISSING = object()


def _global(home: str, name: str) -> Any:
    """Return what has this name in a module that is imported, or `_MISSING`."""
    found: Any = sys.modules.get(home, _MISSING)
    for part in name.split("."):
        found = getattr(found, part, _MISSING)
    return found


def read(text: Any, place: str) -> Any:
    """Return the static value that a text stands for.

    Args:
        text: From `written`.
        place: What to call it in messages.

    Raises:
        UnreadableError: A name is not that of anything in an imported module, or a class has other fields now.
    """
    if class_of(text) in _PLAIN:
        return text
    ((kind, parts),) = text.items()
    match kind:
        case "float":
            return float.fromhex(parts)
        case "complex":
            return complex(*map(float.fromhex, parts))
        case "bytes":
            return bytes.fromhex(parts)
        case "dtype":
            return jnp.dtype(parts)
        case "number":
            return np.frombuffer(bytes.fromhex(parts[1]), jnp.dtype(parts[0]))[0]
        case "tuple":
            return tuple(read(each, f"{place}[{i}]") for i, each in enumerate(parts))
        case "frozenset":
            return frozenset(read(each, place) for each in parts)
        case "slice":
            return slice(*(read(each, place) for each in parts))
        case "range":
            return range(*(read(each, place) for each in parts))
        case "partial":
            function, arguments, keywords = parts
            named_arguments = {key: read(each, f"{place}.{key}") for key, each in keywords.items()}
            return functools.partial(
                read(function, f"{place}.func"),
                *read(arguments, f"{place}.args"),
                **named_arguments,
            )
        case "enum":
            cls = _found(parts[0], place, _is_enum)
            return _member(cls, parts[1], place)
        case "flags":
            cls = _found(parts[0], place, _is_enum)
            bits = sum(_member(cls, name, place).value for name in parts[1])
            return _flags(cls, bits | parts[2], place)
        case "namedtuple":
            cls = _found(parts[0], place, is_namedtuple)
            return tuple.__new__(cls, _fields(cls, cls._fields, parts[1], place).values())
        case "dataclass":
            return read_dataclass(_found(parts[0], place, _is_dataclass), parts[1], place)
        case "other":
            cls = _found(parts[0], place, _others.__contains__)
            return _others[cls][1](parts[1])
        case "name":
            return _found(parts, place, lambda _: True)
        case _:
            raise UnreadableError(
                f"{place}: a newer mlax wrote this, or the file is damaged ({kind!r})"
            )


def read_dataclass(cls: Any, fields: dict[str, Any], place: str) -> Any:
    """Return a frozen dataclass with these fields, which `written_fields` returned. See `read`."""
    names = tuple(field.name for field in dataclasses.fields(cls))
    value = object.__new__(cls)
    for name, part in _fields(cls, names, fields, place).items():
        object.__setattr__(value, name, part)  # no __init__: it would run code
    return value


def _member(cls: Any, name: str, place: str) -> Any:
    if name not in cls.__members__:
        raise UnreadableError(f"{place} is {cls.__name__}.{name}, which does not exist here")
    return cls.__members__[name]


def _flags(cls: Any, bits: int, place: str) -> Any:
    try:
        return cls(bits)
    except ValueError as error:
        raise UnreadableError(f"{place} is not a {cls.__name__} here: {error}") from error


def _written_spec(spec: Any) -> Any:
    # Before 0.10.2 of JAX, a spec is the tuple of its axes.
    axes: tuple[Any, ...] = spec.partitions if hasattr(spec, "partitions") else tuple(spec)
    return [written(part, "PartitionSpec") for part in (axes, spec.unreduced, spec.reduced)]


def _read_spec(text: Any) -> PartitionSpec:
    axes, unreduced, reduced = (read(part, "PartitionSpec") for part in text)
    return PartitionSpec(*axes, unreduced=unreduced, reduced=reduced)


writable(PartitionSpec, _written_spec, _read_spec)


def _is_enum(value: Any) -> bool:
    return isinstance(value, enum.EnumMeta)


def is_namedtuple(value: Any) -> bool:
    """Whether this is a class of NamedTuples."""
    return (
        isinstance(value, type)
        and issubclass(value, tuple)
        and hasattr(cast("Any", value), "_fields")
    )


def _is_dataclass(value: Any) -> bool:
    return isinstance(value, type) and dataclasses.is_dataclass(value)


def _found(name: str, place: str, fits: Callable[[Any], bool]) -> Any:
    home, _, inside = name.partition(":")
    if home not in sys.modules:
        raise UnreadableError(
            f"{place} is {name.replace(':', '.')}, and {home} is not imported.\n"
            f"  Import it first: reading a file imports nothing."
        )
    found = _global(home, inside)
    if found is _MISSING or not fits(found):
        raise UnreadableError(
            f"{place} is {name.replace(':', '.')}, but {home} has no {inside} of this kind"
        )
    return found


def _fields(cls: Any, names: tuple[str, ...], parts: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the fields of a class, read; raise an error if those in the text are not those of the class."""
    require_fields(cls.__name__, names, parts, place)
    return {name: read(parts[name], f"{place}.{name}") for name in names}


def require_fields(cls: str, names: tuple[str, ...], given: Any, place: str) -> None:
    """Raise an error unless a class has the fields that it had when the file was written.

    Args:
        cls: Name of the class.
        names: Names of its fields.
        given: Names of the fields in the file.
        place: What to call the object in messages.
    """
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        parts = [f"has no {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(unknown)}"] if unknown else []
        raise UnreadableError(
            f"{place}: the file {' and '.join(parts)}, but {cls} has the fields {', '.join(names) or '(none)'}.\n"
            f"  Export the function again with this version of {cls}, or read it with that one."
        )
