"""PyTorch's optimizers, if it is installed: fused into one kernel for each leaf, or `foreach` over all leaves."""

import importlib
import time
from typing import Any

import jax

from benchmarks.algorithms import RATE, Algorithm
from benchmarks.peers.run import Build
from benchmarks.trees import Arrays, Tree

__all__ = ["TorchRun"]

torch: Any = importlib.import_module("torch")  # not a dependency, so type checkers may not find it


class TorchRun:
    """`torch.optim.Adam` on parameters whose gradients are set."""

    def __init__(
        self, tree: Tree, algorithm: Algorithm, fused: bool = False, foreach: bool = False
    ) -> None:
        """Initialize the state."""
        assert algorithm.name == "Adam"
        gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if gpu else "cpu")
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[tree.dtype]
        self._fused, self._foreach = fused, foreach
        self._parameters = {
            name: torch.nn.Parameter(self._put(a)) for name, a in tree.weights().items()
        }
        self.feed(tree.gradients())
        self._optimizer: Any = None

    def build(self) -> Build:
        """Create the optimizer and take a step, which creates its state; nothing is compiled."""
        start = time.perf_counter()
        self._optimizer = torch.optim.Adam(
            list(self._parameters.values()), lr=RATE, fused=self._fused, foreach=self._foreach
        )
        self.step()
        return Build({"first call": time.perf_counter() - start})

    def step(self) -> None:
        """Take one step."""
        assert self._optimizer is not None, "build first"
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def feed(self, gradients: Arrays) -> None:
        """Set the gradients of the next steps."""
        for name, gradient in gradients.items():
            self._parameters[name].grad = self._put(gradient)

    def weights(self) -> Arrays:
        """Return the current weights."""
        return {k: p.detach().float().cpu().numpy().copy() for k, p in self._parameters.items()}

    def _put(self, numbers: object) -> Any:
        return torch.tensor(numbers).to(self._device, self._dtype)
