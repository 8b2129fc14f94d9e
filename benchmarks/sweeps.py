"""A sweep of pairs of hyperparameters, learning rate and b2 of Adam, beside a sweep of learning rates only."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.effort import Effort
from benchmarks.peers.with_jax import JaxRun
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns
from benchmarks.trees import Tree
from mlax import optim

__all__ = ["PAIRS", "RATES", "measure"]

PAIRS, RATES = "pairs of learning rate and b2", "learning rates"


def sweep(tree: Tree, axes: int | None) -> JaxRun:
    """Return a run that steps all models of a tree in one program.

    Args:
        tree: The models; the first axis of each leaf counts them.
        axes: 0 if each model has its own b2, None if all share the default, a number.
    """
    models = next(iter(tree.shapes.values()))[0]
    rates = jnp.geomspace(1e-4, 1e-1, models)
    b2s = None if axes is None else 1 - jnp.geomspace(0.5, 1e-4, models)

    def init(weights: Any, rate: Any, b2: Any) -> Any:
        return optim.adam.init(weights, learning_rate=rate, **({} if b2 is None else {"b2": b2}))

    def update(weights: Any, state: Any, gradients: Any) -> Any:
        return optim.adam.apply_gradients(gradients, state, weights)

    return JaxRun(tree, lambda w: jax.vmap(init, (0, 0, axes))(w, rates, b2s), jax.vmap(update))


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure the first call, which compiles one program for all models, and steps."""
    tree = effort.swept
    runs = {PAIRS: sweep(tree, 0), RATES: sweep(tree, None)}
    for name, run in runs.items():
        progress(f"{name}: building")
        results.add(
            "sweeps", tree.name, "first call", "s", {name: [run.build().seconds["first call"]]}
        )
    steps = take_turns(
        {name: run.step for name, run in runs.items()},
        rounds=effort.rounds,
        turn=2 * effort.turn,
        progress=progress,
    )
    results.add("sweeps", tree.name, "step", "s", steps)
