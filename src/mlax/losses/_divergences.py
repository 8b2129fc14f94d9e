"""Divergences of predicted from target distributions. Predictions are log probabilities."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mlax.losses._arithmetic import included, product
from mlax.losses._loss import loss

__all__ = ["generalized_kl_divergence", "kl_divergence", "kl_divergence_with_log_targets"]


@loss
def kl_divergence(
    log_predictions: Float[Array, "classes"],
    targets: Float[Array, "classes"],
    *,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, ""]:
    """Kullback-Leibler divergence: the sum of `targets * (log(targets) - log_predictions)`.

    Args:
        log_predictions: Log probabilities, for example from `jax.nn.log_softmax`.
        targets: Probabilities. A target of 0 contributes 0, whatever the prediction; the derivative
            of `targets * log(targets)` is taken to be 0 there.
        where: The classes to include; all by default.

    References:
        Kullback & Leibler 1951, On information and sufficiency,
            https://doi.org/10.1214/aoms/1177729694
    """
    return _kl(log_predictions, targets, where)


@loss
def kl_divergence_with_log_targets(
    log_predictions: Float[Array, "classes"],
    log_targets: Float[Array, "classes"],
    *,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, ""]:
    """Kullback-Leibler divergence: the sum of `exp(log_targets) * (log_targets - log_predictions)`.

    Args:
        log_predictions: Log probabilities, for example from `jax.nn.log_softmax`.
        log_targets: Log probabilities. A target of -inf contributes 0, whatever the prediction.
        where: The classes to include; all by default.
    """
    log_targets = included(log_targets, where, -jnp.inf)
    finite = jnp.where(log_targets == -jnp.inf, 0.0, log_targets)
    return jnp.sum(product(jnp.exp(log_targets), finite - included(log_predictions, where, 0.0)))


@loss
def generalized_kl_divergence(
    log_predictions: Float[Array, "classes"],
    targets: Float[Array, "classes"],
    *,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, ""]:
    """Kullback-Leibler divergence of measures that need not sum to 1.

    It is `kl_divergence` plus the sum of `exp(log_predictions) - targets`: the Bregman divergence
    of `x log(x) - x`.

    Args:
        log_predictions: Logarithms of non-negative numbers.
        targets: Non-negative numbers. A target of 0 contributes 0 to `kl_divergence`.
        where: The classes to include; all by default.

    References:
        Bregman 1967, https://doi.org/10.1016/0041-5553(67)90040-7
    """
    excess = included(jnp.exp(included(log_predictions, where, 0.0)) - targets, where, 0.0)
    return _kl(log_predictions, targets, where) + jnp.sum(excess)


def _kl(log_predictions: Array, targets: Array, where: Array | None) -> Array:
    targets = included(targets, where, 0.0)
    log_targets = jnp.log(jnp.where(targets == 0, 1.0, targets))
    return jnp.sum(product(targets, log_targets - included(log_predictions, where, 0.0)))
