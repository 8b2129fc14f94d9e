"""The model in flax.nnx."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from benchmarks.language import Forward, attended
from benchmarks.trees import Arrays

__all__ = ["forward"]


class Attention(nnx.Module):
    def __init__(self, weights: Arrays, name: str) -> None:
        parts = ("query", "key", "value", "output")
        self.query, self.key, self.value, self.output = (
            dense(weights, f"{name}.{part}") for part in parts
        )

    def __call__(self, x: Float[Array, "*batch t d"]) -> Float[Array, "*batch t d"]:
        return self.output(attended(self.query(x), self.key(x), self.value(x)))


class Block(nnx.Module):
    def __init__(self, weights: Arrays, name: str) -> None:
        self.attention_norm = norm(weights, f"{name}.attention_norm")
        self.attention = Attention(weights, f"{name}.attention")
        self.mlp_norm = norm(weights, f"{name}.mlp_norm")
        self.up = dense(weights, f"{name}.mlp.up")
        self.down = dense(weights, f"{name}.mlp.down")
        self.dropout = nnx.Dropout(0.1, deterministic=True)

    def __call__(self, x: Float[Array, "*batch t d"]) -> Float[Array, "*batch t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        h = jax.nn.gelu(self.up(self.mlp_norm(x)))
        return x + self.dropout(self.down(h))


class Language(nnx.Module):
    def __init__(self, weights: Arrays, blocks: int) -> None:
        self.tokens = embedding(weights, "tokens")
        self.positions = embedding(weights, "positions")
        self.blocks = nnx.List(Block(weights, f"blocks.{i}") for i in range(blocks))
        self.norm = norm(weights, "norm")

    def __call__(self, tokens: Int[Array, "*batch t"]) -> Float[Array, "*batch t v"]:
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


def dense(weights: Arrays, name: str) -> nnx.Linear:
    """Return a layer with these weights."""
    kernel, bias = weights[f"{name}.kernel"], weights[f"{name}.bias"]
    layer = nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0))
    layer.kernel, layer.bias = nnx.Param(jnp.asarray(kernel)), nnx.Param(jnp.asarray(bias))
    return layer


def norm(weights: Arrays, name: str) -> nnx.LayerNorm:
    """Return a layer with these weights."""
    scale, bias = weights[f"{name}.scale"], weights[f"{name}.bias"]
    layer = nnx.LayerNorm(*scale.shape, epsilon=1e-5, rngs=nnx.Rngs(0))
    layer.scale, layer.bias = nnx.Param(jnp.asarray(scale)), nnx.Param(jnp.asarray(bias))
    return layer


def embedding(weights: Arrays, name: str) -> nnx.Embed:
    """Return a layer with these weights."""
    table = weights[f"{name}.embedding"]
    layer = nnx.Embed(*table.shape, rngs=nnx.Rngs(0))
    layer.embedding = nnx.Param(jnp.asarray(table))
    return layer


def forward(weights: Arrays, blocks: int) -> Forward:
    """Return the forward pass of the model with these weights."""
    definition, state = nnx.split(Language(weights, blocks))
    return Forward(lambda state, tokens: nnx.merge(definition, state)(tokens), state)
