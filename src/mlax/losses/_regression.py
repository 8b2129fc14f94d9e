"""Losses of numbers: the mean over all elements of an example."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlax.losses._arithmetic import absolute
from mlax.losses._loss import Number, loss, require

__all__ = [
    "absolute_error",
    "gaussian_nll",
    "half_squared_error",
    "huber",
    "log_cosh",
    "smooth_l1",
    "squared_error",
]


@loss
def squared_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean squared error: the mean of `(predictions - targets)**2`.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
    """
    return jnp.mean(jnp.square(predictions - targets))


@loss
def half_squared_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Half the mean squared error, whose derivative is the error; Optax's `l2_loss`.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
    """
    return 0.5 * jnp.mean(jnp.square(predictions - targets))


@loss
def absolute_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean absolute error, L1: the mean of `abs(predictions - targets)`. Its derivative is 0 where they are equal.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
    """
    return jnp.mean(absolute(predictions - targets))


@loss
def huber(
    predictions: Float[Array, "*shape"],
    targets: Float[Array, "*shape"],
    *,
    delta: Number = 1.0,
) -> Float[Array, ""]:
    """Huber loss: half the square of errors up to `delta`, linear beyond.

    For an error `e` it is `e**2 / 2` where `abs(e) <= delta`, else `delta * (abs(e) - delta / 2)`; the mean of these.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.
        delta: Where the linear part begins, > 0.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
        ValueError: `delta` is out of bounds.

    References:
        Huber 1964, Robust estimation of a location parameter, https://doi.org/10.1214/aoms/1177703732
    """
    require("huber: delta", delta, above=0)
    return jnp.mean(_huber(predictions - targets, delta))


@loss
def smooth_l1(
    predictions: Float[Array, "*shape"],
    targets: Float[Array, "*shape"],
    *,
    beta: Number = 1.0,
) -> Float[Array, ""]:
    """Smooth L1: the Huber loss divided by `beta`, so that the slope of its linear part is 1.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.
        beta: Where the linear part begins, > 0.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
        ValueError: `beta` is out of bounds.

    References:
        Girshick 2015, Fast R-CNN, https://arxiv.org/abs/1504.08083
    """
    require("smooth_l1: beta", beta, above=0)
    return jnp.mean(_huber(predictions - targets, beta) / beta)


def _huber(error: Array, delta: Number) -> Array:
    # One formula for both parts: there is no branch whose square could overflow.
    near = jnp.clip(error, -delta, delta)
    return near * (error - 0.5 * near)


@loss
def log_cosh(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `log(cosh(predictions - targets))`: half the square of small errors, linear for large ones.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.

    Returns:
        Shape (), in the dtype of the predictions. Small errors lose no digits, large ones do not overflow.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.

    References:
        Chen et al. 2019, Log hyperbolic cosine loss improves variational auto-encoder,
        https://openreview.net/forum?id=rkglvsC9Ym
    """
    size = absolute(predictions - targets)
    small = size < 1
    # cosh(e) - 1 = 2 sinh(e / 2)**2
    half = jnp.sinh(0.5 * jnp.where(small, size, 0.0))
    near = jnp.log1p(2 * half * half)
    far = jnp.where(small, 1.0, size)
    far = far + jnp.log1p(jnp.exp(-2 * far)) - math.log(2)
    return jnp.mean(jnp.where(small, near, far))


@loss
def gaussian_nll(
    predictions: Float[Array, "*shape"],
    targets: Float[Array, "*shape"],
    variances: Float[Array, "*shape"],
    *,
    full: bool = False,
    epsilon: Number = 1e-6,
) -> Float[Array, ""]:
    """Negative log likelihood of targets under independent normal distributions, the mean over the elements.

    For one element `(log(v) + (target - prediction)**2 / v) / 2`, where `v` is the variance, at least `epsilon`.

    Args:
        predictions: The expected values. Any shape.
        targets: Same shape and dtype.
        variances: Same shape and dtype. One below `epsilon` has derivative 0.
        full: Whether the constant `log(2 pi) / 2` is part of the loss.
        epsilon: Smallest variance, > 0.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions, targets and variances differ in shape or dtype.
        ValueError: `epsilon` is out of bounds.

    References:
        Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution,
        https://doi.org/10.1109/ICNN.1994.374138
    """
    require("gaussian_nll: epsilon", epsilon, above=0)
    variances = jnp.maximum(variances, epsilon)
    nll = 0.5 * jnp.mean(jnp.log(variances) + jnp.square(targets - predictions) / variances)
    return nll + 0.5 * math.log(2 * math.pi) if full else nll
