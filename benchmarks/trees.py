"""The trees that are stepped: the names and shapes of their leaves, and their numbers."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Tree", "large_leaves", "small_leaves", "stacked_models", "transformer"]

Arrays = Mapping[str, NDArray[np.float32]]
"""Numbers by the name of their leaf. For a bfloat16 tree, bfloat16 represents them exactly, so that every library gets
the same ones."""

_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Tree:
    """A tree that a benchmark steps.

    Args:
        name: What tables call it.
        shapes: Shapes of the leaves by their names.
        dtype: "float32" or "bfloat16", of weights, gradients and slots.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    dtype: str = "float32"

    @property
    def leaves(self) -> int:
        """The number of leaves."""
        return len(self.shapes)

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def nbytes(self) -> int:
        """The number of bytes of its weights."""
        return self.size * int(np.dtype(_DTYPES[self.dtype]).itemsize)

    @property
    def case(self) -> str:
        """Its name in the results."""
        return f"{self.name}, {self.dtype}"

    def of(self, dtype: str) -> "Tree":
        """Return a tree of the same shapes in another dtype."""
        return replace(self, dtype=dtype)

    def weights(self) -> Arrays:
        """Return weights as large as those of newly initialized layers."""
        return self._numbers(seed=0, scale=0.02)

    def gradients(self) -> Arrays:
        """Return gradients that are much larger than the epsilon in denominators."""
        return self._numbers(seed=1, scale=1.0)

    def rounded(self, numbers: Arrays) -> Arrays:
        """Return the nearest numbers that the dtype can represent."""
        dtype = _DTYPES[self.dtype]
        return {name: a.astype(dtype).astype(np.float32) for name, a in numbers.items()}

    def _numbers(self, seed: int, scale: float) -> Arrays:
        return self.rounded(_drawn(tuple(self.shapes.items()), seed, scale))


# Weights and gradients of the tree that is stepped by one optimizer after another.
@functools.lru_cache(maxsize=2)
def _drawn(shapes: tuple[tuple[str, tuple[int, ...]], ...], seed: int, scale: float) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: scale * rng.standard_normal(shape, np.float32) for name, shape in shapes}


def small_leaves(count: int) -> Tree:
    """Return many leaves of 1 kB each (256 numbers in float32), such as biases and scales."""
    return Tree(f"{count:,} x 1 kB", {f"layer{i}.bias": (256,) for i in range(count)})


def large_leaves(count: int = 64) -> Tree:
    """Return few leaves of 1 MB each (in float32): square matrices."""
    return Tree(f"{count} x 1 MB", {f"layer{i}.kernel": (512, 512) for i in range(count)})


def stacked_models(count: int = 64) -> Tree:
    """Return so many small models in one tree: the first axis of each leaf counts them."""
    return Tree(
        f"{count} models of 4 x 64 kB", {f"layer{i}.kernel": (count, 128, 128) for i in range(4)}
    )


def transformer(
    blocks: int = 12, width: int = 256, vocabulary: int = 8192, length: int = 512
) -> Tree:
    """Return the parameters of a decoder such as GPT-2, its embedding shared with the output."""
    shapes: dict[str, tuple[int, ...]] = {
        "tokens.embedding": (vocabulary, width),
        "positions.embedding": (length, width),
    }

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.kernel"] = (inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.scale"] = shapes[f"{name}.bias"] = (width,)

    for i in range(blocks):
        norm(f"blocks.{i}.attention_norm")
        for part in ("query", "key", "value", "output"):
            dense(f"blocks.{i}.attention.{part}", width, width)
        norm(f"blocks.{i}.mlp_norm")
        dense(f"blocks.{i}.mlp.up", width, 4 * width)
        dense(f"blocks.{i}.mlp.down", 4 * width, width)
    norm("norm")
    return Tree(f"transformer, {blocks} blocks", shapes)
