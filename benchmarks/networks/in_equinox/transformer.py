"""A transformer language model in Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Block(eqx.Module):
    attention_norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    feed_forward_norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, features: int, heads: int, dropout: float, key: PRNGKeyArray) -> None:
        attention_key, up_key, down_key = jax.random.split(key, 3)
        self.attention_norm = eqx.nn.LayerNorm(features)
        self.attention = eqx.nn.MultiheadAttention(heads, features, key=attention_key)
        self.feed_forward_norm = eqx.nn.LayerNorm(features)
        self.up = eqx.nn.Linear(features, 4 * features, key=up_key)
        self.down = eqx.nn.Linear(4 * features, features, key=down_key)
        self.dropout = eqx.nn.Dropout(dropout)

    def __call__(
        self, x: Float[Array, "time features"], key: PRNGKeyArray
    ) -> Float[Array, "time features"]:
        attention_key, feed_forward_key = jax.random.split(key)
        h = jax.vmap(self.attention_norm)(x)
        h = self.attention(h, h, h, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        x = x + self.dropout(h, key=attention_key)
        h = jax.vmap(self.up)(jax.vmap(self.feed_forward_norm)(x))
        h = jax.vmap(self.down)(jax.nn.gelu(h))
        return x + self.dropout(h, key=feed_forward_key)


class LanguageModel(eqx.Module):
    embedding: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.LayerNorm

    def __init__(
        self,
        vocabulary: int,
        time: int,
        features: int,
        heads: int,
        depth: int,
        dropout: float,
        key: PRNGKeyArray,
    ) -> None:
        embedding_key, positions_key, blocks_key = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(vocabulary, features, key=embedding_key)
        self.positions = eqx.nn.Embedding(time, features, key=positions_key)
        keys = jax.random.split(blocks_key, depth)
        self.blocks = [Block(features, heads, dropout, key) for key in keys]
        self.norm = eqx.nn.LayerNorm(features)

    def __call__(
        self, tokens: Int[Array, "time"], key: PRNGKeyArray
    ) -> Float[Array, "time vocabulary"]:
        x = jax.vmap(self.embedding)(tokens) + jax.vmap(self.positions)(jnp.arange(len(tokens)))
        for block, each in zip(self.blocks, jax.random.split(key, len(self.blocks)), strict=True):
            x = block(x, each)
        return jax.vmap(self.norm)(x) @ self.embedding.weight.T


def loss_fn(model: LanguageModel, tokens: Array, key: PRNGKeyArray) -> Array:
    logits = jax.vmap(model)(tokens[:, :-1], jax.random.split(key, len(tokens)))
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()
