"""Elementwise functions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["abs2", "clip", "normal"]


def abs2(x: Array) -> Array:
    """Return the squared magnitude of each element, in the dtype of `x`: `x * conj(x)`."""
    return x * jnp.conj(x) if jnp.iscomplexobj(x) else x * x


def clip(x: Array | float, low: Array | float, high: Array | float) -> Array:
    """Return `x` limited to the range between two bounds. If `low` is above `high`, the result is `high`.

    Args:
        x: Real, any shape.
        low: Lower bound: a number, or an array that broadcasts with `x`.
        high: Upper bound, likewise.
    """
    return jnp.minimum(jnp.maximum(x, low), high)


def normal(key: Array, like: Array) -> Array:
    """Return independent standard normal numbers, in the shape and dtype of `like`.

    Complex numbers have variance 1 too, half of it in each part.

    Args:
        key: A PRNG key of shape (), used once. `map_leaves` gives each leaf a different one.
        like: Any floating-point or complex array. Its values are not used.
    """
    return jax.random.normal(key, like.shape, like.dtype)
