"""Adam in every library, on trees of every size: from nothing to the first step, and each step after it."""

from collections import defaultdict

from benchmarks.agreement import agree, finish_three_steps
from benchmarks.algorithms import ADAM
from benchmarks.effort import MANY, Effort
from benchmarks.peers import Peer, available
from benchmarks.peers.run import Run
from benchmarks.results import Results
from benchmarks.timing import Progress, garbage_of_its_own, take_turns, within
from benchmarks.trees import Arrays, Tree, small_leaves

__all__ = ["IDENTITY", "SLOW", "measure", "measure_tree"]

IDENTITY = "identity"
"""The call that does nothing: in JAX, no step that takes and returns as many arrays can be faster."""

SLOW = ("Equinox", "flax.nnx")
"""Peers left out for very many leaves: they build and run Optax's step, with overhead of their own."""


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure all trees."""
    peers, _ = available()
    for name, peer in peers.items():
        progress(f"waking {name}")
        peer.start(
            small_leaves(1), ADAM
        ).build()  # excludes what a library does only in its first call ever
    for tree in effort.trees:
        chosen = peers
        if tree.leaves > MANY:
            chosen = {name: peer for name, peer in peers.items() if name not in SLOW}
            left_out = " and ".join(name for name in SLOW if name in peers)
            if left_out:
                results.missing[tree.case] = (
                    f"{left_out}: left out of {tree.case}, to keep the run short"
                )
        measure_tree(results, tree, chosen, effort, progress)


def measure_tree(
    results: Results, tree: Tree, peers: dict[str, Peer], effort: Effort, progress: Progress
) -> None:
    """Measure one tree, after checking that all peers do the same work.

    Raises:
        DisagreementError: They do not.
    """
    from benchmarks.peers.with_jax import IdentityRun

    runs: dict[str, Run] = {name: peer.start(tree, ADAM) for name, peer in peers.items()}
    runs[IDENTITY] = IdentityRun(tree, ADAM)
    built: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    weights = dict[str, Arrays]()
    count = effort.builds_of(tree)
    for number in range(count):
        for name, run in runs.items():
            progress(f"{tree.case}: {name}, build {number + 1} of {count}")
            with garbage_of_its_own():
                build = run.build()
            for unit, stages in (("s", build.seconds), ("B", build.bytes), ("lines", build.lines)):
                for quantity, figure in stages.items():
                    built[quantity, unit][name].append(figure)
            if number == 0 and name != IDENTITY:
                weights[name] = finish_three_steps(run, tree)
        if number == 0:
            agree(tree, weights)
            weights.clear()
    steps = take_turns(
        {name: run.step for name, run in runs.items()},
        rounds=effort.rounds,
        turn=effort.turn,
        progress=within(progress, f"{tree.case}: steps"),
    )
    results.add("steps", tree.case, "step", "s", steps)
    for (quantity, unit), figures in built.items():
        results.add("steps", tree.case, quantity, unit, figures)
