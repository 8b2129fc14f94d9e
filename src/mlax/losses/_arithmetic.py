"""Arithmetic shared by several losses, safe in cases where the textbook formula is not."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from mlax._jax.dtypes import largest_number
from mlax._jax.transforms import jit

__all__ = [
    "absolute",
    "as_floats",
    "divided",
    "included",
    "is_label",
    "mean",
    "picked",
    "power_of_two",
    "product",
    "surprisals",
    "unit",
]


def as_floats(labels: Array, like: Array) -> Array:
    """Return labels in the dtype of `like`. They may be integers."""
    return lax.convert_element_type(labels, like.dtype)


def absolute(x: Array) -> Array:
    """Return `abs(x)` with derivative 0 at 0. The derivative of `jnp.abs` at 0 is 1."""
    return x * jnp.sign(x)


def included(x: Array, where: Array | None, otherwise: float) -> Array:
    """Return `x`, with `otherwise` in place of the elements that `where` excludes."""
    return x if where is None else jnp.where(where, x, otherwise)


def divided(total: Array, count: Array) -> Array:
    """Return `total / count`, or 0 if nothing was counted."""
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 0.0)


def mean(x: Array, where: Array | None = None) -> Array:
    """Return the mean of the included elements, or 0 if there are none."""
    if where is None:
        return jnp.mean(x)
    return divided(jnp.sum(included(x, where, 0.0)), jnp.sum(where, dtype=x.dtype))


def product(weight: Array, value: Array) -> Array:
    """Return `weight * value`, with 0 for a weight of 0 and an infinite value."""
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0.0, value)


def is_label(x: Float[Array, "n"], label: Integer[Array, ""]) -> Bool[Array, "n"]:
    """Return whether the place of each element is the label. None is if the label is negative or too large."""
    # The label may be int8, in which a large number of classes cannot be counted.
    return jnp.arange(x.size) == lax.convert_element_type(label, jnp.result_type(int))


@jit
def picked(x: Float[Array, "n"], label: Integer[Array, ""]) -> Float[Array, ""]:
    """Return the element at the place of the label. If the label is negative or too large, that and the derivative by
    each element are NaN, so that a wrong label is not taken for one that teaches nothing.
    """
    chosen = is_label(x, label)
    share = jnp.where(jnp.any(chosen), as_floats(chosen, x), jnp.nan)
    return jnp.sum(jnp.where(share == 0, 0.0, share * x))


@jax.custom_jvp
@jit
def surprisals(logits: Float[Array, "n"]) -> Float[Array, "n"]:
    """Return `-log(softmax(logits))`.

    Nothing cancels, because it is computed as the sum of two non-negative terms: the distance of a
    logit from the largest one, and log1p of the other exponentials relative to the largest. A logit
    of -inf has probability 0; if all are -inf, all have probability 0.
    """
    largest = jnp.max(logits)
    largest = jnp.where(largest == -jnp.inf, 0.0, largest)
    others = jnp.arange(logits.size) != jnp.argmax(logits)
    rest = jnp.sum(jnp.where(others, jnp.exp(logits - largest), 0.0))
    return (largest - logits) + jnp.log1p(rest)


# Use the standard derivative: it is exact when two logits tie, and is differentiable again.
@surprisals.defjvp
def _(
    primals: tuple[Float[Array, "n"]], tangents: tuple[Float[Array, "n"]]
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    (logits,), (change,) = primals, tangents
    result = surprisals(logits)
    return result, jnp.sum(jnp.exp(-result) * change) - change


def power_of_two(x: Array) -> Array:
    """Return the greatest power of two that is at most `x`, a positive number, as a constant.

    Dividing by a power of two loses no digits.
    """
    # XLA multiplies by the reciprocal, which must not be so small that it is flushed to 0.
    largest = math.frexp(largest_number(x.dtype))[1] - 2
    exponent = jnp.minimum(jnp.frexp(x)[1] - 1, largest)
    return lax.stop_gradient(jnp.ldexp(jnp.ones_like(x), exponent))


def unit(
    x: Float[Array, "n"], epsilon: Array | float, where: Bool[Array, "n"] | None = None
) -> Float[Array, "n"]:
    """Return a vector divided by its norm, or by `epsilon` if that is greater.

    The vector is first scaled by the size of its largest element, so that no square overflows or
    underflows. The derivative at 0 is 0.
    """
    x = included(x, where, 0.0)
    largest = lax.stop_gradient(jnp.max(jnp.abs(x)))
    zero = largest == 0
    scale = power_of_two(jnp.where(zero, 1.0, largest))
    scaled = x / scale
    squares = jnp.sum(jnp.square(scaled))
    norm = jnp.sqrt(jnp.where(zero, 1.0, squares))
    # For a huge element epsilon / scale may underflow to 0; the norm is at least 1 then.
    return jnp.where(zero, 0.0, scaled / jnp.maximum(norm, epsilon / scale))
