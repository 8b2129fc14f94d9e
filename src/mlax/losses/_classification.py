"""Classification losses: cross-entropy and its variants."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from mlax.losses._arithmetic import as_floats, included, mean, picked, product, surprisals
from mlax.losses._loss import Number, loss, require
from mlax.tree import describe

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "fenchel_young",
    "nll",
    "poly_cross_entropy",
    "sigmoid_focal",
    "smooth_labels",
]


@loss
def cross_entropy(
    logits: Float[Array, "classes"],
    targets: Float[Array, "classes"] | Integer[Array, ""],
    *,
    label_smoothing: Number = 0.0,
    ignore_index: int | None = None,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, ""]:
    """Softmax cross-entropy: `-sum(targets * log(softmax(logits)))`.

    Args:
        logits: Unnormalised log probabilities. A class with a logit of -inf has probability 0.
        targets: A probability for each class, or the integer label of the right class. A target of
            0 adds 0, even if the logit is -inf. A label that is negative or too large gives
            NaN, and a gradient of NaN.
        label_smoothing: The fraction of each target that is spread evenly over the classes,
            0 <= x < 1.
        ignore_index: A label, such as -100 for padding, for which loss and gradient are 0, also if
            the logits are not finite. Count the others for a mean: `sum(losses) / sum(labels !=
            -100)`.
        where: The classes to include; all by default. If there are none, the loss is 0.

    References:
        Szegedy et al. 2016, https://arxiv.org/abs/1512.00567 (label smoothing)
    """
    require("cross_entropy: label_smoothing", label_smoothing, at_least=0, below=1)
    logits, targets, ignored = _without_ignored("cross_entropy", logits, targets, ignore_index)
    surprise = surprisals(included(logits, where, -jnp.inf))
    result = _expected(surprise, targets, where)
    if not (isinstance(label_smoothing, int | float) and label_smoothing == 0):
        share = jnp.asarray(label_smoothing, logits.dtype)
        result = product(1 - share, result) + product(share, mean(surprise, where))
    return _or_ignored(result, ignored)


@loss
def poly_cross_entropy(
    logits: Float[Array, "classes"],
    targets: Float[Array, "classes"] | Integer[Array, ""],
    *,
    epsilon: Number = 2.0,
    ignore_index: int | None = None,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, ""]:
    """PolyLoss (Poly-1): cross-entropy plus `epsilon * sum(targets * (1 - softmax(logits)))`.

    Args:
        logits: Unnormalised log probabilities.
        targets: A probability for each class, or the integer label of the right class, as for
            `cross_entropy`.
        epsilon: Weight of the added term. The paper uses 2 for image classification and -1 for
            detection and instance segmentation.
        ignore_index: A label for which the loss is 0, as for `cross_entropy`.
        where: The classes to include; all by default.

    References:
        Leng et al. 2022, https://arxiv.org/abs/2204.12511
    """
    require("poly_cross_entropy: epsilon", epsilon)
    logits, targets, ignored = _without_ignored("poly_cross_entropy", logits, targets, ignore_index)
    surprise = surprisals(included(logits, where, -jnp.inf))
    wrong = -jnp.expm1(-surprise)
    result = _expected(surprise, targets, where) + epsilon * _expected(wrong, targets, where)
    return _or_ignored(result, ignored)


def _without_ignored(
    name: str, values: Array, targets: Array, ignore_index: int | None
) -> tuple[Array, Array, Array | None]:
    """Return values and label, with others in their place if the label is ignored, and whether it is (or None).

    Nothing that is not finite is left, so that the derivative is 0.
    """
    if ignore_index is None:
        return values, targets, None
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(
            f"losses.{name}: ignore_index is for integer labels, got targets {describe(targets)}"
        )
    ignored = lax.convert_element_type(targets, jnp.result_type(int)) == ignore_index
    zero = jnp.zeros((), targets.dtype)
    return jnp.where(ignored, 0.0, values), jnp.where(ignored, zero, targets), ignored


def _or_ignored(result: Array, ignored: Array | None) -> Array:
    """Return a loss, or 0 if its label is ignored."""
    return result if ignored is None else jnp.where(ignored, 0.0, result)


def _expected(values: Array, targets: Array, where: Array | None) -> Array:
    """Return the expected value under the target distribution, which may be given as one label."""
    if jnp.issubdtype(targets.dtype, jnp.integer):
        value = picked(values, targets)
        return value if where is None else jnp.where(jnp.any(where), value, 0.0)
    return jnp.sum(product(included(targets, where, 0.0), values))


@loss
def nll(
    log_probabilities: Float[Array, "classes"],
    label: Integer[Array, ""],
    *,
    ignore_index: int | None = None,
) -> Float[Array, ""]:
    """Negative log likelihood: minus the log probability of the right class.

    Args:
        log_probabilities: For example from `jax.nn.log_softmax`. If you have logits, use
            `cross_entropy`.
        label: The right class. A label that is negative or too large gives NaN, and a gradient of NaN.
        ignore_index: A label for which the loss is 0, as for `cross_entropy`.
    """
    values, label, ignored = _without_ignored("nll", log_probabilities, label, ignore_index)
    return _or_ignored(-picked(values, label), ignored)


@loss
def binary_cross_entropy(
    predictions: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
    *,
    weights: Float[Array, "*shape"] | None = None,
    with_logits: bool = True,
) -> Float[Array, ""]:
    """Sigmoid cross-entropy of independent yes-or-no predictions: the mean over them.

    Each contributes `-y * log(p) - (1 - y) * log(1 - p)`, with `p = sigmoid(prediction)`.

    Args:
        predictions: Logits, or probabilities, of "yes". Any shape.
        targets: Same shape: 0 or 1, which may be integers, or probabilities in the dtype of the
            predictions.
        weights: Same shape and dtype as the predictions: each element is multiplied by its weight
            before the mean is taken.
        with_logits: Whether the predictions are logits. If they are probabilities, their logarithm
            is clipped to at least -100; it has derivative 0 where it is clipped. Probabilities
            below 0 or above 1 give NaN.
    """
    targets = as_floats(targets, predictions)
    if with_logits:
        yes, no = jax.nn.softplus(-predictions), jax.nn.softplus(predictions)
    else:
        yes, no = (
            _clipped_surprisal(predictions, predictions),
            _clipped_surprisal(1 - predictions, predictions, opposite=True),
        )
    result = product(targets, yes) + product(1 - targets, no)
    return jnp.mean(result if weights is None else weights * result)


def _clipped_surprisal(p: Array, given: Array, opposite: bool = False) -> Array:
    """Return `min(-log(p), 100)`, where `p` is `given`, or `1 - given` if `opposite`."""
    clipped = (p >= 0) & (p <= math.exp(-100))  # false for numbers below 0 and NaN: they stay NaN
    safe = jnp.where(clipped, 0.5, given)
    log = jnp.log1p(-safe) if opposite else jnp.log(safe)
    return jnp.where(clipped, 100.0, -log)


@loss
def sigmoid_focal(
    logits: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
    *,
    alpha: Number | None = None,
    gamma: Number = 2.0,
) -> Float[Array, ""]:
    """Focal loss: binary cross-entropy in which easy examples count less; the mean over all elements.

    Each element contributes `-alpha_t * (1 - p_t)**gamma * log(p_t)`. For a target of 1, `p_t` is
    the predicted probability and `alpha_t` is `alpha`; for a target of 0, they are 1 minus these.

    Args:
        logits: Logits of "yes". Any shape.
        targets: Same shape: 0 or 1, which may be integers, or probabilities in the dtype of the
            logits.
        alpha: Weight of the positive class, 0 <= x <= 1; None for no weights.
        gamma: How strongly easy examples are down-weighted, >= 0.

    References:
        Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    require("sigmoid_focal: gamma", gamma, at_least=0)
    if alpha is not None:
        require("sigmoid_focal: alpha", alpha, at_least=0, at_most=1)
    targets = as_floats(targets, logits)
    yes, no = jax.nn.softplus(-logits), jax.nn.softplus(logits)
    result = product(targets, yes) + product(1 - targets, no)
    log_wrong = jax.nn.logsumexp(
        jnp.stack([-yes, -no]), axis=0, b=jnp.stack([1 - targets, targets])
    )
    result = jnp.exp(gamma * log_wrong) * result
    if alpha is not None:
        result = (alpha * targets + (1 - alpha) * (1 - targets)) * result
    return jnp.mean(result)


