"""Momentum, signs, running squares and averages: against MLX, Optax and NumPy."""

import functools
import inspect
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest

from mlax.optimizer import apply_updates
from mlax_optimizers import (
    adadelta,
    adagrad,
    asgd,
    lion,
    noisy_sgd,
    optimistic_gradient_descent,
    polyak_sgd,
    rmsprop,
    rprop,
    sgd,
    sign_sgd,
    signum,
)
from mlax_optimizers.experimental import grams, tiger
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
)
from tests.mlax.references import momentum as references_momentum

pytestmark = pytest.mark.one_python

OUTSIDE = {"eps_in_sqrt": False}
ADAGRAD = {"initial_accumulator_value": 0.0, "eps": 1e-8, **OUTSIDE}
MLX = [
    (lion, {"weight_decay": 0.0}, lambda: mlx_optimizers.Lion(1e-4)),
    (
        lion,
        {"learning_rate": cosine(jnp, 0.1), "b1": 0.8, "b2": 0.95, "weight_decay": 0.1},
        lambda: mlx_optimizers.Lion(cosine(mx, 0.1), [0.8, 0.95], 0.1),
    ),
    (rmsprop, {"decay": 0.99, **OUTSIDE}, lambda: mlx_optimizers.RMSprop(1e-2)),
    (
        rmsprop,
        {"learning_rate": cosine(jnp, 0.1), "decay": 0.8, "eps": 1e-4, **OUTSIDE},
        lambda: mlx_optimizers.RMSprop(cosine(mx, 0.1), 0.8, 1e-4),
    ),
    (adagrad, ADAGRAD, lambda: mlx_optimizers.Adagrad(1e-2)),
    (
        adagrad,
        {**ADAGRAD, "learning_rate": cosine(jnp, 0.1), "eps": 1e-4},
        lambda: mlx_optimizers.Adagrad(cosine(mx, 0.1), 1e-4),
    ),
    (adadelta, {}, lambda: mlx_optimizers.AdaDelta(1.0)),
    (
        adadelta,
        {"learning_rate": cosine(jnp, 3.0), "rho": 0.95, "eps": 1e-4},
        lambda: mlx_optimizers.AdaDelta(cosine(mx, 3.0), 0.95, 1e-4),
    ),
    (
        sgd,
        {"momentum": 0.9, "dampening": 0.5, "dampen_first_step": True},
        lambda: mlx_optimizers.SGD(1e-2, momentum=0.9, dampening=0.5),
    ),
]


def rprop_of_optax(*arguments: Any) -> optax.GradientTransformation:
    """Return Optax's Rprop without its delay of one step: its state holds the update that it will apply next."""
    late = optax.rprop(*arguments)

    def update(gradients: Any, state: Any, weights: Any = None) -> Any:
        _, state = late.update(gradients, state, weights)
        return jax.tree.map(jnp.negative, state[0].prev_updates), state

    return optax.GradientTransformation(late.init, update)


def decayed(weight_decay: float, transformation: Any) -> Any:
    return optax.chain(optax.add_decayed_weights(weight_decay), transformation)


SCHEDULED = {"learning_rate": cosine(jnp, 0.1)}
RATE = {"rate": cosine(np, 0.1)}

