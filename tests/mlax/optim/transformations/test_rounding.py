"""Wrappers round the numbers they store stochastically if an optimizer inside does.

Updates are a twentieth of the distance between neighbouring bfloat16 numbers: rounded to nearest,
no step changes anything.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mlax import optim
from tests.mlax.optim.transformations.examples import (
    EXAMPLES,
    SGD,
    arguments,
    rounding_stochastically,
)
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

STEPS = 120
STOCHASTIC_SGD = rounding_stochastically(SGD)

# What decays the weights by more than the distance between neighbours, or stores in float32, follows anyway.
NEVER_STALL = {"DecayWeights independent", "Frozen", "MasterWeights", "nested"}


@pytest.fixture(autouse=True)
def narrow_slots() -> Iterator[None]:
    """Slots are meant to be narrow here; the warnings of those that are not rounded stochastically are tested below."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"\w+: the dtype of these slots is too narrow", UserWarning
        )
        yield


def trees(dtype: Any) -> tuple[Any, Any]:
    """Return weights and gradients."""
    weights = {"a": jnp.ones((16, 16), dtype), "b": [jnp.ones(256, dtype), None]}
    return weights, jax.tree.map(lambda w: jnp.full_like(w, 2e-4), weights)


def trained(optimizer: Any, dtype: Any, *, by_updates: bool = False) -> Any:
    """Return weights after some steps, and the state."""
    weights, gradients = trees(dtype)
    extra = arguments(optimizer)

    def step(carry: Any, _: None) -> Any:
        weights, state = carry
        if by_updates:
            updates, state = optimizer.step(gradients, state, weights, **extra)
            return (optim.apply_updates(updates, weights), state), None
        return optimizer.apply_gradients(gradients, state, weights, **extra), None

    return lax.scan(step, (weights, optimizer.init(weights)), None, length=STEPS)[0]


def run(*functions: Any) -> list[Any]:
    """Return what functions give, compiled in one program."""
    compiled = jax.jit(lambda: [function() for function in functions]).lower().compile(QUICKLY)
    return list(compiled())


def movement(weights: Any) -> Any:
    return np.asarray([np.mean(1 - np.asarray(w, np.float64)) for w in jax.tree.leaves(weights)])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_mean_follows_float32(name: str) -> None:
    """By new weights, and by updates that are added; the two end on the same numbers, but for the updates' rounding."""
    optimizer = EXAMPLES[name]
    stochastic = rounding_stochastically(optimizer)
    (wide, _), (narrow, _), (moved, _), (added, _) = run(
        functools.partial(trained, optimizer, jnp.float32),
        functools.partial(trained, optimizer, jnp.bfloat16),
        functools.partial(trained, stochastic, jnp.bfloat16),
        functools.partial(trained, stochastic, jnp.bfloat16, by_updates=True),
    )
    expected = movement(wide)
    # A mean of 256 elements, each of which is off by about 0.01.
    np.testing.assert_allclose(movement(moved), expected, rtol=0.03, atol=1e-3)
    for by_weights, by_updates in zip(*map(jax.tree.leaves, (moved, added)), strict=True):
        # Updates are bfloat16 numbers too. If a weight and its update are alike in size, as where the weights have
        # decayed almost to zero, their sum can miss the rounded weight by one step.
        a, b = np.asarray(by_weights, np.float32), np.asarray(by_updates, np.float32)
        assert np.mean(a != b) < 0.01
        np.testing.assert_allclose(a, b, rtol=2**-6)
    if name != "nested":
        stalled = np.abs(movement(narrow)) < 0.2 * np.abs(expected)
        assert stalled.any() == (name not in NEVER_STALL)


def test_what_is_remembered_follows_too() -> None:
    """An average, slow weights and the weights that go back to them; whatever the dtype of the slow ones."""
    for wrap, slot in (
        (lambda inside: optim.AverageWeights(inside, 0.99), "average"),
        (lambda inside: optim.Lookahead(inside, slow_step_size=0.1), "slow"),
        (lambda inside: optim.Lookahead(inside, slow_step_size=0.1, slot_dtype="float32"), "slow"),
    ):
        (_, wide), (_, narrow), (moved, state) = run(
            functools.partial(trained, wrap(SGD), jnp.float32),
            functools.partial(trained, wrap(SGD), jnp.bfloat16),
            functools.partial(trained, wrap(STOCHASTIC_SGD), jnp.bfloat16),
        )
        expected = movement(getattr(wide, slot))
        np.testing.assert_allclose(movement(getattr(state, slot)), expected, rtol=0.1, atol=5e-4)
        assert (np.abs(movement(getattr(narrow, slot))) < 0.2 * expected).all()
        if slot == "slow":  # after the last step, which is one that goes back
            np.testing.assert_allclose(movement(moved), expected, rtol=0.1, atol=5e-4)


