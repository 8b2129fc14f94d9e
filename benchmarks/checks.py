"""The time that the checks of the dtype rule add to tracing a step. Compiled code has no checks."""

from collections.abc import Callable
from typing import Any

import jax

import mlax
from benchmarks.algorithms import ADAM
from benchmarks.effort import Effort
from benchmarks.peers.with_jax import put
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within
from benchmarks.trees import small_leaves

__all__ = ["measure"]


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Trace `step` and `apply_gradients` with and without the checks."""
    tree = small_leaves(effort.leaves)
    weights, gradients = put(tree.weights(), tree.dtype), put(tree.gradients(), tree.dtype)
    state = ADAM.mlax.init(weights)
    for name in ("step", "apply_gradients"):
        method = getattr(ADAM.mlax, name)

        def tracing(enabled: bool, method: Any = method) -> Callable[[], Any]:
            def run() -> None:
                jax.clear_caches()
                with mlax.runtime_checks(enabled):
                    jax.jit(method).trace(gradients, state, weights)

            return run

        case = f"{name} of Adam, {tree.case}"
        candidates = {
            "with checks": tracing(enabled=True),
            "without checks": tracing(enabled=False),
        }
        timings = take_turns(
            candidates,
            rounds=effort.rounds,
            turn=0,
            progress=within(progress, case),
        )
        results.add("checks", case, "trace", "s", timings)
