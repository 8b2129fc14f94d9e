"""Norms over the features of one example: `LayerNorm`, `RMSNorm`, `GroupNorm`, `InstanceNorm`.

Statistics are computed in float32 or wider, and the result is rounded once to the dtype of the input.
"""

from dataclasses import KW_ONLY
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import AxisNames, at_least, check_dtype, made, small, wide
from mlax.nn.init import ones, zeros

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm", "centered", "normalized"]

M = TypeVar("M", bound=Module)
_Axes = tuple[int, ...]


def normalized(x: Array, variance: Array, layer: Any, shape: tuple[int, ...] = (-1,)) -> Array:
    """Return `x / sqrt(variance + eps) * scale + bias`, without what the layer does not have.

    Two habits make the gradient cheaper. The variance is computed from `x`, the same array: that saves a sum.
    And both factors are multiplied first: where they are numbers for a channel, that saves an array of the size of the
    input, and another sum: the convolutional net of the benchmarks reads and writes 46 MB in a step in place of 56.

    Args:
        x: The input minus its mean.
        variance: Its variance, of a shape that broadcasts.
        layer: Has `eps`, `scale` and `bias`.
        shape: What scale and bias are reshaped to.
    """
    factor: Array = jax.lax.rsqrt(variance + layer.eps)
    if layer.scale is not None:
        factor *= wide(layer.scale.data).reshape(shape)
    y = x * factor
    return y if layer.bias is None else y + wide(layer.bias.data).reshape(shape)


def centered(x: Array, axes: _Axes, batch_axis_name: AxisNames = ()) -> tuple[Array, Array]:
    """Return `x` minus its mean over these axes, and over those with these names; and the mean, with axes of size 1.

    The copy, which costs nothing, makes JAX add both terms of the gradient of `x` before their sum is added to that of
    a residual connection. Otherwise it adds the second one last, which has one number for many elements, and XLA takes
    that for so cheap that it does it again wherever the gradient is read, with the sums of all later blocks: work that
    grows with the square of the depth.
    """
    x = jnp.copy(x)
    mean = x.mean(axes, keepdims=True)
    if batch_axis_name != ():
        mean = jax.lax.pmean(mean, batch_axis_name)
    return x - mean, mean


def _normalized(x: Array, axes: _Axes, layer: Any, shape: tuple[int, ...] = (-1,)) -> Array:
    """Return an array with mean 0 and variance 1 over these axes, then scaled and shifted."""
    y, _ = centered(x, axes)
    return normalized(y, jnp.square(y).mean(axes, keepdims=True), layer, shape)


class LayerNorm(Module):
    """Gives the last axis mean 0 and variance 1, then scales and shifts it (Ba et al., 2016).

    Args:
        eps: Added to the variance.
        scale: Shape (features,). By default ones; None for no scale.
        bias: Shape (features,). By default zeros; None for no bias.
    """

    eps: float = 1e-5
    _: KW_ONLY
    scale: Parameter[Float[Array, "features"]] | None = Parameter()
    bias: Parameter[Float[Array, "features"]] | None = Parameter()

    def __check__(self) -> None:
        small(self, "eps")

    def set_up(self, x: Float[Array, "*batch features"], rng: Array) -> Self:
        """Make scale and bias, in the dtype of the input."""
        return _with_scale_and_bias(self, x, rng)

    def forward(
        self, x: Float[Array, "*batch features"]
    ) -> tuple[Float[Array, "*batch features"], Self]:
        """Return the normalized array."""
        check_dtype(self, x, "scale", "bias")
        return _normalized(wide(x), (-1,), self).astype(x.dtype), self


