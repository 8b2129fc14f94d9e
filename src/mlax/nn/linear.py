"""Affine maps: `Linear` and `Bilinear`."""

from dataclasses import KW_ONLY
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import at_least, check_dtype, made
from mlax.nn.init import lecun_normal, zeros

__all__ = ["Bilinear", "Linear"]


class Linear(Module):
    """An affine map of the last axis: `y = x @ kernel + bias`.

    The number of inputs is that of the first input.

    Args:
        out_features: Size of the last axis of the result.
        kernel: Weights, shape (in, out). By default LeCun normal.
        bias: Shape (out,). By default zeros; None for no bias.
    """

    out_features: int
    _: KW_ONLY
    kernel: Parameter[Inexact[Array, "in {self.out_features}"]] = Parameter()
    bias: Parameter[Inexact[Array, "{self.out_features}"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "out_features")

    def set_up(self, x: Inexact[Array, "*batch in"], rng: Array) -> Self:
        """Make the kernel and the bias, in the dtype of the input."""
        kernel_key, bias_key = jax.random.split(rng)
        shape = (x.shape[-1], self.out_features)
        return self.replace(
            kernel=self.kernel.made(kernel_key, shape, lecun_normal, x.dtype),
            bias=made(self.bias, bias_key, shape[1:], zeros, x.dtype),
        )

    def forward(
        self, x: Inexact[Array, "*batch in"]
    ) -> tuple[Inexact[Array, "*batch {self.out_features}"], Self]:
        """Return `x @ kernel + bias`."""
        check_dtype(self, x, "kernel", "bias")
        y = x @ self.kernel.data
        return (y if self.bias is None else y + self.bias.data), self


class Bilinear(Module):
    """A bilinear map of two inputs: `y[k] = sum over i, j of x1[i] * kernel[i, j, k] * x2[j] + bias[k]`.

    As `torch.nn.Bilinear`, with the axes of the outputs last.

    Args:
        out_features: Size of the last axis of the result.
        kernel: Weights, shape (in1, in2, out). By default LeCun normal, with in1 * in2 inputs.
        bias: Shape (out,). By default zeros; None for no bias.
    """

    out_features: int
    _: KW_ONLY
    kernel: Parameter[Inexact[Array, "in1 in2 {self.out_features}"]] = Parameter()
    bias: Parameter[Inexact[Array, "{self.out_features}"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "out_features")

    def set_up(
        self, x1: Inexact[Array, "*batch in1"], x2: Inexact[Array, "*batch in2"], rng: Array
    ) -> Self:
        """Make the kernel and the bias, in the dtype of the first input."""
        kernel_key, bias_key = jax.random.split(rng)
        shape = (x1.shape[-1], x2.shape[-1], self.out_features)
        return self.replace(
            kernel=self.kernel.made(kernel_key, shape, lecun_normal, x1.dtype),
            bias=made(self.bias, bias_key, shape[2:], zeros, x1.dtype),
        )

    def forward(
        self, x1: Inexact[Array, "*batch in1"], x2: Inexact[Array, "*batch in2"]
    ) -> tuple[Inexact[Array, "*batch {self.out_features}"], Self]:
        """Return the bilinear map of two inputs."""
        check_dtype(self, x1, "kernel", "bias")
        check_dtype(self, x2, "kernel", what="second input")
        y = jnp.einsum("...i,ijk,...j->...k", x1, self.kernel.data, x2)
        return (y if self.bias is None else y + self.bias.data), self
