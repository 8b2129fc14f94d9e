"""A check before anything is timed: all candidates do the same work."""

from collections.abc import Mapping

import numpy as np

from benchmarks.peers.run import Run
from benchmarks.trees import Arrays, Tree

__all__ = ["DisagreementError", "agree", "finish_three_steps"]

TOLERANCE = {
    # Measured: 6e-6, between PyTorch, which corrects the bias in double precision, and all others: 1 - b2**t has a
    # relative error of 6e-5 in float32 in the first steps. A b2 of 0.99 instead of 0.999 makes a difference of 7e-4, a
    # b1 of 0.85 instead of 0.9 one of 5e-3.
    "float32": 5e-5,
    # Measured: 8e-3. PyTorch and mlax compute in float32 and round once, Optax and MLX after each operation, to 8
    # bits. Neighbouring weights are up to 2 % of the movement apart. A b1 of 0.5 makes a difference of 3e-2.
    "bfloat16": 2e-2,
}
"""The largest allowed difference between two candidates after three steps, relative to the largest change of the
weights: root mean squares over a leaf."""

SPACING = {"float32": float(np.finfo(np.float32).eps), "bfloat16": 0.0}
"""The distance between neighbouring weights, relative to their size. In bfloat16 the tolerance includes it.

Two numbers that differ by a small fraction of it become different weights with a probability of that fraction. LARS
moves weights by few such distances: 3.6e-8, where they are 1.9e-9. If mlax and Optax round one weight of a leaf of 1 MB
differently, the root mean square difference is 3.6e-12."""


class DisagreementError(AssertionError):
    """Raised if candidates do not do the same work."""


def finish_three_steps(run: Run, tree: Tree) -> Arrays:
    """Return the weights after two more steps, with gradients that reveal different decays of the moments.

    If the gradients were the same in each step, Adam's decays would cancel out.
    """
    gradients = tree.gradients()
    for factor in (-0.5, 2.0):  # powers of two, which bfloat16 represents exactly
        run.feed({name: factor * g for name, g in gradients.items()})
        run.step()
    run.feed(gradients)
    return run.weights()


def agree(tree: Tree, results: Mapping[str, Arrays]) -> None:
    """Compare the new weights of all candidates with those of the first.

    Raises:
        DisagreementError: Some differ; it says which, and by how much.
    """
    before = tree.weights()
    (reference, expected), *others = results.items()
    movement = _largest(expected, before)
    allowed = TOLERANCE[tree.dtype] * movement
    spacing = SPACING[tree.dtype] * _largest(
        before, {k: np.zeros_like(w) for k, w in before.items()}
    )
    smallest = min(w.size for w in before.values())  # one of its weights may be a neighbour
    allowed += np.sqrt(max(allowed, spacing / smallest) * spacing)
    if not movement > 0:
        raise DisagreementError(f"{tree.case}: {reference} has not moved the weights")
    lines = list[str]()
    for name, weights in others:
        difference = _largest(weights, expected)
        if not difference <= allowed:
            lines.append(
                f"{name} differs by {difference:.2g}; {reference} has moved by {movement:.2g}"
            )
    if lines:
        raise DisagreementError(f"{tree.case}: not the same work: {'; '.join(lines)}")


def _largest(some: Arrays, others: Arrays) -> float:
    """Return the largest root mean square difference of a leaf; NaN if there is one."""
    return float(
        np.max([np.sqrt(np.mean((some[name] - other) ** 2)) for name, other in others.items()])
    )
