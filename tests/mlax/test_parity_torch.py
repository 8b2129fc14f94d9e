"""Every optimizer of `torch.optim` that mlax has too, against what PyTorch 2.13 made of the same gradients."""

import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.mlax.parity import SEEDS, difference, ours, sequence
from tests.mlax.torch_cases import CASES, Case, rate_at

DATA: dict[str, Any] = dict(np.load(Path(__file__).parent / "data" / "torch_optimizers.npz"))


def schedule(step: Any) -> Any:
    return rate_at(step, jnp)


# Where PyTorch multiplies the weights by 1 - learning_rate * decay, rounded to float32: that alone is off by up to 3e-8
# in each step, in the same direction.
ROUNDED_THERE = ("adamw", "asgd", "muon")

# Where 1 - b2**t in float32 is the difference, as it is in Optax: the length of RAdam's average magnifies it; and in
# NAdam the product of all momenta. PyTorch has these numbers in float64.
ROUNDED_HERE = {"radam": 5e-6, "radam_l2": 5e-6, "nadam": 2e-6, "nadam_decoupled": 2e-6}


def both(case: Case, seed: int, dtype: str) -> tuple[Any, Any]:
    """Return the weights and gradients of a case."""
    trees = sequence(seed, np.dtype(dtype))
    return tuple(tree["layer"]["w"] for tree in trees) if case.matrices else trees  # type: ignore


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_torch(case: Case) -> None:
    module = importlib.import_module(f"mlax_optimizers.{case.ours}")
    rate = {"learning_rate": schedule} if case.scheduled else {}
    train = ours(module, {**case.hyperparameters, **rate})
    exact = []
    with jax.enable_x64(True):
        for seed, flat in zip(SEEDS, DATA[f"{case.name}/float64"], strict=True):
            weights, gradients = both(case, seed, "float64")
            assert difference(train(weights, gradients), split(flat, weights)) < 1e-12
            if case.name in ROUNDED_THERE:
                wide = jax.tree.map(lambda x: x.astype(np.float64), both(case, seed, "float32"))
                exact.append(jax.tree.map(np.asarray, train(*wide)))
    for i, (seed, flat) in enumerate(zip(SEEDS, DATA[f"{case.name}/float32"], strict=True)):
        weights, gradients = both(case, seed, "float32")
        result, expected = train(weights, gradients), split(flat, weights)
        if case.name in ROUNDED_THERE:
            assert difference(result, exact[i]) < min(1e-6, difference(expected, exact[i]))
        else:
            assert difference(result, expected) < ROUNDED_HERE.get(case.name, 1e-6)


def split(flat: Any, like: Any) -> Any:
    """Return a tree like another from all its elements, one after the other."""
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(flat, ends)
    return treedef.unflatten([x.reshape(y.shape) for x, y in zip(parts, leaves, strict=True)])
