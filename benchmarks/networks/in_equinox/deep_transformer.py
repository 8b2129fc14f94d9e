"""The transformer with its blocks in a loop that is compiled once, in Equinox."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks.networks.in_equinox.transformer import Block


class DeepLanguageModel(eqx.Module):
    embedding: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: Block
    norm: eqx.nn.LayerNorm
    depth: int = eqx.field(static=True)

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
        make_block = eqx.filter_vmap(partial(Block, features, heads, dropout))
        self.blocks = make_block(jax.random.split(blocks_key, depth))
        self.norm = eqx.nn.LayerNorm(features)
        self.depth = depth

    def __call__(
        self, tokens: Int[Array, "time"], key: PRNGKeyArray
    ) -> Float[Array, "time vocabulary"]:
        x = jax.vmap(self.embedding)(tokens) + jax.vmap(self.positions)(jnp.arange(len(tokens)))
        arrays, static = eqx.partition(self.blocks, eqx.is_array)

        @partial(jax.checkpoint, prevent_cse=False)
        def run(x: Array, inputs: tuple[Block, PRNGKeyArray]) -> tuple[Array, None]:
            arrays, key = inputs
            block = eqx.combine(arrays, static)
            return block(x, key), None

        x, _ = jax.lax.scan(run, x, (arrays, jax.random.split(key, self.depth)))
        return jax.vmap(self.norm)(x) @ self.embedding.weight.T
