"""Layers of `mlax.nn` and what their calls return."""

from typing import Self, reveal_type

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, nn


class Block(Module):
    norm: nn.LayerNorm = nn.LayerNorm()
    dense: nn.Linear = nn.Linear(8)

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        return self.chain(x, self.norm, self.dense)

    def decode(self, x: Array, cache: nn.KVCache) -> tuple[tuple[Array, nn.KVCache], Self]:
        return (x, cache), self


class Mixed(Module):
    model: nn.Compute[Block]

    def forward(self, x: Array, cache: nn.KVCache) -> tuple[tuple[Array, nn.KVCache], Self]:
        return self.call(self.model.run, Block.decode, x, cache)


def batched(block: Block, x: Array) -> None:
    model = nn.Batched(block)
    reveal_type(model)  # reveals: Batched[Block]
    reveal_type(model(x))  # reveals: tuple[Array, Batched[Block]]
    reveal_type(mlax.training(model)(x))  # reveals: tuple[Array, Batched[Block]]
    reveal_type(model.inner.dense.kernel.data)  # reveals: Array
    model(x, x)  # error: reportCallIssue // call-arg


def repeated(block: Block, x: Array) -> None:
    blocks = nn.Repeat(block, 3)
    reveal_type(blocks)  # reveals: Repeat[Block]
    reveal_type(blocks[0])  # reveals: Block
    reveal_type(blocks[1:])  # reveals: Repeat[Block]
    reveal_type(blocks(x))  # reveals: tuple[Array, Repeat[Block]]
    reveal_type(blocks.unstack())  # reveals: tuple[Block, ...]
    reveal_type(nn.Repeat.stack(block, block))  # reveals: Repeat[Block]
    reveal_type(blocks.block.norm.eps)  # reveals: float


def functions(x: Array) -> None:
    relu = nn.F(jax.nn.relu)
    reveal_type(relu(x)[0])  # reveals: Array
    series = nn.Series(nn.Linear(3), relu)
    reveal_type(series)  # reveals: Series
    reveal_type(series[0])  # reveals: Module
    reveal_type(series[1:])  # reveals: Series
    nn.Series([nn.Linear(3)])  # error: reportArgumentType // arg-type
    nn.Series(jax.nn.relu)  # error: reportArgumentType // arg-type


def wrappers(block: Block, x: Array) -> None:
    model = nn.Compute(block, jnp.bfloat16)
    reveal_type(model)  # reveals: Compute[Block]
    reveal_type(model.inner.norm)  # reveals: LayerNorm
    reveal_type(model(x))  # reveals: tuple[Array, Compute[Block]]
    reveal_type(nn.LoRA(block, 8)(x))  # reveals: tuple[Array, LoRA[Block]]
    reveal_type(nn.Batched(model)(x))  # reveals: tuple[Array, Batched[Compute[Block]]]
    reveal_type(nn.Compute(nn.Repeat(block, 3), "bfloat16")(x))  # reveals: tuple[Array, Compute[Repeat[Block]]]
    reveal_type(model.effective())  # reveals: Block
    reveal_type(nn.LoRA(block, 8).merged())  # reveals: Block
    shared = nn.Shared(block, lambda m: m.dense.kernel, lambda m: m.dense.kernel.data)
    reveal_type(shared.inner)  # reveals: Block
    reveal_type(shared(x))  # reveals: tuple[Array, Shared[Block]]
    reveal_type(mlax.training(nn.SpectralNorm(block))(x))  # reveals: tuple[Array, SpectralNorm[Block]]
    nn.LoRA(block, "8")  # error: reportArgumentType // arg-type


def other_methods(block: Block, x: Array, cache: nn.KVCache) -> None:
    model = nn.Compute(block, jnp.bfloat16)
    reveal_type(model.run(Block.decode, x, cache))  # reveals: tuple[tuple[Array, KVCache], Compute[Block]]
    reveal_type(mlax.inference(model.run)(Block.decode, x, cache)[1])  # reveals: Compute[Block]
    reveal_type(nn.Batched(block).run(Block.decode, x, cache)[0])  # reveals: tuple[Array, KVCache]
    reveal_type(nn.Repeat(block, 3).scan(Block.decode, x, cache)[0])  # reveals: tuple[Array, KVCache]
    model.run(Block.decode, x)  # error: reportCallIssue // arg-type
    repeated = nn.Compute(nn.Repeat(block, 3), jnp.bfloat16)
    result, _ = repeated.run(nn.Repeat[Block].scan, Block.decode, x, cache)
    reveal_type(result)  # reveals: tuple[Array, KVCache]

    def decode(model: nn.Compute[Block], x: Array, cache: nn.KVCache) -> tuple[tuple[Array, nn.KVCache], nn.Compute[Block]]:
        return model.run(Block.decode, x, cache)

    reveal_type(nn.LoRA(model, 2).run(decode, x, cache))  # reveals: tuple[tuple[Array, KVCache], LoRA[Compute[Block]]]
    nn.LoRA(model, 2).run(decode, x)  # error: reportCallIssue // call-arg
    nn.Repeat(block, 3).scan(nn.LayerNorm.forward, x)  # error: reportArgumentType // arg-type


def layers(x: Array) -> None:
    reveal_type(nn.Linear(3)(x))  # reveals: tuple[Array, Linear]
    reveal_type(nn.Dropout(0.1)(x))  # reveals: tuple[Array, Dropout]
    nn.Linear(3, bias=None)
    nn.Linear(3, kernel=Parameter(init=nn.init.he_normal))
    nn.Linear("3")  # error: reportArgumentType // arg-type
    nn.Conv(3)  # error: reportCallIssue // call-arg
    nn.Conv(3, 3, padding="same")  # error: reportArgumentType // arg-type
    attention = nn.MultiHeadAttention(2, causal=True)
    reveal_type(attention.decode(x, attention.cache(8))[0][1].keys)  # reveals: Array
    reveal_type(nn.Recurrent(nn.GRUCell(3)).cell)  # reveals: GRUCell
