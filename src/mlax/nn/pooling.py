"""Pools over the axes of space of an input of shape (*space, channels)."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlax._module.module import Module
from mlax.nn._fields import one_per_axis, wide
from mlax.nn._windows import (
    Padding,
    axes_of_space,
    check_fit,
    check_not_only_padding,
    pads,
    sizes,
)

__all__ = ["AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "MaxPool"]

_Sizes = int | tuple[int, ...]


class MaxPool(Module):
    """The greatest element of each window. Padding never is the greatest.

    Args:
        kernel_size: Size of the window: one number for one or two axes of space, or a tuple with one for each of up to
            three.
        stride: Steps between windows. By default `kernel_size`: windows do not overlap.
        padding: Positions added around the input: `"SAME"`, `"VALID"`, or numbers (see `Padding`).
        dilation: Steps between the elements of a window.
    """

    kernel_size: _Sizes
    stride: _Sizes | None = None
    _: KW_ONLY
    padding: Padding = 0
    dilation: _Sizes = 1

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space channels"], Self]:
        """Return the greatest elements.

        Raises:
            ValueError: No window fits, or one lies wholly in padding.
        """
        return _reduced(self, x, -jnp.inf, jax.lax.max), self


class AvgPool(Module):
    """The mean of each window, computed in float32 or wider.

    Args:
        kernel_size: Size of the window: one number for one or two axes of space, or a tuple with one for each of up to
            three.
        stride: Steps between windows. By default `kernel_size`: windows do not overlap.
        padding: Positions added around the input: `"SAME"`, `"VALID"`, or numbers (see `Padding`).
        count_include_pad: Whether added positions count as zeros; otherwise the mean is that of the others.
    """

    kernel_size: _Sizes
    stride: _Sizes | None = None
    _: KW_ONLY
    padding: Padding = 0
    count_include_pad: bool = True

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space channels"], Self]:
        """Return the means.

        Raises:
            ValueError: No window fits, or one lies wholly in padding.
        """
        y = wide(x)
        sums = _reduced(self, y, 0.0, jax.lax.add)
        if self.count_include_pad:
            (window,) = sizes(self, x.ndim - 1, "kernel_size")
            return (sums / math.prod(window)).astype(x.dtype), self
        counts = _reduced(self, jnp.ones((*x.shape[:-1], 1), y.dtype), 0.0, jax.lax.add)
        return (sums / counts).astype(x.dtype), self


class AdaptiveAvgPool(Module):
    """Means over windows that divide the space into a given number of parts.

    As in PyTorch, part i of m of an axis of size n is that from floor(i n / m) to ceil((i + 1) n / m).

    Args:
        output_size: Number of parts: one number for one or two axes of space, or a tuple with one for each of up to
            three.
    """

    output_size: _Sizes

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space channels"], Self]:
        """Return the means."""
        return _in_parts(self, wide(x), jnp.mean).astype(x.dtype), self


class AdaptiveMaxPool(Module):
    """Greatest elements of windows that divide the space into a given number of parts, as in `AdaptiveAvgPool`.

    Args:
        output_size: Number of parts: one number for one or two axes of space, or a tuple with one for each of up to
            three.
    """

    output_size: _Sizes

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space channels"], Self]:
        """Return the greatest elements."""
        return _in_parts(self, x, jnp.max), self


def _reduced(layer: Any, x: Array, start: float, operation: Callable[[Any, Any], Any]) -> Array:
    """Return each window's elements reduced to one."""
    axes = axes_of_space(layer, x, "kernel_size")
    (window,) = sizes(layer, axes, "kernel_size")
    stride = window if layer.stride is None else sizes(layer, axes, "stride")[0]
    dilation = sizes(layer, axes, "dilation")[0] if hasattr(layer, "dilation") else (1,) * axes
    amounts = pads(layer, x.shape[:-1], window, stride, dilation)
    check_fit(layer, x.shape[:-1], window, dilation, amounts)
    check_not_only_padding(layer, x.shape[:-1], window, stride, dilation, amounts)
    first = np.asarray(start, x.dtype)  # not of JAX: the gradient asks if it is the least number
    if any(step > 1 for step in dilation):  # JAX has no gradient of such windows
        y = jax.lax.pad(x, first, [*((*pair, 0) for pair in amounts), (0, 0, 0)])
        return functools.reduce(operation, _elements(y, window, stride, dilation))
    found: Array = jax.lax.reduce_window(
        x, first, operation, (*window, 1), (*stride, 1), [*amounts, (0, 0)]
    )
    return found


def _elements(
    x: Array, window: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Iterator[Array]:
    """Yield each element of a window, as an array with that of all windows."""
    axes = [*zip(x.shape, window, stride, dilation, strict=False)]
    counts = [(size - (width - 1) * step - 1) // jump for size, width, jump, step in axes]
    for offsets in np.ndindex(*window):
        at = [i * step for i, step in zip(offsets, dilation, strict=True)]
        ends = [i + n * jump + 1 for i, n, jump in zip(at, counts, stride, strict=True)]
        yield jax.lax.slice(x, (*at, 0), (*ends, x.shape[-1]), (*stride, 1))


def _in_parts(layer: Any, x: Array, reduce: Callable[..., Array]) -> Array:
    """Return each axis of space reduced to its parts, one axis after another."""
    axes = axes_of_space(layer, x, "output_size")
    for axis, parts in enumerate(one_per_axis(layer, "output_size", axes)):
        size = x.shape[axis]
        if parts > size:
            raise ValueError(
                f"{type(layer).__name__}: an axis of size {size} cannot be divided into {parts} parts"
            )
        if size % parts == 0:
            shape = (*x.shape[:axis], parts, size // parts, *x.shape[axis + 1 :])
            x = reduce(x.reshape(shape), axis=axis + 1)
            continue
        bounds = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
        slices = [jax.lax.slice_in_dim(x, *bound, axis=axis) for bound in bounds]
        x = jnp.stack([reduce(each, axis=axis) for each in slices], axis)
    return x
