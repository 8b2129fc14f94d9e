"""Transformations compared with Optax, MLX, and NumPy written from the papers."""

from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import optax.contrib
import pytest

from mlax import optim

pytestmark = pytest.mark.one_python

STEPS = 24


def initial(dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "a": jnp.asarray(rng.normal(size=(2, 3)), dtype),
        "b": jnp.asarray(rng.normal(size=3), dtype),
    }


def sequence(dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "a": jnp.asarray(rng.normal(size=(STEPS, 2, 3)), dtype),
        "b": jnp.asarray(rng.normal(size=(STEPS, 3)), dtype),
    }


LOSSES = jnp.asarray(np.random.default_rng(2).uniform(size=STEPS), jnp.float32)


def path_of(optimizer: Any, gradients: Any = None, **arguments: Any) -> tuple[Any, Any]:
    """Return the weights after each step, and the last state."""

    def body(carry: Any, given: Any) -> Any:
        weights, state = carry
        gradient, extra = given
        weights, state = optimizer.apply_gradients(gradient, state, weights, **extra)
        return (weights, state), weights

    weights = initial()
    given = (sequence() if gradients is None else gradients, arguments)
    (_, state), weights = jax.lax.scan(body, (weights, optimizer.init(weights)), given)
    return weights, state


def optax_path(transformation: Any, gradients: Any = None, **arguments: Any) -> Any:
    transformation = optax.with_extra_args_support(transformation)

    def body(carry: Any, given: Any) -> Any:
        weights, state = carry
        gradient, extra = given
        updates, state = transformation.update(gradient, state, weights, **extra)
        weights = optax.apply_updates(updates, weights)
        return (weights, state), weights

    weights = initial()
    given = (sequence() if gradients is None else gradients, arguments)
    return jax.lax.scan(body, (weights, transformation.init(weights)), given)[1]


