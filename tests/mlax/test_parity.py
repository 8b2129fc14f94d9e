"""SGD and Adam against MLX, Optax and NumPy, on a fixed random sequence of 100 gradient trees.

The gradients do not depend on the weights: two correct optimizers then stay together, where a feedback would magnify
the last bit of each step. Weights are compared leaf by leaf, the largest difference over the largest value. They stay
of the size of their steps: a weight that went far and came back would keep the roundings of where it was.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest

from mlax.optimizer import apply_updates
from mlax_optimizers import adam, sgd
from tests.mlax import reference_optimizers

STEPS = 100
SEEDS = [0, 1, 2]
SHAPES = {
    "scalar": (),
    "vector": (5,),
    "layer": {"w": (3, 4), "t": (2, 3, 2)},
    "filter": (2, 2, 3, 2),
}


@functools.cache
def sequence(seed: int, dtype: Any) -> tuple[Any, Any]:
    """Return weights, and gradients with a leading axis of steps; scales differ from leaf to leaf."""
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Any:
        scale = 10.0 ** random.uniform(-2, 0)
        return random.normal(size=shape).astype(dtype), (
            scale * random.normal(size=(STEPS, *shape))
        ).astype(dtype)

    def is_shape(x: Any) -> bool:
        return isinstance(x, tuple)

    drawn = jax.tree.map(draw, SHAPES, is_leaf=is_shape)
    return tuple(jax.tree.map(lambda x, i=i: x[i], drawn, is_leaf=is_shape) for i in (0, 1))  # type: ignore


def trained(init: Callable[[Any], Any], step: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return a compiled loop over all gradients, from weights to weights."""

    def body(carry: Any, g: Any) -> Any:
        weights, state = carry
        updates, state = step(g, state, weights)
        return (apply_updates(updates, weights), state), None

    return jax.jit(lambda w, gradients: jax.lax.scan(body, (w, init(w)), gradients)[0][0])


def ours(module: Any, hyperparameters: dict[str, Any]) -> Callable[[Any, Any], Any]:
    return trained(lambda weights: module.init(weights, **hyperparameters), module.step)


def train_mlx(optimizer: Any, weights: Any, gradients: Any) -> Any:
    weights = jax.tree.map(mx.array, weights)
    for i in range(STEPS):
        g = jax.tree.map(lambda x, i=i: mx.array(x[i]), gradients)
        weights = optimizer.apply_gradients(g, weights)
    return jax.tree.map(np.array, weights)


def difference(a: Any, b: Any) -> float:
    """Return the largest difference over the largest value, of the leaf where that is largest."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return max(
        float(
            np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)))
            / np.max(np.abs(y))
        )
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


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


def cosine(library: Any, rate: float) -> Any:
    def schedule(step: Any) -> Any:
        return rate * (1 + library.cos(library.pi * step / STEPS)) / 2

    return schedule


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


def case_name(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(value) or "default"
    return value.__name__.rpartition(".")[2] if hasattr(value, "__file__") else ""


@pytest.mark.parametrize(("module", "hyperparameters", "theirs"), MLX, ids=case_name)
def test_mlx_in_float32(module: Any, hyperparameters: Any, theirs: Any) -> None:
    train = ours(module, hyperparameters)
    for seed in SEEDS:
        weights, gradients = sequence(seed, np.float32)
        expected = train_mlx(theirs(), weights, gradients)
        assert difference(train(weights, gradients), expected) < 1e-6


@pytest.mark.parametrize(
    ("module", "hyperparameters", "theirs"),
    [case[:3] for case in OPTAX if case[2] is not None],
    ids=case_name,
)
def test_optax_in_float32(module: Any, hyperparameters: Any, theirs: Any) -> None:
    train, train_optax = ours(module, hyperparameters), trained(theirs().init, theirs().update)
    for seed in SEEDS:
        weights, gradients = sequence(seed, np.float32)
        assert difference(train(weights, gradients), train_optax(weights, gradients)) < 1e-6


@pytest.mark.parametrize(("module", "hyperparameters", "theirs", "paper"), OPTAX, ids=case_name)
def test_optax_and_numpy_in_float64(
    module: Any, hyperparameters: Any, theirs: Any, paper: dict[str, Any]
) -> None:
    reference = getattr(reference_optimizers, module.__name__.rpartition(".")[2])
    rate = 1e-2 if module is sgd else 1e-3
    options = {"rate": lambda step: rate} | paper
    with jax.enable_x64(True):
        train = ours(module, hyperparameters)
        train_optax = trained(theirs().init, theirs().update) if theirs else None
        for seed in SEEDS:
            weights, gradients = sequence(seed, np.float64)
            result = train(weights, gradients)
            assert {x.dtype for x in jax.tree.leaves(result)} == {np.dtype(np.float64)}
            expected = jax.tree.map(lambda w, g: reference(w, g, **options), weights, gradients)
            assert difference(result, expected) < 1e-12
            if train_optax is not None:
                assert difference(result, train_optax(weights, gradients)) < 1e-12
