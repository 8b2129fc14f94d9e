"""Convolutions over one to three axes of space: `Conv` and `ConvTranspose`."""

from dataclasses import KW_ONLY
from typing import Self

import jax
import jax.numpy as jnp
from jax.lax import ConvDimensionNumbers
from jaxtyping import Array, Float

from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import at_least, check_dtype, made, one_per_axis
from mlax.nn._windows import (
    PADDING_MODES,
    Padding,
    PaddingMode,
    axes_of_space,
    check_axes,
    check_fit,
    padded,
    pads,
    sizes,
)
from mlax.nn.init import lecun_normal, zeros

__all__ = ["Conv", "ConvTranspose"]

_Sizes = int | tuple[int, ...]


class _Convolution(Module):
    """What `Conv` and `ConvTranspose` share: their fields, checks and set-up."""

    out_channels: int
    kernel_size: _Sizes
    _: KW_ONLY
    stride: _Sizes = 1
    padding: Padding = 0
    dilation: _Sizes = 1
    groups: int = 1
    kernel: Parameter[Float[Array, "*window in {self.out_channels}"]] = Parameter()
    bias: Parameter[Float[Array, "{self.out_channels}"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "out_channels", "groups")
        if self.out_channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: out_channels={self.out_channels} cannot be divided into groups={self.groups}"
            )

    def set_up(self, x: Float[Array, "*space channels"], rng: Array) -> Self:
        """Make kernel and bias, in the dtype of the input."""
        axes = axes_of_space(self, x, "kernel_size")
        if x.shape[-1] % self.groups:
            raise ValueError(
                f"{type(self).__name__}: {x.shape[-1]} channels cannot be divided into groups={self.groups}"
            )
        kernel_key, bias_key = jax.random.split(rng)
        (window,) = sizes(self, axes, "kernel_size")
        shape = (*window, x.shape[-1] // self.groups, self.out_channels)
        return self.replace(
            kernel=self.kernel.made(kernel_key, shape, lecun_normal, x.dtype),
            bias=made(self.bias, bias_key, shape[-1:], zeros, x.dtype),
        )

    def _window(self, x: Array) -> tuple[int, ...]:
        """Return the size of the window, after a check that the input fits the kernel."""
        shape: tuple[int, ...] = self.kernel.data.shape
        check_axes(self, x, len(shape) - 2)
        check_dtype(self, x, "kernel", "bias")
        if x.shape[-1] != shape[-2] * self.groups:
            raise ValueError(
                f"{type(self).__name__}: the input has {x.shape[-1]} channels, but the kernel was made for "
                f"{shape[-2] * self.groups}"
            )
        return shape[:-2]


class Conv(_Convolution):
    """A convolution over the axes of space of an input of shape (*space, channels).

    As in all libraries for deep learning, the kernel is not flipped. Names and defaults are those of
    `torch.nn.Conv1d` to `Conv3d`, but channels come last.

    Args:
        out_channels: Number of channels of the result.
        kernel_size: Size of the window: one number for one or two axes of space, or a tuple with one for each of up to
            three.
        stride: Steps between windows, one number or a tuple.
        padding: Positions added around the input: `"SAME"`, `"VALID"`, or numbers (see `Padding`).
        dilation: Steps between the elements of a window, one number or a tuple.
        groups: Number of groups of channels that are convolved separately. It divides the numbers of channels of input
            and result. As many groups as input channels make a depthwise convolution.
        padding_mode: What is added: zeros, or the input reflected, repeated at its edge, or circularly.
        kernel: Weights, shape (*kernel_size, in / groups, out). By default LeCun normal.
        bias: Shape (out,). By default zeros; None for no bias.
    """

    _: KW_ONLY
    padding_mode: PaddingMode = "zeros"

    def __check__(self) -> None:
        super().__check__()
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{type(self).__name__}.padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}, got "
                f"{self.padding_mode!r}"
            )

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space {self.out_channels}"], Self]:
        """Return the convolution.

        Raises:
            ValueError: The input has another number of axes or channels than the kernel.
        """
        window = self._window(x)
        stride, dilation = sizes(self, len(window), "stride", "dilation")
        amounts = pads(self, x.shape[:-1], window, stride, dilation)
        check_fit(self, x.shape[:-1], window, dilation, amounts)
        if self.padding_mode != "zeros":
            x, amounts = padded(x, amounts, self.padding_mode), [(0, 0)] * len(window)
        y = jax.lax.conv_general_dilated(
            x[None],
            self.kernel.data,
            stride,
            amounts,
            rhs_dilation=dilation,
            dimension_numbers=_dimension_numbers(len(window)),
            feature_group_count=self.groups,
        )[0]
        return (y if self.bias is None else y + self.bias.data), self