class RMSNorm(Module):
    """Divides the last axis by its root mean square, then scales it (Zhang and Sennrich, 2019).

    Args:
        eps: Added to the mean square.
        scale: Shape (features,). By default ones; None for no scale.
    """

    eps: float = 1e-6
    _: KW_ONLY
    scale: Parameter[Float[Array, "features"]] | None = Parameter()

    def __check__(self) -> None:
        small(self, "eps")

    def set_up(self, x: Float[Array, "*batch features"], rng: Array) -> Self:
        """Make the scale, in the dtype of the input."""
        return self.replace(scale=made(self.scale, rng, x.shape[-1:], ones, x.dtype))

    def forward(
        self, x: Float[Array, "*batch features"]
    ) -> tuple[Float[Array, "*batch features"], Self]:
        """Return the normalized array."""
        check_dtype(self, x, "scale")
        y = wide(x)
        factor = jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        if self.scale is not None:
            factor *= wide(self.scale.data)
        return (y * factor).astype(x.dtype), self


class GroupNorm(Module):
    """Gives each group of channels mean 0 and variance 1, then scales and shifts each channel (Wu and He, 2018).

    A group's statistics are over its channels and all other axes.

    Args:
        num_groups: Number of groups, which divides the number of channels.
        eps: Added to the variance.
        scale: Shape (channels,). By default ones; None for no scale.
        bias: Shape (channels,). By default zeros; None for no bias.
    """

    num_groups: int
    eps: float = 1e-5
    _: KW_ONLY
    scale: Parameter[Float[Array, "channels"]] | None = Parameter()
    bias: Parameter[Float[Array, "channels"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "num_groups")
        small(self, "eps")

    def set_up(self, x: Float[Array, "*space channels"], rng: Array) -> Self:
        """Make scale and bias, in the dtype of the input."""
        return _with_scale_and_bias(self, x, rng)

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*space channels"], Self]:
        """Return the normalized array.

        Raises:
            ValueError: The channels cannot be divided into groups.
        """
        check_dtype(self, x, "scale", "bias")
        if x.shape[-1] % self.num_groups:
            raise ValueError(
                f"GroupNorm: {x.shape[-1]} channels cannot be divided into {self.num_groups} groups"
            )
        groups = (self.num_groups, x.shape[-1] // self.num_groups)
        axes = (*range(x.ndim - 1), x.ndim)
        y = _normalized(wide(x).reshape(*x.shape[:-1], *groups), axes, self, groups)
        return y.reshape(x.shape).astype(x.dtype), self


class InstanceNorm(Module):
    """Gives each channel of an example mean 0 and variance 1, then scales and shifts it (Ulyanov et al., 2016).

    A channel's statistics are over all other axes. PyTorch's has neither scale nor bias by default:
    `InstanceNorm(scale=None, bias=None)`.

    Args:
        eps: Added to the variance.
        scale: Shape (channels,). By default ones; None for no scale.
        bias: Shape (channels,). By default zeros; None for no bias.
    """

    eps: float = 1e-5
    _: KW_ONLY
    scale: Parameter[Float[Array, "channels"]] | None = Parameter()
    bias: Parameter[Float[Array, "channels"]] | None = Parameter()

    def __check__(self) -> None:
        small(self, "eps")

    def set_up(self, x: Float[Array, "axis *space channels"], rng: Array) -> Self:
        """Make scale and bias, in the dtype of the input."""
        return _with_scale_and_bias(self, x, rng)

    def forward(
        self, x: Float[Array, "axis *space channels"]
    ) -> tuple[Float[Array, "axis *space channels"], Self]:
        """Return the normalized array."""
        check_dtype(self, x, "scale", "bias")
        axes = tuple(range(x.ndim - 1))
        return _normalized(wide(x), axes, self).astype(x.dtype), self


def _with_scale_and_bias(layer: M, x: Any, rng: Array) -> M:
    scale_key, bias_key = jax.random.split(rng)
    of: Any = layer
    new: M = of.replace(
        scale=made(of.scale, scale_key, x.shape[-1:], ones, x.dtype),
        bias=made(of.bias, bias_key, x.shape[-1:], zeros, x.dtype),
    )
    return new
