"""What may be a static field of a Module, and when two static values are the same.

Static fields are aux data: JAX caches traces under them, so they must be hashable, hold no arrays, and differ
whenever a trace could. Python's equality is too coarse for that (1 == 1.0 == True, 0.0 == -0.0), so a value is
compared by its `tag`, in which a type comes before each value.
"""

import dataclasses
import functools
import types
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from mlax.state import State
from mlax.tree import describe

__all__ = ["StaticError", "tag"]

_ATOMS = frozenset(
    {str, int, bool, bytes, type(None), type, types.FunctionType, types.BuiltinFunctionType}
)


class StaticError(TypeError):
    """A value that cannot be static: what is wrong with it, and the cure."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


def tag(value: Any) -> Hashable:
    """Return what stands for a static value in comparisons and hashes.

    Raises:
        StaticError: The value is unhashable, or is or holds an array or a State.
    """
    cls: type = type(value)
    if cls in _ATOMS:
        return cls, value
    if cls is float:
        return cls, value.hex()
    if cls is complex:
        return cls, value.real.hex(), value.imag.hex()
    if isinstance(value, (jax.Array, np.ndarray)):
        raise StaticError(
            f"{describe(value)} is an array",
            "Wrap it in a Parameter (trained) or a Variable (not trained).",
        )
    if isinstance(value, State):
        raise StaticError(
            f"a {cls.__name__} is hidden in a static value",
            "Give it a field of its own: States are children of the tree.",
        )
    if isinstance(value, np.generic):
        return cls, value.tobytes()
    if isinstance(value, functools.partial):
        inside = (value.func, value.args, tuple(sorted(value.keywords.items())))
        return cls, tag(inside)
    if isinstance(value, types.MethodType):
        return cls, value.__func__, tag(value.__self__)
    if isinstance(value, tuple):
        return cls, *map(tag, value)
    if isinstance(value, frozenset):
        return cls, frozenset(map(tag, value))
    _refuse_unhashable(value)
    if (
        dataclasses.is_dataclass(value)
        and not isinstance(value, type)
        and value.__dataclass_params__.eq
    ):
        return (
            cls,
            value,
            *(
                tag(getattr(value, field.name))
                for field in dataclasses.fields(value)
                if field.compare
            ),
        )
    return cls, value


_CURES = {
    list: "Use a tuple.",
    dict: "Use a tuple of pairs, or a frozen dataclass.",
    set: "Use a frozenset.",
}


def _refuse_unhashable(value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        kind = next((base for base in type(value).__mro__ if base in _CURES), None)
        raise StaticError(
            f"a {type(value).__name__} is not hashable",
            _CURES.get(
                kind, "Use a hashable value, such as a frozen dataclass of hashable fields."
            ),  # type: ignore[arg-type]
        ) from None
