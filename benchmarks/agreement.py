"""Before anything is timed: all candidates do the same work."""

from collections.abc import Mapping

import numpy as np

from benchmarks.peers.run import Run
from benchmarks.trees import Arrays, Tree

__all__ = ["DisagreementError", "agree", "finish_three_steps"]

TOLERANCE = {
    # Measured: 6e-6, between PyTorch, which corrects the bias in double precision, and all others: 1 - b2**t has a
    # relative error of 6e-5 in float32 in the first steps. A b2 of 0.99 in place of 0.999 changes 7e-4, a b1 of 0.85
    # in place of 0.9 changes 5e-3.
    "float32": 5e-5,
    # Measured: 8e-3. PyTorch and mlax compute in float32 and round once, Optax and MLX after each operation, to 8
    # bits; and weights have steps of up to 2 % of the movement. A b1 of 0.5 changes 3e-2.
    "bfloat16": 2e-2,
}
"""The largest difference between two candidates after three steps, as a part of the largest movement: root mean
squares of a leaf."""


class DisagreementError(AssertionError):
    """Candidates that should do the same work do not."""


def finish_three_steps(run: Run, tree: Tree) -> Arrays:
    """Return the weights after two more steps, with gradients that tell the decays of the moments apart.

    With the same gradients in each step Adam's decays would cancel out.
    """
    gradients = tree.gradients()
    for factor in (-0.5, 2.0):  # powers of two, so that bfloat16 has them too
        run.feed({name: factor * g for name, g in gradients.items()})
        run.step()
    run.feed(gradients)
    return run.weights()


def agree(tree: Tree, results: Mapping[str, Arrays]) -> None:
    """Compare what all candidates have made of the same weights, the first being the reference.

    Raises:
        DisagreementError: Naming each candidate that differs, and by how much.
    """
    before = tree.weights()
    (reference, expected), *others = results.items()
    movement = _largest(expected, before)
    if not movement > 0:
        raise DisagreementError(f"{tree.case}: {reference} has not moved the weights")
    lines = list[str]()
    for name, weights in others:
        difference = _largest(weights, expected)
        if not difference <= TOLERANCE[tree.dtype] * movement:
            lines.append(
                f"{name} differs by {difference:.2g} where {reference} has moved by {movement:.2g}"
            )
    if lines:
        raise DisagreementError(f"{tree.case}: not the same work: {'; '.join(lines)}")


def _largest(some: Arrays, others: Arrays) -> float:
    """Return the root mean square of the differences in that leaf where it is largest; not a number if one is not."""
    return float(
        np.max([np.sqrt(np.mean((some[name] - other) ** 2)) for name, other in others.items()])
    )
