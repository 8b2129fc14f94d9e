"""Peak memory of a step, measured in the same way for every library: the growth of a separate process.

    python -m benchmarks.memory PEER LEAVES

prints the peak number of bytes that steps on LEAVES leaves of 1 MB need: weights, gradients, state and temporaries.
"""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.algorithms import ADAM
from benchmarks.effort import Effort
from benchmarks.peers import PEERS, available
from benchmarks.results import Results
from benchmarks.timing import Progress
from benchmarks.trees import large_leaves

__all__ = ["can_be_measured", "measure"]

_STATUS = Path("/proc/self/status")
_FORGET_THE_PEAK = Path("/proc/self/clear_refs"), "5"


def can_be_measured() -> str:
    """Return why memory cannot be measured here, or "" if it can."""
    import jax

    if not _FORGET_THE_PEAK[0].exists():
        return "the peak of the resident set is read from /proc, which this system does not have"
    if jax.default_backend() != "cpu":
        return "the resident set says nothing about a device's memory"
    return ""


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure Adam in every library."""
    peers, _ = available()
    peaks = dict[str, list[float]]()
    for name in peers:
        progress(name)
        command = [sys.executable, "-m", "benchmarks.memory", name, str(effort.large.leaves)]
        # Freed blocks go back to the system at once, so that later allocations count.
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "MALLOC_MMAP_THRESHOLD_": "65536",
                "JAX_ENABLE_COMPILATION_CACHE": "false",
            },
            check=True,
            capture_output=True,
            text=True,
        )
        peaks[name] = [float(done.stdout)]
    results.add("memory", f"Adam, {effort.large.case}", "peak", "B", peaks)


def peak(peer: str, leaves: int) -> int:
    """Return by how many bytes steps make this process grow at their peak, compilation aside."""
    tree = large_leaves(leaves)
    run = PEERS[peer].start(tree, ADAM)
    run.build()  # once before, for everything that stays: libraries, threads, compiled code
    del run
    gc.collect()
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_cache()
    before = _kilobytes("VmRSS")
    run = PEERS[peer].start(tree, ADAM)
    run.build()
    run.step()
    gc.collect()
    path, command = _FORGET_THE_PEAK
    path.write_text(command)
    for _ in range(3):
        run.step()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    (found,) = re.findall(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    return int(found)


if __name__ == "__main__":
    print(peak(sys.argv[1], int(sys.argv[2])))
