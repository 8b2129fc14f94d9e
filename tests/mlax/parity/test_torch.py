"""Every optimizer of `torch.optim` that mlax has too, compared with PyTorch 2.13 on the same gradients."""

import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.mlax.parity.comparison import SEEDS, compared, difference, ours, sequence
from tests.mlax.parity.torch_cases import CASES, Case, rate_at

pytestmark = pytest.mark.one_python

DATA: dict[str, Any] = dict(np.load(Path(__file__).parent / "torch_optimizers.npz"))


def schedule(step: Any) -> Any:
    return rate_at(step, jnp)


# Where PyTorch multiplies the weights by 1 - learning_rate * decay, rounded to float32: that alone is off by up to 3e-8
# in each step, in the same direction.
ROUNDED_THERE = ("adamw", "asgd", "muon")

# Where 1 - b2**t in float32 is the difference, as it is in Optax: the length of RAdam's average magnifies it; and in
# NAdam the product of all momenta. PyTorch has these numbers in float64.
ROUNDED_HERE = {"radam": 5e-6, "radam_l2": 5e-6, "nadam": 2e-6, "nadam_decoupled": 2e-6}


def trees(case: Case, seed: int, dtype: str, flat: Any) -> tuple[Any, Any, Any]:
    """Return the weights and gradients of a case, and the weights that are `flat`, one leaf after the other."""
    weights, gradients = sequence(seed, np.dtype(dtype))
    if case.matrices:
        weights, gradients = weights["layer"]["w"], gradients["layer"]["w"]
    leaves, treedef = jax.tree.flatten(weights)
    parts = np.split(flat, np.cumsum([x.size for x in leaves])[:-1])
    shaped = [part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True)]
    result = weights, gradients, treedef.unflatten(shaped)
    module = importlib.import_module(f"mlax_optimizers.{case.ours}")
    return tuple(compared(module, case.hyperparameters, tree) for tree in result)  # type: ignore


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_torch(case: Case) -> None:
    module = importlib.import_module(f"mlax_optimizers.{case.ours}")
    rate = {"learning_rate": schedule} if case.scheduled else {}
    train = ours(module, {**case.hyperparameters, **rate})
    narrow, wide = DATA[f"{case.name}/float32"], DATA[f"{case.name}/float64"]
    for i, seed in enumerate(SEEDS):
        with jax.enable_x64(True):
            weights, gradients, expected = trees(case, seed, "float64", wide[i])
            assert difference(train(weights, gradients), expected) < 1e-12
            weights, gradients, expected = trees(case, seed, "float32", narrow[i])
            exact = train(*jax.tree.map(lambda x: x.astype(np.float64), (weights, gradients)))
        result = train(weights, gradients)
        if case.name in ROUNDED_THERE:
            assert difference(result, exact) < min(1e-6, difference(expected, exact))
        else:
            assert difference(result, expected) < ROUNDED_HERE.get(case.name, 1e-6)
