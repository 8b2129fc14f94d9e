"""Several algorithms on a few large leaves, where the time of a step should depend only on its bytes."""

from collections.abc import Callable
from typing import Any

from benchmarks.agreement import agree, finish_three_steps
from benchmarks.algorithms import ALGORITHMS
from benchmarks.effort import Effort
from benchmarks.limits import triad, triad_bytes
from benchmarks.peers import PEERS
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within

__all__ = ["measure"]


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure each algorithm in mlax and in Optax, and how close it comes to a triad that takes turns with it.

    Raises:
        DisagreementError: They do not do the same work.
    """
    tree = effort.large
    copy = triad(effort.triad)
    for name, algorithm in ALGORITHMS.items():
        progress(f"{name}: building")
        runs = {peer: PEERS[peer].start(tree, algorithm) for peer in ("Optax", "mlax")}
        for run in runs.values():
            run.build()
        agree(tree, {peer: finish_three_steps(run, tree) for peer, run in runs.items()})
        candidates: dict[str, Callable[[], Any]] = {peer: run.step for peer, run in runs.items()}
        steps = take_turns(
            candidates | {"triad": copy},
            rounds=effort.rounds,
            turn=2 * effort.turn,
            progress=within(progress, name),
        )
        case = f"{name}, {tree.name}"
        limit = [triad_bytes(effort.triad) / seconds for seconds in steps.pop("triad")]
        needed = algorithm.words * tree.nbytes
        results.add("optimizers", case, "step", "s", steps)
        results.add(
            "optimizers",
            case,
            "of the memory's limit",
            "",
            {
                peer: [needed / t / most for t, most in zip(times, limit, strict=True)]
                for peer, times in steps.items()
            },
        )
