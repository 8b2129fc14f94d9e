"""Optimizers like Adam against MLX, Optax and NumPy."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest

from mlax_optimizers import (
    adabelief,
    adamax,
    adamaxw,
    adamw,
    adan,
    ademamix,
    adopt,
    amsgrad,
    madgrad,
    nadam,
    nadamw,
    optimistic_adam,
    radam,
    yogi,
)
from mlax_optimizers.experimental import acprop, cautious_adamw, mars
from tests.mlax.parity.comparison import case_name, check, check_mlx, cosine, ours, trained
from tests.mlax.references.adam_family import references

pytestmark = pytest.mark.one_python

RATE = 1e-2
REFERENCES = references()


def as_in_mlx(weight_decay: float) -> float:
    """Return the weight decay of MLX's AdamW, which rounds what remains of the weights to float32 in each step.

    That differs from 1 - learning_rate * weight_decay by up to 3e-8, and in 100 steps by up to 3e-6.
    """
    remaining = 1 - np.float32(RATE) * np.float32(weight_decay)
    return (1 - float(remaining)) / float(np.float32(RATE))


MLX = [
    (
        adamw,
        {"bias_correction": False, "weight_decay": as_in_mlx(0.01)},
        lambda: mlx_optimizers.AdamW(RATE),
    ),
    (
        adamw,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": as_in_mlx(0.1)},
        lambda: mlx_optimizers.AdamW(RATE, [0.8, 0.95], 1e-4, 0.1, bias_correction=True),
    ),
    (
        adamax,
        {"bias_correction": False, "eps_in": "denominator"},
        lambda: mlx_optimizers.Adamax(RATE),
    ),
    (
        adamax,
        {"bias_correction": False, "eps_in": "denominator", "b1": 0.8, "b2": 0.95, "eps": 1e-4},
        lambda: mlx_optimizers.Adamax(RATE, [0.8, 0.95], 1e-4),
    ),
]


def optax_yogi(learning_rate: Any, **hyperparameters: Any) -> optax.GradientTransformation:
    """Return Yogi with all hyperparameters, of which `optax.yogi` has three."""
    return optax.chain(
        optax.scale_by_yogi(**hyperparameters), optax.scale_by_learning_rate(learning_rate)
    )


def optax_madgrad(
    learning_rate: Any, momentum: float = 0.9, weight_decay: float = 0.0, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Return MADGRAD with the root of the step in full: Optax's is a float32 under x64 too, which costs 2e-8."""

    def schedule(step: Any) -> Any:
        rate: Any = learning_rate(step) if callable(learning_rate) else learning_rate
        missing = jnp.sqrt((step + 1).astype(float)) / jnp.sqrt(step + 1)
        return (rate + eps) * missing - eps

    return optax.contrib.madgrad(schedule, momentum, weight_decay, eps)


# What Optax has, with hyperparameters beside the learning rate that have the same names there.
OPTAX: list[tuple[ModuleType, Callable[..., Any], dict[str, Any]]] = [
    (adamw, optax.adamw, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-4}),
    (adamw, optax.adamw, {"weight_decay": 0.1}),
    (adamax, optax.adamax, {"b1": 0.8, "b2": 0.95, "eps": 1e-4}),
    (adamaxw, optax.adamaxw, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1}),
    (amsgrad, optax.amsgrad, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-4}),
    (amsgrad, optax.amsgrad, {"bias_correction_mu": False, "bias_correction_nu": False}),
    (nadam, optax.nadam, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-4}),
    (nadamw, optax.nadamw, {"b1": 0.8, "b2": 0.95, "eps_root": 1e-4, "weight_decay": 0.1}),
    (radam, optax.radam, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-4}),
    (radam, optax.radam, {"threshold": 7.0, "nesterov": True}),
    (adabelief, optax.adabelief, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-6}),
    (adabelief, optax.adabelief, {"nesterov": True}),
    (
        adan,
        optax.adan,
        {"b1": 0.9, "b2": 0.8, "b3": 0.95, "eps": 1e-4, "eps_root": 1e-4, "weight_decay": 0.1},
    ),
    (yogi, optax.yogi, {"b1": 0.8, "b2": 0.95, "eps": 1e-4}),
    (yogi, optax_yogi, {"eps_root": 1e-4, "initial_accumulator_value": 1e-6}),
    (
        optimistic_adam,
        optax.optimistic_adam_v2,
        {"alpha": 0.7, "beta": 0.4, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "nesterov": False},
    ),
    (adopt, optax.contrib.adopt, {"b1": 0.8, "b2": 0.95, "eps": 1e-2, "nesterov": True}),
    (adopt, optax.contrib.adopt, {"use_clipping": False, "b2": 0.95}),
    (
        ademamix,
        optax.contrib.ademamix,
        {
            "b1": 0.8,
            "b2": 0.95,
            "b3": 0.99,
            "alpha": 2.0,
            "eps": 1e-3,
            "eps_root": 1e-4,
            "weight_decay": 0.1,
        },
    ),
    (madgrad, optax_madgrad, {"momentum": 0.5, "eps": 1e-4, "weight_decay": 0.1}),
    (
        acprop,
        optax.contrib.acprop,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-6, "weight_decay": 0.1},
    ),
]

BY_DEFAULT = {module: theirs for module, theirs, _ in reversed(OPTAX)}

# What is not left to the defaults, as the difference would be a rounding of 1 - b: in Optax b2 of ADOPT is a float32
# array (that costs 4e-6), and here b3 of AdEMAMix, which in Optax is one if it is a schedule (3e-6).
ROUNDED: dict[ModuleType, dict[str, Any]] = {
    adopt: {"b2": float(np.float32(0.9999))},
    ademamix: {"b3": lambda step: jnp.full((), 0.9999)},  # pyright: ignore
}

