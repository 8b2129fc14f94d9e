"""Norms over the features of one example: `LayerNorm`, `RMSNorm`, `GroupNorm`, `InstanceNorm`.

Statistics are computed in float32 or wider, and the result is rounded once to the dtype of the input.
"""

from dataclasses import KW_ONLY
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlax._jax.transforms import jit
from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import at_least, check_dtype, made, small, wide
from mlax.nn.init import ones, zeros

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm", "array_of", "factor_of", "scaled"]

M = TypeVar("M", bound=Module)
_Axes = tuple[int, ...]


@jit(static_argnames=("axes", "eps", "shape"))
def _normalized(
    x: Array, scale: Array | None, bias: Array | None, *, axes: _Axes, eps: float, shape: _Axes
) -> Array:
    """Give an array mean 0 and variance 1, then scale and shift it.

    `jax.jit` makes it one operation for JAX, which has two effects. Tracing a norm again takes less than half
    of the time. And JAX adds both terms of the gradient of `x` here, before their sum is added to that of a residual
    connection. Otherwise it adds the second one last, which has one number for many elements, and XLA takes that for so
    cheap that it does it again wherever the gradient is read, with the sums of all later blocks: work that grows with
    the square of the depth.

    Args:
        x: Any shape, float32 or wider.
        scale: A factor for each feature, or None.
        bias: A number to add for each feature, or None.
        axes: What mean and variance are over.
        eps: Added to the variance.
        shape: What scale and bias are reshaped to.
    """
    x = x - x.mean(axes, keepdims=True)
    variance = jax.lax.square(x).mean(axes, keepdims=True)
    return scaled(x, variance, scale, bias, eps, shape)


def scaled(
    x: Array,
    variance: Array,
    scale: Array | None,
    bias: Array | None,
    eps: float,
    shape: _Axes = (-1,),
) -> Array:
    """Return `x / sqrt(variance + eps) * scale + bias`, without a scale or bias of None.

    The variance is computed from `x`, the same array: that saves a sum in the gradient.
    """
    y = x * factor_of(variance, scale, eps, shape)
    return y if bias is None else y + wide(bias).reshape(shape)


def factor_of(variance: Array, scale: Array | None, eps: float, shape: _Axes = (-1,)) -> Array:
    """Return `scale / sqrt(variance + eps)`, one array, which for numbers for a channel is smaller than the input."""
    factor = jax.lax.rsqrt(variance + eps)
    return factor if scale is None else factor * wide(scale).reshape(shape)


def array_of(parameter: Parameter[Any] | None) -> Any:
    """Return the array of a parameter, or None for none."""
    return None if parameter is None else parameter.data


def _of_layer(x: Array, axes: _Axes, layer: Any, shape: _Axes = (-1,)) -> Array:
    scale, bias = array_of(layer.scale), array_of(layer.bias)
    return _normalized(x, scale, bias, axes=axes, eps=layer.eps, shape=shape)


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
        return _of_layer(wide(x), (-1,), self).astype(x.dtype), self


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
        y = _of_layer(wide(x).reshape(*x.shape[:-1], *groups), axes, self, groups)
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
        return _of_layer(wide(x), axes, self).astype(x.dtype), self


def _with_scale_and_bias(layer: M, x: Any, rng: Array) -> M:
    scale_key, bias_key = jax.random.split(rng)
    of: Any = layer
    new: M = of.replace(
        scale=made(of.scale, scale_key, x.shape[-1:], ones, x.dtype),
        bias=made(of.bias, bias_key, x.shape[-1:], zeros, x.dtype),
    )
    return new