# Hyperparameters, the same for Optax, and what the reference in NumPy calls otherwise.
OPTAX = [
    (sign_sgd, {}, lambda: optax.sign_sgd(1e-4), {}),
    (sign_sgd, SCHEDULED, lambda: optax.sign_sgd(cosine(jnp, 0.1)), RATE),
    (signum, {}, lambda: optax.signum(1e-4), {}),
    (
        signum,
        {**SCHEDULED, "beta": 0.5},
        lambda: optax.signum(cosine(jnp, 0.1), 0.5),
        {**RATE, "beta": 0.5},
    ),
    (lion, {}, lambda: optax.lion(1e-4), {}),
    (
        lion,
        {**SCHEDULED, "b1": 0.8, "b2": 0.95, "weight_decay": 0.1},
        lambda: optax.lion(cosine(jnp, 0.1), 0.8, 0.95, weight_decay=0.1),
        {**RATE, "b1": 0.8, "b2": 0.95, "weight_decay": 0.1},
    ),
    (rmsprop, {}, lambda: optax.rmsprop(1e-2), {}),
    (
        rmsprop,
        {**SCHEDULED, "decay": 0.95, "eps": 1e-4, "initial_scale": 1.0, "momentum": 0.9},
        lambda: optax.rmsprop(cosine(jnp, 0.1), 0.95, 1e-4, 1.0, momentum=0.9),
        {**RATE, "decay": 0.95, "eps": 1e-4, "initial_scale": 1.0, "momentum": 0.9},
    ),
    (
        rmsprop,
        {"momentum": 0.9, "nesterov": True, "bias_correction": True, **OUTSIDE},
        lambda: optax.rmsprop(
            1e-2, momentum=0.9, nesterov=True, bias_correction=True, eps_in_sqrt=False
        ),
        {"momentum": 0.9, "nesterov": True, "bias_correction": True, **OUTSIDE},
    ),
    (
        # Corrected, the variance of one gradient is 0: what is left of it in the first step is rounding, which eps
        # has to outweigh for float32 to be compared. (With a smaller one, Optax takes roots of negative numbers.)
        rmsprop,
        {"centered": True, "bias_correction": True, "eps": 0.1},
        lambda: optax.rmsprop(1e-2, centered=True, bias_correction=True, eps=0.1),
        {"centered": True, "bias_correction": True, "eps": 0.1},
    ),
    (
        rmsprop,
        {**SCHEDULED, "centered": True, "initial_scale": 1.0, "weight_decay": 0.1},
        lambda: decayed(0.1, optax.rmsprop(cosine(jnp, 0.1), centered=True, initial_scale=1.0)),
        {**RATE, "centered": True, "initial_scale": 1.0, "weight_decay": 0.1},
    ),
    (
        rmsprop,  # PyTorch's
        {**SCHEDULED, **OUTSIDE, "momentum": 0.9, "rate_in_velocity": False},
        lambda: optax.chain(
            optax.scale_by_rms(eps_in_sqrt=False),
            optax.trace(0.9),
            optax.scale_by_learning_rate(cosine(jnp, 0.1)),
        ),
        {**RATE, **OUTSIDE, "momentum": 0.9, "rate_in_velocity": False},
    ),
    (
        rmsprop,
        {**SCHEDULED, "momentum": 0.9, "nesterov": True, "rate_in_velocity": False},
        None,
        {**RATE, "momentum": 0.9, "nesterov": True, "rate_in_velocity": False},
    ),
    (adagrad, {}, lambda: optax.adagrad(1e-2), {}),
    (
        adagrad,
        {**SCHEDULED, "initial_accumulator_value": 0.0, "eps": 1e-4, "weight_decay": 0.1},
        lambda: decayed(0.1, optax.adagrad(cosine(jnp, 0.1), 0.0, 1e-4)),
        {**RATE, "initial": 0.0, "eps": 1e-4, "weight_decay": 0.1},
    ),
    (
        adagrad,  # PyTorch's, with lr_decay=0.1
        {**ADAGRAD, "eps": 1e-10, "learning_rate": lambda step: 0.1 / (1 + 0.1 * step)},
        None,
        {"initial": 0.0, "eps": 1e-10, **OUTSIDE, "rate": lambda step: 0.1 / (1 + 0.1 * step)},
    ),
    (adadelta, {}, lambda: optax.adadelta(1.0), {}),
    (
        adadelta,
        {**SCHEDULED, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.1},
        lambda: optax.adadelta(cosine(jnp, 0.1), 0.95, 1e-4, 0.1),
        {**RATE, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.1},
    ),
    (rprop, {}, lambda: rprop_of_optax(1e-2), {}),
    (
        rprop,
        {
            "learning_rate": 0.1,
            "eta_minus": 0.3,
            "eta_plus": 1.7,
            "min_step_size": 0.05,
            "max_step_size": 0.2,
        },
        lambda: rprop_of_optax(0.1, 0.3, 1.7, 0.05, 0.2),
        {
            "rate": lambda step: 0.1,
            "eta_minus": 0.3,
            "eta_plus": 1.7,
            "min_step_size": 0.05,
            "max_step_size": 0.2,
        },
    ),
    (asgd, {}, None, {}),
    (
        asgd,
        {**SCHEDULED, "lambd": 0.1, "alpha": 0.5, "t0": 30.0, "weight_decay": 0.1},
        None,
        {**RATE, "lambd": 0.1, "alpha": 0.5, "t0": 30.0, "weight_decay": 0.1},
    ),
    (
        optimistic_gradient_descent,
        {},
        lambda: optax.optimistic_gradient_descent(1e-2),
        {},
    ),
    (
        optimistic_gradient_descent,
        {**SCHEDULED, "alpha": 0.7, "beta": 0.4},
        lambda: optax.optimistic_gradient_descent(cosine(jnp, 0.1), 0.7, 0.4),
        {**RATE, "alpha": lambda step: 0.7, "beta": lambda step: 0.4},
    ),
    (
        optimistic_gradient_descent,
        {"alpha": cosine(jnp, 0.7), "beta": cosine(jnp, 0.4)},
        None,
        {"alpha": cosine(np, 0.7), "beta": cosine(np, 0.4)},
    ),
    (
        sgd,
        {**SCHEDULED, "momentum": 0.9, "dampening": 0.5, "dampen_first_step": False},
        None,
        {**RATE, "momentum": 0.9, "dampening": 0.5},
    ),
    (tiger, {}, None, {}),
    (
        tiger,
        {**SCHEDULED, "beta": 0.8, "weight_decay": 0.1},
        None,
        {**RATE, "beta": 0.8, "weight_decay": 0.1},
    ),
    (grams, {}, None, {}),
    (
        grams,
        {**SCHEDULED, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
        None,
        {**RATE, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
    ),
]


@pytest.mark.parametrize(("module", "hyperparameters", "theirs"), MLX, ids=case_name)
def test_mlx(module: Any, hyperparameters: Any, theirs: Any) -> None:
    check_mlx(module, hyperparameters, theirs)


@pytest.mark.parametrize(("module", "hyperparameters", "theirs", "paper"), OPTAX, ids=case_name)
def test_optax_and_numpy(module: Any, hyperparameters: Any, theirs: Any, paper: Any) -> None:
    rate = inspect.signature(module.init).parameters["learning_rate"].default
    reference = getattr(references_momentum, module.__name__.rpartition(".")[2])
    check(module, hyperparameters, theirs, reference, {"rate": lambda step: rate} | paper)


@pytest.mark.parametrize("eps_in_sqrt", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e15])
def test_variances_of_rmsprop_are_never_negative(eps_in_sqrt: bool, scale: float) -> None:
    """With the same gradient in every step, centred means have no variance except rounding errors. In Optax that
    gives NaN.
    """
    options: dict[str, Any] = {"eps_in_sqrt": eps_in_sqrt, "bias_correction": True}
    g = scale * jnp.linspace(-1, 1, 50)
    theirs = optax.rmsprop(1e-2, centered=True, **options)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def finite(init: Any, step: Any) -> Any:
        def body(state: Any, _: Any) -> Any:
            updates, state = step(g, state)
            return state, jnp.isfinite(updates).all()

        return jax.lax.scan(body, init(g), length=STEPS)[1].all()

    assert finite(functools.partial(rmsprop.init, centered=True, **options), rmsprop.step)
    assert not finite(theirs.init, theirs.update)


def test_rprop_of_optax_is_one_step_late() -> None:
    """Optax 0.2.8 applies the update computed in the step before, if the sign is still the same."""
    late = optax.rprop(1e-2)
    weights, gradients = sequence(0, np.float32)

    def body(carry: Any, g: Any) -> Any:
        mine, theirs = carry
        updates, mine = rprop.step(g, mine)
        late_updates, theirs = late.update(g, theirs)
        return (mine, theirs), (updates, late_updates)

    states = rprop.init(weights), late.init(weights)
    _, (updates, late_updates) = jax.lax.scan(body, states, gradients)
    for mine, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(late_updates), strict=True):
        assert not theirs[0].any()
        np.testing.assert_array_equal(theirs[1:], jnp.where(mine[1:] == 0, 0.0, mine[:-1]))


