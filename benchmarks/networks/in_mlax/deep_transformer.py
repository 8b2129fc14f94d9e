"""The transformer with its blocks in a loop that is compiled once, in mlax."""

import jax
from jaxtyping import Array

import mlax
from benchmarks.networks.in_mlax.transformer import LanguageModel, Model, block
from mlax import nn


def make(
    vocabulary: int, time: int, features: int, heads: int, depth: int, dropout: float, rng: Array
) -> Model:
    blocks = nn.Repeat(block(features, heads, dropout), depth, remat=True)
    model = LanguageModel(nn.Embedding(vocabulary, features), nn.LearnedPositions(time), blocks)
    return mlax.set_up(nn.Batched(model), jax.ShapeDtypeStruct((1, time), int), rng=rng)
