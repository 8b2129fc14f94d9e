"""All generated optimizers, for tests of laws that hold for every one. A new optimizer is tested by existing."""

import functools
import importlib
import inspect
import pkgutil
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax_optimizers
from mlax.optimizer import Optimizer
from mlax.optimizer._specified import specifications
from mlax.typing import Entries, Weights
from mlax_codegen.checking.analysis import Analysis, analyse
from mlax_codegen.reading.spec import read_spec

MODULES: dict[str, ModuleType] = {
    info.name.rpartition(".")[2]: importlib.import_module(info.name)
    for info in pkgutil.walk_packages(mlax_optimizers.__path__, "mlax_optimizers.")
    if not info.ispkg
}

# Options that change which slots there are, or which arguments are read; the defaults are tested in any case.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adadelta": [{"weight_decay": 0.1}],
    "adafactor": [
        {"min_dim_size_to_factor": 2, "momentum": 0.9, "weight_decay_rate": 0.1},
        {"factored_axes": "last", "relative_step": True, "multiply_by_parameter_scale": False},
        {"factored_axes": "last", "eps_in": "minimum", "eps": 1e-7},
    ],
    "adagrad": [{"eps_in_sqrt": False, "weight_decay": 0.1}],
    "adam": [{"bias_correction": False, "eps_root": 1e-8, "weight_decay": 0.1}],
    "adam_mini": [{"blocks": "row", "decay": False, "weight_decay": 0.1}],
    "adamax": [{"eps_in": "denominator", "weight_decay": 0.1}],
    "amsgrad": [{"maximum_of": "moments", "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "asgd": [{"t0": 0.0, "weight_decay": 0.1}],
    "dion": [{"rank": 1, "layout": "out_in"}],
    "dog": [{"init_step": "distance", "weight_decay": 0.1}],
    "galore": [{"rank": 2, "interval": 2}],
    "lars": [{"nesterov": True, "weight_decay": 0.1}],
    "muon": [{"layout": "out_in", "others": "sgd", "bias_correction": False, "adaptive": True}],
    "nadam": [{"momentum_decay": 4e-3, "weight_decay": 0.1}],
    "prodigy": [{"b3": 0.9, "safeguard_warmup": True}],
    "radam": [{"eps_in": "moment", "weight_decay": 0.1}],
    "rmsprop": [
        {"centered": True, "momentum": 0.9, "eps_in_sqrt": False},
        {"momentum": 0.9, "nesterov": True, "rate_in_velocity": False, "weight_decay": 0.1},
    ],
    "sgd": [
        {"momentum": None},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.5, "dampen_first_step": False},
    ],
    "shampoo": [{"momentum": None, "b2": 0.9, "interval": 2}],
    "sm3": [{"momentum": None}],
    "soap": [{"precondition_1d": True, "precondition_frequency": 2}],
}

CASES = [
    (name, options) for name in MODULES for options in [dict[str, Any](), *OPTIONS.get(name, [])]
]


SPECS = Path(__file__).parents[2] / "codegen" / "specs"

# The hyperparameter that all updates are proportional to, or grow with, where it is not the learning rate.
RATES = {"polyak_sgd": "scaling"}


def case_name(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={option}" for key, option in value.items()) or "default"
    return str(value)


every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=case_name)
every_optimizer = pytest.mark.parametrize("name", MODULES)


def optimizer_class(module: ModuleType) -> type[Optimizer]:
    """Return the one optimizer class that a generated module defines."""
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Optimizer)
        and value.__module__ == module.__name__
    )
    return cls


def floats(cls: Any, **options: Any) -> dict[str, float]:
    """Return all hyperparameters that may be arrays and are not None, with their numbers."""
    optimizer = cls(**options)
    found = {
        name: getattr(optimizer, name)
        for name, spec in specifications(cls).items()
        if spec.arrays or spec.schedulable
    }
    return {name: value for name, value in found.items() if value is not None}