@loss
def fenchel_young(
    scores: Float[Array, "n"],
    targets: Float[Array, "n"],
    *,
    max_function: Callable[[Array], Array],
) -> Float[Array, ""]:
    """Fenchel-Young loss of a smoothed maximum: `max_function(scores) - dot(targets, scores)`.

    Args:
        scores: The score that the model gives each item.
        targets: Same shape and dtype: what the gradient of `max_function` should be.
        max_function: Takes scores, returns a scalar. With `jax.nn.logsumexp` the loss is
            cross-entropy. It is given float32 if the scores are in half precision.

    References:
        Blondel et al. 2020, https://arxiv.org/abs/1901.02324
    """
    return max_function(scores) - jnp.sum(targets * scores)


@loss
def smooth_labels(
    targets: Float[Array, "classes"],
    smoothing: Number,
    *,
    where: Bool[Array, "classes"] | None = None,
) -> Float[Array, "classes"]:
    """Labels of which a fraction is spread evenly: `(1 - smoothing) * targets + smoothing / classes`.

    `cross_entropy(..., label_smoothing=smoothing)` does the same without this function.

    Args:
        targets: A probability for each class.
        smoothing: The fraction to spread, 0 <= x <= 1.
        where: The classes to spread it over; all by default. The others become 0.

    Returns:
        The smoothed labels, in the shape and dtype of the targets.

    References:
        Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    require("smooth_labels: smoothing", smoothing, at_least=0, at_most=1)
    classes = jnp.ones_like(targets) if where is None else as_floats(where, targets)
    smoothed = (1 - smoothing) * targets + smoothing * (classes / jnp.maximum(jnp.sum(classes), 1))
    return included(smoothed, where, 0.0)
