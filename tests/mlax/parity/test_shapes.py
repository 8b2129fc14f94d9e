"""Optimizers that see a leaf, or all leaves, as a whole: against MLX, Optax and NumPy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest

from mlax.leafwise import two_axes, two_largest_axes
from mlax.optimizer import apply_updates
from mlax_optimizers import adafactor, fromage, lamb, lars, muon, novograd, sm3
from mlax_optimizers.experimental import (
    dadapt_adamw,
    dion,
    dog,
    galore,
    prodigy,
    schedule_free_adamw,
    schedule_free_sgd,
    shampoo,
    soap,
)
from tests.mlax.parity.comparison import (
    SEEDS,
    STEPS,
    case_name,
    check,
    check_mlx,
    cosine,
    difference,
    ours,
    sequence,
    trained,
)
from tests.mlax.references import shapes as references

pytestmark = pytest.mark.one_python

# Leaves of few shapes, where each costs much compilation.
SOME = ("vector", "layer")


def constant(rate: float) -> references.Rate:
    return lambda step: rate


RATES = {lamb: 1e-3, lars: 0.1, fromage: 0.01, novograd: 1e-3, sm3: 0.1}

# Hyperparameters, the same for Optax, and the same for the reference in NumPy.
LAYERWISE = [
    (lamb, {}, lambda: optax.lamb(1e-3), {}),
    (
        lamb,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-5, "weight_decay": 0.1},
        lambda: optax.lamb(1e-3, 0.8, 0.95, 1e-4, 1e-5, weight_decay=0.1),
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-5, "weight_decay": 0.1},
    ),
    (
        lamb,
        {"learning_rate": cosine(jnp, 0.1)},
        lambda: optax.lamb(cosine(jnp, 0.1)),
        {"rate": cosine(np, 0.1)},
    ),
    (lars, {}, lambda: optax.lars(0.1), {}),
    (
        lars,
        {"weight_decay": 0.1, "trust_coefficient": 0.01, "eps": 1e-3, "momentum": 0.8},
        lambda: optax.lars(0.1, 0.1, trust_coefficient=0.01, eps=1e-3, momentum=0.8),
        {"weight_decay": 0.1, "trust_coefficient": 0.01, "eps": 1e-3, "momentum": 0.8},
    ),
    (
        lars,
        {"nesterov": True, "learning_rate": cosine(jnp, 0.3)},
        lambda: optax.lars(cosine(jnp, 0.3), nesterov=True),
        {"nesterov": True, "rate": cosine(np, 0.3)},
    ),
    (fromage, {}, lambda: optax.fromage(0.01), {}),
    (fromage, {"min_norm": 1.5}, lambda: optax.fromage(0.01, 1.5), {"min_norm": 1.5}),
    (
        fromage,
        {"learning_rate": cosine(jnp, 0.1)},
        lambda: optax.fromage(cosine(jnp, 0.1)),
        {"rate": cosine(np, 0.1)},
    ),
    (novograd, {}, lambda: optax.novograd(1e-3), {}),
    (
        novograd,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-3, "weight_decay": 0.1},
        lambda: optax.novograd(1e-3, 0.8, 0.95, 1e-4, 1e-3, 0.1),
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "eps_root": 1e-3, "weight_decay": 0.1},
    ),
    (
        novograd,
        {"learning_rate": cosine(jnp, 0.01)},
        lambda: optax.novograd(cosine(jnp, 0.01)),
        {"rate": cosine(np, 0.01)},
    ),
    (sm3, {}, None, {}),
    (sm3, {"momentum": None, "eps": 1e-3}, None, {"momentum": None, "eps": 1e-3}),
    (sm3, {"learning_rate": cosine(jnp, 0.1)}, None, {"rate": cosine(np, 0.1)}),
]


@pytest.mark.parametrize(("module", "hyperparameters", "theirs", "paper"), LAYERWISE, ids=case_name)
def test_optax_and_numpy(module: Any, hyperparameters: Any, theirs: Any, paper: Any) -> None:
    reference = getattr(references, module.__name__.rpartition(".")[2])
    check(module, hyperparameters, theirs, reference, {"rate": constant(RATES[module])} | paper)


def compare_with_optax(
    module: Any,
    hyperparameters: dict[str, Any],
    theirs: Callable[[], Any],
    dtype: Any,
    tolerance: float,
    names: tuple[str, ...] = ("scalar", "vector", "layer", "filter"),
) -> None:
    """Compare in one dtype, and only some of the leaves."""
    with jax.enable_x64(dtype is np.float64):
        transformation = theirs()
        train = ours(module, hyperparameters)
        train_optax = trained(transformation.init, transformation.update)
        for seed in SEEDS:
            weights, gradients = ({name: x[name] for name in names} for x in sequence(seed, dtype))
            result = train(weights, gradients)
            assert difference(result, train_optax(weights, gradients)) < tolerance


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_sm3_is_optax(momentum: float) -> None:
    """Optax does not have SM3 for a scalar, and its learning rate cannot be a schedule."""
    names = ("vector", "layer", "filter")
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-12)):
        compare_with_optax(
            sm3,
            {"momentum": momentum},
            lambda: optax.sm3(0.1, momentum),
            dtype,
            tolerance,
            names,
        )


def exact_adafactor(
    rate: Any,
    least: int = 128,
    decay: float = 0.8,
    threshold: float | None = 1.0,
    *,
    scale: bool = True,
    momentum: float | None = None,
    weight_decay: Any = None,
    factored: bool = True,
    eps: float = 1e-30,
) -> Any:
    """The chain that optax.adafactor is, with the second moment's decay in the default float dtype.

    Optax has that in float32, under x64 too: it is what the results differ by, some 1e-8.
    """

    def decay_at(step: Any, exponent: float) -> Any:
        return 1 - (step + 1.0) ** -exponent

    parts = [
        optax.scale_by_factored_rms(factored, decay, 0, least, eps, decay_rate_fn=decay_at),
        optax.clip_by_block_rms(threshold) if threshold is not None else optax.identity(),
        optax.scale_by_learning_rate(rate, flip_sign=False),
        optax.scale_by_param_block_rms() if scale else optax.identity(),
    ]
    if momentum is not None:
        parts.append(optax.ema(momentum, debias=False))
    if weight_decay is not None:
        parts.append(optax.add_decayed_weights(weight_decay))
    return optax.chain(*parts, optax.scale(-1))


# Where two axes have one length, which of them Optax factors depends on how the processor sorts: not here from 3 on.
ADAFACTOR: list[tuple[dict[str, Any], Callable[[], Any], Callable[[], Any], dict[str, Any]]] = [
    ({}, lambda: optax.adafactor(1e-2), lambda: exact_adafactor(1e-2), {}),
    (
        {
            "min_dim_size_to_factor": 3,
            "decay_rate": 0.5,
            "clipping_threshold": 1.5,
            "momentum": 0.8,
            "weight_decay_rate": 1e-3,
            "eps": 1e-5,
        },
        lambda: optax.adafactor(1e-2, 3, 0.5, 0, True, 1.5, 0.8, weight_decay_rate=1e-3, eps=1e-5),
        lambda: exact_adafactor(1e-2, 3, 0.5, 1.5, momentum=0.8, weight_decay=1e-3, eps=1e-5),
        {
            "axes": lambda shape: two_largest_axes(shape, 3),
            "decay_rate": 0.5,
            "clipping_threshold": 1.5,
            "momentum": 0.8,
            "weight_decay": 1e-3,
            "eps": 1e-5,
        },
    ),
    (
        {
            "learning_rate": cosine(jnp, 0.1),
            "min_dim_size_to_factor": 3,
            "multiply_by_parameter_scale": False,
            "clipping_threshold": None,
        },
        lambda: optax.adafactor(
            cosine(jnp, 0.1), 3, multiply_by_parameter_scale=False, clipping_threshold=None
        ),
        lambda: exact_adafactor(cosine(jnp, 0.1), 3, threshold=None, scale=False),
        {
            "rate": cosine(np, 0.1),
            "axes": lambda shape: two_largest_axes(shape, 3),
            "parameter_scale": False,
            "clipping_threshold": None,
        },
    ),
    (
        {"factored": False, "min_dim_size_to_factor": 2},
        lambda: optax.adafactor(1e-2, 2, factored=False),
        lambda: exact_adafactor(1e-2, 2, factored=False),
        {},
    ),
]


@pytest.mark.parametrize(
    ("hyperparameters", "theirs", "exact"), [case[:3] for case in ADAFACTOR], ids=case_name
)
def test_adafactor_is_optax(hyperparameters: Any, theirs: Any, exact: Any) -> None:
    compare_with_optax(adafactor, hyperparameters, theirs, np.float32, 1e-6, SOME)
    compare_with_optax(adafactor, hyperparameters, exact, np.float64, 1e-12, SOME)


MLX_ADAFACTOR = [
    ({"relative_step": True}, {}, {"relative_step": True}),
    (
        {
            "relative_step": True,
            "momentum": 0.8,
            "weight_decay_rate": 0.1,
            "weight_decay_scale": "step",
        },
        {"beta_1": 0.8, "weight_decay": 0.1},
        {
            "relative_step": True,
            "momentum": 0.8,
            "weight_decay": 0.1,
            "weight_decay_scale": "step",
        },
    ),
    (
        {"learning_rate": 1e-3, "multiply_by_parameter_scale": False, "clipping_threshold": 2.0},
        {
            "learning_rate": 1e-3,
            "relative_step": False,
            "scale_parameter": False,
            "clip_threshold": 2.0,
        },
        {"rate": constant(1e-3), "parameter_scale": False, "clipping_threshold": 2.0},
    ),
    (
        {"learning_rate": lambda step: 1e-6 * (step + 1), "relative_step": True},
        {"warmup_init": True},
        {"rate": lambda step: 1e-6 * (step + 1), "relative_step": True},
    ),
]


@pytest.mark.parametrize(
    ("hyperparameters", "theirs"), [case[:2] for case in MLX_ADAFACTOR], ids=case_name
)
def test_adafactor_is_mlx(hyperparameters: Any, theirs: Any) -> None:
    check_mlx(
        adafactor,
        {"factored_axes": "last", **hyperparameters},
        lambda: mlx_optimizers.Adafactor(**theirs),
    )


@pytest.mark.parametrize(
    ("hyperparameters", "paper"),
    [(case[0], case[3]) for case in ADAFACTOR]
    + [
        ({"factored_axes": "last", **a}, {"axes": lambda shape: two_axes(shape, "last"), **b})
        for a, _, b in MLX_ADAFACTOR
    ]
    + [
        (
            {"min_dim_size_to_factor": 2, "relative_step": True, "decay_offset": 5},
            {
                "axes": lambda shape: two_largest_axes(shape, 2),
                "relative_step": True,
                "decay_offset": 5,
            },
        ),
        (
            {"weight_decay_rate": 0.1, "weight_decay_scale": "learning_rate"},
            {"weight_decay": 0.1, "weight_decay_scale": "learning_rate"},
        ),
    ],
    ids=case_name,
)
def test_adafactor_is_its_paper(hyperparameters: Any, paper: Any) -> None:
    check(adafactor, hyperparameters, None, references.adafactor, {"rate": constant(1e-2)} | paper)


AS_MLX = {"layout": "out_in", "others": "sgd", "bias_correction": False, "eps": 1e-7}

# Hyperparameters, the same for Optax, and the same for the reference in NumPy.
MUON: list[tuple[dict[str, Any], Callable[[], Any] | None, dict[str, Any]]] = [
    ({}, lambda: optax.contrib.muon(0.02), {}),
    (
        {
            "ns_steps": 3,
            "beta": 0.8,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "nesterov": False,
            "adam_b1": 0.8,
            "adam_b2": 0.95,
            "adam_weight_decay": 0.2,
            "consistent_rms": 0.2,
            "adam_learning_rate": 1e-3,
        },
        lambda: optax.contrib.muon(
            0.02,
            ns_steps=3,
            beta=0.8,
            eps=1e-4,
            weight_decay=0.1,
            nesterov=False,
            adam_b1=0.8,
            adam_b2=0.95,
            adam_weight_decay=0.2,
            consistent_rms=0.2,
            adam_learning_rate=1e-3,
        ),
        {
            "steps": 3,
            "beta": 0.8,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "nesterov": False,
            "adam": (0.8, 0.95),
            "adam_weight_decay": 0.2,
            "consistent_rms": 0.2,
            "adam_rate": constant(1e-3),
        },
    ),
    (
        {"learning_rate": cosine(jnp, 0.1), "adam_eps_root": 1e-4},
        lambda: optax.contrib.muon(cosine(jnp, 0.1), adam_eps_root=1e-4),
        {"rate": cosine(np, 0.1), "adam_eps_root": 1e-4},
    ),
    (
        {"learning_rate": cosine(jnp, 0.1), "layout": "out_in"},
        None,
        {"rate": cosine(np, 0.1), "out_in": True},
    ),
    (
        {"layout": "out_in", "consistent_rms": 0.2, "weight_decay": 0.1, "bias_correction": False},
        None,
        {"out_in": True, "consistent_rms": 0.2, "weight_decay": 0.1, "bias_correction": False},
    ),
    (
        AS_MLX | {"weight_decay": 0.1, "coupled_decay": True},
        None,
        {
            "out_in": True,
            "sgd": True,
            "bias_correction": False,
            "eps": 1e-7,
            "weight_decay": 0.1,
            "coupled_decay": True,
        },
    ),
]
MLX_MUON: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"weight_decay": 0.0}),
    ({"weight_decay": 0.01, "coupled_decay": True}, {"weight_decay": 0.01}),
    (
        {"beta": 0.8, "nesterov": False, "ns_steps": 3},
        {"momentum": 0.8, "nesterov": False, "ns_steps": 3, "weight_decay": 0.0},
    ),
]


@pytest.mark.parametrize(
    ("hyperparameters", "theirs"),
    [
        ({"ns_coeffs": "dion"}, {"ns_coeffs": "dion"}),
        ({"adaptive": True}, {"adaptive": True}),
        *(({"preconditioning": name},) * 2 for name in ("spectral", "aol", "schatten")),
    ],
)
def test_muon_makes_matrices_orthogonal_as_optax_does(hyperparameters: Any, theirs: Any) -> None:
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-12)):
        compare_with_optax(
            muon,
            hyperparameters,
            lambda: optax.contrib.muon(0.02, **theirs),
            dtype,
            tolerance,
            ("layer",),
        )


@pytest.mark.parametrize(("hyperparameters", "theirs"), MLX_MUON, ids=case_name)
def test_muon_is_mlx(hyperparameters: Any, theirs: Any) -> None:
    check_mlx(muon, AS_MLX | hyperparameters, lambda: mlx_optimizers.Muon(0.02, **theirs))


@pytest.mark.parametrize(("hyperparameters", "theirs", "paper"), MUON, ids=case_name)
def test_muon_is_optax_and_its_paper(hyperparameters: Any, theirs: Any, paper: Any) -> None:
    check(muon, hyperparameters, theirs, references.muon, {"rate": constant(0.02)} | paper)


def flat(tree: Any) -> Any:
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


def pushed(seed: int, dtype: Any, steps: int) -> tuple[Any, Any]:
    """Return weights and gradients that point away from them in some first steps, so that estimates grow."""
    weights, gradients = ({name: x[name] for name in SOME} for x in sequence(seed, dtype))
    first = np.arange(STEPS) < steps

    def push(w: Any, g: Any) -> Any:
        return (g + w * first.reshape([-1] + [1] * w.ndim)).astype(dtype)

    return weights, jax.tree.map(push, weights, gradients)


# Steps that push, how large the named scalar is at least in the end, and what it is compared with.
WHOLE: list[tuple[Any, int, str, float, dict[str, Any], Callable[[], Any], dict[str, Any]]] = [
    (prodigy, 25, "d", 1e-4, {}, optax.contrib.prodigy, {}),
    (
        prodigy,
        25,
        "d",
        1e-2,
        {
            "b1": 0.8,
            "b2": 0.95,
            "b3": 0.9,
            "eps": 1e-6,
            "estim_lr0": 1e-3,
            "estim_lr_coef": 0.5,
            "weight_decay": 0.01,
            "safeguard_warmup": True,
        },
        lambda: optax.contrib.prodigy(1.0, (0.8, 0.95), 0.9, 1e-6, 1e-3, 0.5, 0.01, True),
        {
            "b1": 0.8,
            "b2": 0.95,
            "b3": 0.9,
            "eps": 1e-6,
            "d0": 1e-3,
            "coefficient": 0.5,
            "weight_decay": 0.01,
            "safeguard_warmup": True,
        },
    ),
    (
        prodigy,
        25,
        "d",
        1e-4,
        {"learning_rate": cosine(jnp, 1.0)},
        lambda: optax.contrib.prodigy(cosine(jnp, 1.0)),
        {"rate": cosine(np, 1.0)},
    ),
    (dadapt_adamw, 25, "d", 1e-4, {}, optax.contrib.dadapt_adamw, {}),
    (
        dadapt_adamw,
        25,
        "d",
        1e-2,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-6, "estim_lr0": 1e-3, "weight_decay": 0.01},
        lambda: optax.contrib.dadapt_adamw(1.0, (0.8, 0.95), 1e-6, 1e-3, 0.01),
        {"b1": 0.8, "b2": 0.95, "eps": 1e-6, "d0": 1e-3, "weight_decay": 0.01},
    ),
    (
        dadapt_adamw,
        25,
        "d",
        1e-4,
        {"learning_rate": cosine(jnp, 1.0)},
        lambda: optax.contrib.dadapt_adamw(cosine(jnp, 1.0)),
        {"rate": cosine(np, 1.0)},
    ),
    (dog, 100, "distance", 1e-2, {}, optax.contrib.dog, {}),
    (
        dog,
        25,
        "distance",
        1e-2,
        {"init_step": "distance", "init_value": 1e-3, "eps": 1e-4, "weight_decay": 0.01},
        lambda: optax.contrib.dog(init_step=("distance", 1e-3), eps=1e-4, weight_decay=0.01),
        {"distance": 1e-3, "eps": 1e-4, "weight_decay": 0.01},
    ),
    (
        dog,
        25,
        "distance",
        1e-2,
        {
            "init_step": "learning_rate",
            "init_value": 1e-3,
            "learning_rate": cosine(jnp, 0.9),
        },
        lambda: optax.contrib.dog(cosine(jnp, 0.9), init_step=("learning_rate", 1e-3)),
        {"first_rate": 1e-3, "rate": cosine(np, 0.9)},
    ),
]


@pytest.mark.parametrize(
    ("module", "steps", "scalar", "least", "hyperparameters", "theirs", "paper"),
    WHOLE,
    ids=case_name,
)
def test_algorithms_that_see_all_leaves_at_once(
    module: Any,
    steps: int,
    scalar: str,
    least: float,
    hyperparameters: Any,
    theirs: Any,
    paper: Any,
) -> None:
    """Compared with Optax, and with the paper for all leaves as one vector.

    D-Adaptation's estimate feeds back into its own computation, which magnifies rounding errors. In
    float32, Optax too is then farther from float64 than from the result.
    """
    reference = getattr(references, module.__name__.rpartition(".")[2])
    options = {"rate": constant(1.0)} | paper

    def body(carry: Any, g: Any) -> Any:
        weights, state = carry
        updates, state = module.step(g, state, weights)
        return (apply_updates(updates, weights), state), None

    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-12)):
        with jax.enable_x64(dtype is np.float64):
            transformation = theirs()
            # Sums over all leaves feed back: both are compiled as users compile them.
            train_optax = trained(transformation.init, transformation.update, None)
            train = jax.jit(
                lambda w, gradients: jax.lax.scan(
                    body, (w, module.init(w, **hyperparameters)), gradients
                )[0]
            )
            for seed in SEEDS:
                weights, gradients = pushed(seed, dtype, steps)
                result, state = train(weights, gradients)
                assert least < getattr(state, scalar) < 100
                many = np.stack([flat(x) for x in steps_of(gradients)])
                exact = reference(flat(weights), many, **options)
                expected = flat(train_optax(weights, gradients))
                if module is dadapt_adamw and dtype is np.float32:
                    rounding = difference(expected, exact)
                    assert difference(flat(result), expected) < min(rounding, 1e-5)
                else:
                    assert difference(flat(result), expected) < tolerance
                if dtype is np.float64:
                    assert difference(flat(result), exact) < tolerance


def steps_of(gradients: Any) -> list[Any]:
    return [jax.tree.map(lambda g, i=i: g[i], gradients) for i in range(STEPS)]


def ahead(schedule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a schedule for the means of Optax's schedule-free, which calls it with 1 in the first step."""
    return lambda step: schedule(step - 1)


