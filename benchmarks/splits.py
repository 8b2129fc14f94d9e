"""The same weights in few large leaves or in many: the cost of starting and ending a loop over a leaf."""

from benchmarks.algorithms import ADAM
from benchmarks.effort import Effort
from benchmarks.peers import available
from benchmarks.peers.run import Run
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns
from benchmarks.trees import Tree

__all__ = ["PEERS", "measure"]

PEERS = ("mlax", "Optax", "PyTorch fused")


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure Adam on trees of the same size with different numbers of leaves, interleaved."""
    peers, _ = available()
    runs = dict[tuple[int, str], Run]()
    rows = effort.large.size // 512
    for count in effort.splits:
        shapes = {f"layer{i}.kernel": (rows // count, 512) for i in range(count)}
        tree = Tree(f"{count} leaves", shapes)
        for name in PEERS:
            if name in peers:
                progress(f"{tree.name}: {name}, building")
                runs[count, name] = peers[name].start(tree, ADAM)
                runs[count, name].build()
    steps = take_turns(
        {f"{name}, {count}": run.step for (count, name), run in runs.items()},
        rounds=effort.rounds,
        turn=effort.turn,
        progress=progress,
    )
    for count in effort.splits:
        leaves = "leaf" if count == 1 else "leaves"
        case = f"{effort.large.nbytes / 2**20:.0f} MB in {count} {leaves}"
        figures = {name: steps[f"{name}, {n}"] for n, name in runs if n == count}
        results.add("splits", case, "step", "s", figures)
