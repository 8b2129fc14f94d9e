"""Hyperparameters: what a field of an optimizer may hold, and how a given value becomes it.

    class Adam(Optimizer):
        learning_rate: Number = scheduled(1e-3, at_least=0)
        b1: float = number(0.9, at_least=0, below=1)
        bias_correction: bool = flag(True)

Each function here describes one field; its first argument is the default.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias, TypeGuard, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import canonical, epsilon, smallest_number
from mlax._jax.tracing import is_tracer

__all__ = [
    "HELD",
    "Dtype",
    "Number",
    "Schedule",
    "choice",
    "dtype",
    "flag",
    "integer",
    "is_array",
    "is_schedule",
    "number",
    "refuse_vanishing",
    "required",
    "scheduled",
    "specification",
    "specified",
]


Schedule: TypeAlias = Callable[[Array], ArrayLike]
"""A hyperparameter that depends on the number of steps done: given an int32 scalar, at first 0, it returns a scalar."""

Number: TypeAlias = float | np.floating[Any] | Array | Schedule
"""What a hyperparameter that may change between steps is given as."""

Dtype: TypeAlias = DTypeLike
"""Anything that names a dtype: `jnp.bfloat16`, `"float32"`."""


class _Held:
    """Stands in an optimizer for a number that its state holds. There is one."""

    __module__ = "mlax.optimizer"  # where pickles look for it

    def __repr__(self) -> str:
        return "<in the state>"

    def __reduce__(self) -> str:
        return "HELD"  # the name of the one, so that copies and pickles are it


HELD = _Held()


def is_schedule(value: object) -> TypeGuard[Schedule]:
    """Return whether a hyperparameter changes with the step."""
    return callable(value) and not isinstance(value, jax.Array | type)


@dataclass(frozen=True)
class Specification:
    """What one field may hold.

    Attributes:
        normalise: Returns the value as the field keeps it, or raises an error that says what is expected.
        schedulable: Whether arrays and schedules are accepted.
        optional: Whether None is.
        positive: Whether it is a number above 0, which leaves may be divided by.
    """

    normalise: Callable[[Any], Any]
    schedulable: bool = False
    optional: bool = False
    positive: bool = False


@dataclass(frozen=True)
class _Bounds:
    at_least: float | None
    above: float | None
    at_most: float | None
    below: float | None

    def check(self, value: float) -> None:
        """Refuse what is out of bounds; an infinity is in if it is a bound itself."""
        if value != value or (  # noqa: PLR0124
            value in (math.inf, -math.inf) and value not in (self.at_least, self.at_most)
        ):
            raise ValueError("a finite number")
        if (
            (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        ):
            raise ValueError(str(self))
        widest = canonical(np.float64)
        if self.above == 0 and value < _least_positive(widest):
            raise ValueError(_too_small(widest))

    def __str__(self) -> str:
        bounds = zip(
            (">=", ">", "<=", "<"),
            (self.at_least, self.above, self.at_most, self.below),
            strict=True,
        )
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


def number(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """Describe a number that is compiled in: a Python float."""
    bounds = _Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> float:
        result = _real(value, "a number")
        bounds.check(result)
        return result

    return specified(default, Specification(normalise, optional=optional, positive=above == 0))


def scheduled(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Any:
    """Describe a number that the state holds: a Python float, a floating-point array of shape () or a schedule."""
    bounds = _Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> Any:
        if value is HELD or is_schedule(value):
            return value
        if is_array(value):
            if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
                raise TypeError("a number, a floating-point array of shape () or a schedule")
            if not is_tracer(value):
                bounds.check(float(value))
            return value
        result = _real(value, "a number, an array or a schedule")
        bounds.check(result)
        return result

    return specified(default, Specification(normalise, schedulable=True, optional=optional))


def integer(
    default: int | None,
    *,
    at_least: int | None = None,
    above: int | None = None,
    at_most: int | None = None,
    below: int | None = None,
    optional: bool = False,
) -> Any:
    """Describe an integer that is compiled in."""
    bounds = _Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> int:
        plain = value.item() if _is_plain(value) else value
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise TypeError("an integer")
        bounds.check(plain)
        if plain.bit_length() >= 32:
            raise ValueError("an integer of 32 bits")
        return plain

    return specified(default, Specification(normalise, optional=optional))


def flag(default: bool) -> Any:
    """Describe an option that is on or off."""

    def normalise(value: Any) -> bool:
        plain = value.item() if _is_plain(value) else value
        if not isinstance(plain, bool):
            raise TypeError("True or False")
        return plain

    return specified(default, Specification(normalise))


def choice(default: str | None, *choices: str | None) -> Any:
    """Describe an option that is one of several names."""

    def normalise(value: Any) -> str | None:
        if not isinstance(value, str | None) or value not in choices:
            raise ValueError("one of " + ", ".join(map(repr, choices)))
        return value

    return specified(default, Specification(normalise))


def dtype(default: Dtype | None = None) -> Any:
    """Describe a floating-point dtype, or None."""

    def normalise(value: Any) -> Any:
        try:
            result = jnp.dtype(value)
        except TypeError:
            result = None
        if result is None or not jnp.issubdtype(result, jnp.floating):
            raise TypeError("a floating-point dtype or None")
        if canonical(result) != result:
            raise ValueError("a dtype that JAX has without jax_enable_x64")
        return result

    return specified(default, Specification(normalise, optional=True))


def specification(metadata: Any) -> Specification | None:
    """Return what the metadata of a dataclass field say about it; None of a plain field."""
    spec: Specification | None = metadata.get(Specification)
    return spec


def specified(default: Any, spec: Specification) -> Any:
    """Describe a field by its default and what else it may hold."""
    return field(default=default, metadata={Specification: spec})


def refuse_vanishing(h: object, dtype: Any) -> None:
    """Refuse numbers above 0 that are none in the dtype that leaves are computed in.

    What is too small for every dtype no optimizer accepts; under x64 leaves may be float64, or not.

    Raises:
        ValueError: A number is too small for the dtype.
    """
    for each in fields(h) if is_dataclass(h) else ():
        spec, value = specification(each.metadata), getattr(h, each.name)
        positive = spec is not None and spec.positive
        if positive and isinstance(value, float) and value < _least_positive(dtype):
            raise ValueError(
                f"{type(h).__name__}: {each.name} must be {_too_small(dtype)}, got {value!r}"
            )


def _least_positive(dtype: Any) -> float:
    """Return what is normal also times 1 - b, which it may be multiplied by: processors take less for 0."""
    return smallest_number(dtype) / epsilon(np.float32)


def _too_small(dtype: Any) -> str:
    name = np.dtype(dtype).name
    return f">= {_least_positive(dtype):.2g} for {name} leaves, where less may count as 0"


def required(described: Any) -> Any:
    """Return a field's description without its default: `required(integer(1, at_least=1))`."""
    return field(metadata=described.metadata)


def is_array(value: object) -> bool:
    """Return whether a value is an array that is more than NumPy's form of a Python number."""
    return not _is_plain(value) and isinstance(value, jax.Array | np.ndarray)


def _is_plain(value: object) -> bool:
    """Return whether a value is NumPy's form of a Python number."""
    return isinstance(value, np.generic | np.ndarray) and cast("Any", value).shape == ()


def _real(value: Any, expected: str) -> float:
    if _is_plain(value):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    else:
        real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real:
        raise TypeError(expected)
    try:
        return float(value) + 0.0  # 0.0 for -0.0, which would be equal and yet another trace
    except OverflowError:  # an integer beyond all floats
        raise ValueError("a finite number") from None