def test_lookahead_goes_back_to_slow_weights_before_rounding() -> None:
    """Slow weights in bfloat16 stay at 1 where float32 weights go half the way back to them, from 5e-4 further on."""
    lookahead = optim.Lookahead(optim.SGD(1e-3), 5, 0.5, slot_dtype=jnp.bfloat16)
    weights = jnp.ones(4)
    gradients = jnp.full_like(weights, 0.1)

    def step(carry: Any, _: None) -> Any:
        return lookahead.apply_gradients(gradients, carry[1], carry[0]), None

    (moved, state), _ = lax.scan(step, (weights, lookahead.init(weights)), None, length=1000)
    np.testing.assert_array_equal(state.slow, jnp.ones(4, jnp.bfloat16))
    np.testing.assert_allclose(1 - moved, 5e-4, rtol=1e-3)


def test_a_mean_of_many_gradients_does_not_stay_at_the_first() -> None:
    """200 gradients of 1, then 200 of 1.25: each changes the mean by less than half the distance to the next
    number.
    """
    found: list[float] = []
    for optimizer in (SGD, STOCHASTIC_SGD):
        accumulate = optim.AccumulateGradients(optimizer, 1000)
        weights = jnp.ones(256, jnp.bfloat16)

        def step(
            state: Any, size: Any, accumulate: Any = accumulate, weights: Any = weights
        ) -> Any:
            return accumulate.step(jnp.full_like(weights, size), state, weights)[1], None

        sizes = jnp.repeat(jnp.asarray([1, 1.25], jnp.bfloat16), 200)
        state, _ = lax.scan(step, accumulate.init(weights), sizes)
        found.append(float(np.mean(np.asarray(state.mean, float))))
    assert found == pytest.approx([1.0, 1.125], abs=0.005)


def test_optimizers_around_each_other_round_independently() -> None:
    """If two of them each subtract half the distance to the next number, a quarter of the weights gets both."""
    once = optim.DecayWeights(STOCHASTIC_SGD, 2**-9, independent=True)
    twice = optim.DecayWeights(once, 2**-9, independent=True)
    weights = jnp.ones(1000, jnp.bfloat16)
    moved, _ = twice.apply_gradients(jnp.zeros_like(weights), twice.init(weights), weights)
    taken = np.round((1 - np.asarray(moved, float)) * 2**8)
    np.testing.assert_allclose(np.bincount(taken.astype(int)) / 1000, [0.25, 0.5, 0.25], atol=0.05)


def test_groups_round_independently() -> None:
    """Each sees its part of the weights in its place, and so no two leaves are given the same bits."""
    groups = optim.MultiOptimizer([STOCHASTIC_SGD] * 2, [lambda path, w: path == "a"])
    weights = {name: jnp.ones(1000, jnp.bfloat16) for name in "ab"}
    gradients = jax.tree.map(lambda w: jnp.full_like(w, 0.015), weights)
    moved, _ = groups.apply_gradients(gradients, groups.init(weights), weights)
    a, b = (np.asarray(moved[name], float) for name in "ab")
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    alone, _ = STOCHASTIC_SGD.apply_gradients(gradients, STOCHASTIC_SGD.init(weights), weights)
    np.testing.assert_array_equal(moved["a"], alone["a"])


def test_master_weights_are_followed_to_nearest() -> None:
    master = optim.MasterWeights(rounding_stochastically(optim.Adam(1e-4, slot_dtype="bfloat16")))
    moved, state = jax.jit(lambda: trained(master, jnp.bfloat16))()
    jax.tree.map(
        lambda w, m: np.testing.assert_array_equal(w, m.astype(jnp.bfloat16)), moved, state.master
    )
    assert {m.dtype for m in jax.tree.leaves(state.inner.m)} == {jnp.dtype("bfloat16")}


def test_no_warning_where_nothing_stalls() -> None:
    weights, _ = trees(jnp.bfloat16)
    for wrap in (
        optim.AverageWeights,
        lambda inside: optim.AccumulateGradients(inside, 1000),
    ):
        with pytest.warns(UserWarning, match="slots is too narrow"):
            wrap(SGD).init(weights)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            wrap(STOCHASTIC_SGD).init(weights)
            wrap(optim.ClipGradients(STOCHASTIC_SGD, 1.0)).init(weights)
