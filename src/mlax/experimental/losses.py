"""Losses of one example, exactly as mathematics defines them: `predictions -> targets -> loss`.

Nothing is clipped, so the result is infinite or NaN if it is undefined: `0 * log(0)` is NaN here.
Use `mlax.losses` to train. The losses in this module may be changed, moved or removed without
notice.

Predictions and targets have the same shape and dtype, as in `mlax.losses`. Losses defined for
single elements return the mean over all elements of the example.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mlax.losses._arithmetic import absolute, picked
from mlax.losses._loss import loss

__all__ = [
    "absolute_error",
    "absolute_percentage_error",
    "binary_crossentropy",
    "categorical_crossentropy",
    "cosine_distance",
    "cosine_similarity",
    "jensen_shannon_divergence",
    "kl_divergence",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_error",
    "squared_logarithmic_error",
]


@loss
def categorical_crossentropy(
    predictions: Float[Array, "classes"], targets: Float[Array, "classes"]
) -> Float[Array, ""]:
    """`-sum(targets * log(predictions))` of probabilities; NaN if a prediction and its target are both 0."""
    return -jnp.sum(targets * jnp.log(predictions))


@loss
def sparse_categorical_crossentropy(
    predictions: Float[Array, "classes"], targets: Integer[Array, ""]
) -> Float[Array, ""]:
    """`-log(predictions[targets])` of probabilities and an integer label.

    Args:
        predictions: A probability for each class.
        targets: The right class. A label that is negative or too large gives NaN.
    """
    return -jnp.log(picked(predictions, targets))


@loss
def binary_crossentropy(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `-t * log(p) - (1 - t) * log(1 - p)` over probabilities; NaN where `p` equals `t` and is 0 or
    1.
    """
    log_yes, log_no = jnp.log(predictions), jnp.log1p(-predictions)
    return jnp.mean(-targets * log_yes - (1 - targets) * log_no)


@loss
def kl_divergence(
    predictions: Float[Array, "classes"], targets: Float[Array, "classes"]
) -> Float[Array, ""]:
    """Kullback-Leibler divergence of probabilities, `sum(t * log(t / p))`; NaN where a target is 0."""
    return _kl(targets, predictions)


@loss
def jensen_shannon_divergence(
    predictions: Float[Array, "classes"], targets: Float[Array, "classes"]
) -> Float[Array, ""]:
    """The mean of both Kullback-Leibler divergences from the average distribution; NaN if a probability is 0.

    It is at most log(2).
    """
    middle = 0.5 * (predictions + targets)
    return 0.5 * (_kl(predictions, middle) + _kl(targets, middle))


def _kl(p: Array, q: Array) -> Array:
    return jnp.sum(p * (jnp.log(p) - jnp.log(q)))


@loss
def poisson(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `p - t * log(p)` over rates and counts.

    This is the negative log likelihood without `log(t!)`.
    """
    return jnp.mean(predictions - targets * jnp.log(predictions))


@loss
def squared_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `(p - t)**2`."""
    return jnp.mean(jnp.square(predictions - targets))


@loss
def absolute_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `abs(p - t)`."""
    return jnp.mean(absolute(predictions - targets))


@loss
def squared_logarithmic_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `(log(1 + p) - log(1 + t))**2`; NaN for numbers below -1."""
    return jnp.mean(jnp.square(jnp.log1p(predictions) - jnp.log1p(targets)))


@loss
def absolute_percentage_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `100 * abs((p - t) / t)`; NaN or infinite if a target is 0."""
    return 100 * jnp.mean(absolute((predictions - targets) / targets))


@loss
def cosine_similarity(
    predictions: Float[Array, "features"], targets: Float[Array, "features"]
) -> Float[Array, ""]:
    """The cosine of the angle between two vectors; NaN if either is zero."""
    return _cosine(predictions, targets)


@loss
def cosine_distance(
    predictions: Float[Array, "features"], targets: Float[Array, "features"]
) -> Float[Array, ""]:
    """1 minus the cosine of the angle between two vectors; NaN if either is zero."""
    return 1 - _cosine(predictions, targets)


def _cosine(a: Array, b: Array) -> Array:
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
