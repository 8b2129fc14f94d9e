"""Numbers of NumPy in static fields: they become Python's where the annotation names those.

An operation of JAX takes the dtype of a NumPy number, not that of a Python number, into account: an array in bfloat16
times `np.float64(0.1)` is one in float32 or float64. And static values carry their type, so a function would be traced
once for `0.1` and again for `np.float64(0.1)`.
"""

from typing import Any

import numpy as np

from mlax._checking.hints import hints_of_fields
from mlax._jax.trees import class_of
from mlax._module.kinds import NUMBERS, UNIONS, form_of, is_scalar_type

__all__ = ["with_python_numbers"]


def with_python_numbers(cls: Any, name: str, value: Any) -> Any:
    """Return the value of a static field, with Python's numbers in place of NumPy's if its annotation names them.

    Args:
        cls: The class of the module.
        name: The name of the field.
        value: Its value, which may be a tuple with numbers in it.
    """
    if not _has_any(value):
        return value
    named = _named(hints_of_fields(cls)[name])
    if any(map(is_scalar_type, named)):  # NumPy's are asked for
        return value
    return _converted(value, [kind for kind in NUMBERS if kind in named])


def _has_any(value: Any) -> bool:
    kind = class_of(value)
    return any(map(_has_any, value)) if kind is tuple else issubclass(kind, np.generic)


def _named(annotation: Any) -> list[Any]:
    """Return the classes that an annotation names, those of the items of tuples too."""
    hint, origin, arguments, _ = form_of(annotation)
    if origin in UNIONS or origin is tuple:
        return [one for argument in arguments for one in _named(argument)]
    return [hint]


def _converted(value: Any, kinds: list[Any]) -> Any:
    cls = class_of(value)
    if cls is tuple:
        return tuple(_converted(item, kinds) for item in value)
    if not issubclass(cls, np.generic) or not any(issubclass(cls, NUMBERS[kind]) for kind in kinds):
        return value
    return next(kind for kind in NUMBERS if issubclass(cls, NUMBERS[kind]))(value)
