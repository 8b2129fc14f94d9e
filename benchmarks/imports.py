"""The time that a new process takes to import mlax, compared with JAX, which it needs, and with other libraries."""

import subprocess
import sys
from collections.abc import Callable

from benchmarks.effort import Effort
from benchmarks.peers import PEERS, available
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns

__all__ = ["MODULES", "measure"]

MODULES = ("mlax", "jax", "equinox", "optax")


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure imports."""
    _, missing = available()
    absent = {PEERS[name].package for name in missing}
    timings = take_turns(
        {name: _importing(name) for name in MODULES if name not in absent},
        rounds=effort.imports,
        turn=0,
        progress=progress,
    )
    results.add("imports", "import in a new process", "time", "s", timings)


def _importing(module: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
