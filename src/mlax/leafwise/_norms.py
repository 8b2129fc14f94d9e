"""Functions of all elements of a leaf, or of all elements along some axes."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import epsilon, largest_number, smallest_number
from mlax._jax.placement import may_lie_on_mesh
from mlax._jax.tracing import cond
from mlax.leafwise._elements import divide

__all__ = [
    "largest",
    "mean",
    "norm",
    "rms",
    "root_of",
    "scale_of",
    "scaled_norm",
    "smallest",
    "std",
    "sum_of_squares",
    "summed",
    "trust_ratio",
]

Axes: TypeAlias = int | tuple[int, ...] | None
"""One axis or several, counted from either end; None for all of them."""


def _axes(x: Array, axis: Axes, over: Axes, but: int | None) -> tuple[Axes, bool]:
    """Return the axes to reduce, and whether they stay, with length 1."""
    if [axis, over, but].count(None) < 2:
        raise ValueError(
            f"expected one of axis, over and but, got axis {axis}, over {over} and but {but}"
        )
    if but is None:
        return (axis, False) if over is None else (over, True)
    kept = range(x.ndim)[but]
    return tuple(i for i in range(x.ndim) if i != kept), True


def summed(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the sum of all elements, or along some axes.

    Args:
        x: Any shape. A condition counts as 0 and 1; of conditions, the result adapts to other dtypes as a
            Python number does.
        axis: The axes to sum over, which the result does not have.
        over: Instead: the axes to sum over, which have length 1 in the result.
        but: Instead: the axis to keep; all others have length 1 in the result.
    """
    axes, stay = _axes(x, axis, over, but)
    total = jnp.sum(x, axis=axes, keepdims=stay)
    if x.dtype != bool:
        return total
    with jax.numpy_dtype_promotion("standard"):  # a number that adapts, as Python's do
        return 1.0 * total


def mean(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the mean of all elements, or along some axes as `summed` does; 0 if there are no elements."""
    total = summed(x, axis, over, but)
    return total / float(x.size // total.size) if x.size else jnp.zeros_like(total)


def largest(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the maximum of all elements, or along some axes as `summed` does; 0 if there are no elements.

    Args:
        x: Real, any shape.
        axis: As in `summed`.
        over: As in `summed`.
        but: As in `summed`.
    """
    return _extreme(jnp.max, x, axis, over, but)


def smallest(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the minimum of all elements, or along some axes; otherwise as `largest`."""
    return _extreme(jnp.min, x, axis, over, but)


def _extreme(function: Any, x: Array, axis: Axes, over: Axes, but: int | None) -> Array:
    if not x.size:
        return jnp.zeros_like(summed(x, axis, over, but))
    axes, stay = _axes(x, axis, over, but)
    result: Array = function(x, axis=axes, keepdims=stay)
    return result


def norm(
    x: Array,
    axis: Axes = None,
    over: Axes = None,
    but: int | None = None,
    *,
    dtype: Any = None,
) -> Array:
    """Return the Euclidean norm of all elements, √Σ|xᵢ|²: shape (); or that along some axes, as `summed` does.

    If squares would overflow or underflow (in float32 those of 1e20 and 1e-25 would), the elements
    are scaled first. The gradient at zero is zero.

    Args:
        x: Any shape.
        axis: As in `summed`.
        over: As in `summed`.
        but: As in `summed`.
        dtype: The dtype to compute in, and of the result; None for that of `x`.
    """
    axes, stay = _axes(x, axis, over, but)
    wide = x.dtype if dtype is None else dtype
    if x.size < _LARGE and not may_lie_on_mesh(x):
        length = scaled_norm(x.astype(wide), axes)
    else:
        squares = sum_of_squares(x.astype(wide), axes)
        # The branch uses `x` itself: anything computed from it would be written to memory to be passed in.
        length = root_of(squares, x.size, lambda: scaled_norm(x.astype(wide), axes))
    return (length if stay or axes is None else length.squeeze(axes)).astype(wide)


_LARGE = 2**14
"""From this size on, the elements are only scaled if the sum of their squares shows that it is necessary. Scaling takes
two more passes over a leaf: 45 % of Adafactor's step on leaves of 1 MB. The branch takes time to compile: 30 % of
LAMB's on leaves of 1 kB. If several devices have parts of a leaf, of any size, it saves their agreement on a scale."""


def sum_of_squares(x: Array, axes: Axes = None) -> Array:
    """Return Σ|xᵢ|² as `norm` computes it: it may overflow or underflow, and axes have length 1."""
    magnitudes = jnp.abs(x)
    # Not `square`: its derivative is 2 * x, and if that overflows, it times a cotangent of zero is NaN.
    return summed(magnitudes * magnitudes, over=axes)


def root_of(squares: Array, size: int, scaled: Callable[[], Array]) -> Array:
    """Return the root of sums of squares, or, if they show that squares overflowed or underflowed, another norm.

    Args:
        squares: Sums, any shape.
        size: How many squares there are in all of them together.
        scaled: Computes the norms, like the sums, of scaled elements.
    """
    # Below this, squares that underflowed may matter more than rounding errors.
    smallest = (
        size // max(squares.size, 1) * smallest_number(squares.dtype) / epsilon(squares.dtype)
    )
    lost = jnp.any((squares <= smallest) | (squares > largest_number(squares.dtype)))

    def root() -> Array:
        # Under `vmap` both branches are computed, so the gradient of the one not taken has to be finite too.
        return jnp.sqrt(jnp.where(lost, 1.0, squares))

    return cond(lost, scaled, root)


def scaled_norm(x: Array, axes: Axes = None) -> Array:
    """Return the norm of elements divided by the largest of them; axes have length 1."""
    magnitudes = jnp.abs(x)
    scale = scale_of(magnitudes, axes)
    total = summed(jnp.square(magnitudes / scale), over=axes)
    # Not `total > 0`: XLA's maximum of many elements may ignore a NaN, but their sum does not.
    zero = total == 0
    root = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, total)))
    length: Array = scale * root
    return length