# The largest learning rate of a schedule. MADGRAD goes far with 0.1, and both it and Optax are 2e-5 away from float64.
PEAKS = {madgrad: 1e-2}

# Options and algorithms that Optax lacks.
NUMPY: list[tuple[ModuleType, dict[str, Any]]] = [
    (adamw, {"decay": "independent"}),
    (adamw, {"bias_correction": False}),
    (adamax, {"eps_in": "denominator", "eps": 1e-4}),
    (adamax, {"bias_correction": False}),
    (amsgrad, {"maximum_of": "moments", "b2": 0.9, "eps_root": 1e-4}),
    (nadam, {"momentum_decay": 4e-3}),
    (nadamw, {"momentum_decay": 0.1}),
    (adan, {"decay": "proximal", "weight_decay": 0.1}),
    (yogi, {"initial_mean": 0.0, "initial_accumulator_value": 1e-4, "bias_correction": False}),
    (optimistic_adam, {"eps_root": 1e-4}),
    (adopt, {"clip_exponent": 0.1}),
    (acprop, {"center": "after"}),
    (cautious_adamw, {}),
    (cautious_adamw, {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1, "scaling": "mean"}),
    (mars, {}),
    (
        mars,
        {"b1": 0.8, "b2": 0.95, "gamma": 0.1, "eps": 1e-4, "weight_decay": 0.1, "start": "zero"},
    ),
]


@pytest.mark.parametrize(("module", "hyperparameters", "theirs"), MLX, ids=case_name)
def test_mlx(module: Any, hyperparameters: Any, theirs: Any) -> None:
    check_mlx(module, {"learning_rate": RATE, **hyperparameters}, theirs)


@pytest.mark.parametrize(
    ("module", "theirs"),
    BY_DEFAULT.items(),
    ids=case_name,
)
def test_optax_by_default(module: Any, theirs: Any) -> None:
    rounded = ROUNDED.get(module, {})
    check(module, {"learning_rate": RATE, **rounded}, lambda: theirs(RATE, **rounded))


@pytest.mark.parametrize(
    ("module", "theirs"),
    BY_DEFAULT.items(),
    ids=case_name,
)
def test_defaults_are_those_of_optax(module: Any, theirs: Any) -> None:
    defaults = inspect.signature(module.init).parameters
    names = [name for name in inspect.signature(theirs).parameters if name in defaults]
    assert len(names) > 3
    for name in names:
        expected = inspect.signature(theirs).parameters[name].default
        assert expected in (defaults[name].default, inspect.Parameter.empty), name


@pytest.mark.parametrize(
    ("module", "theirs", "hyperparameters"),
    OPTAX + [(module, None, hyperparameters) for module, hyperparameters in NUMPY],
    ids=case_name,
)
def test_optax_and_numpy(module: Any, theirs: Any, hyperparameters: Any) -> None:
    """A schedule beside other hyperparameters that are not the defaults."""
    peak = PEAKS.get(module, 0.1)
    check(
        module,
        {"learning_rate": cosine(jnp, peak), **hyperparameters},
        theirs and (lambda: theirs(cosine(jnp, peak), **hyperparameters)),
        REFERENCES[module.__name__.rpartition(".")[2]],
        {"rate": cosine(np, peak), **hyperparameters},
    )


@pytest.mark.parametrize(
    ("module", "theirs", "schedules"),
    [
        (adamw, optax.adamw, {"weight_decay": cosine(jnp, 0.5)}),
        (ademamix, optax.contrib.ademamix, {"alpha": cosine(jnp, 5.0), "b3": cosine(jnp, 0.99)}),
    ],
    ids=case_name,
)
def test_optax_with_other_schedules(module: Any, theirs: Any, schedules: Any) -> None:
    check(module, {"learning_rate": RATE, **schedules}, lambda: theirs(RATE, **schedules))


@pytest.mark.parametrize(
    ("module", "theirs"),
    [case for case in BY_DEFAULT.items() if case[0] not in (adopt, madgrad)],
    ids=case_name,
)
def test_complex_leaves(module: Any, theirs: Any) -> None:
    """ADOPT and MADGRAD refuse them, and so does Optax."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        leaves = random.normal(size=(101, 5)) + 1j * random.normal(size=(101, 5))
        weights, gradients = leaves[0], leaves[1:]
        transformation = theirs(RATE)
        expected = trained(transformation.init, transformation.update)(weights, gradients)
        result = ours(module, {"learning_rate": RATE})(weights, gradients)
        assert result.dtype == np.complex128
        assert np.max(np.abs(result - expected)) / np.max(np.abs(expected)) < 1e-12


def test_optimistic_adam_as_in_older_optax() -> None:
    """The optimism was not scaled by the learning rate."""
    with pytest.warns(DeprecationWarning, match="optimistic_adam"):
        theirs = optax.optimistic_adam(RATE, 0.02)
    check(optimistic_adam, {"learning_rate": RATE, "beta": 0.02 / RATE}, lambda: theirs)


def test_the_default_of_yogi_in_optax_is_all_of_it() -> None:
    weights = jnp.ones(3)
    expected = optax.yogi(RATE).init(weights)
    state = yogi.init(weights)
    adam = optax.tree.get(expected, "mu"), optax.tree.get(expected, "nu")
    assert jax.tree.all(jax.tree.map(jnp.array_equal, adam, (state.m, state.v)))
