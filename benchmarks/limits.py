"""The limit of the machine: its memory bandwidth."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.effort import Effort
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns

__all__ = ["measure", "triad", "triad_bytes"]


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure the bandwidth of an in-place triad, a = b + s * c: two numbers read and one written for each."""
    case = f"a = b + s * c in place, {effort.triad} MiB each"
    timings = take_turns(
        {"triad": triad(effort.triad)}, rounds=effort.rounds, turn=0.1, progress=progress
    )
    moved = triad_bytes(effort.triad)
    results.add("limits", case, "time", "s", timings)
    results.add(
        "limits", case, "bandwidth", "B/s", {k: [moved / t for t in v] for k, v in timings.items()}
    )


def triad_bytes(megabytes: int) -> int:
    """Return the number of bytes that one triad reads and writes: two arrays in, one out."""
    return 3 * megabytes * 2**20


def triad(megabytes: int) -> Callable[[], Any]:
    """Return a function that computes the triad on float32 arrays of so many MiB, far larger than any cache."""
    count = megabytes * 2**20 // 4
    add = jax.jit(lambda b, c: b + jnp.float32(0.5) * c, donate_argnums=0)
    held, other = jnp.zeros(count), jnp.ones(count)

    def run() -> None:
        nonlocal held
        held = add(held, other)
        held.block_until_ready()

    return run
