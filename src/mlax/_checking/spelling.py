"""Annotations as people write them, for error messages: `Float[Array, "n"] | None`."""

import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Unpack, cast, get_args, get_origin

import jax.typing
import jaxtyping

__all__ = ["qualname", "spelled"]


def spelled(annotation: Any) -> str:
    """Return an annotation, resolved or a string, as people write it, without the internals of JAX or jaxtyping."""
    arguments, origin = get_args(annotation), get_origin(annotation)
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, TypeVar):
        return spelled(annotation.__bound__ or annotation.__name__)
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{_joined(cast('Iterable[Any]', annotation))}]"
    if getattr(annotation, "dim_str", None) is not None:  # jaxtyping's arrays
        kind = annotation.__name__.partition("[")[0]
        return f'{kind}[{spelled(annotation.array_type)}, "{annotation.dim_str}"]'
    if hasattr(annotation, "leaftype"):  # jaxtyping's trees
        structure = f', "{annotation.structure}"' if annotation.structure else ""
        return f"PyTree[{spelled(annotation.leaftype)}{structure}]"
    if origin in (typing.Union, types.UnionType):
        return _union(list(arguments))
    if origin is Annotated:
        return spelled(arguments[0])
    if origin is Unpack:
        return f"*{spelled(arguments[0])}"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments:
        return f"{_name(origin)}[{_joined(arguments)}]"
    if isinstance(annotation, types.GenericAlias):
        return f"{_name(origin)}[()]"
    return _name(annotation if origin is None else origin)


def _joined(annotations: Iterable[Any]) -> str:
    return ", ".join(map(spelled, annotations))


# Unions that have a name of their own.
_UNIONS = {
    "PRNGKeyArray": get_args(jaxtyping.PRNGKeyArray),
    "ArrayLike": get_args(jax.typing.ArrayLike),
    "DTypeLike": get_args(jax.typing.DTypeLike),
}


def _union(members: list[Any]) -> str:
    """Return a union, with None at its end."""
    names: list[str] = []
    for name, parts in _UNIONS.items():
        if parts and all(part in members for part in parts):
            names.append(name)
            members = [member for member in members if member not in parts]
    rest = [member for member in members if member is not type(None)]
    names += map(spelled, rest)
    return " | ".join(names + ["None"] * (len(rest) < len(members)))


def qualname(function: object) -> str:
    """Return the qualified name of a function; of another callable, that of its class."""
    name: object = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def _name(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(name, str):
        return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(thing))
    short = name.rpartition("<locals>.")[2]
    if "jax" in str(getattr(thing, "__module__", "")):
        short = short.rpartition(".")[2]
    return f"np.{short}" if getattr(thing, "__module__", "") == "numpy" else short
