"""Shapes, and slots smaller than a leaf: factored into rows and columns, or a vector for each axis."""

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.dtypes import largest_number, smallest_number
from mlax._jax.placement import gathered
from mlax.leafwise._elements import divide
from mlax.leafwise._norms import mean
from mlax.typing import Shape

__all__ = [
    "along",
    "as_vector",
    "least",
    "matrices",
    "outer_mean",
    "product",
    "reduced",
    "reshape",
    "two_axes",
    "two_largest_axes",
    "vectors",
    "without",
]


def two_largest_axes(shape: Shape, min_length: int = 0) -> tuple[int, ...]:
    """Return the second longest axis and the longest, or () if the second longest is shorter than `min_length`.

    Of axes with equal lengths, the later one counts as longer. (In Optax that depends on the
    processor's sort.)

    Args:
        shape: The shape of a leaf.
        min_length: Smallest length of the second longest axis.
    """
    if len(shape) < 2:
        return ()
    second, first = sorted(range(len(shape)), key=lambda axis: shape[axis])[-2:]
    return (second, first) if shape[second] >= min_length else ()


def two_axes(shape: Shape, which: str, min_length: int = 0) -> tuple[int, ...]:
    """Return two axes to factor, or (): the "largest" as by `two_largest_axes`, or the "last" as MLX and PyTorch do.

    Args:
        shape: The shape of a leaf.
        which: "largest", or "last" for the last axis but one and the last, whatever their lengths.
        min_length: Smallest length of the second longest axis.

    Raises:
        ValueError: There is no such way to choose.
    """
    if which not in ("largest", "last"):
        raise ValueError(f"two_axes: expected 'largest' or 'last', got {which!r}")
    if which == "largest":
        return two_largest_axes(shape, min_length)
    return (len(shape) - 2, len(shape) - 1) if len(shape) >= 2 else ()


def without(shape: Shape, axis: int) -> Shape:
    """Return a shape without one of its axes."""
    position = range(len(shape))[axis]
    return shape[:position] + shape[position + 1 :]


def reduced(shape: Shape, over: int | None = None, but: int | None = None) -> Shape:
    """Return the shape of a sum over an axis, or over all axes but one: these axes have length 1.

    Args:
        shape: The shape of a leaf.
        over: The axis that is summed over.
        but: Instead: the one that is not.

    Raises:
        ValueError: Neither `over` nor `but` is given, or both are.
    """
    if (over is None) == (but is None):
        raise ValueError(f"reduced: expected `over` or `but`, got over {over} and but {but}")
    position = range(len(shape))[over if over is not None else but or 0]
    return tuple(1 if (i == position) is (but is None) else n for i, n in enumerate(shape))


def product(shape: Shape) -> int:
    """Return the number of elements of an array with this shape; 1 for ()."""
    return math.prod(shape)


def reshape(x: Array, shape: Shape) -> Array:
    """Return the same elements in another shape."""
    result: Array = cast("Any", jnp).reshape(x if x.shape == shape else gathered(x), shape)
    return result


def vectors(shape: Shape) -> list[Shape]:
    """Return the shapes of one vector for each axis; for a leaf without axes, the shape of a scalar."""
    return [(length,) for length in shape] or [()]


def matrices(shape: Shape, longest: int | None = None) -> list[Shape]:
    """Return the shapes of a square matrix for each axis. Axes that are too long get a scalar, ().

    Every function here that takes matrices skips scalars. So leaf code need not ask which axes have
    a matrix. An empty matrix would do too, but Orbax does not save arrays without elements.

    Args:
        shape: The shape of a leaf.
        longest: Length of the longest axis that gets a matrix. None: all axes get one.
    """
    return [() if longest is not None and n > longest else (n, n) for n in shape]


def outer_mean(
    row: Array, column: Array, axes: tuple[int, ...], min_mean: float | None = None
) -> Array:
    """Return the rank-one array that has the given means along two axes, like Adafactor's second moment.

    ```text
    x̂ᵢⱼ = rᵢ cⱼ / mean(r)
    ```

    Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235, here for any number of further axes.

    Args:
        row: Mean along `axes[1]`, which is missing in it. Not negative.
        column: Mean along `axes[0]`, which is missing in it. Not negative.
        axes: Two axes of the result, for example from `two_largest_axes`.
        min_mean: The smallest mean to divide by. None: divide by 1 if the mean is 0.

    Returns:
        An array with one axis more than `row` and `column`. It is positive, so that its root can be
        divided by: products that underflow become the smallest normal number.
    """
    first, second = axes
    # Means of squares that overflow are infinite. Their sum has to be finite, and its reciprocal a normal number.
    limit = largest_number(row.dtype) / 16 / max(row.size, column.size, 1)
    row, column = jnp.minimum(row, limit), jnp.minimum(column, limit)
    total = mean(row, over=first - (second < first))
    total = jnp.where(total > 0, total, 1.0) if min_mean is None else jnp.maximum(total, min_mean)
    total = jnp.expand_dims(total, second)
    row, column = jnp.expand_dims(row, second), jnp.expand_dims(column, first)
    # The order matters: row * column may overflow, and the smaller one divided by the mean may underflow.
    result = jnp.minimum(row, column) * divide(jnp.maximum(row, column), total)
    return jnp.maximum(result, smallest_number(result.dtype))


def along(vector: Array, axis: int, ndim: int) -> Array:
    """Return a vector laid out along one of `ndim` axes, the others of length 1; without axes, a scalar.

    With `as_vector` and `least`, this is what SM3 needs: Anil et al. 2019,
    https://arxiv.org/abs/1901.11150
    """
    return jnp.expand_dims(vector, [i for i in range(ndim) if i != axis])


def as_vector(x: Array) -> Array:
    """Return all elements along one axis; a scalar is returned as it is."""
    return x.reshape(-1) if x.ndim else x


def least(arrays: Sequence[Array]) -> Array:
    """Return the elementwise minimum of one or more arrays, which are broadcast."""
    if not arrays:
        raise ValueError(
            "least: expected at least one array (`vectors(shape)` has one for a leaf without axes)"
        )
    return functools.reduce(jnp.minimum, arrays)
