"""`jax.export` of functions whose arguments or results are modules, nodes or states of optimizers.

JAX writes the structure of arguments and results beside the compiled function. For a class that is
not its own, it needs a name, and the aux data as bytes. Each class is registered when it is defined:

    exported = jax.export.export(jax.jit(forward))(model, x)
    Path("forward.bin").write_bytes(exported.serialize())         # in another process, with the class imported:
    jax.export.deserialize(bytearray(Path("forward.bin").read_bytes())).call(model, x)
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.export

from mlax._jax.tracebacks import trimmed
from mlax._module.written import read_dataclass, require_fields, written_fields

__all__ = [
    "Codec",
    "codec_of",
    "export_name",
    "exportable",
    "register_node",
    "register_plain",
    "register_static",
]

C = TypeVar("C", bound=type)

_newest: dict[str, type] = {}  # JAX keeps every class that it has seen, too


class Codec(NamedTuple):
    """How nodes of a class are written and read: see `register_node`."""

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    unflatten: Any


_codecs: dict[type, Codec] = {}


class _Name(str):
    """The name of a class in files. Several classes may have it, as in a notebook that defines a class again. To
    read, it means the newest of them.

    JAX finds a class by its name in a dict, and refuses a second one that is equal. Names of different
    classes are different; the plain string that JAX reads in a file is equal to that of the newest.
    """

    named: type

    @classmethod
    def of(cls, named: type) -> "_Name":
        name = cls(export_name(named))
        name.named = named
        return name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Name):
            return self is other
        return str.__eq__(self, other) is True and _newest[str(self)] is self.named

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def export_name(cls: type) -> str:
    """Return the name of a class in files: `models.Net`; a class of mlax has that of its public package."""
    home = cls.__module__
    if home.startswith("mlax."):
        home = home.partition("._")[0]
    return f"{home}.{cls.__qualname__}"


def register_node(
    cls: type,
    *,
    write: Callable[[Any], Any],
    read: Callable[[Any], Any],
    unflatten: Any,
) -> None:
    """Let `jax.export` write the nodes of a class, and read them back.

    Args:
        cls: A class that is, or will be, registered with JAX as a PyTree.
        write: From aux data to a tree of JSON's types.
        read: The inverse.
        unflatten: From aux data and children to a node.
    """
    name = export_name(cls)
    _newest[name] = cls
    _codecs[cls] = Codec(name, write, read, unflatten)
    jax.export.register_pytree_node_serialization(
        cls,
        serialized_name=_Name.of(cls),
        serialize_auxdata=trimmed(lambda aux_data: json.dumps(write(aux_data)).encode()),
        deserialize_auxdata=trimmed(lambda data: read(json.loads(data))),
        from_children=unflatten,
    )


def codec_of(cls: type | str) -> Codec | None:
    """Return how nodes of a class are written and read, given the class or its name in files; None if it is unknown."""
    found = _newest.get(cls) if isinstance(cls, str) else cls
    return None if found is None else _codecs.get(found)


def register_plain(cls: type, unflatten: Callable[[None, Any], Any]) -> None:
    """Let `jax.export` write the nodes of a class whose aux data are always None."""
    register_node(cls, write=lambda _: None, read=lambda _: None, unflatten=unflatten)


def register_static(cls: type) -> None:
    """Let `jax.export` write a frozen dataclass that is static to JAX, such as hyperparameters."""

    def unflatten(value: Any, _: Any) -> Any:
        return value

    place = cls.__name__
    register_node(
        cls,
        write=lambda value: written_fields(value, place),
        read=lambda text: read_dataclass(cls, text, place),
        unflatten=unflatten,
    )


def exportable(cls: C) -> C:
    """Let `jax.export` write a NamedTuple, such as the state of an optimizer. A decorator of the class."""
    node: Any = cls
    names: tuple[str, ...] = node._fields

    def checked(fields: Any) -> Any:
        require_fields(export_name(cls), names, fields, cls.__qualname__)
        return fields

    def unflatten(fields: Any, children: Any) -> Any:
        by_name = dict(zip(fields, children, strict=True))
        return tuple.__new__(node, [by_name[name] for name in names])

    register_node(cls, write=lambda _: names, read=checked, unflatten=unflatten)
    return cls