def scale_of(x: Array, axes: Axes = None) -> Array:
    """Return a constant near the largest magnitude that any element can be divided by: positive, normal, finite.

    With `axes`, return one for each slice; its lengths along them are 1.
    """
    # XLA multiplies by the reciprocal of a scalar divisor: that has to be a normal number as well.
    smallest_scale = smallest_number(x.dtype)
    magnitude = largest(jnp.abs(x), over=axes)
    scale = jnp.clip(magnitude, smallest_scale, 0.5 / smallest_scale)
    # At 0, the square of that reciprocal, which a second derivative contains, would overflow.
    return lax.stop_gradient(jnp.where(magnitude == 0, 1.0, scale))


def rms(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the root mean square, ‖x‖ / √n: shape (), or along some axes as `summed` does; 0 without elements.

    Adafactor clips and scales by it: Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235
    """
    length = norm(x, axis, over, but)
    return length / math.sqrt(max(x.size // max(length.size, 1), 1))


def std(x: Array, axis: Axes = None, over: Axes = None, but: int | None = None) -> Array:
    """Return the standard deviation, the root mean square of the distances from the mean, as `rms` does."""
    center = mean(x, over=over if axis is None else axis, but=but)
    return rms(x - center, axis, over, but)


def trust_ratio(
    w: Array,
    direction: Array,
    coefficient: float | Array = 1.0,
    eps: float | Array = 0.0,
    min_norm: float | Array = 0.0,
) -> Array:
    """Return the factor that gives a direction the length of the weights; 1 if either length is 0.

    ```text
    coefficient · max(‖w‖, min_norm) / (max(‖direction‖, min_norm) + eps)
    ```

    It is used in LARS (You et al. 2017, https://arxiv.org/abs/1708.03888, where `coefficient` is
    the trust coefficient), in LAMB (You et al. 2020, https://arxiv.org/abs/1904.00962), and with
    `min_norm` in Fromage (Bernstein et al. 2020, https://arxiv.org/abs/2002.03432).

    Args:
        w: Weights, any shape.
        direction: The direction to move them in, same shape.
        coefficient: Multiplies the ratio, but not the 1 that replaces it.
        eps: Added to the norm of the direction.
        min_norm: A lower bound for both norms. If it is above 0, the ratio is never replaced by 1.

    Returns:
        Shape (), in the dtype of the direction. It is finite: ratios too large for the dtype become
        its largest number.
    """
    # Beside complex leaves, numbers given as arrays are complex; norms are real.
    coefficient, eps, min_norm = coefficient.real, eps.real, min_norm.real
    length = jnp.maximum(norm(w).real, min_norm)
    way = jnp.maximum(norm(direction).real, min_norm)
    defined = (length > 0) & (way > 0)
    ratio = divide(coefficient * length, jnp.where(defined, way, 1.0) + eps)
    finite = jnp.minimum(ratio, largest_number(ratio.dtype))
    return jnp.where(defined, finite, 1.0).astype(direction.dtype)