SCHEDULE_FREE: list[tuple[Any, dict[str, Any], Callable[[], Any], dict[str, Any]]] = [
    (schedule_free_sgd, {}, optax.contrib.schedule_free_sgd, {"rate": constant(1.0)}),
    (
        schedule_free_sgd,
        {"learning_rate": 0.1, "b1": 0.8, "weight_decay": 0.1, "weight_lr_power": 1.0},
        lambda: optax.contrib.schedule_free_sgd(0.1, b1=0.8, weight_decay=0.1, weight_lr_power=1.0),
        {"rate": constant(0.1), "b1": 0.8, "weight_decay": 0.1, "power": 1.0},
    ),
    (
        schedule_free_sgd,
        {"learning_rate": cosine(jnp, 0.1)},
        lambda: optax.contrib.schedule_free(optax.sgd(cosine(jnp, 0.1)), ahead(cosine(jnp, 0.1))),
        {"rate": cosine(np, 0.1)},
    ),
    (schedule_free_adamw, {}, optax.contrib.schedule_free_adamw, {"rate": constant(0.0025)}),
    (
        schedule_free_adamw,
        {"learning_rate": cosine(jnp, 0.01)},
        lambda: optax.contrib.schedule_free(
            optax.chain(
                optax.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False, bias_correction=True),
                optax.scale_by_learning_rate(cosine(jnp, 0.01)),
            ),
            ahead(cosine(jnp, 0.01)),
        ),
        {"rate": cosine(np, 0.01)},
    ),
    (
        schedule_free_adamw,
        {"b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1, "weight_lr_power": 1.0},
        lambda: optax.contrib.schedule_free_adamw(
            b1=0.8, b2=0.95, eps=1e-4, weight_decay=0.1, weight_lr_power=1.0
        ),
        {
            "rate": constant(0.0025),
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "power": 1.0,
        },
    ),
]


