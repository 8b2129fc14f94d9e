"""The structure of a tree as text that can be read back in another process: see `written`."""

from typing import Any

from mlax._jax.trees import flatten
from mlax._module.exporting import codec_of, export_name
from mlax._module.written import UnreadableError, is_namedtuple, read, require_fields, written

__all__ = ["read_structure", "written_structure"]


def written_structure(treedef: Any) -> Any:
    """Return the structure of a tree as a tree of JSON's types.

    Raises:
        TypeError: A node is of a class that is not exportable, or a static value cannot be written.
    """
    node = treedef.node_data()
    if node is None:
        return "leaf"
    cls, aux_data = node
    children = list(map(written_structure, treedef.children()))
    if cls in (tuple, list, type(None)):
        return {cls.__name__: children}
    if cls is dict:
        return {"dict": [[written(key, "a key") for key in aux_data], children]}
    codec = codec_of(cls)
    if codec is None and is_namedtuple(cls):
        return {"namedtuple": [written(cls, "a node"), cls._fields, children]}
    if codec is None:
        raise TypeError(
            f"{export_name(cls)} is not a node that can be exported; use a Module, tuple, NamedTuple, list or dict"
        )
    return {"node": [codec.name, codec.write(aux_data), children]}


def read_structure(text: Any) -> Any:
    """Return the structure that a text stands for. See `written_structure`."""
    return flatten(_read_tree(text))[1]


def _read_tree(text: Any) -> Any:
    if text == "leaf":
        return 0
    ((kind, parts),) = text.items()
    match kind:
        case "NoneType":
            return None
        case "tuple" | "list":
            children = list(map(_read_tree, parts))
            return tuple(children) if kind == "tuple" else children
        case "dict":
            keys = [read(key, "a key") for key in parts[0]]
            return dict(zip(keys, map(_read_tree, parts[1]), strict=True))
        case "namedtuple":
            name, fields, children = parts
            cls = read(name, "a node")
            if not is_namedtuple(cls):
                raise UnreadableError(
                    f"{export_name(cls)} is in the file, but is not a NamedTuple here"
                )
            require_fields(export_name(cls), cls._fields, fields, cls.__qualname__)
            by_name = dict(zip(fields, map(_read_tree, children), strict=True))
            return tuple.__new__(cls, [by_name[field] for field in cls._fields])
        case _:
            name, aux_data, children = parts
            codec = codec_of(name)
            if codec is None:
                raise UnreadableError(
                    f"{name} is in the file and not defined here; import it first"
                )
            return codec.unflatten(codec.read(aux_data), list(map(_read_tree, children)))
