"""Counts of steps stay at 2**31 - 1, and steps go on as before."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import optim
from mlax.experimental import optim as experimental
from tests.mlax.generated_optimizers import every_optimizer, init, step
from tests.mlax.optim.transformations.examples import EXAMPLES, arguments

pytestmark = pytest.mark.one_python

LAST = 2**31 - 1
WEIGHTS: Any = [jnp.linspace(-1, 1, 6).reshape(2, 3), jnp.ones(2)]
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)


@every_optimizer
def test_a_step_past_the_last_count_is_as_those_before(name: str) -> None:
    # One operation after the other, which are shared by all optimizers: no program has to be compiled.
    with jax.disable_jit():
        _, first = step(name, GRADIENTS, init(name, WEIGHTS), WEIGHTS)
        results: list[Any] = []
        for count in (LAST - 1000, LAST - 1):
            state = first._replace(step=jnp.int32(count))
            for _ in range(3):
                updates, state = step(name, GRADIENTS, state, WEIGHTS)
            results.append(updates)
    assert state.step == LAST
    for late, usual in zip(*map(jax.tree.leaves, results), strict=True):
        tolerance = 1e-3 if name == "noisy_sgd" else 1e-6  # the noise is another, and small
        np.testing.assert_allclose(late, usual, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("name", EXAMPLES)
def test_transformations_stay_at_the_last_count(name: str) -> None:
    optimizer: Any = EXAMPLES[name]
    weights = {"a": WEIGHTS[0], "b": WEIGHTS[1]}
    with jax.disable_jit():
        state = optimizer.init(weights)._replace(step=jnp.int32(LAST - 1))
        for _ in range(2):
            updates, state = optimizer.step(weights, state, weights, **arguments(optimizer))
    assert state.step == LAST
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(updates))


def turns(optimizer: Any, steps: int, changes: Any) -> list[int]:
    """Return in which of some steps, the first at the last count, something changes."""
    w = g = jnp.array([[1.0, 2.0], [0.0, 1.0]])
    state = optimizer.init(w)._replace(step=jnp.int32(LAST))
    found: list[int] = []
    for number in range(steps):
        before = changes(state, w)
        w, state = optimizer.apply_gradients(g, state, w)
        if not jnp.array_equal(changes(state, w), before):
            found.append(number)
    return found


def test_what_is_done_at_intervals_goes_on_past_the_last_count() -> None:
    sgd = optim.SGD(0.5)
    with jax.disable_jit():
        accumulating = optim.AccumulateGradients(sgd, 3)
        assert turns(accumulating, 9, lambda state, w: w) == [2, 5, 8]
        lookahead = optim.Lookahead(sgd, sync_period=3)
        assert turns(lookahead, 9, lambda state, w: state.slow) == [2, 5, 8]
        shampoo = experimental.Shampoo(0.5, interval=3)
        assert turns(shampoo, 7, lambda state, w: state.roots[0]) == [0, 3, 6]
        soap = experimental.SOAP(0.5, precondition_frequency=3)
        assert turns(soap, 7, lambda state, w: state.bases[1]) == [0, 3, 6]


def test_noise_goes_on_past_the_last_count() -> None:
    optimizer = optim.NoisySGD(1.0, eta=1.0, gamma=0.0)
    w, zeros = jnp.zeros(4), jnp.zeros(4)
    state = optimizer.init(w)
    key = state.key
    _, state = optimizer.step(zeros, state, w)
    assert (state.key == key).all()
    state = state._replace(step=jnp.int32(LAST - 1))
    noise: list[Any] = []
    for _ in range(4):
        updates, state = optimizer.step(zeros, state, w)
        noise.append(updates)
    assert len(np.unique(jnp.stack(noise))) == 16


def test_skipped_steps_stay_at_the_last_count() -> None:
    optimizer = optim.SkipNonFinite(optim.SGD(0.5), at_most=2)
    w, nan = jnp.ones(2), jnp.full(2, jnp.nan)
    last = jnp.int32(LAST)
    state = optimizer.init(w)._replace(skipped=last, consecutive=last)
    _, state = optimizer.step(nan, state, w)
    assert (state.consecutive, state.skipped) == (LAST, LAST)
    _, state = optimizer.step(w, state, w)
    assert (state.consecutive, state.skipped) == (0, LAST)