@pytest.mark.parametrize(
    ("module", "hyperparameters", "theirs", "paper"), SCHEDULE_FREE, ids=case_name
)
def test_schedule_free(module: Any, hyperparameters: Any, theirs: Any, paper: Any) -> None:
    """The weights that are trained and their mean, against Optax and the paper.

    In float32 Optax loses some bits where it finds the mean from the weights, and takes differences of weights: it is
    farther from float64 than the result is, and so from the result.
    """

    def body(carry: Any, g: Any) -> Any:
        weights, state = carry
        updates, state = module.step(g, state, weights)
        return (apply_updates(updates, weights), state), None

    def train(w: Any, gradients: Any) -> Any:
        (w, state), _ = jax.lax.scan(body, (w, module.init(w, **hyperparameters)), gradients)
        return w, module.evaluation_weights(state, w)

    compare_with_optax(module, hyperparameters, theirs, np.float64, 1e-12)
    adam = module is schedule_free_adamw
    transformation = theirs()
    train_optax = trained(transformation.init, transformation.update)
    weights, gradients = sequence(0, np.float32)
    expected = jax.tree.map(
        lambda w, g: references.schedule_free(
            w.astype(np.float64), g.astype(np.float64), adam=adam, **paper
        ),
        weights,
        gradients,
    )
    result = ours(module, hyperparameters)(weights, gradients)
    rounding = difference(train_optax(weights, gradients), expected)
    assert difference(result, expected) < min(rounding, 3e-6)
    assert difference(result, train_optax(weights, gradients)) < 5e-6
    with jax.enable_x64(True):
        for seed in SEEDS:
            weights, gradients = sequence(seed, np.float64)
            for result, mean in zip(jax.jit(train)(weights, gradients), (False, True), strict=True):
                expected = jax.tree.map(
                    lambda w, g, mean=mean: references.schedule_free(
                        w, g, adam=adam, evaluated=mean, **paper
                    ),
                    weights,
                    gradients,
                )
                assert difference(result, expected) < 1e-12


