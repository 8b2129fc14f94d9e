"""A transformer language model in mlax."""

from typing import Self

import jax
from jaxtyping import Array, Float, Int

import mlax
from mlax import Module, losses, nn


class LanguageModel(Module):
    embedding: nn.Embedding
    positions: nn.LearnedPositions
    blocks: nn.Series | nn.Repeat[nn.TransformerBlock]
    norm: nn.LayerNorm = nn.LayerNorm()

    def forward(self, tokens: Int[Array, "time"]) -> tuple[Float[Array, "time vocabulary"], Self]:
        x, self = self.chain(tokens, self.embedding, self.positions, self.blocks, self.norm)
        return self.call(self.embedding.attend, x)


Model = nn.Batched[LanguageModel]


def block(features: int, heads: int, dropout: float) -> nn.TransformerBlock:
    attention = nn.MultiHeadAttention(heads, causal=True)
    feed_forward = nn.MLP(4 * features, features, activation=jax.nn.gelu)
    return nn.TransformerBlock(attention, feed_forward, dropout=nn.Dropout(dropout))


def make(
    vocabulary: int, time: int, features: int, heads: int, depth: int, dropout: float, rng: Array
) -> Model:
    blocks = nn.Series(*(block(features, heads, dropout) for _ in range(depth)))
    model = LanguageModel(nn.Embedding(vocabulary, features), nn.LearnedPositions(time), blocks)
    return mlax.set_up(nn.Batched(model), jax.ShapeDtypeStruct((1, time), int), rng=rng)


def loss_fn(model: Model, tokens: Array, rng: Array) -> tuple[Array, Model]:
    logits, model = mlax.training(model, rng=rng)(tokens[:, :-1])
    return jax.vmap(jax.vmap(losses.cross_entropy))(logits, tokens[:, 1:]).mean(), model
