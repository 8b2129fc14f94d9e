"""The arithmetic of schedules: step counts in, values out, element by element.

Steps stay integers as long as they are only added and compared, so that counts beyond 2**24, where
float32 can no longer tell integers apart, are as good as small ones. Values that have to be exact
(before a curve, after it, at a corner) are trainable, not computed.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import largest_number
from mlax.optimizer._hyperparameters import Schedule
from mlax.optimizer._stepping import asked
from mlax.tree import describe

__all__ = [
    "Shape",
    "Steps",
    "counts",
    "is_real",
    "joined",
    "path",
    "power",
    "real",
    "stairs",
    "transition",
    "values",
]

Shape = Literal["linear", "cosine"]
"""The curve between two values."""

Steps = float | Array
"""A number of steps, or an array with one number per element."""


def counts(step: object, name: str) -> Array:
    """Return steps as integers of JAX's default dtype, or as finite floats or NaN if they were floats.

    Steps below 0 become 0.

    Args:
        step: A Python, NumPy or JAX number or array.
        name: The schedule's name, for messages.

    Raises:
        TypeError: `step` is not a real number.
        ValueError: `step` is an integer too large for JAX's default integer dtype.
    """
    integer = jnp.result_type(int)
    limit = np.iinfo(integer).max
    array: Any = None
    if isinstance(step, jax.Array):
        array = step
    elif isinstance(step, int | float | np.generic | np.ndarray) and not isinstance(step, bool):
        array = np.asarray(step)
        if array.dtype.kind in "iu" or isinstance(step, int):  # NumPy makes large ints objects
            if (array > limit).any():
                raise ValueError(f"{name}: step must be at most {limit}, got {array.max()}")
            array = np.maximum(array, 0).astype(integer)
    if array is not None and jnp.issubdtype(array.dtype, jnp.integer):
        if array.dtype.kind == "u" and array.dtype.itemsize == integer.itemsize:
            array = jnp.minimum(array, limit)
        return jnp.maximum(jnp.asarray(array, integer), 0)
    if array is not None and jnp.issubdtype(array.dtype, jnp.floating):
        points = values(array)
        return jnp.clip(points, 0, largest_number(points.dtype))
    raise TypeError(
        f"{name}: step must be an integer (or a float), got {describe(cast('Any', step))}"
    )


def is_real(array: Any) -> bool:
    """Return whether an array holds integers or floats."""
    dtype = array.dtype
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def values(value: Any) -> Array:
    """Return numbers in JAX's default float dtype, strongly typed."""
    return jnp.asarray(value, jnp.result_type(float))


def transition(
    n: Array, steps: Steps, init: Any, end: Any, shape: Shape = "linear", exponent: float = 1.0
) -> Array:
    """Return `init` for n <= 0, `end` for n >= steps, and in between a value on the way from one to the other.

    The value is `init * left + end * done` with left + done = 1. Here left is 1 - n / steps, or for
    a cosine (1 + cos(pi * n / steps)) / 2, raised to the power of `exponent`. Each of the two is
    computed from its own integer, so that neither loses digits when it is small.
    """
    inside = (n > 0) & (n < steps)
    n_inside = jnp.where(inside, n, 0)
    n_left = steps - n_inside
    length = values(jnp.maximum(steps, 1))
    left, done = values(n_left) / length, values(n_inside) / length
    if shape == "cosine":
        left, done = _cosine(left, done, values(n_left - n_inside) / length)
    if exponent != 1:
        left, done = _raised(left, done, exponent)
    value = init * left + end * done
    return jnp.where(n >= steps, end, jnp.where(inside, value, init))


def _cosine(left: Array, done: Array, difference: Array) -> tuple[Array, Array]:
    """Return (1 + cos(pi * done)) / 2, and 1 minus that.

    Args:
        left: The fraction that is left, 1 - done.
        done: The fraction that is done.
        difference: left - done.
    """
    half = jnp.sin(math.pi / 2 * difference) / 2
    return (
        jnp.where(half < -0.25, jnp.sin(math.pi / 2 * left) ** 2, 0.5 + half),
        jnp.where(half > 0.25, jnp.sin(math.pi / 2 * done) ** 2, 0.5 - half),
    )


def _raised(left: Array, done: Array, exponent: float) -> tuple[Array, Array]:
    """Return left**exponent, and 1 minus that; left + done = 1."""
    of_left = jnp.log1p(-jnp.minimum(done, 0.5))
    logarithm = jnp.where(done < 0.5, of_left, jnp.log(left))
    rounded = float(left.dtype.type(exponent))
    lost = jnp.exp((exponent - rounded) * logarithm)
    return left**rounded * lost, -jnp.expm1(exponent * logarithm)


def path(n: Array, corners: Sequence[tuple[float, float]], shape: Shape = "linear") -> Array:
    """Return values on the way from corner to corner. A corner is a step and a value; the first is at step 0.

    If several corners have the same step, the last one counts. After the last corner the value
    stays.
    """
    at = [step for step, _ in corners]
    heights = [height for _, height in corners]
    lengths = [after - before for before, after in pairwise(at)]
    i = _passed(n, at[1:])
    return transition(
        n - jnp.asarray(at, n.dtype)[i],
        jnp.asarray([*lengths, 1], n.dtype)[i],
        values(heights)[i],
        values([*heights[1:], heights[-1]])[i],
        shape,
    )


def stairs(n: Array, boundaries: Sequence[float], heights: Sequence[float]) -> Array:
    """Return the first height before the first boundary, and from each boundary on the next height."""
    return values(heights)[_passed(n, boundaries)]


def joined(n: Array, boundaries: Sequence[float], curves: Sequence[Schedule]) -> Array:
    """Return the value of the first curve before the first boundary, and from each boundary on that of the next.

    Each curve counts its steps from its boundary.
    """
    value = real(curves[0], n)
    for boundary, curve in zip(boundaries, curves[1:], strict=True):
        value = jnp.where(n < boundary, value, real(curve, jnp.maximum(n - boundary, 0)))
    return value


def real(curve: Schedule, n: Array) -> Array:
    """Return the values of any schedule; raise an error if they are not real numbers, one or as many as steps."""
    value = asked(curve, n)
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape not in {(), n.shape} or not is_real(array):
        raise TypeError(
            f"a schedule must return a real scalar, got {describe(value)} from {curve!r}"
        )
    return values(array)


def power(base: float, n: Array) -> Array:
    """Return base**n to the last digits of float32, even if `base` is not a float32 number and n is large.

    Rounding the base costs as many digits as n has. So the result is multiplied by exp(n * log(base
    / rounded)), which makes up for the rounding. Counts are split in two halves, because float32
    cannot represent all of them exactly.
    """
    high = lax.stop_gradient(n // 2**16)
    low = n - high * 2**16
    with np.errstate(over="ignore", under="ignore"):
        of_high = float(np.float64(base) ** 2**16)
    return _power(of_high, values(high)) * _power(base, values(low))


def _power(base: float, n: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        rounded = float(n.dtype.type(base))
    result = jnp.power(rounded, n)
    if rounded == base or rounded in (0, math.inf):
        return result
    return result * jnp.exp(n * math.log(base / rounded))


def _passed(n: Array, boundaries: Sequence[float]) -> Array:
    """Return how many boundaries have been reached."""
    return jnp.sum(n[..., None] >= jnp.asarray(boundaries, n.dtype), axis=-1)
