"""Elementwise functions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = [
    "abs2",
    "cbrt",
    "clip",
    "magnitude",
    "normal",
    "rademacher",
    "real",
    "sigmoid",
    "softplus",
    "sqrt",
    "uniform",
]


def abs2(x: Array) -> Array:
    """Return the squared magnitude of each element, in the dtype of `x`: `x * conj(x)`."""
    return x * jnp.conj(x) if jnp.iscomplexobj(x) else x * x


def magnitude(x: Array) -> Array:
    """Return the magnitude of each element, in the dtype of `x`: of complex numbers, as complex ones."""
    return jnp.abs(x).astype(x.dtype) if jnp.iscomplexobj(x) else jnp.abs(x)


def real(x: Array) -> Array:
    """Return the real part of each element, in the dtype of `x`: of complex numbers, as complex ones."""
    return jnp.real(x).astype(x.dtype) if jnp.iscomplexobj(x) else x


@jax.custom_jvp
def sqrt(x: Array) -> Array:
    """Return the square root of each element. Its derivative at 0 is 0, not infinite.

    A moment of zero gradients is 0, and so is its derivative by the gradients. Multiplied by an
    infinite one it would be NaN.

    Args:
        x: Any shape.
    """
    return jnp.sqrt(x)


@sqrt.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = sqrt(*primals)
    return root, _quotient(0.5 * tangents[0], root)


@jax.custom_jvp
def cbrt(x: Array) -> Array:
    """Return the cube root of each element. Its derivative at 0 is 0, not infinite.

    Args:
        x: Real, any shape.
    """
    return jnp.cbrt(x)


@cbrt.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = cbrt(*primals)
    return root, _quotient(tangents[0] / 3, root * root)


def _quotient(x: Array, y: Array) -> Array:
    """Return x / y, and 0 where y is 0."""
    zero = y == 0
    return jnp.where(zero, 0.0, x / jnp.where(zero, 1.0, y))


@jax.custom_jvp
def divide(x: Array, y: Array) -> Array:
    """Return x / y. The derivative is finite even where y² would underflow."""
    return x / y


@divide.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    quotient = divide(*primals)
    return quotient, (tangents[0] - quotient * tangents[1]) / primals[1]


def clip(x: Array | float, low: Array | float, high: Array | float) -> Array:
    """Return `x` limited to the range between two bounds. If `low` is above `high`, the result is `high`.

    Args:
        x: Real, any shape.
        low: Lower bound: a number, or an array that broadcasts with `x`.
        high: Upper bound, likewise.
    """
    return jnp.minimum(jnp.maximum(x, low), high)


def sigmoid(x: Array | float) -> Array:
    """Return 1 / (1 + exp(-x)) for each element; nothing overflows, on either side.

    Args:
        x: Any shape.
    """
    return jax.nn.sigmoid(x)


def softplus(x: Array | float) -> Array:
    """Return log(1 + exp(x)) for each element; nothing overflows.

    Args:
        x: Real, any shape.
    """
    return jax.nn.softplus(x)


def normal(key: Array, like: Array) -> Array:
    """Return independent standard normal numbers, in the shape and dtype of `like`.

    Complex numbers have variance 1 too, half of it in each part.

    Args:
        key: A PRNG key of shape (), used once. `map_leaves` gives each leaf a different one.
        like: Any floating-point or complex array. Its values are not used.
    """
    return jax.random.normal(key, like.shape, like.dtype)


def uniform(key: Array, like: Array) -> Array:
    """Return independent numbers between 0 and 1, in the shape and dtype of `like`; they are real.

    Args:
        key: As in `normal`.
        like: As in `normal`.
    """
    return jax.random.uniform(key, like.shape, like.real.dtype).astype(like.dtype)


def rademacher(key: Array, like: Array) -> Array:
    """Return independent signs, -1 or 1 with equal probability, in the shape and dtype of `like`.

    Args:
        key: As in `normal`.
        like: As in `normal`.
    """
    return jax.random.rademacher(key, like.shape, like.dtype)
