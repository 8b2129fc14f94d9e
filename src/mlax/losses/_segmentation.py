"""Segmentation losses: how much a predicted region and the target region fail to overlap."""

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
    """Soft Dice loss of one image: the mean over its classes. With other `alpha` and `beta`: the Tversky loss.

    Each class contributes `1 - (hit + smooth) / (hit + alpha * false + beta * missed + smooth)`.
    Here `hit`, `false` and `missed` are sums over space: of `p * t`, of `p * (1 - t)` and of
    `(1 - p) * t`.

    Args:
        logits: Unnormalised log probabilities of at least two classes, at each place.
        targets: Same shape and dtype: 1 for the right class of a place, 0 for the others.
        class_weights: Each class is multiplied by its weight before the mean is taken.
        smooth: Added to the numerator and the denominator, >= 0. With 0, a class that occurs in
            neither gives NaN.
        alpha: Weight of false positives, >= 0.
        beta: Weight of false negatives, >= 0.
        with_logits: Whether to apply softmax; if not, `logits` are probabilities, and there may be
            one class.
        ignore_background: Leave out the first class. At least one has to remain.

    References:
        Milletari et al. 2016, https://arxiv.org/abs/1606.04797; Salehi et al. 2017,
            https://arxiv.org/abs/1706.05721
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
    """Dice loss with classes weighted by the inverse square of their size, the number of places they cover.

    The weights are `1 / (places**2 + 1e-7)`, divided by their mean. So a class that does not occur
    in the image outweighs all others.

    Args:
        logits: Unnormalised log probabilities of at least two classes, at each place.
        targets: Same shape and dtype: 1 for the right class of a place, 0 for the others.
        smooth: As in `dice`.
        with_logits: Whether to apply softmax; if not, `logits` are probabilities, and there may be
            one class.
        ignore_background: Leave out the first class, after the weights are computed. At least one
            has to remain.

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
        logits: Logits of being inside, at each place.
        targets: Same shape and dtype: 1 inside, 0 outside.
        smooth: As in `dice`.
        with_logits: Whether to apply the sigmoid; if not, `logits` are probabilities.

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
            f"losses.{name}: softmax of one class is always 1; use binary_dice for a single mask"
        )
    probabilities = jax.nn.softmax(logits, axis=-1) if with_logits else logits
    return _dice(probabilities, targets, smooth, alpha, beta)


def _dice(p: Array, t: Array, smooth: Number, alpha: Number, beta: Number) -> Array:
    """Return the loss of each class."""
    # Equal to 1 - (hit + smooth) / (hit + wrong + smooth), without cancellation if little is wrong.
    wrong = alpha * _over_space(p * (1 - t)) + beta * _over_space((1 - p) * t)
    return wrong / (_over_space(p * t) + wrong + smooth)


def _over_space(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


def _mean_over_classes(name: str, result: Array, ignore_background: bool) -> Array:
    if ignore_background:
        result = result[1:]
    if result.size == 0:
        raise ValueError(f"losses.{name}: ignore_background leaves no class to average over")
    return jnp.mean(result)