def slots(state: Any) -> dict[str, Any]:
    """Return the slots of a state that are like the weights."""
    hints = get_type_hints(type(state))
    return {
        name: value
        for name, value in state._asdict().items()
        if value is not None and (hints[name] is Weights or Weights in get_args(hints[name]))
    }


def rate_name(name: str) -> str:
    """Return which hyperparameter says how large the updates are."""
    return RATES.get(name, "learning_rate")


def arguments(name: str, gradients: Any) -> dict[str, Any]:
    """Return what `step` takes by keyword beside gradients, state and weights: the gradients for a tree, or 1."""
    trees = getattr(optimizer_class(MODULES[name]), "trees", ())
    parameters = inspect.signature(MODULES[name].step).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return {keyword: gradients if keyword in trees else jnp.float32(1.0) for keyword in keywords}


def init(name: str, weights: Any, rate: Any = None, **options: Any) -> Any:
    """Return a state before the first step, with the default rate where none is given; its slots may be narrow."""
    rates = {} if rate is None else {rate_name(name): rate}
    with warnings.catch_warnings():  # they are tested with the laws of narrow slots
        warnings.filterwarnings(
            "ignore", r"\w+: the dtype of these slots is too narrow", UserWarning
        )
        return MODULES[name].init(weights, **rates, **options)


def step(name: str, gradients: Any, state: Any, weights: Any, **given: Any) -> Any:
    """Return updates and the next state; the weights are given whether they are read or not."""
    return MODULES[name].step(gradients, state, weights, **{**arguments(name, gradients), **given})


def rate_of(name: str, state: Any) -> Any:
    return getattr(state, rate_name(name))


def with_rate(name: str, state: Any, rate: Any) -> Any:
    return state._replace(**{rate_name(name): rate})


@functools.cache
def analysis(name: str) -> Analysis:
    """Return what the generator knows of an optimizer's equations."""
    return analyse(read_spec(SPECS / f"{name}.toml"))


def is_elementwise(name: str) -> bool:
    """Whether a step computes each element by itself: it sees no leaf as a whole, and no sum over leaves.

    Then leaves of other shapes show nothing that one leaf does not, and each costs a compilation. That the analysis
    says so of the right optimizers is a law of its own, in tests/mlax/laws/test_trees.py.
    """
    found = analysis(name)
    return not found.sees_leaves and not any(phase.totals for phase in found.phases)


def trees(name: str) -> tuple[Any, Any]:
    """Return small weights and gradients, of two shapes if shapes make a difference to the optimizer."""
    a = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    weights = {"a": a, "b": [None] if is_elementwise(name) else [np.float32(1.0), None]}
    return jax.tree.map(jnp.asarray, (weights, jax.tree.map(lambda w: np.cos(3 * w), weights)))


def refuses_complex(name: str) -> bool:
    return read_spec(SPECS / f"{name}.toml").complex is not None


def is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def types(tree: Any) -> Any:
    """Return shape, dtype and weak type of every leaf."""
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def close(a: Any, b: Any, rtol: float = 1e-6) -> bool:
    """Return whether trees are equal to a few roundings: XLA fuses, and contracts, differently in each program.

    Differences count relative to the largest number of a leaf.
    """
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if is_key(x):
            x, y = jax.random.key_data(x), jax.random.key_data(y)  # noqa: PLW2901
        largest = float(np.max(np.abs(y), initial=0.0))
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * largest)
    return True


def rounding(name: str) -> float:
    """Return by how much two programs of one step may differ, relative to the largest number of a leaf."""
    # Newton-Schulz enlarges what is small, rounding errors of its products too: 3.4 times in each iteration.
    return 3e-6 if name == "muon" else 1e-6


def entries(state: Any) -> dict[str, Any]:
    """Return all slots of a state: those like the weights, and those with entries of other shapes."""
    hints = get_type_hints(type(state))
    return {
        name: value
        for name, value in state._asdict().items()
        if name in slots(state)
        or (value is not None and Entries in (hints[name], *get_args(hints[name])))
    }
