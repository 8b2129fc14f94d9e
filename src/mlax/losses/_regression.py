"""Regression losses: the mean over all elements of an example."""

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
    """Mean squared error: the mean of `(predictions - targets)**2`."""
    return jnp.mean(jnp.square(predictions - targets))


@loss
def half_squared_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Half the mean squared error. Optax calls it `l2_loss`.

    The derivative of each element's term is its error.
    """
    return 0.5 * jnp.mean(jnp.square(predictions - targets))


@loss
def absolute_error(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean absolute error (L1): the mean of `abs(predictions - targets)`.

    The derivative is 0 for predictions that are equal to their targets.
    """
    return jnp.mean(absolute(predictions - targets))


@loss
def huber(
    predictions: Float[Array, "*shape"],
    targets: Float[Array, "*shape"],
    *,
    delta: Number = 1.0,
) -> Float[Array, ""]:
    """Huber loss: half the square of errors up to `delta`, linear beyond; the mean over all elements.

    An error `e` contributes `e**2 / 2` if `abs(e) <= delta`, otherwise
    `delta * (abs(e) - delta / 2)`.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.
        delta: The size of an error at which the linear part begins, > 0.

    References:
        Huber 1964, Robust estimation of a location parameter,
            https://doi.org/10.1214/aoms/1177703732
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
    """Smooth L1: the Huber loss divided by `beta`, so that its linear part has slope 1.

    Args:
        predictions: Any shape.
        targets: Same shape and dtype.
        beta: The size of an error at which the linear part begins, > 0.

    References:
        Girshick 2015, Fast R-CNN, https://arxiv.org/abs/1504.08083
    """
    require("smooth_l1: beta", beta, above=0)
    return jnp.mean(_huber(predictions - targets, beta) / beta)


def _huber(error: Array, delta: Number) -> Array:
    # One formula covers both parts, so that no square can overflow in a branch that is not taken.
    near = jnp.clip(error, -delta, delta)
    return near * (error - 0.5 * near)


@loss
def log_cosh(
    predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of `log(cosh(predictions - targets))`. It is smooth, and never overflows.

    It is about half the square of a small error and grows linearly with a large one. Small errors
    lose no digits.

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
    """Negative log likelihood of targets under independent normal distributions: the mean over elements.

    Each element contributes `(log(v) + (target - prediction)**2 / v) / 2`, where `v` is its
    variance, but at least `epsilon`.

    Args:
        predictions: The expected values. Any shape.
        targets: Same shape and dtype.
        variances: Same shape and dtype. A variance below `epsilon` has derivative 0.
        full: Whether to add the constant `log(2 pi) / 2`.
        epsilon: Smallest variance, > 0.

    References:
        Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution,
            https://doi.org/10.1109/ICNN.1994.374138
    """
    require("gaussian_nll: epsilon", epsilon, above=0)
    variances = jnp.maximum(variances, epsilon)
    nll = 0.5 * jnp.mean(jnp.log(variances) + jnp.square(targets - predictions) / variances)
    return nll + 0.5 * math.log(2 * math.pi) if full else nll
