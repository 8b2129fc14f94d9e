"""The arithmetic of schedules: numbers of steps in, values out, element by element.

Steps stay integers as long as they are only added and compared, so that a count beyond 2**24, where float32 ends to
tell integers apart, is as good as a small one. What has to be exact (the value before a curve, the one after it, a
corner) is selected, not computed.
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
from mlax.tree import describe

__all__ = [
    "Shape",
    "Steps",
    "counts",
    "is_real",
    "joined",
    "path",
    "power",
    "stairs",
    "transition",
    "values",
]

Shape = Literal["linear", "cosine"]
"""How a value gets from one to the next."""

Steps = int | Array
"""A number of steps, or one for each element."""


def counts(step: object, name: str) -> Array:
    """Return steps as JAX's default integers, or finite floats or NaN where they were floats; 0 for what is below 0.

    Args:
        step: A Python, NumPy or JAX number or array.
        name: Of the schedule, for messages.

    Raises:
        TypeError: It is no real number.
        ValueError: It is a larger integer than JAX's default one.
    """
    integer = jnp.result_type(int)
    limit = np.iinfo(integer).max
    array: Any = None
    if isinstance(step, jax.Array):
        array = step
    elif isinstance(step, int | float | np.generic | np.ndarray) and not isinstance(step, bool):
        array = np.asarray(step)
        if array.dtype.kind in "iu" or isinstance(step, int):  # a large int is an object to NumPy
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
    """Return `init` where n <= 0, `end` where n >= steps, and what lies on the way in between.

    `init * left + end * done`, where left + done = 1, and left is 1 - n / steps or the cosine's
    (1 + cos(pi * n / steps)) / 2, to the power of `exponent`. Each of the two comes from an integer of its own, and so
    none has lost its digits where it is small.
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
    """Return (1 + cos(pi * done)) / 2 and what it lacks to 1, from parts of a whole and their difference."""
    half = jnp.sin(math.pi / 2 * difference) / 2
    return (
        jnp.where(half < -0.25, jnp.sin(math.pi / 2 * left) ** 2, 0.5 + half),
        jnp.where(half > 0.25, jnp.sin(math.pi / 2 * done) ** 2, 0.5 - half),
    )


def _raised(left: Array, done: Array, exponent: float) -> tuple[Array, Array]:
    """Return left**exponent and what it lacks to 1; left + done = 1."""
    of_left = jnp.log1p(-jnp.minimum(done, 0.5))
    logarithm = jnp.where(done < 0.5, of_left, jnp.log(left))
    rounded = float(left.dtype.type(exponent))
    lost = jnp.exp((exponent - rounded) * logarithm)
    return left**rounded * lost, -jnp.expm1(exponent * logarithm)


def path(n: Array, corners: Sequence[tuple[int, float]], shape: Shape = "linear") -> Array:
    """Return what lies on the way from corner to corner: pairs of a step and a value, the first at step 0.

    Where several corners share a step the last one counts; after the last one its value stays.
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


def stairs(n: Array, boundaries: Sequence[int], heights: Sequence[float]) -> Array:
    """Return the first height before the first boundary, and from each boundary on the next one."""
    return values(heights)[_passed(n, boundaries)]


def joined(n: Array, boundaries: Sequence[int], curves: Sequence[Schedule]) -> Array:
    """Return the value of the first curve, and from each boundary on that of the next, which counts from there."""
    value = _real(curves[0], n)
    for boundary, curve in zip(boundaries, curves[1:], strict=True):
        value = jnp.where(n < boundary, value, _real(curve, jnp.maximum(n - boundary, 0)))
    return value


def _real(curve: Schedule, n: Array) -> Array:
    value = curve(n)
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
    """Return base**n for a base that is no float32 and for large n, to the last digits of float32.

    Rounding the base alone would cost as many digits as n has, so that what rounding takes is given back as
    exp(n * log(base / rounded)). Counts go in two halves, as float32 cannot hold all of one.
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


def _passed(n: Array, boundaries: Sequence[int]) -> Array:
    """Return how many boundaries have been reached."""
    return jnp.sum(n[..., None] >= jnp.asarray(boundaries, n.dtype), axis=-1)
