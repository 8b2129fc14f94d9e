"""Margin losses: hinge, perceptron, sparsemax. They are 0 once the right answer is far enough ahead.

Binary losses take the score of "yes" and return the mean over all elements of an example.
Multiclass losses take a score for each class and the label of the right one. A label that is
negative or too large gives NaN, as does its gradient.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer

from mlax.losses._arithmetic import as_floats, is_label, picked
from mlax.losses._loss import loss

__all__ = [
    "hinge",
    "multiclass_hinge",
    "multiclass_perceptron",
    "multiclass_sparsemax",
    "perceptron",
    "sparsemax",
]


@loss
def hinge(
    scores: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
) -> Float[Array, ""]:
    """Hinge loss: the mean of `max(0, 1 - scores * targets)`.

    Args:
        scores: Any shape.
        targets: Same shape: -1 or 1, as integers or in the dtype of the scores.

    References:
        Cortes & Vapnik 1995, https://doi.org/10.1007/BF00994018
    """
    return jnp.mean(jnp.maximum(1 - scores * as_floats(targets, scores), 0.0))


@loss
def perceptron(
    scores: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
) -> Float[Array, ""]:
    """Perceptron loss: the mean of `max(0, -scores * targets)`.

    Args:
        scores: Any shape.
        targets: Same shape: -1 or 1, as integers or in the dtype of the scores.

    References:
        Rosenblatt 1958, https://doi.org/10.1037/h0042519
    """
    return jnp.mean(jnp.maximum(-scores * as_floats(targets, scores), 0.0))


@loss
def sparsemax(
    scores: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
) -> Float[Array, ""]:
    """Binary sparsemax loss: 0 beyond a margin of 1, linear on the wrong side of it, a parabola between.

    It is the mean of `jax.nn.sparse_plus(-scores)` for targets of 1 and
    `jax.nn.sparse_plus(scores)` for targets of 0.

    Args:
        scores: Any shape.
        targets: Same shape: 0 or 1, as integers or in the dtype of the scores.

    References:
        Blondel et al. 2020, section 4.4, https://arxiv.org/abs/1901.02324
    """
    return jnp.mean(jax.nn.sparse_plus(jnp.where(targets != 0, -scores, scores)))


@loss
def multiclass_hinge(
    scores: Float[Array, "classes"], label: Integer[Array, ""]
) -> Float[Array, ""]:
    """Multiclass hinge loss: `max(scores + (class != label)) - scores[label]`.

    It is 0 if the right class leads all others by at least 1.

    Args:
        scores: One for each class.
        label: The right class.

    References:
        Crammer & Singer 2001, https://jmlr.org/papers/v2/crammer01a.html
    """
    ahead = scores - picked(scores, label)
    return jnp.max(ahead + as_floats(~is_label(scores, label), scores))


@loss
def multiclass_perceptron(
    scores: Float[Array, "classes"], label: Integer[Array, ""]
) -> Float[Array, ""]:
    """Multiclass perceptron loss: `max(scores) - scores[label]`.

    It says how far the right class is behind the leading one.

    Args:
        scores: One for each class.
        label: The right class.

    References:
        Collins 2002, https://aclanthology.org/W02-1001
    """
    return jnp.max(scores) - picked(scores, label)


@loss
def multiclass_sparsemax(
    scores: Float[Array, "classes"], label: Integer[Array, ""]
) -> Float[Array, ""]:
    """Sparsemax loss: like cross-entropy, with a projection onto the simplex in place of softmax.

    It is 0 if and only if the right class leads all others by at least 1.

    Args:
        scores: One for each class.
        label: The right class.

    References:
        Martins & Astudillo 2016, https://arxiv.org/abs/1602.02068
    """
    ahead = scores - picked(scores, label)
    probabilities = _projected(ahead)
    return jnp.sum(probabilities * ahead) + 0.5 * (1 - jnp.sum(jnp.square(probabilities)))


def _projected(x: Float[Array, "n"]) -> Float[Array, "n"]:
    """Return the nearest point on the simplex: its elements are non-negative and sum to 1."""
    x = x - lax.stop_gradient(jnp.max(x))
    descending = -jnp.sort(-lax.stop_gradient(x))
    counts = jnp.arange(1, x.size + 1).astype(x.dtype)
    inside = counts * descending > jnp.cumsum(descending) - 1
    support = x >= jnp.min(jnp.where(inside, descending, 0.0))
    threshold = (jnp.sum(jnp.where(support, x, 0.0)) - 1) / jnp.sum(support, dtype=x.dtype)
    return jnp.where(support, x - threshold, 0.0)
