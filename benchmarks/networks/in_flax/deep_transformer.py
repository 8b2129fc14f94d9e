"""The transformer with its blocks in a loop that is compiled once, in flax.nnx."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.in_flax.transformer import Block


class DeepLanguageModel(nnx.Module):
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
        @nnx.split_rngs(splits=depth)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make_blocks(rngs: nnx.Rngs) -> Block:
            return Block(features, heads, dropout, rngs=rngs)

        self.embedding = nnx.Embed(vocabulary, features, rngs=rngs)
        self.positions = nnx.Embed(time, features, rngs=rngs)
        self.blocks = make_blocks(rngs)
        self.norm = nnx.LayerNorm(features, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat(prevent_cse=False)
        def run(x: jax.Array, block: Block) -> jax.Array:
            return block(x)

        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[-1]))
        x = run(x, self.blocks)
        return self.embedding.attend(self.norm(x))
