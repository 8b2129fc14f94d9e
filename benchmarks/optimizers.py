"""Several algorithms on a few large leaves, where the time of a step should depend only on its bytes."""

from collections.abc import Callable
from typing import Any

from benchmarks.agreement import agree, finish_three_steps
from benchmarks.algorithms import ALGORITHMS, Algorithm
from benchmarks.effort import Effort
from benchmarks.limits import triad, triad_bytes
from benchmarks.peers.with_jax import MlaxRun, OptaxRun
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within
from benchmarks.trees import Tree, large_leaves

__all__ = ["measure", "tree_of"]


def tree_of(algorithm: Algorithm, large: Tree) -> Tree:
    """Return the tree on which an algorithm is timed: `large`, or one with fewer leaves."""
    return large_leaves(algorithm.leaves) if algorithm.leaves else large


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure each algorithm in mlax and in Optax, and how close it comes to a triad that takes turns with it.

    Raises:
        DisagreementError: They do not do the same work.
    """
    copy = triad(effort.triad)
    for name in effort.algorithms or ALGORITHMS:
        algorithm = ALGORITHMS[name]
        tree = tree_of(algorithm, effort.large)
        case = f"{name}, {tree.name}"
        progress(f"{name}: building")
        runs = {"Optax": OptaxRun(tree, algorithm), "mlax": MlaxRun(tree, algorithm)}
        planned = {peer: [run.build().bytes["memory"]] for peer, run in runs.items()}
        if not algorithm.differs:
            agree(tree, {peer: finish_three_steps(run, tree) for peer, run in runs.items()})
        candidates: dict[str, Callable[[], Any]] = {peer: run.step for peer, run in runs.items()}
        steps = take_turns(
            candidates | {"triad": copy},
            rounds=effort.rounds,
            turn=effort.turn,
            progress=within(progress, name),
        )
        limit = [triad_bytes(effort.triad) / seconds for seconds in steps.pop("triad")]
        needed = runs["mlax"].touched()
        results.add("optimizers", case, "step", "s", steps)
        results.add("optimizers", case, "memory", "B", planned)
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
