"""The model in Equinox, whose layers take one example: `jax.vmap` maps them over positions and sequences."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from benchmarks.language import Forward, attended
from benchmarks.trees import Arrays

__all__ = ["forward"]

Layer = TypeVar("Layer", eqx.nn.Linear, eqx.nn.LayerNorm)

KEY = jax.random.key(0)  # of the weights that layers make, which are then replaced


class Attention(eqx.Module):
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    output: eqx.nn.Linear

    def __call__(self, x: Float[Array, "t d"]) -> Float[Array, "t d"]:
        q, k, v = (jax.vmap(each)(x) for each in (self.query, self.key, self.value))
        return jax.vmap(self.output)(attended(q, k, v))


class Block(eqx.Module):
    attention_norm: eqx.nn.LayerNorm
    attention: Attention
    mlp_norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(self, x: Float[Array, "t d"]) -> Float[Array, "t d"]:
        h = self.attention(jax.vmap(self.attention_norm)(x))
        x = x + self.dropout(h)
        h = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.mlp_norm)(x)))
        return x + self.dropout(jax.vmap(self.down)(h))


class Language(eqx.Module):
    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.LayerNorm

    def __call__(self, tokens: Int[Array, "t"]) -> Float[Array, "t v"]:
        x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.positions)(jnp.arange(len(tokens)))
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.norm)(x) @ self.tokens.weight.T


def forward(weights: Arrays, blocks: int) -> Forward:
    """Return the forward pass of the model with these weights."""

    def given(layer: Layer, **arrays: Any) -> Layer:
        def places(layer: Any) -> list[Any]:
            return [getattr(layer, name) for name in arrays]

        new: Layer = eqx.tree_at(places, layer, [jnp.asarray(a) for a in arrays.values()])
        return new

    def dense(name: str) -> eqx.nn.Linear:
        kernel = weights[f"{name}.kernel"]
        layer = eqx.nn.Linear(*kernel.shape, key=KEY)
        return given(layer, weight=kernel.T, bias=weights[f"{name}.bias"])

    def norm(name: str) -> eqx.nn.LayerNorm:
        scale, bias = weights[f"{name}.scale"], weights[f"{name}.bias"]
        return given(eqx.nn.LayerNorm(scale.shape), weight=scale, bias=bias)

    def attention(name: str) -> Attention:
        return Attention(*(dense(f"{name}.{part}") for part in ("query", "key", "value", "output")))

    def block(name: str) -> Block:
        return Block(
            norm(f"{name}.attention_norm"),
            attention(f"{name}.attention"),
            norm(f"{name}.mlp_norm"),
            dense(f"{name}.mlp.up"),
            dense(f"{name}.mlp.down"),
            eqx.nn.Dropout(0.1, inference=True),
        )

    model = Language(
        eqx.nn.Embedding(weight=jnp.asarray(weights["tokens.embedding"])),
        eqx.nn.Embedding(weight=jnp.asarray(weights["positions.embedding"])),
        [block(f"blocks.{i}") for i in range(blocks)],
        norm("norm"),
    )
    arrays, static = eqx.partition(model, eqx.is_array)
    return Forward(lambda arrays, tokens: jax.vmap(eqx.combine(arrays, static))(tokens), arrays)
