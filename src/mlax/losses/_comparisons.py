"""Losses that compare vectors, items or examples with each other."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mlax.losses._arithmetic import (
    absolute,
    as_floats,
    divided,
    included,
    power_of_two,
    product,
    surprisals,
    unit,
)
from mlax.losses._loss import Number, loss, require

__all__ = [
    "cosine_distance",
    "cosine_similarity",
    "margin_ranking",
    "nt_xent",
    "ranking_softmax",
    "triplet_margin",
]


@loss
def cosine_similarity(
    predictions: Float[Array, "features"],
    targets: Float[Array, "features"],
    *,
    epsilon: Number = 1e-8,
    where: Bool[Array, "features"] | None = None,
) -> Float[Array, ""]:
    """The cosine of the angle between two vectors: 1 if they point the same way, -1 if opposite.

    It grows as predictions get better. To minimise, use `cosine_distance`.

    Args:
        predictions: A vector of any length. Its elements may be arbitrarily large or small.
        targets: Same shape and dtype.
        epsilon: The smallest norm that a vector is divided by, >= 0. The zero vector has similarity
            0 to every vector, with derivative 0.
        where: The elements to include; all by default.
    """
    require("cosine_similarity: epsilon", epsilon, at_least=0)
    return jnp.sum(unit(predictions, epsilon, where) * unit(targets, epsilon, where))


@loss
def cosine_distance(
    predictions: Float[Array, "features"],
    targets: Float[Array, "features"],
    *,
    epsilon: Number = 1e-8,
    where: Bool[Array, "features"] | None = None,
) -> Float[Array, ""]:
    """1 minus the cosine of the angle between two vectors: 0 if they point the same way, 2 if opposite.

    Args:
        predictions: A vector of any length. Its elements may be arbitrarily large or small.
        targets: Same shape and dtype.
        epsilon: The smallest norm that a vector is divided by, >= 0. The zero vector has distance 1
            from every vector, with derivative 0.
        where: The elements to include; all by default.
    """
    require("cosine_distance: epsilon", epsilon, at_least=0)
    return 1 - jnp.sum(unit(predictions, epsilon, where) * unit(targets, epsilon, where))


@loss
def triplet_margin(
    anchor: Float[Array, "features"],
    positive: Float[Array, "features"],
    negative: Float[Array, "features"],
    *,
    p: float = 2,
    margin: Number = 1.0,
    epsilon: Number = 1e-6,
) -> Float[Array, ""]:
    """Triplet loss: a negative should be farther from the anchor than a positive, by a margin.

    It is `max(0, distance(anchor, positive) - distance(anchor, negative) + margin)`, with the
    distance `(sum(abs(x - y)**p) + epsilon)**(1 / p)`. Three vectors are one example.

    Args:
        anchor: A vector of any length.
        positive: Same shape and dtype: a vector that should be near.
        negative: Same shape and dtype: a vector that should be far.
        p: Degree of the norm, a Python number >= 1.
        margin: How much farther the negative should be.
        epsilon: Added under the root, > 0, so that equal vectors have a derivative.

    References:
        Balntas et al. 2016, https://bmva-archive.org.uk/bmvc/2016/papers/paper119/index.html
    """
    require("triplet_margin: p", p, at_least=1)
    require("triplet_margin: margin", margin)
    require("triplet_margin: epsilon", epsilon, above=0)
    near, far = _distance(anchor - positive, p, epsilon), _distance(anchor - negative, p, epsilon)
    return jnp.maximum(near - far + margin, 0.0)


def _distance(difference: Array, p: float, epsilon: Number) -> Array:
    size = absolute(difference)
    # Large differences are scaled down so that their powers do not overflow. Small ones are not scaled
    # up: epsilon / scale**degree would overflow instead.
    scale = power_of_two(jnp.maximum(jnp.max(size), 1.0))
    degree = int(p) if float(p).is_integer() else p
    total = jnp.sum((size / scale) ** degree) + epsilon / scale**degree
    return scale * (jnp.sqrt(total) if degree == 2 else total ** (1 / degree))


@loss
def margin_ranking(
    first: Float[Array, "*shape"],
    second: Float[Array, "*shape"],
    targets: Float[Array, "*shape"] | Integer[Array, "*shape"],
    *,
    margin: Number = 0.0,
) -> Float[Array, ""]:
    """Margin ranking loss: the mean of `max(0, -targets * (first - second) + margin)`.

    It is 0 if the right one of each pair of scores is ahead by at least the margin.

    Args:
        first: Scores. Any shape.
        second: The scores they are compared with, same shape and dtype.
        targets: Same shape: 1 if the first score should be greater, -1 if the second. Integers, or
            in the dtype of the scores.
        margin: How much greater it should be.
    """
    require("margin_ranking: margin", margin)
    return jnp.mean(jnp.maximum(-as_floats(targets, first) * (first - second) + margin, 0.0))


@loss
def ranking_softmax(
    scores: Float[Array, "items"],
    relevance: Float[Array, "items"],
    *,
    weights: Float[Array, "items"] | None = None,
    where: Bool[Array, "items"] | None = None,
) -> Float[Array, ""]:
    """ListNet's loss of one list: `-sum(weights * relevance * log(softmax(scores)))`.

    Args:
        scores: The score that the model gives each item.
        relevance: Same shape and dtype: how relevant each item is. They need not sum to 1.
        weights: Same shape and dtype: factors for the relevance.
        where: The items to include; all by default. If there are none, the loss is 0.

    References:
        Cao et al. 2007, https://doi.org/10.1145/1273496.1273513
    """
    relevance = included(relevance if weights is None else weights * relevance, where, 0.0)
    return jnp.sum(product(relevance, surprisals(included(scores, where, -jnp.inf))))


@loss
def nt_xent(
    embeddings: Float[Array, "examples features"],
    labels: Integer[Array, "examples"],
    *,
    temperature: Number = 0.07,
) -> Float[Array, ""]:
    """NT-Xent, the contrastive loss of SimCLR: examples with equal labels should be similar.

    Two examples with the same label form a positive pair. The loss of a pair is a cross-entropy:
    given the first example, pick the second from a list of itself and all examples with other
    labels, by cosine similarity divided by the temperature. The result is the mean over all
    positive pairs, in both orders.

    Args:
        embeddings: One vector for each example.
        labels: Equal for examples that belong together.
        temperature: > 0. It can be learned if it is an array.

    Returns:
        A number (shape ()) in the dtype of the embeddings; 0 if no two labels are equal.

    References:
        Chen et al. 2020, https://arxiv.org/abs/2002.05709
    """
    require("nt_xent: temperature", temperature, above=0)
    units = jax.vmap(functools.partial(unit, epsilon=1e-8))(embeddings)
    similarity = jnp.einsum("if,jf->ij", units, units, precision="highest") / temperature
    same = labels[:, None] == labels[None, :]
    pairs = same & ~jnp.eye(labels.size, dtype=bool)
    others = jax.nn.logsumexp(jnp.where(same, -jnp.inf, similarity), axis=1, keepdims=True)
    # -log(exp(s) / (exp(s) + sum(exp(others)))) for each pair
    losses = jax.nn.softplus(others - similarity)
    return divided(jnp.sum(included(losses, pairs, 0.0)), jnp.sum(pairs, dtype=losses.dtype))
