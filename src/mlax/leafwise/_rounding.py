"""How results are stored: rounded once, either to nearest or stochastically.

With rounding to nearest, a change of less than half the distance to the next number is lost, in
every step. Stochastic rounding is unbiased: a number is rounded up with a probability equal to its
fractional distance from the number below, so that small changes add up over many steps. Gupta et
al. 2015, https://arxiv.org/abs/1502.02551.

The random bits are a hash of the step, the leaf's position in its tree, the number of the result,
and the element's position in the leaf. They need no key and no memory, are the same in every run,
under `jit` and `vmap` and however arrays are sharded, and are computed in the loop that rounds.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import epsilon, is_complex, is_inexact, largest_number, smallest_number
from mlax.typing import Shape, Weights

__all__ = ["Output", "Rounding", "is_narrower", "next_key", "no_update", "random_bits", "rounded"]


@dataclass(frozen=True)
class Rounding:
    """How to round results that are stored in a narrower dtype than they were computed in.

    Attributes:
        step: For stochastic rounding, the number of steps done: int32, shape (). None rounds to
            nearest.
        depth: The number of optimizers inside this one, which round in the same step.
        only_int8: Whether only slots in eight bits are rounded stochastically.
    """

    step: Array | None = None
    depth: int = 0
    only_int8: bool = False

    @classmethod
    def of(cls, state: Any) -> "Rounding":
        """Return the rounding that the hyperparameters of a state ask for."""
        h = state.hyperparameters
        if h.stochastic_rounding:
            return cls(state.step)
        return cls(state.step, only_int8=True) if h.slot_dtype == jnp.int8 else cls()

    @property
    def is_stochastic(self) -> bool:
        """Whether results other than slots in eight bits are rounded stochastically."""
        return self.step is not None and not self.only_int8

    def key(self, leaf: str) -> Array | None:
        """Return the seed of the random bits for one call of `map_leaves`: uint32, shape (); None when rounding
        to nearest.

        Args:
            leaf: Name of the leaf function. A step may map several.
        """
        if self.step is None:
            return None
        salt = np.uint32(zlib.crc32(f"{self.depth} {leaf}".encode()))
        return _mixed(_mixed(self.step.astype(jnp.uint32)) ^ salt)


@dataclass(frozen=True)
class Output:
    """What a step returns: the updates, or the new weights, which are weights + updates.

    Attributes:
        weights: The weights; None if they are neither added nor needed for rounding.
        applied: Whether the updates are added to the weights.
        rounding: How results are rounded. With stochastic rounding, the update of a weight is the difference between
            its stochastically rounded new value and its old one.
    """

    weights: Any = None
    applied: bool = False
    rounding: Rounding = Rounding()

    @classmethod
    def updates(cls, state: Any, weights: Any) -> "Output":
        """Return the output of `step`.

        Args:
            state: Before the step.
            weights: The weights; may be None unless results are rounded stochastically.

        Raises:
            ValueError: The weights are needed for stochastic rounding.
        """
        rounding = Rounding.of(state)
        if weights is None and rounding.is_stochastic:
            name = type(state.hyperparameters).__name__
            raise ValueError(f"{name}: step needs the weights (stochastic_rounding)")
        return cls(weights, applied=False, rounding=rounding)

    def unmoved(self, gradients: Weights) -> Weights:
        """Return what a step returns that moves no weight."""
        if not self.applied:
            zeros: Weights = jax.tree.map(no_update, gradients)
            return zeros
        return cast("Weights", self.weights)

    @classmethod
    def new_weights(cls, state: Any, weights: Any) -> "Output":
        """Return the output of `apply_gradients`."""
        return cls(weights, applied=True, rounding=Rounding.of(state))


def no_update(gradient: Array) -> Array:
    """Return the update of a leaf that stays as it was: zeros, sharded as the gradient is."""
    return jnp.zeros_like(gradient)


def next_key(key: Array, places: Array) -> Array:
    """Return the key of the next leaf, given that of the last one and the distance between their positions in
    the tree.

    XLA computes a remainder outside the loops that read it. So leaves of one shape have the same
    loops, which are compiled once: with the position in each loop, 64 leaves took 17 s to compile;
    now they take 1 s. Taking this remainder changes almost no value; it only separates
    the loops.
    """
    return _mixed(key + places) % np.uint32(4294967291)


# 2**32 divided by the golden ratio: its multiples, modulo 2**32, are evenly spread.
_GOLDEN = 0x9E3779B9


def _mixed(x: Array, between: Array | None = None) -> Array:
    """Return a hash of 32-bit integers, by the mixing steps of Wellons' lowbias32.

    https://nullprogram.com/blog/2018/07/31/

    Args:
        x: uint32.
        between: Mixed in half way, so that two sequences that begin at different `x` never run alike.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = x if between is None else x ^ between
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def random_bits(key: Array, which: int, shape: Shape) -> Array:
    """Return 32 random bits for each element of a result.

    Elements of a leaf whose positions differ by 2**32 get the same bits.

    Args:
        key: The leaf's key: uint32, shape ().
        which: Number of the result.
        shape: Shape of the result.
    """
    position = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        position = position + lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride)
    first = key + np.uint32(which * _GOLDEN % 2**32)
    return _mixed(position + first, between=first * np.uint32(_GOLDEN))


