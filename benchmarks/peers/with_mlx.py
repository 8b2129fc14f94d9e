"""MLX: its Adam under `mx.compile`, evaluated after each step."""

import time
from typing import Any

import mlx.core as mx
import mlx.optimizers as mlx_optimizers
import numpy as np

from benchmarks.algorithms import RATE, Algorithm
from benchmarks.peers.run import Build
from benchmarks.trees import Arrays, Tree

__all__ = ["MlxRun"]


class MlxRun:
    """`mlx.optimizers.Adam` on a dict of arrays, its bias corrected as in the other libraries."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        assert algorithm.name == "Adam"
        self._dtype = {"float32": mx.float32, "bfloat16": mx.bfloat16}[tree.dtype]
        self._weights = self._put(tree.weights())
        self._gradients = self._put(tree.gradients())
        self._optimizer = mlx_optimizers.Adam(RATE, bias_correction=True)
        self._optimizer.init(self._weights)
        self._compiled: Any = None
        mx.eval(self._weights, self._gradients, self._optimizer.state)

    def build(self) -> Build:
        """Compile the step and take it once: MLX compiles in the first call, and keeps kernels between runs."""
        state: Any = self._optimizer.state
        start = time.perf_counter()
        self._compiled = mx.compile(self._update, inputs=[state], outputs=[state])
        self.step()
        seconds = time.perf_counter() - start
        return Build({"first call": seconds})

    def step(self) -> None:
        """Take one step."""
        self._weights = self._compiled(self._weights, self._gradients)
        mx.eval(self._weights, self._optimizer.state)

    def feed(self, gradients: Arrays) -> None:
        """Set the gradients of the next steps."""
        self._gradients = self._put(gradients)
        mx.eval(self._gradients)

    def weights(self) -> Arrays:
        """Return the current weights."""
        return {k: np.array(a.astype(mx.float32)) for k, a in self._weights.items()}

    def _update(self, weights: Any, gradients: Any) -> Any:
        return self._optimizer.apply_gradients(gradients, weights)

    def _put(self, numbers: Arrays) -> dict[str, Any]:
        return {name: mx.array(a).astype(self._dtype) for name, a in numbers.items()}
