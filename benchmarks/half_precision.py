"""Adam with weights, gradients and moments in bfloat16, rounded to nearest or stochastically, beside float32.

In half precision the new weights are computed from moments that are rounded only when they are stored, and so from the
old ones, which the new ones overwrite where they are donated. XLA on CPU copies them first, unless it is asked to look
whether that is needed.
"""

import dataclasses
from typing import Any, NamedTuple

import jax

from benchmarks.algorithms import ADAM, Algorithm
from benchmarks.effort import Effort
from benchmarks.peers.with_jax import MlaxRun
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns

__all__ = ["measure"]


NO_COPIES = {"xla_cpu_copy_insertion_use_region_analysis": True}


class Way(NamedTuple):
    """A way to keep numbers, and to compile."""

    dtype: str
    algorithm: Algorithm
    compiler_options: dict[str, Any] | None = None


def ways() -> dict[str, Way]:
    """Return the ways that are compared."""
    stochastic = dataclasses.replace(
        ADAM, mlax=dataclasses.replace(ADAM.mlax, stochastic_rounding=True)
    )
    compared = {
        "float32": Way("float32", ADAM),
        "bfloat16, nearest": Way("bfloat16", ADAM),
        "bfloat16, stochastic": Way("bfloat16", stochastic),
    }
    if jax.default_backend() == "cpu":
        compared |= {
            f"{name}, no copies": Way("bfloat16", algorithm, NO_COPIES)
            for name, algorithm in (
                ("bfloat16, nearest", ADAM),
                ("bfloat16, stochastic", stochastic),
            )
        }
    return compared


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure steps, and the bytes that are kept for each weight between steps."""
    runs = dict[str, MlaxRun]()
    for name, way in ways().items():
        progress(f"{name}: building")
        runs[name] = MlaxRun(effort.large.of(way.dtype), way.algorithm)
        runs[name].build(way.compiler_options)
    case = f"Adam, {effort.large.name}"
    steps = take_turns(
        {name: run.step for name, run in runs.items()},
        rounds=effort.rounds,
        turn=effort.turn,
        progress=progress,
    )
    results.add("half precision", case, "step", "s", steps)
    kept = {
        name: [sum(a.nbytes for a in jax.tree.leaves(run.kept)) / effort.large.size]
        for name, run in runs.items()
    }
    results.add("half precision", case, "kept for each weight", "B", kept)