@pytest.mark.parametrize("t0", [0.0, 30.0, 1e6])
def test_asgd_is_evaluated_at_the_average(t0: float) -> None:
    options = {"lambd": 0.1, "t0": t0}
    average = functools.partial(references_momentum.asgd, averaged=True, **options)
    with jax.enable_x64(True):
        weights, gradients = sequence(0, np.float64)

        @jax.jit
        def train(weights: Any, gradients: Any) -> Any:
            def body(carry: Any, g: Any) -> Any:
                updates, state = asgd.step(g, carry[1], carry[0])
                return (apply_updates(updates, carry[0]), state), None

            state = asgd.init(weights, learning_rate=0.1, **options)
            (weights, state), _ = jax.lax.scan(body, (weights, state), gradients)
            return asgd.evaluation_weights(state, weights)

        expected = jax.tree.map(lambda w, g: average(w, g, lambda step: 0.1), weights, gradients)
        assert difference(train(weights, gradients), expected) < 1e-12


# A loss for each step, below its supposed minimum in some.
LOSSES = 0.1 * np.cos(np.arange(STEPS)) + 0.05


def with_losses(init: Any, step: Any) -> Any:
    """Return an optimizer that counts its steps and passes each the loss."""

    def update(gradients: Any, state: Any, weights: Any) -> Any:
        inner, count = state
        updates, inner = step(gradients, inner, weights, value=jnp.asarray(LOSSES)[count])
        return updates, (inner, count + 1)

    def first(weights: Any, **hyperparameters: Any) -> Any:
        return init(weights, **hyperparameters), jnp.zeros((), jnp.int32)

    return SimpleNamespace(init=first, step=update, update=update)


