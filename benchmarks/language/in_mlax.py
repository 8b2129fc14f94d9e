"""The model in mlax."""

from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import mlax
from benchmarks.language import Forward, attended
from benchmarks.trees import Arrays
from mlax import Module, Parameter

__all__ = ["forward"]


class Dense(Module):
    kernel: Parameter[Float[Array, "in out"]]
    bias: Parameter[Float[Array, "out"]]

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


class Norm(Module):
    scale: Parameter[Float[Array, "n"]]
    bias: Parameter[Float[Array, "n"]]

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
        return x * self.scale.data + self.bias.data, self


class Embedding(Module):
    embedding: Parameter[Float[Array, "v n"]]

    def forward(self, tokens: Int[Array, "*batch"]) -> tuple[Float[Array, "*batch n"], Self]:
        return self.embedding.data[tokens], self


class Dropout(Module):
    rate: float

    def forward(
        self, x: Float[Array, "*shape"], rng: Array | None = None, inference_mode: bool = False
    ) -> tuple[Float[Array, "*shape"], Self]:
        if inference_mode or rng is None:
            return x, self
        kept = jax.random.bernoulli(rng, 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0), self


class Attention(Module):
    query: Dense
    key: Dense
    value: Dense
    output: Dense

    def forward(self, x: Float[Array, "*batch t d"]) -> tuple[Float[Array, "*batch t d"], Self]:
        q, self = self.call(self.query, x)
        k, self = self.call(self.key, x)
        v, self = self.call(self.value, x)
        return self.call(self.output, attended(q, k, v))


class Block(Module):
    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    up: Dense
    down: Dense
    dropout: Dropout

    def forward(self, x: Float[Array, "*batch t d"]) -> tuple[Float[Array, "*batch t d"], Self]:
        h, self = self.chain(x, self.attention_norm, self.attention, self.dropout)
        x = x + h
        h, self = self.chain(x, self.mlp_norm, self.up)
        h, self = self.chain(jax.nn.gelu(h), self.down, self.dropout)
        return x + h, self


class Language(Module):
    tokens: Embedding
    positions: Embedding
    blocks: tuple[Block, ...]
    norm: Norm

    def forward(self, tokens: Int[Array, "*batch t"]) -> tuple[Float[Array, "*batch t v"], Self]:
        x, self = self.call(self.tokens, tokens)
        positions, self = self.call(self.positions, jnp.arange(tokens.shape[-1]))
        x, self = self.chain(x + positions, *self.blocks, self.norm)
        return x @ self.tokens.embedding.data.T, self


def forward(weights: Arrays, blocks: int) -> Forward:
    """Return the forward pass of the model with these weights."""

    def parameter(name: str) -> Parameter[Array]:
        return Parameter(weights[name])

    def dense(name: str) -> Dense:
        return Dense(parameter(f"{name}.kernel"), parameter(f"{name}.bias"))

    def norm(name: str) -> Norm:
        return Norm(parameter(f"{name}.scale"), parameter(f"{name}.bias"))

    def attention(name: str) -> Attention:
        return Attention(*(dense(f"{name}.{part}") for part in ("query", "key", "value", "output")))

    def block(name: str) -> Block:
        return Block(
            norm(f"{name}.attention_norm"),
            attention(f"{name}.attention"),
            norm(f"{name}.mlp_norm"),
            dense(f"{name}.mlp.up"),
            dense(f"{name}.mlp.down"),
            Dropout(0.1),
        )

    model = Language(
        Embedding(parameter("tokens.embedding")),
        Embedding(parameter("positions.embedding")),
        tuple(block(f"blocks.{i}") for i in range(blocks)),
        norm("norm"),
    )
    return Forward(lambda model, tokens: mlax.inference(model)(tokens)[0], model)
