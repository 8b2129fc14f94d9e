"""SGD and Adam against MLX, Optax and NumPy."""

from typing import Any

import jax.numpy as jnp
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest

from mlax_optimizers import adam, sgd
from tests.mlax.parity.comparison import case_name, check, check_mlx, cosine
from tests.mlax.references import optimizers as reference_optimizers

pytestmark = pytest.mark.one_python

MLX = [
    (sgd, {}, lambda: mlx_optimizers.SGD(1e-2)),
    (sgd, {"momentum": None}, lambda: mlx_optimizers.SGD(1e-2)),
    (sgd, {"momentum": 0.9}, lambda: mlx_optimizers.SGD(1e-2, momentum=0.9)),
    (
        sgd,
        {"momentum": 0.9, "nesterov": True},
        lambda: mlx_optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    ),
    (
        sgd,
        {"momentum": 0.9, "dampening": 0.5},
        lambda: mlx_optimizers.SGD(1e-2, momentum=0.9, dampening=0.5),
    ),
    (
        sgd,
        {"momentum": 0.9, "weight_decay": 0.1},
        lambda: mlx_optimizers.SGD(1e-2, momentum=0.9, weight_decay=0.1),
    ),
    (adam, {"bias_correction": False}, lambda: mlx_optimizers.Adam(1e-3)),
    (adam, {}, lambda: mlx_optimizers.Adam(1e-3, bias_correction=True)),
    (
        adam,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "bias_correction": False},
        lambda: mlx_optimizers.Adam(1e-3, betas=[0.8, 0.95], eps=1e-4),
    ),
]


# Hyperparameters, the same for Optax, and the same for the reference in NumPy.
OPTAX = [
    (sgd, {}, lambda: optax.sgd(1e-2), {}),
    (sgd, {"momentum": 0.9}, lambda: optax.sgd(1e-2, 0.9), {"momentum": 0.9}),
    (
        sgd,
        {"momentum": 0.9, "nesterov": True},
        lambda: optax.sgd(1e-2, 0.9, nesterov=True),
        {"momentum": 0.9, "nesterov": True},
    ),
    (
        sgd,
        {"momentum": 0.9, "weight_decay": 0.1},
        lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1e-2, 0.9)),
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    (
        sgd,
        {"momentum": 0.9, "learning_rate": cosine(jnp, 0.1)},
        lambda: optax.sgd(cosine(jnp, 0.1), 0.9),
        {"momentum": 0.9, "rate": cosine(np, 0.1)},
    ),
    (
        sgd,
        {"momentum": 0.9, "dampening": 0.5},
        None,
        {"momentum": 0.9, "dampening": 0.5},
    ),
    (adam, {}, lambda: optax.adam(1e-3), {}),
    (adam, {"eps_root": 1e-4}, lambda: optax.adam(1e-3, eps_root=1e-4), {"eps_root": 1e-4}),
    (
        adam,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4},
        lambda: optax.adam(1e-3, 0.8, 0.95, 1e-4),
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4},
    ),
    (
        adam,
        {"learning_rate": cosine(jnp, 0.1)},
        lambda: optax.adam(cosine(jnp, 0.1)),
        {"rate": cosine(np, 0.1)},
    ),
    (adam, {"bias_correction": False}, None, {"bias_correction": False}),
]


@pytest.mark.parametrize(("module", "hyperparameters", "theirs"), MLX, ids=case_name)
def test_mlx(module: Any, hyperparameters: Any, theirs: Any) -> None:
    check_mlx(module, hyperparameters, theirs)


@pytest.mark.parametrize(("module", "hyperparameters", "theirs", "paper"), OPTAX, ids=case_name)
def test_optax_and_numpy(module: Any, hyperparameters: Any, theirs: Any, paper: Any) -> None:
    reference = getattr(reference_optimizers, module.__name__.rpartition(".")[2])
    rate = 1e-2 if module is sgd else 1e-3
    check(module, hyperparameters, theirs, reference, {"rate": lambda step: rate} | paper)