# Optax 0.2.8 scales the gradient before it takes its norm, so that its `scaling` divides the step size where it should
# multiply it: as it says itself, and as it is here.
POLYAK: list[Any] = [
    ({}, {}, {}),
    ({"variant": "sps_plus"}, {"variant": "sps+"}, {"positive": True}),
    (
        {"max_learning_rate": 0.01, "f_min": -0.2, "eps": 1e-3},
        {"max_learning_rate": 0.01, "f_min": -0.2, "eps": 1e-3},
        {"max_learning_rate": 0.01, "f_min": -0.2, "eps": 1e-3},
    ),
    ({"scaling": cosine(jnp, 2.0)}, None, {"scaling": cosine(np, 2.0)}),
]


@pytest.mark.parametrize(("hyperparameters", "options", "paper"), POLYAK, ids=case_name)
def test_polyak_sgd(hyperparameters: Any, options: Any, paper: Any) -> None:
    module = with_losses(polyak_sgd.init, polyak_sgd.step)
    if options is not None:
        theirs = optax.polyak_sgd(**options)
        check(module, hyperparameters, lambda: with_losses(theirs.init, theirs.update))
    with jax.enable_x64(True):
        train = ours(module, hyperparameters)
        for seed in SEEDS:
            weights, gradients = sequence(seed, np.float64)
            flat = np.concatenate([np.ravel(w) for w in jax.tree.leaves(weights)])
            rows = [g.reshape(STEPS, -1) for g in jax.tree.leaves(gradients)]
            expected = references_momentum.polyak_sgd(
                flat, np.concatenate(rows, axis=1), LOSSES, **paper
            )
            result = jax.tree.leaves(train(weights, gradients))
            result = np.concatenate([np.ravel(w) for w in result])
            assert difference(result, expected) < 1e-12


@pytest.mark.parametrize(
    ("hyperparameters", "eta", "gamma", "seed"),
    [({}, 0.01, 0.55, 0), ({**SCHEDULED, "eta": 0.3, "gamma": 0.1, "seed": 7}, 0.3, 0.1, 7)],
    ids=["default", "scheduled"],
)
def test_noisy_sgd_is_sgd_with_noise(
    hyperparameters: Any, eta: float, gamma: float, seed: int
) -> None:
    """The noise of a leaf comes from the seed, the step, and the place of the leaf."""

    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def noisy(g: Any, step: Any, position: int) -> Any:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), position)
        noise = jax.random.normal(key, g.shape, g.dtype)
        return g + jnp.sqrt(eta / (step + 1.0) ** gamma) * noise

    @jax.jit
    def noised(gradients: Any) -> Any:
        leaves, treedef = jax.tree.flatten(gradients)
        steps = jnp.arange(STEPS)
        return treedef.unflatten([noisy(g, steps, i) for i, g in enumerate(leaves)])

    rate = hyperparameters.get("learning_rate", 1e-2)
    with jax.enable_x64(True):
        weights, gradients = (tree["layer"] for tree in sequence(0, np.float64))
        plain = ours(sgd, {"learning_rate": rate})(weights, noised(gradients))
        assert difference(ours(noisy_sgd, hyperparameters)(weights, gradients), plain) < 1e-12


def test_the_noise_has_the_variance_of_the_paper() -> None:
    """As in Optax: the standard deviations of 40,000 numbers each, which are accurate to 0.4 %."""
    zeros = jnp.zeros((200, 200))
    transformation = optax.noisy_sgd(1.0, 0.3, 0.55, key=0)
    step, update = jax.jit(noisy_sgd.step), jax.jit(transformation.update)
    state, theirs = noisy_sgd.init(zeros, learning_rate=1.0, eta=0.3), transformation.init(zeros)
    for t in range(1, 6):
        noise, state = step(zeros, state)
        other, theirs = update(zeros, theirs)
        for drawn in (noise, other):
            np.testing.assert_allclose(np.std(drawn), np.sqrt(0.3 / t**0.55), rtol=0.02)
            np.testing.assert_allclose(np.mean(drawn), 0, atol=0.02)
