"""The ways to write a training loop that are timed beside each other are the same training."""

import jax
import numpy as np
import pytest

import mlax
from benchmarks.loops import SIZE, Dense, Layers, loops

pytestmark = pytest.mark.one_python


def test_all_ways_lead_to_the_same_weights() -> None:
    """One step a call or all in one, unrolled, packed: to a few roundings, twice through the data."""
    x = jax.random.uniform(jax.random.key(0), (SIZE, 4))
    y = jax.random.randint(jax.random.key(1), (SIZE,), 0, 3)
    start = mlax.set_up(Layers((Dense(8), Dense(3))), x[0], rng=jax.random.key(2))
    ways = loops(start, x, y)
    assert len(ways) == 6
    ends = dict[str, list[np.ndarray]]()
    for name, go_on in ways.items():
        go_on()
        model, state = go_on()
        assert state.step == 44
        assert isinstance(model, mlax.Packed if "packed" in name else Layers)
        tree = model.unpack() if "packed" in name else model
        ends[name] = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    first, *others = ends.values()
    moved = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(start), first, strict=True)]
    assert min(moved) > 1e-2
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
