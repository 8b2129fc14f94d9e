"""Arithmetic that several losses share, safe where the plain formula is not."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from mlax._jax.dtypes import largest_number

__all__ = [
    "absolute",
    "as_floats",
    "divided",
    "included",
    "mean",
    "picked",
    "power_of_two",
    "product",
    "surprisals",
    "unit",
]


def as_floats(labels: Array, like: Array) -> Array:
    """Return labels, which may be integers, in the dtype of `like`."""
    return lax.convert_element_type(labels, like.dtype)


def absolute(x: Array) -> Array:
    """Return `abs(x)`, whose derivative at 0 is 0; that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def included(x: Array, where: Array | None, otherwise: float) -> Array:
    """Return `x` with the elements that `where` excludes replaced."""
    return x if where is None else jnp.where(where, x, otherwise)


def divided(total: Array, count: Array) -> Array:
    """Return `total / count`, and 0 where nothing was counted."""
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 0.0)


def mean(x: Array, where: Array | None = None) -> Array:
    """Return the mean of the included elements; 0 if there are none."""
    if where is None:
        return jnp.mean(x)
    return divided(jnp.sum(included(x, where, 0.0)), jnp.sum(where, dtype=x.dtype))


def product(weight: Array, value: Array) -> Array:
    """Return `weight * value`, where 0 times an infinity is 0."""
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0.0, value)


def picked(x: Float[Array, "n"], index: Integer[Array, ""]) -> Float[Array, ""]:
    """Return one element; NaN of an index that is negative or too large."""
    return x.at[index].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


@jax.custom_jvp
def surprisals(logits: Float[Array, "n"]) -> Float[Array, "n"]:
    """Return `-log(softmax(logits))`.

    As the sum of two terms that are not negative, so that nothing cancels: how far a logit is below the largest, and
    log1p of what the others add to the largest. A logit of -inf has probability 0; where all are, all have.
    """
    largest = jnp.max(logits)
    largest = jnp.where(largest == -jnp.inf, 0.0, largest)
    others = jnp.arange(logits.size) != jnp.argmax(logits)
    rest = jnp.sum(jnp.where(others, jnp.exp(logits - largest), 0.0))
    return (largest - logits) + jnp.log1p(rest)


# Derivatives in the textbook's form are exact where two logits tie for the largest, and can be differentiated again.
@surprisals.defjvp
def _(
    primals: tuple[Float[Array, "n"]], tangents: tuple[Float[Array, "n"]]
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    (logits,), (change,) = primals, tangents
    result = surprisals(logits)
    return result, jnp.sum(jnp.exp(-result) * change) - change


def power_of_two(x: Array) -> Array:
    """Return the greatest power of two up to a positive number, as a constant: dividing by it loses nothing."""
    # XLA multiplies by the reciprocal, which must not be so small that it counts as 0.
    largest = math.frexp(largest_number(x.dtype))[1] - 2
    exponent = jnp.minimum(jnp.frexp(x)[1] - 1, largest)
    return lax.stop_gradient(jnp.ldexp(jnp.ones_like(x), exponent))


def unit(
    x: Float[Array, "n"], epsilon: Array | float, where: Bool[Array, "n"] | None = None
) -> Float[Array, "n"]:
    """Return a vector divided by its norm, or by `epsilon` where that is greater.

    No square overflows or underflows, as the size of the largest element is divided out first. The derivative at 0 is
    0.
    """
    x = included(x, where, 0.0)
    largest = lax.stop_gradient(jnp.max(jnp.abs(x)))
    zero = largest == 0
    scale = power_of_two(jnp.where(zero, 1.0, largest))
    scaled = x / scale
    squares = jnp.sum(jnp.square(scaled))
    norm = jnp.sqrt(jnp.where(zero, 1.0, squares))
    # Beside a huge element epsilon / scale is 0, and the norm is at least 1.
    return jnp.where(zero, 0.0, scaled / jnp.maximum(norm, epsilon / scale))
