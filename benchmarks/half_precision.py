"""Adam in float32 and in bfloat16: rounded to nearest, or stochastically, or with moments in eight bits."""

import dataclasses

import jax

from benchmarks.algorithms import ADAM, Algorithm
from benchmarks.effort import Effort
from benchmarks.peers.with_jax import MlaxRun
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns

__all__ = ["EIGHT_BITS", "measure"]

EIGHT_BITS = "bfloat16, moments in int8"


def candidates() -> dict[str, tuple[str, Algorithm]]:
    """Return dtype and algorithm for each number format."""
    stochastic = dataclasses.replace(ADAM.mlax, stochastic_rounding=True)
    int8 = dataclasses.replace(stochastic, slot_dtype="int8")
    return {
        "float32": ("float32", ADAM),
        "bfloat16, nearest": ("bfloat16", ADAM),
        "bfloat16, stochastic": ("bfloat16", dataclasses.replace(ADAM, mlax=stochastic)),
        EIGHT_BITS: ("bfloat16", dataclasses.replace(ADAM, mlax=int8)),
    }


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure steps, the memory that XLA plans for one, and the bytes that are stored for each weight between steps."""
    runs = dict[str, MlaxRun]()
    planned = dict[str, list[float]]()
    for name, (dtype, algorithm) in candidates().items():
        progress(f"{name}: building")
        runs[name] = MlaxRun(effort.large.of(dtype), algorithm)
        planned[name] = [runs[name].build().bytes["memory"]]
    case = f"Adam, {effort.large.name}"
    steps = take_turns(
        {name: run.step for name, run in runs.items()},
        rounds=effort.rounds,
        turn=effort.turn,
        progress=progress,
    )
    results.add("half precision", case, "step", "s", steps)
    results.add("half precision", case, "memory", "B", planned)
    kept = {
        name: [sum(a.nbytes for a in jax.tree.leaves(run.kept)) / effort.large.size]
        for name, run in runs.items()
    }
    results.add("half precision", case, "kept for each weight", "B", kept)