OF_GALORE = {
    "b1": 0.8,
    "b2": 0.9,
    "eps": 1e-4,
    "weight_decay": 0.1,
    "scale": 0.5,
    "rank": 2,
    "interval": 3,
}

MATRICES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (shampoo, {}, {}),
    (
        shampoo,
        {
            "momentum": None,
            "b2": 0.9,
            "eps": 1e-2,
            "weight_decay": 0.1,
            "interval": 3,
            "longest": 3,
        },
        {
            "momentum": None,
            "b2": 0.9,
            "eps": 1e-2,
            "weight_decay": 0.1,
            "interval": 3,
            "longest": 3,
        },
    ),
    (shampoo, {"learning_rate": cosine(jnp, 0.1)}, {"rate": cosine(np, 0.1)}),
    (soap, {}, {}),
    (
        soap,
        {
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "precondition_frequency": 3,
            "max_precond_dim": 3,
        },
        {"b1": 0.8, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.1, "frequency": 3, "longest": 3},
    ),
    (
        soap,
        {"learning_rate": cosine(jnp, 0.01), "precondition_frequency": 1},
        {"rate": cosine(np, 0.01), "frequency": 1},
    ),
    (galore, {}, {}),
    (galore, OF_GALORE, OF_GALORE),
    (dion, {"rank": 2}, {}),
    (
        dion,
        {
            "learning_rate": cosine(jnp, 0.01),
            "rank": 1,
            "momentum": 0.8,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "layout": "out_in",
            "adam_b1": 0.8,
            "adam_b2": 0.9,
        },
        {
            "rate": cosine(np, 0.01),
            "momentum": 0.8,
            "eps": 1e-4,
            "weight_decay": 0.1,
            "out_in": True,
            "adam": (0.8, 0.9),
        },
    ),
]


