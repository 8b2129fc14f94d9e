"""Functions of each element by itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["abs2", "clip", "normal"]


def abs2(x: Array) -> Array:
    """Return the squared magnitude of each element, in the dtype of `x`: `x * conj(x)`."""
    return x * jnp.conj(x) if jnp.iscomplexobj(x) else x * x


def clip(x: Array | float, low: Array | float, high: Array | float) -> Array:
    """Return `x` where it is between two bounds, else the nearer one; `high` wins where `low` is above it.

    Args:
        x: Real, any shape.
        low: Smallest result: a number, or an array that broadcasts with `x`.
        high: Largest result, likewise.
    """
    return jnp.minimum(jnp.maximum(x, low), high)


def normal(key: Array, like: Array) -> Array:
    """Return independent standard normal numbers, in the shape and dtype of `like`.

    Complex ones have variance 1 too, half of it in either part.

    Args:
        key: A PRNG key of shape (), used once. The keys that `map_leaves` hands to the leaves are different ones.
        like: Any floating-point or complex array; its values are not read.
    """
    return jax.random.normal(key, like.shape, like.dtype)
