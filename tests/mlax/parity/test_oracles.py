"""Optimizers that neither Optax nor MLX nor PyTorch has, compared with what other implementations did once.

`oracles` has weights and what steps were given, 25 gradients and diagonals of a Hessian, and for each optimizer the
weights after these steps, in float64. They were made with pytorch_optimizer 4.1.0, in which a 1e-15 that it adds under
roots was set to 0, or with the paper's equations in NumPy.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import MODULES, arguments
from tests.mlax.parity.comparison import difference
from tests.mlax.references.adam_family import adam_mini, ranger, swats
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

OTHER: dict[str, dict[str, Any]] = {
    "adahessian": {
        "learning_rate": 0.02,
        "b1": 0.8,
        "b2": 0.9,
        "hessian_power": 0.5,
        "interval": 3,
        "eps": 1e-4,
        "weight_decay": 0.1,
    },
    "adai": {
        "learning_rate": 0.02,
        "b0": 0.2,
        "b2": 0.9,
        "dampening": 0.6,
        "eps": 0.01,
        "weight_decay": 0.1,
    },
    "adamp": {
        "learning_rate": 0.02,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "delta": 0.7,
        "wd_ratio": 0.3,
        "nesterov": True,
        "weight_decay": 0.1,
    },
    "aggmo": {"learning_rate": 0.02, "betas": [0.0, 0.5, 0.9, 0.99], "weight_decay": 0.1},
    "came": {
        "learning_rate": 0.01,
        "b1": 0.8,
        "b2": 0.95,
        "b3": 0.9,
        "clip_threshold": 0.5,
        "weight_decay": 0.1,
    },
    "pid": {
        "learning_rate": 0.002,
        "momentum": 0.7,
        "dampening": 0.2,
        "integral": 2.0,
        "derivative": 3.0,
        "weight_decay": 0.1,
    },
    "sgdp": {
        "learning_rate": 0.02,
        "momentum": 0.7,
        "dampening": 0.2,
        "eps": 1e-6,
        "delta": 0.7,
        "wd_ratio": 0.3,
        "nesterov": True,
        "weight_decay": 0.1,
    },
    "sophia_h": {
        "learning_rate": 0.02,
        "b1": 0.9,
        "b2": 0.8,
        "p": 0.5,
        "interval": 3,
        "eps": 1e-2,
        "weight_decay": 0.1,
    },
}
"""For each optimizer the hyperparameters of its second oracle; those of the first are its defaults."""


OF_RANGER = {
    "learning_rate": 0.02,
    "b1": 0.8,
    "b2": 0.9,
    "eps": 1e-4,
    "sync_period": 4,
    "slow_step_size": 0.7,
    "weight_decay": 0.1,
}
# The leaves go over to SGD in steps 10, 20, 7 and 22.
OF_SWATS = {"learning_rate": 0.02, "b1": 0.8, "b2": 0.95, "eps": 3e-3}


@cache
def recorded(file: str) -> dict[str, dict[str, Any]]:
    """Return the trees in a file, by name."""
    found: dict[str, dict[str, Any]] = {}
    with np.load(Path(__file__).parent / "oracles" / f"{file}.npz") as arrays:
        for name in arrays:
            tree, _, leaf = name.partition("/")
            found.setdefault(tree, {})[leaf] = arrays[name]
    return found


@pytest.mark.parametrize("options", ["default", "other"])
@pytest.mark.parametrize("name", OTHER)
def test_oracle(name: str, options: str) -> None:
    final = trained(name, OTHER[name] if options == "other" else {})
    assert difference(final, recorded(name)[options]) < 1e-12


@pytest.mark.parametrize(
    ("reference", "options"),
    [(ranger, {}), (ranger, OF_RANGER), (swats, {}), (swats, OF_SWATS)],
    ids=["ranger", "ranger, other", "swats", "swats, other"],
)
def test_paper(reference: Callable[..., Any], options: dict[str, Any]) -> None:
    given = recorded("inputs")
    expected = {
        leaf: reference(w, given["gradients"][leaf], **options)
        for leaf, w in given["weights"].items()
    }
    assert difference(trained(reference.__name__, options), expected) < 1e-12


def test_adam_mini() -> None:
    """Its leaves have different labels."""
    blocks = {"a": "row", "b": "row", "c": "column", "s": "row"}
    options = {"learning_rate": 0.02, "b1": 0.8, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.1}
    given = recorded("inputs")
    expected = {
        leaf: adam_mini(
            w, given["gradients"][leaf], **options, blocks=blocks[leaf], decay=leaf != "b"
        )
        for leaf, w in given["weights"].items()
    }
    labels = {"blocks": lambda path, _: blocks[path], "decay": lambda path, _: path != "b"}
    assert difference(trained("adam_mini", {**options, **labels}), expected) < 1e-12


def trained(name: str, hyperparameters: dict[str, Any]) -> Any:
    """Return the weights after all steps."""
    module, given = MODULES[name], recorded("inputs")

    def body(carry: Any, at: Any) -> Any:
        weights, state = carry
        g = at["gradients"]
        keywords = {keyword: at[keyword] for keyword in arguments(name, g)}
        updates, state = module.step(g, state, weights, **keywords)
        return (apply_updates(updates, weights), state), None

    def train(weights: Any, steps: Any) -> Any:
        state = module.init(weights, **hyperparameters)
        return jax.lax.scan(body, (weights, state), steps)[0][0]

    with jax.enable_x64(True):
        weights, steps = jax.tree.map(jnp.asarray, (given["weights"], given))
        del steps["weights"]
        return jax.jit(train, compiler_options=QUICKLY)(weights, steps)