@pytest.mark.parametrize(("module", "hyperparameters", "paper"), MATRICES, ids=case_name)
def test_matrices_for_each_axis(module: Any, hyperparameters: Any, paper: Any) -> None:
    reference = getattr(references, module.__name__.rpartition(".")[2])
    rate = {shampoo: 0.1, soap: 3e-3, galore: 0.01, dion: 0.01}[module]
    if module is dion:
        with jax.enable_x64(True):
            state = dion.init(sequence(0, np.float64)[0], rank=hyperparameters["rank"])
        paper = {"first": np.asarray(state.q["layer"]["w"]), **paper}
    check(module, hyperparameters, None, reference, {"rate": constant(rate)} | paper)


def test_a_tall_matrix_is_trained_like_the_wide_one_that_it_is_turned() -> None:
    """The other comparisons are of wide ones."""
    with jax.enable_x64(True):
        weights, gradients = sequence(0, np.float64)
        w, g = weights["layer"]["w"].T, np.swapaxes(gradients["layer"]["w"], 1, 2)
        result = ours(galore, {"rank": 2, "interval": 3})(w, g)
        expected = references.galore(w, g, constant(0.01), rank=2, interval=3)
        assert difference(result, expected) < 1e-12


def test_vectors_have_a_basis_in_soap_where_asked() -> None:
    """Of two elements: the moments of one gradient have rank one, which says nothing of the others' directions."""
    with jax.enable_x64(True):
        train = ours(soap, {"precondition_1d": True})
        for seed in SEEDS:
            weights, gradients = sequence(seed, np.float64)
            w, g = weights["vector"][:2], gradients["vector"][:, :2]
            expected = references.soap(w, g, constant(3e-3), vectors=True)
            assert difference(train(w, g), expected) < 1e-12


def test_turning_complex_weights_and_gradients_turns_the_steps_of_adafactor() -> None:
    """Where it is factored too: all optimizers at their defaults are tested in tests/mlax/laws/test_precision.py."""
    weights, gradients = sequence(0, np.float32)
    gradients = jax.tree.map(lambda g: g[:5], gradients)
    turn = np.complex64(np.exp(0.3j))
    train = ours(adafactor, {"min_dim_size_to_factor": 2})
    result = train(*jax.tree.map(lambda x: x * turn, (weights, gradients)))
    real = jax.tree.map(lambda x: np.asarray(x) * turn, train(weights, gradients))
    for x, y in zip(jax.tree.leaves(result), jax.tree.leaves(real), strict=True):
        assert np.max(np.abs(x - y)) < 2e-6 * np.max(np.abs(y))
