"""Losses of masks: how much of a predicted region is not of the target's, and the other way round."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlax.losses._loss import Number, loss, require

__all__ = ["binary_dice", "dice", "generalized_dice"]


@loss
def dice(
    logits: Float[Array, "*space classes"],
    targets: Float[Array, "*space classes"],
    *,
    class_weights: Float[Array, "classes"] | None = None,
    smooth: Number = 1.0,
    alpha: Number = 0.5,
    beta: Number = 0.5,
    with_logits: bool = True,
    ignore_background: bool = False,
) -> Float[Array, ""]:
    """Soft Dice loss of one image, the mean over its classes.

    For a class `1 - (hit + smooth) / (hit + alpha * false + beta * missed + smooth)`, with the sums over space `hit` of
    `p * t`, `false` of `p * (1 - t)` and `missed` of `(1 - p) * t`. With other `alpha` and `beta`: the Tversky loss.

    Args:
        logits: Unnormalised log probabilities of at least two classes, at each place.
        targets: Same shape and dtype: 1 for the right class of a place, 0 for others.
        class_weights: Factors of the classes before the mean is taken.
        smooth: Added to both sides of the fraction, >= 0. With 0 a class that is nowhere gives NaN.
        alpha: Weight of what is predicted wrongly, >= 0.
        beta: Weight of what is missed, >= 0.
        with_logits: Whether softmax is applied; otherwise `logits` are probabilities.
        ignore_background: Leave out the first class.

    Returns:
        Shape (), in the dtype of the logits.

    Raises:
        LeafMismatchError: Logits and targets differ in shape or dtype.
        ValueError: There is no class left to average over, one class where softmax is applied, or a number is out of
            bounds.

    References:
        Milletari et al. 2016, https://arxiv.org/abs/1606.04797; Salehi et al. 2017, https://arxiv.org/abs/1706.05721
    """
    require("dice: alpha", alpha, at_least=0)
    require("dice: beta", beta, at_least=0)
    result = _per_class("dice", logits, targets, smooth, alpha, beta, with_logits)
    if class_weights is not None:
        result = result * class_weights
    return _mean_over_classes("dice", result, ignore_background)


@loss
def generalized_dice(
    logits: Float[Array, "*space classes"],
    targets: Float[Array, "*space classes"],
    *,
    smooth: Number = 1.0,
    with_logits: bool = True,
    ignore_background: bool = False,
) -> Float[Array, ""]:
    """Dice loss whose classes are weighted by the inverse square of how many places of the image are theirs.

    The weights are `1 / (places**2 + 1e-7)`, divided by their mean: a class that is nowhere outweighs all others.

    Args:
        logits: Unnormalised log probabilities of at least two classes, at each place.
        targets: Same shape and dtype: 1 for the right class of a place, 0 for others.
        smooth: As in `dice`.
        with_logits: Whether softmax is applied; otherwise `logits` are probabilities.
        ignore_background: Leave out the first class, after its weight was counted.

    Returns:
        Shape (), in the dtype of the logits.

    Raises:
        LeafMismatchError: Logits and targets differ in shape or dtype.
        ValueError: As `dice`.

    References:
        Sudre et al. 2017, https://arxiv.org/abs/1707.03237
    """
    result = _per_class("generalized_dice", logits, targets, smooth, 0.5, 0.5, with_logits)
    places = _over_space(targets)
    weights = 1 / (jnp.square(places) + 1e-7)
    return _mean_over_classes(
        "generalized_dice", result * (weights / jnp.mean(weights)), ignore_background
    )


@loss
def binary_dice(
    logits: Float[Array, "*space"],
    targets: Float[Array, "*space"],
    *,
    smooth: Number = 1.0,
    with_logits: bool = True,
) -> Float[Array, ""]:
    """Soft Dice loss of one mask.

    Args:
        logits: Of being inside, at each place.
        targets: Same shape and dtype: 1 inside, 0 outside.
        smooth: As in `dice`.
        with_logits: Whether the sigmoid is applied; otherwise `logits` are probabilities.

    Returns:
        Shape (), in the dtype of the logits.

    Raises:
        LeafMismatchError: Logits and targets differ in shape or dtype.
        ValueError: `smooth` is out of bounds.

    References:
        Milletari et al. 2016, https://arxiv.org/abs/1606.04797
    """
    require("binary_dice: smooth", smooth, at_least=0)
    probabilities = jax.nn.sigmoid(logits) if with_logits else logits
    return _dice(probabilities[..., None], targets[..., None], smooth, 0.5, 0.5)[0]


def _per_class(
    name: str,
    logits: Array,
    targets: Array,
    smooth: Number,
    alpha: Number,
    beta: Number,
    with_logits: bool,
) -> Array:
    require(f"{name}: smooth", smooth, at_least=0)
    if with_logits and logits.shape[-1] == 1:
        raise ValueError(
            f"losses.{name}: softmax of one class is 1; binary_dice takes a single mask"
        )
    probabilities = jax.nn.softmax(logits, axis=-1) if with_logits else logits
    return _dice(probabilities, targets, smooth, alpha, beta)


def _dice(p: Array, t: Array, smooth: Number, alpha: Number, beta: Number) -> Array:
    """Return the loss of each class."""
    # What is 1 - (hit + smooth) / (hit + wrong + smooth) on paper loses no digits when little is wrong.
    wrong = alpha * _over_space(p * (1 - t)) + beta * _over_space((1 - p) * t)
    return wrong / (_over_space(p * t) + wrong + smooth)


def _over_space(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


def _mean_over_classes(name: str, result: Array, ignore_background: bool) -> Array:
    if ignore_background:
        result = result[1:]
    if result.size == 0:
        raise ValueError(f"losses.{name}: no class is left without the background")
    return jnp.mean(result)
