"""`BatchNorm`: a norm over the examples of a batch."""

from dataclasses import KW_ONLY
from typing import Self

import jax
from jaxtyping import Array, Float

from mlax._jax.dtypes import compute_dtype
from mlax._jax.transforms import jit
from mlax._module.module import Module
from mlax._module.nodes import Parameter, Variable
from mlax.nn._fields import AxisNames, check_dtype, made, small, wide
from mlax.nn.init import ones, zeros
from mlax.nn.normalization import array_of, factor_of, scaled

__all__ = ["BatchNorm"]


class BatchNorm(Module):
    """Gives each channel mean 0 and variance 1 over a batch, then scales and shifts it (Ioffe and Szegedy, 2015).

    In training, statistics are over all examples of the batch and all axes but the last, and running
    means of them are kept. In inference, the running means are used:

        batched = nn.Batched(model)                           # maps examples over an axis with a name
        y, batched = mlax.training(batched, rng=key)(xs)
        y, batched = mlax.inference(batched)(xs)

    Args:
        momentum: Weight of the running means before; that of the new statistics is 1 - momentum. PyTorch
            calls that of the new ones momentum.
        eps: Added to the variance.
        scale: Shape (channels,). By default ones; None for no scale.
        bias: Shape (channels,). By default zeros; None for no bias.
        mean: Running mean, shape (channels,), in float32 or wider.
        variance: Running variance (that of the sample, divided by n), likewise.
    """

    momentum: float = 0.9
    _: KW_ONLY
    eps: float = 1e-5
    scale: Parameter[Float[Array, "channels"]] | None = Parameter()
    bias: Parameter[Float[Array, "channels"]] | None = Parameter()
    mean: Variable[Float[Array, "channels"]] = Variable()
    variance: Variable[Float[Array, "channels"]] = Variable()

    def __check__(self) -> None:
        small(self, "momentum", "eps")

    def set_up(self, x: Float[Array, "*space channels"], rng: Array) -> Self:
        """Make scale and bias in the dtype of the input, and the running statistics."""
        scale_key, bias_key = jax.random.split(rng)
        shape, dtype = x.shape[-1:], compute_dtype(x.dtype)
        return self.replace(
            scale=made(self.scale, scale_key, shape, ones, x.dtype),
            bias=made(self.bias, bias_key, shape, zeros, x.dtype),
            mean=self.mean.made(None, shape, zeros, dtype),
            variance=self.variance.made(None, shape, ones, dtype),
        )

    def forward(
        self,
        x: Float[Array, "*space channels"],
        inference_mode: bool = False,
        batch_axis_name: AxisNames = (),
    ) -> tuple[Float[Array, "*space channels"], Self]:
        """Return the normalized array, and in training the layer with new running statistics.

        Args:
            x: One example.
            inference_mode: Whether to use the running statistics.
            batch_axis_name: Name of the axis that examples are mapped over, or a tuple of names.

        Raises:
            ValueError: There is no batch axis in training.
            TypeError: The running statistics are in a narrow dtype in training.
        """
        check_dtype(self, x, "scale", "bias")
        y, scale, bias = wide(x), array_of(self.scale), array_of(self.bias)
        if inference_mode:
            mean, variance = self.mean.data.astype(y.dtype), self.variance.data.astype(y.dtype)
            y = scaled(y - mean, variance, scale, bias, self.eps)
            return y.astype(x.dtype), self
        if batch_axis_name == ():
            raise ValueError(
                "BatchNorm needs the name of the axis that examples are mapped over, to be trained.\n"
                "  Call nn.Batched(model) with the batch, or give the name to the call: "
                'mlax.training(model, batch_axis_name="batch") under jax.vmap(..., axis_name="batch").'
            )
        self._check_statistics()
        space = tuple(range(x.ndim - 1))
        y, mean, variance = _normalized(
            y, scale, bias, axes=space, names=batch_axis_name, eps=self.eps
        )
        return y.astype(x.dtype), self.replace(
            mean=self._running(self.mean, mean), variance=self._running(self.variance, variance)
        )

    def _check_statistics(self) -> None:
        for name in ("mean", "variance"):
            dtype = getattr(self, name).data.dtype
            if dtype != compute_dtype(dtype):
                raise TypeError(
                    f"BatchNorm: the running {name} is {dtype}, in which small changes round to nothing, so it is not "
                    f"trained.\n"
                    f"  Cast only the Parameters of a model, model.filter(mlax.is_parameter), or use "
                    f"nn.Compute(model, jnp.{dtype})."
                )

    def _running(
        self, before: Variable[Float[Array, "channels"]], new: Array
    ) -> Variable[Float[Array, "channels"]]:
        return before.with_data(_mixed(before.data, new, self.momentum))


@jit(static_argnames=("axes", "names", "eps"))
def _normalized(
    x: Array,
    scale: Array | None,
    bias: Array | None,
    *,
    axes: tuple[int, ...],
    names: AxisNames,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Give an array mean 0 and variance 1 over axes and mapped axes, then scale and shift it.

    The formulas hold for any `start`; that it is the mean need not be known to the gradient. So the gradient sums over
    the batch twice, for scale and bias. Written with `x - mean`, it would sum a third time, for the mean, and write an
    array of the size of the input for that.

    Returns:
        The new array; mean and variance, without the axes that they are over.
    """
    mean = _mean(x, axes, names)
    start = jax.lax.stop_gradient(mean)
    x, rest = x - start, mean - start
    variance = _mean(jax.lax.square(x), axes, names) - jax.lax.square(rest)
    factor = factor_of(variance, scale, eps)
    shift = -rest * factor if bias is None else wide(bias) - rest * factor
    return x * factor + shift, mean, variance


def _mean(x: Array, axes: tuple[int, ...], names: AxisNames) -> Array:
    mean = x.mean(axes)
    return mean if names == () else jax.lax.pmean(mean, names)


@jit(static_argnums=2)
def _mixed(old: Array, new: Array, momentum: float) -> Array:
    new = jax.lax.stop_gradient(new).astype(old.dtype)
    return momentum * old + (1 - momentum) * new
