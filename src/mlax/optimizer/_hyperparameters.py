"""Hyperparameters: the numbers, schedules and dtypes that a field of an optimizer can have.

    class Adam(Optimizer):
        learning_rate: Annotated[Number, scheduled(at_least=0)] = 1e-3
        b1: Annotated[Float, number(at_least=0, below=1)] = 0.9
        weight_decay: Annotated[Number | None, scheduled(at_least=0)] = None
        slot_dtype: SlotDtype | None = None

Schedules are only accepted by `scheduled` fields. A number of another field is compiled into the
step. If its type is `Float`, it may also be an array, which is a leaf of `state.hyperparameters`; if
it is `float`, it may not, because the step branches on it or computes a shape from it.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from mlax._checking.bounds import Bounds
from mlax._jax.dtypes import canonical, epsilon, largest_number, smallest_number
from mlax._jax.tracing import is_tracer
from mlax._module.static_texts import AN_ARRAY, IN_THE_STATE
from mlax.optimizer._specified import (
    Specification,
    is_array,
    is_plain,
    normalised,
    specifications,
)

__all__ = [
    "HELD",
    "LEAF",
    "Dtype",
    "Float",
    "Number",
    "Schedule",
    "SlotDtype",
    "integer",
    "is_array",
    "is_narrow",
    "is_schedule",
    "not_int8",
    "not_negative",
    "number",
    "refuse_out_of_range",
    "scheduled",
]


Schedule: TypeAlias = Callable[[Array], ArrayLike]
"""A hyperparameter that depends on the number of steps done: a function of an int32 scalar that returns a scalar."""

Float: TypeAlias = float | Array
"""A value for a hyperparameter that is compiled in as a Python number, and read at run time as an array."""

Number: TypeAlias = float | np.floating[Any] | Array | Schedule
"""A value for a hyperparameter that may change between steps."""


class _Held:
    """Takes the place of a number that the state holds, in the optimizer that the state holds. There is only
    one.
    """

    __module__ = "mlax.optimizer"  # pickles find it there

    def __repr__(self) -> str:
        return IN_THE_STATE

    def __reduce__(self) -> str:
        return "HELD"  # copied and unpickled as the global of this name


HELD = _Held()


class _Leaf:
    """Takes the place of an array in the structure of an optimizer as a tree. There is only one."""

    __module__ = "mlax.optimizer"

    def __repr__(self) -> str:
        return AN_ARRAY

    def __reduce__(self) -> str:
        return "LEAF"


LEAF = _Leaf()


def is_schedule(value: object) -> TypeGuard[Schedule]:
    """Return whether a hyperparameter changes with the step."""
    return callable(value) and not isinstance(value, jax.Array | type)


def number(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Specification:
    """Describe a number that is compiled into the step: a Python float. If the type of the field is `Float`, a
    floating-point array of shape () is accepted too, and not compiled in. If it is `tuple[float, ...]`, the field
    has several such numbers, and is given as a list, a tuple or an array of NumPy.
    """
    bounds = Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> float:
        result = _real(value, "a number")
        _check(bounds, result)
        return result

    def normalise_array(value: Any) -> Any:
        return _scalar_array(bounds, value, "a number or a floating-point array of shape ()")

    return Specification(
        normalise,
        positive=above == 0,
        normalise_array=normalise_array,
        spelling=f"number({bounds.keywords})",
    )


_NOT_NEGATIVE = replace(number(at_least=0, at_most=math.inf), arrays=True)


def not_negative(place: str, value: ArrayLike) -> Array:
    """Return an argument of a function as an array of shape () in JAX's default float dtype.

    Args:
        place: The function and its argument, for messages: `sam: rho`.
        value: A number, or an array of shape ().

    Raises:
        TypeError: It is neither.
        ValueError: It is known to be negative or NaN.
    """
    return jnp.asarray(normalised(place, value, _NOT_NEGATIVE), jnp.result_type(float))


def scheduled(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Specification:
    """Describe a number that the state holds. It is given as a Python float, a floating-point array of shape ()
    or a schedule.
    """
    bounds = Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> Any:
        if value is HELD or is_schedule(value):
            return value
        if is_array(value):
            expected = "a number, a floating-point array of shape () or a schedule"
            return _scalar_array(bounds, value, expected)
        result = _real(value, "a number, an array or a schedule")
        _check(bounds, result)
        return result

    return Specification(normalise, schedulable=True, spelling=f"scheduled({bounds.keywords})")


def is_narrow(value: Any) -> bool:
    """Return whether an array is floating-point and narrower than float32."""
    return jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4


def _scalar_array(bounds: Bounds, value: Any, expected: str) -> Any:
    if is_narrow(value) and (bounds.below is not None or bounds.above is not None):
        # 0.999 in bfloat16 is 1, and 1e-8 in float16 is 0. Under jit no one would see it.
        raise TypeError(f"{expected} in float32 or wider")
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(expected)
    if not is_tracer(value):
        _check(bounds, float(value))
    return value


def integer(
    *,
    at_least: int | None = None,
    above: int | None = None,
    at_most: int | None = None,
    below: int | None = None,
) -> Specification:
    """Describe an integer that is compiled into the step. It may be given as a whole float, such as 1e4."""
    bounds = Bounds(at_least, above, at_most, below)

    def normalise(value: Any) -> int:
        plain = value.item() if is_plain(value) else value
        if isinstance(plain, float) and plain.is_integer():
            plain = int(plain)
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise TypeError("an integer")
        _check(bounds, plain)
        if plain.bit_length() >= 32:
            raise ValueError("an integer of 32 bits")
        return plain

    return Specification(normalise, spelling=f"integer({bounds.keywords})")


def _normalised(value: Any, *, int8: bool, expected: str) -> Any:
    try:
        result = jnp.dtype(value)
    except TypeError:
        result = None
    if result is None or not (
        jnp.issubdtype(result, jnp.floating) or (int8 and result == jnp.int8)
    ):
        raise TypeError(expected)
    if canonical(result) != result:
        raise ValueError("a dtype that JAX has without jax_enable_x64")
    return result


def _dtype(*, int8: bool, reason: str = "") -> Specification:
    text = "a floating-point dtype"
    expected = f"{text}{', int8' if int8 else ''} or None"
    if reason:
        expected += f" (int8 is not possible: {reason})"
    normalise = functools.partial(_normalised, int8=int8, expected=expected)
    return Specification(normalise, spelling=f"{text}{' or int8' if int8 else ''}")


Dtype: TypeAlias = Annotated[DTypeLike, _dtype(int8=False)]
"""Anything that stands for a floating-point dtype: `jnp.bfloat16`, `"float32"`."""

SlotDtype: TypeAlias = Annotated[DTypeLike, _dtype(int8=True)]
"""Anything that stands for a floating-point dtype, or for int8: eight bits with a scale for each block."""


def not_int8(reason: str) -> Specification:
    """Describe a floating-point dtype of slots that cannot be held in eight bits, for this reason."""
    return _dtype(int8=False, reason=reason)


def _check(bounds: Bounds, value: float) -> None:
    """Raise an error if a number is out of bounds, if no float can hold it, or if it must be positive and is too
    small to divide by.
    """
    if (expected := bounds.expected(value)) is not None:
        raise ValueError(expected)
    widest = canonical(np.float64)
    if _is_too_large(value, widest):
        raise ValueError(_too_large(widest))
    if bounds.above == 0 and value < _least_positive(widest):
        raise ValueError(_too_small(widest))


def refuse_out_of_range(h: object, dtype: Any) -> None:
    """Raise an error for numbers that overflow in the dtype that leaves are computed in, and for positive ones
    that underflow.

    Numbers that are too large or too small for every dtype were refused earlier. With x64, a leaf may be float64
    or float32.

    Args:
        h: An optimizer.
        dtype: Floating-point or complex.

    Raises:
        ValueError: A number is too large or too small for the dtype.
    """
    for name, spec in specifications(type(h)).items():
        field = getattr(h, name)
        for value in field if spec.each else (field,):
            expected = None
            if _is_too_large(value, dtype):
                expected = _too_large(dtype)
            elif isinstance(value, float) and spec.positive and value < _least_positive(dtype):
                expected = _too_small(dtype)
            if expected is not None:
                raise ValueError(f"{type(h).__name__}: {name} must be {expected}, got {value!r}")


def _is_too_large(value: object, dtype: Any) -> bool:
    """Return whether a finite float would become infinite."""
    return isinstance(value, float) and largest_number(dtype) < abs(value) < math.inf


def _too_large(dtype: Any) -> str:
    largest = largest_number(dtype)
    return f"at most {largest:.2g} in magnitude, the largest number of {np.dtype(dtype).name}"


def _least_positive(dtype: Any) -> float:
    """Return a number that stays normal even when multiplied by 1 - b. Processors may flush smaller numbers to
    0.
    """
    return smallest_number(dtype) / epsilon(np.float32)


def _too_small(dtype: Any) -> str:
    name = np.dtype(dtype).name
    return (
        f">= {_least_positive(dtype):.2g} for {name} leaves, where smaller numbers may count as 0"
    )


def _real(value: Any, expected: str) -> float:
    if is_plain(value):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    else:
        real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real:
        raise TypeError(expected)
    try:
        # The sum turns -0.0 into 0.0: they are equal, but would be traced separately.
        return float(value) + 0.0
    except OverflowError:  # an integer larger than any float
        raise ValueError("a finite number") from None
