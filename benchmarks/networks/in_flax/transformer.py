"""A transformer language model in flax.nnx."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Block(nnx.Module):
    def __init__(self, features: int, heads: int, dropout: float, *, rngs: nnx.Rngs) -> None:
        self.attention_norm = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, features, use_bias=False, rngs=rngs)
        self.feed_forward_norm = nnx.LayerNorm(features, rngs=rngs)
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        mask = nnx.make_causal_mask(x[..., 0])
        h = self.attention(self.attention_norm(x), mask=mask, decode=False)
        x = x + self.dropout(h)
        h = self.down(nnx.gelu(self.up(self.feed_forward_norm(x))))
        return x + self.dropout(h)


class LanguageModel(nnx.Module):
    def __init__(
        self,
        vocabulary: int,
        time: int,
        features: int,
        heads: int,
        depth: int,
        dropout: float,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.embedding = nnx.Embed(vocabulary, features, rngs=rngs)
        self.positions = nnx.Embed(time, features, rngs=rngs)
        blocks = [Block(features, heads, dropout, rngs=rngs) for _ in range(depth)]
        self.blocks = nnx.List(blocks)
        self.norm = nnx.LayerNorm(features, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.embedding.attend(self.norm(x))


def loss_fn(model: LanguageModel, tokens: jax.Array) -> jax.Array:
    logits = model(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()