class ConvTranspose(_Convolution):
    """The transpose of a convolution, which is its gradient: it makes large outputs of small inputs.

    Its result has the shape of the input of the `Conv` with the same options, which would be a result of the shape of
    its input. Names and defaults are those of `torch.nn.ConvTranspose1d` to `ConvTranspose3d`, but channels come last.

    Args:
        out_channels: Number of channels of the result.
        kernel_size: Size of the window, one number or a tuple, as in `Conv`.
        stride: Steps between windows of the result, one number or a tuple.
        padding: Positions taken away around the result. With `"SAME"`, an axis of size n becomes n * stride; with
            `"VALID"`, nothing is taken away.
        output_padding: Positions added after each axis of the result, less than the stride or the dilation:
            several sizes of inputs of a `Conv` have results of one size.
        dilation: Steps between the elements of a window, one number or a tuple.
        groups: Number of groups of channels, as in `Conv`.
        kernel: Weights, shape (*kernel_size, in / groups, out). By default LeCun normal.
        bias: Shape (out,). By default zeros; None for no bias.
    """

    _: KW_ONLY
    output_padding: _Sizes = 0

    def forward(
        self, x: Float[Array, "*space channels"]
    ) -> tuple[Float[Array, "*new_space {self.out_channels}"], Self]:
        """Return the transposed convolution.

        Raises:
            ValueError: The input has another number of axes or channels than the kernel.
        """
        window = self._window(x)
        axes = len(window)
        stride, dilation = sizes(self, axes, "stride", "dilation")
        more = one_per_axis(self, "output_padding", axes, low=0)
        if any(extra >= max(steps) for extra, *steps in zip(more, stride, dilation, strict=True)):
            raise ValueError(
                f"ConvTranspose.output_padding must be less than stride={self.stride!r} or "
                f"dilation={self.dilation!r}, got {self.output_padding!r}"
            )
        space = tuple(n * step for n, step in zip(x.shape[:-1], stride, strict=True))
        amounts = [
            (reach - before, reach - after + extra)
            for reach, (before, after), extra in zip(
                [step * (width - 1) for step, width in zip(dilation, window, strict=True)],
                pads(self, space, window, stride, dilation),
                _extra(self.padding, window, stride, dilation, more),
                strict=True,
            )
        ]
        y = jax.lax.conv_general_dilated(
            x[None],
            jnp.flip(self.kernel.data, range(axes)),
            (1,) * axes,
            amounts,
            lhs_dilation=stride,
            rhs_dilation=dilation,
            dimension_numbers=_dimension_numbers(axes),
            feature_group_count=self.groups,
        )[0]
        return (y if self.bias is None else y + self.bias.data), self


def _extra(
    padding: Padding,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    more: tuple[int, ...],
) -> tuple[int, ...]:
    """Return how many positions are added after each axis of a transposed convolution."""
    if padding != "SAME":
        return more
    # The result of "SAME" has n * stride positions, of which (n - 1) * stride + reach + 1 - pads come by themselves.
    return tuple(
        extra + max(jump - 1 - step * (width - 1), 0)
        for extra, jump, step, width in zip(more, stride, dilation, window, strict=True)
    )


def _dimension_numbers(axes: int) -> ConvDimensionNumbers:
    space = tuple(range(axes))
    outer = (0, axes + 1, *(1 + i for i in space))
    return ConvDimensionNumbers(outer, (axes + 1, axes, *space), outer)