def rounded(x: Array, dtype: Any, bits: Array | None = None) -> Array:
    """Return an array rounded to another dtype. Finite numbers too large for it become its largest number.

    Args:
        x: In the dtype that it was computed in.
        dtype: The dtype to store it in.
        bits: Random, uint32, one for each element, for stochastic rounding; used if the dtype is
            narrower. A number between two numbers of the dtype is rounded up with a probability
            equal to its fractional distance from the lower one. Exact numbers, infinities and NaN
            do not change. None rounds to nearest.
    """
    if bits is not None and is_narrower(dtype, x.dtype):
        result: Array = _differentiable(x, bits, dtype)
        return result
    if dtype.itemsize < 4 and dtype != jnp.bfloat16:
        # The square of a gradient of 256 overflows in float16, and an infinity in a slot would stay there.
        x = jnp.where(jnp.isfinite(x), _clipped(x, dtype), x)
    return x.astype(dtype)


def is_narrower(dtype: Any, computed: Any) -> bool:
    """Return whether a floating-point dtype is narrower than the one a result was computed in; False if the
    result is complex.
    """
    floats = is_inexact(dtype) and is_inexact(computed) and not is_complex(computed)
    return floats and dtype.itemsize < computed.itemsize


def _clipped(x: Array, dtype: Any) -> Array:
    largest = largest_number(dtype)
    return jnp.clip(x, -largest, largest)


def _stochastically(x: Array, bits: Array, dtype: Any) -> Array:
    half = x.dtype == jnp.float32 and dtype == jnp.bfloat16
    pick = _upper_half if half else _in_units
    return jnp.where(jnp.isfinite(x), pick(_clipped(x, dtype), bits, dtype), x.astype(dtype))


def _derivative(dtype: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    return _differentiable(*primals, dtype), tangents[0].astype(dtype)


# The bits have no derivative, and rounding is treated as having derivative 1, as in JAX's `astype`.
_differentiable: Any = jax.custom_jvp(_stochastically, nondiff_argnums=(2,))
_differentiable.defjvp(_derivative)


def _upper_half(x: Array, bits: Array, dtype: Any) -> Array:
    """Round a float32 to bfloat16: add 16 random bits below the 16 that are kept."""
    words = lax.bitcast_convert_type(x, jnp.uint32) + (bits >> np.uint32(16))
    return lax.bitcast_convert_type((words >> np.uint32(16)).astype(jnp.uint16), dtype)


def _in_units(x: Array, bits: Array, dtype: Any) -> Array:
    """Round to any dtype with a smaller range, in units of its spacing at each number, a power of two."""
    magnitude = jnp.abs(x)
    word = np.dtype(f"uint{8 * x.dtype.itemsize}")
    exponent = np.asarray(np.inf, x.dtype).view(word)  # a mask: these bits alone are a power of two
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(magnitude, word) & exponent, x.dtype)
    unit = jnp.maximum(power, smallest_number(dtype)) * epsilon(dtype)
    whole = jnp.floor(magnitude / unit)
    up = (bits >> np.uint32(8)).astype(x.dtype) * 2.0**-24 < magnitude / unit - whole
    return jnp.copysign((whole + up.astype(x.dtype)) * unit, x).astype(dtype)
