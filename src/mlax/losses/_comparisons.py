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
    """The cosine of the angle between two vectors: 1 where they point the same way. What a loss wants to increase.

    Args:
        predictions: A vector of any length, however large or small its elements.
        targets: Same shape and dtype.
        epsilon: Smallest norm that a vector is divided by, >= 0. The zero vector has similarity 0 to all, and
            derivative 0.
        where: The elements to include; all, unless given.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
        ValueError: `epsilon` is out of bounds.
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
    """1 minus the cosine of the angle between two vectors: 0 where they point the same way, 2 where opposite.

    Args:
        predictions: A vector of any length, however large or small its elements.
        targets: Same shape and dtype.
        epsilon: Smallest norm that a vector is divided by, >= 0. The zero vector has distance 1 to all, and
            derivative 0.
        where: The elements to include; all, unless given.

    Returns:
        Shape (), in the dtype of the predictions.

    Raises:
        LeafMismatchError: Predictions and targets differ in shape or dtype.
        ValueError: `epsilon` is out of bounds.
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
    """How far a negative is from being farther from the anchor than a positive, by a margin.

    `max(0, distance(anchor, positive) - distance(anchor, negative) + margin)`, where the distance is
    `(sum(abs(x - y)**p) + epsilon)**(1 / p)`. Three vectors are one example.

    Args:
        anchor: A vector of any length.
        positive: Same shape and dtype: what should be near.
        negative: Same shape and dtype: what should be far.
        p: Degree of the norm, a Python number >= 1.
        margin: By how much the negative should be farther.
        epsilon: Added under the root, > 0, so that equal vectors have a derivative.

    Returns:
        Shape (), in the dtype of the anchor.

    Raises:
        LeafMismatchError: Anchor, positive and negative differ in shape or dtype.
        ValueError: `p`, `margin` or `epsilon` is out of bounds.

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
    # Dividing only by what is greater than 1 keeps powers from overflowing, and epsilon from doing so in their place.
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
    """How far one score is from being ahead of another: the mean of `max(0, -targets * (first - second) + margin)`.

    Args:
        first: Scores. Any shape.
        second: Scores they are compared with, same shape and dtype.
        targets: Same shape: 1 where the first should be greater, -1 where the second. Integers, or in the dtype of the
            scores.
        margin: By how much it should be greater.

    Returns:
        Shape (), in the dtype of the scores.

    Raises:
        LeafMismatchError: The scores and targets differ in shape or dtype.
        ValueError: `margin` is not finite.
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
        scores: What the model says of each item.
        relevance: Same shape and dtype: how relevant each is. They need not sum to 1.
        weights: Same shape and dtype: factors of the relevance.
        where: The items that are there; all, unless given. Without any the loss is 0.

    Returns:
        Shape (), in the dtype of the scores.

    Raises:
        LeafMismatchError: Scores, relevance and weights differ in shape or dtype.

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
    """NT-Xent, the contrastive loss of SimCLR: examples of one label should be nearer than those of others.

    Two examples of one label are a positive pair. Its loss is the cross-entropy of finding the second among itself and
    all examples of other labels, by cosine similarity divided by the temperature; the result is the mean over all
    positive pairs, in both orders.

    Args:
        embeddings: One vector for each example of the set.
        labels: Equal for examples that belong together.
        temperature: > 0. An array may be learned.

    Returns:
        Shape (), in the dtype of the embeddings; 0 if no two labels are equal.

    Raises:
        TypeError: The set is not as annotated.
        ValueError: `temperature` is out of bounds.

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