def assert_same(ours: Any, theirs: Any, rtol: float = 1e-6) -> None:
    """Largest difference over largest value, per leaf."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        difference = np.abs(np.asarray(a) - np.asarray(b))
        assert difference.max() <= rtol * np.abs(b).max()


def test_accumulate_gradients_is_multi_steps() -> None:
    ours, _ = path_of(optim.AccumulateGradients(optim.Adam(0.1), 3))
    assert_same(ours, optax_path(optax.MultiSteps(optax.adam(0.1), 3).gradient_transformation()))
    changes = np.abs(np.diff(np.asarray(ours["a"]), axis=0)).max((1, 2)) > 0
    assert [i + 2 for i in np.flatnonzero(changes)] == list(range(3, STEPS + 1, 3))


def test_a_mean_gradient_begins_anew() -> None:
    """An infinity is in the mean of its own batch only, in front of a transformation that skips it."""
    gradients = sequence()
    gradients["a"] = gradients["a"].at[1].set(jnp.inf)
    optimizer = optim.AccumulateGradients(optim.SkipNonFinite(optim.SGD(0.1)), 3)
    weights, state = path_of(optimizer, gradients)
    assert int(state.inner.skipped) == 1
    assert np.isfinite(weights["a"]).all()


def test_skip_non_finite_is_apply_if_finite() -> None:
    """The third in a row is let through, as there."""
    gradients = sequence()
    gradients["b"] = gradients["b"].at[jnp.array([3, 7, 8]), 1].set(jnp.nan)
    optimizer = optim.SkipNonFinite(optim.Adam(0.1), 2)
    ours, state = path_of(optimizer, gradients)
    assert_same(ours, optax_path(optax.apply_if_finite(optax.adam(0.1), 2), gradients))
    assert (int(state.skipped), int(state.consecutive)) == (3, 0)
    gradients["b"] = gradients["b"].at[9, 0].set(jnp.inf)
    ours, state = path_of(optimizer, gradients)
    theirs = optax_path(optax.apply_if_finite(optax.adam(0.1), 2), gradients)
    np.testing.assert_array_equal(np.isnan(ours["b"]), np.isnan(theirs["b"]))
    assert np.isnan(np.asarray(ours["b"])[9:]).any()
    assert not np.isnan(np.asarray(ours["b"])[:9]).any()
    gradients["b"] = gradients["b"].at[10:12].set(jnp.inf)
    state = path_of(optimizer, gradients)[1]
    assert int(state.skipped) == 3  # one at 3, and the first two of the five from 7 on
    assert np.isfinite(path_of(optim.SkipNonFinite(optim.Adam(0.1)), gradients)[0]["b"]).all()


def test_lookahead_is_optax() -> None:
    """Whose weights are pairs of fast and slow ones."""
    ours, state = path_of(optim.Lookahead(optim.Adam(0.1), sync_period=5, slow_step_size=0.3))
    transformation = optax.lookahead(optax.adam(0.1), 5, 0.3)
    both = optax.LookaheadParams.init_synced(initial())

    def body(carry: Any, gradient: Any) -> Any:
        both, state = carry
        updates, state = transformation.update(gradient, state, both)
        both = optax.apply_updates(updates, both)
        return (both, state), both.fast

    (both, _), fast = jax.lax.scan(body, (both, transformation.init(both)), sequence())
    assert_same(ours, fast)
    assert_same(state.slow, both.slow)


def test_reduce_on_plateau_is_optax() -> None:
    """With and without rest, and on means of losses."""
    for options in (
        {"patience": 2},
        {"patience": 1, "cooldown": 2, "factor": 0.5},
        {"patience": 1, "accumulation_size": 3, "factor": 0.7, "min_scale": 0.4, "atol": 0.1},
    ):
        ours, state = path_of(optim.ReduceOnPlateau(optim.Adam(0.1), **options), value=LOSSES)
        theirs = optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(**options))
        assert_same(ours, optax_path(theirs, value=LOSSES))
        assert float(state.scale) < 1


@pytest.mark.parametrize("rising", [0.0, 1e-5, -1e-5])
def test_a_plateau_may_be_negative(rising: float) -> None:
    """A margin is a fraction of the size of the loss. With Optax, a loss of -1 that stays is always an improvement."""
    optimizer = optim.ReduceOnPlateau(optim.SGD(0.1), patience=2, factor=0.5)
    losses = -1 + rising * np.arange(7)
    scales = [plateau(optimizer, value).scale for value in (losses, losses + 2)]
    assert scales == [0.125, 0.125]


def test_a_negative_loss_improves_by_its_margin() -> None:
    optimizer = optim.ReduceOnPlateau(optim.SGD(0.1), patience=2, factor=0.5, rtol=0.1)
    state = plateau(optimizer, np.array([-10.0, -10.5, -11.5, -12.0, -12.5]))
    assert (state.best, state.scale) == (-11.5, 0.5)


def test_a_shorter_patience_may_be_over_at_once() -> None:
    patient, optimizer = (
        optim.ReduceOnPlateau(optim.SGD(0.1), patience=patience, factor=0.5) for patience in (10, 3)
    )
    weights = jnp.ones(2)
    state = patient.init(weights)
    for _ in range(8):
        _, state = patient.step(weights, state, value=1.0)
    state = optim.migrate(state, optimizer, weights)
    assert state.scale == 1
    _, state = optimizer.step(weights, state, value=1.0)
    assert state.scale == 0.5


def plateau(optimizer: optim.ReduceOnPlateau, losses: np.ndarray) -> Any:
    """Return the state after some losses."""
    gradients = {"a": np.zeros((len(losses), 2, 3)), "b": np.zeros((len(losses), 3))}
    gradients = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradients)
    return path_of(optimizer, gradients, value=jnp.asarray(losses, jnp.float32))[1]


def test_decay_weights_is_adamw() -> None:
    """With a mask, and with schedules of both numbers."""

    def only_matrices(path: str, w: Any) -> bool:
        return w.ndim == 2

    ours, _ = path_of(optim.DecayWeights(optim.Adam(0.1), 0.3, only_matrices))
    mask = {"a": True, "b": False}
    assert_same(ours, optax_path(optax.adamw(0.1, weight_decay=0.3, mask=mask)))

    def rate(step: Any) -> Any:
        return 0.1 / (1 + step)

    ours, _ = path_of(optim.DecayWeights(optim.Adam(rate), rate))
    assert_same(ours, path_of(optim.AdamW(rate, weight_decay=rate))[0])
    ours, _ = path_of(optim.DecayWeights(optim.SGD(0.1), 0.02, independent=True))
    assert_same(ours, path_of(optim.DecayWeights(optim.SGD(0.1), 0.2))[0])


def test_average_weights_is_an_average() -> None:
    """Exponential, and of all weights since the first."""
    weights, state = path_of(optim.AverageWeights(optim.Adam(0.1), 0.8))
    average = initial()
    for i in range(STEPS):
        average = optax.incremental_update(jax.tree.map(lambda x, i=i: x[i], weights), average, 0.2)
    assert_same(state.average, average)

    optimizer = optim.AverageWeights(optim.Adam(0.1), lambda step: step / (step + 1))
    weights, state = path_of(optimizer)
    assert_same(state.average, jax.tree.map(lambda x: x.mean(0), weights))
    assert_same(optimizer.evaluation_weights(state, initial()), state.average, 0.0)


def test_scale_updates_is_other_learning_rates() -> None:
    def scale(path: str, w: Any) -> float:
        return 0.25 if path == "a" else 1.0

    ours, _ = path_of(optim.ScaleUpdates(optim.Adam(0.1), scale))
    theirs = optax.multi_transform(
        {"slow": optax.adam(0.025), "fast": optax.adam(0.1)}, {"a": "slow", "b": "fast"}
    )
    assert_same(ours, optax_path(theirs))


def test_multi_optimizer_is_optax_and_mlx() -> None:
    """Each with its own; the first filter that holds counts, and the last optimizer gets the rest."""
    optimizers = [optim.SGD(0.1, momentum=0.9), optim.Adam(0.3), optim.Lion(0.01)]
    filters = [lambda path, w: path == "a", lambda path, w: True]
    ours, _ = path_of(optim.MultiOptimizer(optimizers, filters))
    alone = {"a": path_of(optimizers[0])[0]["a"], "b": path_of(optimizers[1])[0]["b"]}
    assert_same(ours, alone)
    theirs = optax.multi_transform(
        {"sgd": optax.sgd(0.1, 0.9), "lion": optax.lion(0.01)}, {"a": "sgd", "b": "lion"}
    )
    decayed = optim.MultiOptimizer(
        [optimizers[0], optim.Lion(0.01, weight_decay=1e-3)], filters[:1]
    )
    assert_same(path_of(decayed)[0], optax_path(theirs))

    mlx = mlx_optimizers.MultiOptimizer(
        [mlx_optimizers.SGD(0.1, momentum=0.9), mlx_optimizers.Lion(0.01)], filters[:1]
    )
    weights = {name: mx.array(np.asarray(w)) for name, w in initial().items()}
    mlx.init(weights)
    for i in range(STEPS):
        gradients = {name: mx.array(np.asarray(g[i])) for name, g in sequence().items()}
        weights = mlx.apply_gradients(gradients, weights)
    plain = optim.MultiOptimizer([optimizers[0], optim.Lion(0.01, weight_decay=0.0)], filters[:1])
    last = jax.tree.map(lambda x: x[-1], path_of(plain)[0])
    assert_same(last, {name: np.array(w) for name, w in weights.items()})


def test_master_weights_are_float32_training() -> None:
    """Only the result is rounded: the weights are those of float32 training, to the last bit of bfloat16."""
    single = optim.SGD(1e-3, momentum=0.9)
    optimizer = optim.MasterWeights(single)
    weights = jax.tree.map(lambda w: w.astype(jnp.bfloat16), initial())
    wide = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
    state, wide_state = optimizer.init(weights), single.init(wide)
    for i in range(STEPS):
        gradients = jax.tree.map(lambda g, i=i: g[i].astype(jnp.bfloat16), sequence())
        weights, state = optimizer.apply_gradients(gradients, state, weights)
        wide_gradients = jax.tree.map(lambda g: g.astype(jnp.float32), gradients)
        wide, wide_state = single.apply_gradients(wide_gradients, wide_state, wide)
    assert_same(state.master, wide, 0.0)
    assert_same(
        jax.tree.map(jnp.float32, weights),
        jax.tree.map(lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), wide),
        0.0,
    )


def test_an_update_keeps_what_the_optimizer_inside_stores() -> None:
    """Around master weights, `apply_gradients` gives the rounded sum, where a difference would round twice."""
    weights = {
        "a": jnp.full(1000, 1.0, jnp.bfloat16) * jnp.linspace(0.5, 2, 1000).astype(jnp.bfloat16)
    }
    optimizer = optim.ClipGradients(optim.MasterWeights(optim.SGD(0.1)), max_norm=1e3)
    state = optimizer.init(weights)
    gradients = {"a": jnp.linspace(-5, 5, 1000).astype(jnp.bfloat16)}
    new, state = optimizer.apply_gradients(gradients, state, weights)
    master = state.inner.master["a"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.float32(new["a"]), np.float32(master))
