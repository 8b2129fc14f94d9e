"""Windows that move over the space of an input: their sizes, strides and padding, for convolutions and pools."""

from typing import Any, Literal, cast

import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.trees import class_of
from mlax.nn._fields import one_per_axis, repeated
from mlax.tree import describe

__all__ = [
    "PADDING_MODES",
    "Padding",
    "PaddingMode",
    "axes_of_space",
    "check_axes",
    "check_fit",
    "check_not_only_padding",
    "padded",
    "pads",
    "sizes",
]

Padding = Literal["SAME", "VALID"] | int | tuple[int | tuple[int, int], ...]
"""`"VALID"` (none), `"SAME"` (the result has one position for each stride), or numbers: one for all axes, or
for each axis one, or a pair of those before and after."""

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


_FOR_A_BATCH = "For a batch, use nn.Batched(model) or jax.vmap."


def axes_of_space(layer: Any, x: Array, name: str) -> int:
    """Return the number of axes of space of an input.

    Args:
        layer: The layer.
        x: The input.
        name: A field of the layer that is a size: a tuple with one for each axis, or one integer for one or two axes.
            With three, it could be a batch of images, which a convolution would take for a volume.

    Raises:
        ValueError: There are others than the field says, or than one to three.
    """
    size: Any = getattr(layer, name)
    if isinstance(size, tuple):
        check_axes(layer, x, len(cast("tuple[int, ...]", size)))
    elif x.ndim == 4:
        raise ValueError(
            f"{type(layer).__name__} takes one example with one or two axes of space and one of channels, got "
            f"{describe(x)}.\n"
            f"  {_FOR_A_BATCH} For a volume, give a size for each axis: {name}={(size,) * 3}."
        )
    if not 2 <= x.ndim <= 4:
        raise ValueError(
            f"{type(layer).__name__} takes one example with one to three axes of space and one of channels, got "
            f"{describe(x)}.{_cure(x.ndim > 4)}"
        )
    return x.ndim - 1


def _cure(is_batch: bool) -> str:
    return f"\n  {_FOR_A_BATCH}" if is_batch else ""


def check_axes(layer: Any, x: Array, axes: int) -> None:
    """Raise an error unless an input has so many axes of space, and one of channels.

    Raises:
        ValueError: Names both numbers. An axis too many is likely to be that of a batch.
    """
    if x.ndim != axes + 1:
        raise ValueError(
            f"{type(layer).__name__} takes one example with {axes} {_of_space(axes)} and one of channels, got "
            f"{describe(x)}.{_cure(x.ndim == axes + 2)}"
        )


def _of_space(axes: int) -> str:
    return "axis of space" if axes == 1 else "axes of space"


def sizes(layer: Any, axes: int, *names: str) -> list[tuple[int, ...]]:
    """Return static fields as one integer for each axis of space."""
    return [one_per_axis(layer, name, axes) for name in names]


def pads(
    layer: Any,
    space: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> list[tuple[int, int]]:
    """Return how many positions are added before and after each axis of space.

    Args:
        layer: The layer, with a field `padding`.
        space: Sizes of the input.
        window: Sizes of the window.
        stride: Steps between windows.
        dilation: Steps between the elements of a window.
    """
    given: Any = layer.padding
    if given == "VALID":
        return [(0, 0)] * len(space)
    if given == "SAME":
        return [
            _same(size, (width - 1) * step + 1, jump)
            for size, width, jump, step in zip(space, window, stride, dilation, strict=True)
        ]
    if isinstance(given, str):
        raise ValueError(
            f'{type(layer).__name__}.padding must be "SAME", "VALID" or numbers, got {given!r}'
        )
    numbers = repeated(given, len(space))
    pairs: list[Any] = [each if isinstance(each, tuple) else (each, each) for each in numbers]
    if len(pairs) != len(space) or not all(len(pair) == 2 and min(pair) >= 0 for pair in pairs):
        raise ValueError(
            f"{type(layer).__name__}.padding must be a number of at least 0, or {len(space)} numbers or pairs of them "
            f"for {len(space)} {_of_space(len(space))}, got {given!r}"
        )
    return pairs


def check_fit(
    layer: Any,
    space: tuple[int, ...],
    window: tuple[int, ...],
    dilation: tuple[int, ...],
    amounts: list[tuple[int, int]],
) -> None:
    """Raise an error unless one window at least fits each axis of space, with what is added around it."""
    for size, width, step, pair in zip(space, window, dilation, amounts, strict=True):
        reach = (width - 1) * step + 1
        if reach > size + sum(pair):
            raise ValueError(
                f"{type(layer).__name__}: a window of {reach} positions does not fit an axis of size {size} with "
                f"padding {pair}"
            )


def check_not_only_padding(
    layer: Any,
    space: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    amounts: list[tuple[int, int]],
) -> None:
    """Raise an error if a window has no element of the input, but only padding: it has no greatest one and no mean.

    Axes without padding pass, and so do those whose size is only known as a symbol, in a function to export.
    """
    for size, width, jump, step, pair in zip(space, window, stride, dilation, amounts, strict=True):
        if pair == (0, 0) or not issubclass(class_of(size), int):
            continue
        reach = (width - 1) * step
        last = (size + sum(pair) - reach - 1) // jump * jump - pair[0]
        for start in (*range(-pair[0], min(0, last), jump), last):
            first = max(start, start % step)  # of its elements at 0 or later
            if first > start + reach or first >= size:
                raise ValueError(
                    f"{type(layer).__name__}: a window of size {width} lies wholly in the padding {pair} of an axis of "
                    f"size {size}.\n"
                    f"  Each window needs an element of the input: give less padding than a window is wide."
                )


def _same(size: int, width: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + width - size, 0)
    return total // 2, total - total // 2


def padded(x: Array, amounts: list[tuple[int, int]], mode: PaddingMode) -> Array:
    """Return an input with positions added to its axes of space."""
    return jnp.pad(x, [*amounts, (0, 0)], mode=PADDING_MODES[mode])
