"""Arrays in eight bits: an `Int8` stands in place of a leaf in the slots of an optimizer.

Numbers are stored in blocks of at most 128, with one float32 scale for each block. A block ends at
the end of the last axis. If that is shorter than 128, it is merged with the axes before it. All
blocks in a row of n numbers are equally long, ceil(n / number of blocks), so that the shapes of
`values` and `scales` determine the blocks, and nothing static has to hold them.

How many blocks a row has depends on the shape of the array alone, so that a state has the same
structure on any mesh of devices. It is a power of two if blocks are then a multiple of 16 long (with others, such as
86, a step takes twice as long on CPU). Of 2, 4, 8, ... shards of a row, each then has whole blocks, or several make up
one. Where shards and blocks overlap in other ways, XLA gathers the row.

* Signed numbers are multiples of the scale, from -127 to 127, as int8.
* Numbers that are never negative are squares of multiples of the scale, from 0 to 255, as uint8. A
  number above 0 is stored as at least (1 * scale)**2, so that it can be divided by.

Dettmers et al. 2022, https://arxiv.org/abs/2110.02861, use blocks too.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeGuard

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import smallest_number
from mlax._jax.placement import on_auto_axes

__all__ = [
    "Int8",
    "Range",
    "decoded",
    "dtype_of",
    "encoded",
    "is_int8",
    "scales_shape",
]

Range: TypeAlias = Literal["signed", "nonnegative"]
"""Which numbers a slot in eight bits holds."""

_LONGEST, _SHORTEST = 128, 40  # a scale of 4 bytes takes at most 0.1 byte a number


class Int8(NamedTuple):
    """The numbers of an array in eight bits each, and a scale for each block of them.

    It is a PyTree with two leaves. Use `slot_values` to get the numbers back.

    Attributes:
        values: int8, or uint8 if the numbers are never negative; the shape of the array.
        scales: float32; the axes before those that blocks divide, and the number of blocks in a row.
    """

    values: Array
    scales: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8 or uint8."""
        return self.values.dtype

    @property
    def is_whole(self) -> bool:
        """Whether values and scales fit each other: blocks have 40 to 128 numbers."""
        *before, blocks = self.scales.shape or (0,)
        dtypes = (self.values.dtype in (jnp.int8, jnp.uint8), self.scales.dtype == jnp.float32)
        row = math.prod(self.shape[len(before) :])
        fits = _SHORTEST * blocks <= row <= _LONGEST * blocks
        return all(dtypes) and self.shape[: len(before)] == (*before,) and fits


def is_int8(node: object) -> TypeGuard[Int8]:
    """Return whether a node of a tree is an `Int8`; for `is_leaf`."""
    return isinstance(node, Int8)


def dtype_of(numbers: Range) -> np.dtype[Any]:
    """Return the dtype of such numbers in eight bits."""
    return np.dtype(np.int8 if numbers == "signed" else np.uint8)


def scales_shape(shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape of an array's scales, given that of the array; None if they would take more than 0.1 byte a
    number.
    """
    if 0 in shape:
        return None
    first, row = len(shape), 1
    while first > 0 and row < _LONGEST:
        first -= 1
        row *= shape[first]
    if row < _SHORTEST:
        return None
    fewest = -(-row // _LONGEST)
    blocks = 1 << (fewest - 1).bit_length()
    if row % (16 * blocks):
        equal = (row // n for n in range(_LONGEST, _SHORTEST - 1, -1) if row % n == 0)
        blocks = next(equal, fewest)
    return (*shape[:first], blocks)


def encoded(x: Array, like: Int8, bits: Array | None = None) -> Int8:
    """Return an array in eight bits.

    Zeros stay zeros. A block with NaN or an infinity becomes NaN, and infinite where the number is.
    A signed block whose numbers are below 1.5e-36 becomes zero.

    Args:
        x: Real floating-point.
        like: Has the shapes and dtypes of the result.
        bits: Random, uint32, one for each number, for stochastic rounding. It is unbiased, for
            roots of the numbers if these are never negative. None rounds to nearest.
    """
    made: Int8 = on_auto_axes(_encoded, like, x, like, bits)
    return made


def _encoded(x: Array, like: Int8, bits: Array | None) -> Int8:
    signed = like.values.dtype == jnp.int8
    x = lax.stop_gradient(x).astype(jnp.float32)
    x = _split(x if signed else jnp.sqrt(jnp.maximum(x, 0)), like)
    top = 127 if signed else 255
    scales = jnp.max(jnp.abs(x), axis=-1) * np.float32(1 / top)
    inverse = jnp.where(scales >= smallest_number(np.float32), 1 / scales, 0)
    scales = jnp.where(scales < smallest_number(np.float32), 0, scales)  # but NaN
    up: Any = 0.5
    if bits is not None:
        up = (_split(bits, like) >> np.uint32(8)).astype(jnp.float32) * np.float32(2**-24)
    whole = jnp.floor(x * inverse[..., None] + up)
    if not signed:
        whole = jnp.where(x > 0, jnp.maximum(whole, 1), whole)
    values = jnp.clip(whole, -top if signed else 0, top).astype(like.values.dtype)
    return Int8(_joined(values, like), scales)


def decoded(array: Int8) -> Array:
    """Return the numbers in eight bits as an array of float32."""
    numbers: Array = on_auto_axes(_decoded, array.values, array)
    return numbers


def _decoded(array: Int8) -> Array:
    x = _split(array.values, array).astype(jnp.float32) * array.scales[..., None]
    return _joined(x if array.values.dtype == jnp.int8 else x * x, array)


def _rows(array: Int8) -> tuple[tuple[int, ...], int, int, int]:
    """Return the axes before those that blocks divide, the length of a row, and the number and the length of
    the blocks in it.
    """
    *before, blocks = array.scales.shape
    row = math.prod(array.values.shape[len(before) :])
    return (*before,), row, blocks, -(-row // blocks)


def _split(x: Array, like: Int8) -> Array:
    """Return an array with an axis of blocks and an axis inside them. The last block is padded with zeros."""
    before, row, blocks, size = _rows(like)
    x = x.reshape(*before, row)
    if row < blocks * size:
        x = jnp.pad(x, [(0, 0)] * len(before) + [(0, blocks * size - row)])
    return x.reshape(*before, blocks, size)


def _joined(x: Array, like: Int8) -> Array:
    before, row, blocks, size = _rows(like)
    x = x.reshape(*before, blocks * size)
    if row < blocks * size:
        x = x[..., :row]
    return x.reshape(like.values.shape)
