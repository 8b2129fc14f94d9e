"""An optimizer warns about a slot in half precision if and only if the slot goes wrong.

This is measured. One slot at a time is kept in a narrow dtype, rounded to nearest or
stochastically, and everything else in float32, for thousands of steps with noisy gradients: of
about 1, then 0.02 in the last third; and of 5e-5. A slot is wrong if it is off by more than a
quarter of its size after any third. Slots that are right are off by less than a tenth, or with
stochastic rounding by less than a fifth.
"""

import functools
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mlax.leafwise import Rounding
from mlax.leafwise._rounding import random_bits, rounded
from tests.mlax.generated_optimizers import (
    MODULES,
    case_name,
    entries,
    step,
)
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

# In which dtype a slot is kept, and whether it is rounded stochastically.
ROUNDINGS = [("bfloat16", False), ("float16", False), ("bfloat16", True)]
SIZES = [(1.0, 1.0, 0.02), (5e-5, 5e-5, 5e-5)]  # of gradients, by thirds
WRONG = 0.25

# Of each third; a sum in float16 stalls only after so many.
STEPS = {"madgrad": 40_000, "schedule_free_sgd": 40_000}
# Where a vector has other slots than a matrix.
SHAPES = {"adafactor": [(2, 3), (3,)], "muon": [(2, 3), (3,)]}

# Where the defaults do not show in so few steps what they do in more, or not all slots are there.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adafactor": [{"min_dim_size_to_factor": 2, "momentum": 0.9}],
    "adai": [
        {"b0": 1e-3}
    ],  # the second moments of these gradients are alike, so that all decays are 1 - b0
    "adam": [{}, {"b2": 0.995}, {"b1": 0.997, "b2": 0.997}],
    "asgd": [{"t0": 0.0}],
    "rmsprop": [{"centered": True, "momentum": 0.9}],
    "schedule_free_adamw": [{"learning_rate": 2e-4}],
    "sgd": [{"momentum": 0.9}, {"momentum": 0.999}],
    "shampoo": [{}, {"b2": 0.9}],
    "yogi": [{"b2": 0.5}],
}
# Whether Yogi adds half a square or takes it is decided by the smallest difference: of two runs that differ in one bit
# each ends elsewhere, with one mean (to 0.2 %, where the slot spreads by 60 %). Rounded to nearest it stays together.
CHAOTIC = ("yogi", {"b2": 0.5})
# Columns that are as right with the other sign: no step differs, and the next ones have it too. Rounding decides which
# sign it is where the momentum hardly has a second direction.
EITHER_SIGN = {("dion", "q")}
CASES = [(name, options) for name in MODULES for options in OPTIONS.get(name, [{}])]


@functools.partial(jax.jit, static_argnums=1)  # traced once for all slots of a shape
def narrowed(x: Any, rounding: tuple[str, bool], step: Any) -> Any:
    """Round an array as `map_leaves` stores a slot."""
    dtype, stochastic = rounding
    bits = None
    if stochastic:
        key = Rounding(step).key("leaf")
        assert key is not None
        bits = random_bits(key, 1, x.shape)
    # Behind a barrier: XLA leaves out a conversion that is undone at once.
    return lax.optimization_barrier(rounded(x, jnp.dtype(dtype), bits)).astype(x.dtype)


def numbers(name: str) -> tuple[list[Any], list[Any]]:
    """Return weights for each size of gradients, and a gradient for each step of each third."""
    random = np.random.default_rng(0)
    weights: list[Any] = []
    gradients: list[Any] = []
    for shape in SHAPES.get(name, [(2, 3)]):
        every = (len(SIZES), *shape)
        slope = random.choice([-0.5, 0.5], every)
        noise = random.normal(size=(3, STEPS.get(name, 8_000), *every))
        sizes = np.reshape(np.transpose(SIZES), (3, 1, len(SIZES), *(1 for _ in shape)))
        weights.append(jnp.asarray(random.normal(size=every), jnp.float32))
        gradients.append(jnp.asarray(sizes * (slope + noise), jnp.float32))
    return weights, gradients


def roundings(name: str, options: dict[str, Any]) -> list[tuple[str, bool]]:
    return ROUNDINGS[:2] if (name, options) == CHAOTIC else ROUNDINGS


def slots_that_go_wrong(name: str, options: dict[str, Any]) -> set[tuple[str, str, bool]]:
    every_weights, every_gradients = numbers(name)
    slots = list(entries(MODULES[name].init([w[0] for w in every_weights], **options)))
    choices = [(slot, rounding) for slot in slots for rounding in roundings(name, options)]

    def run(choice: Any, weights: Any, gradients: Any) -> Any:
        def one_step(state: Any, x: Any) -> tuple[Any, None]:
            way, gradients = x
            _, new = step(name, gradients, state, [w * way for w in weights])
            for index, (slot, rounding) in enumerate(choices):
                stored = jax.tree.map(
                    lambda x, here=choice == index, rounding=rounding: jnp.where(
                        here, narrowed(x, rounding, state.step), x
                    ),
                    getattr(new, slot),
                )
                new = new._replace(**{slot: stored})
            if hasattr(new, "d"):  # the gradients are of no loss, and the estimate would not end
                new = new._replace(d=state.d)
            return new, None

        def third(state: Any, xs: Any) -> tuple[Any, Any]:
            state, _ = lax.scan(one_step, state, xs)
            return state, {slot: getattr(state, slot) for slot in slots}

        way = np.linspace(1, 2, 3 * gradients[0].shape[1], dtype=np.float32).reshape(3, -1)
        return lax.scan(third, MODULES[name].init(weights, **options), (way, gradients))[1]

    # One program for all choices, the last of which narrows nothing, and for gradients of all sizes.
    every_run = jax.vmap(jax.vmap(run, (None, 0, 2)), (0, None, None))
    given = np.arange(len(choices) + 1), every_weights, every_gradients
    results = jax.device_get(jax.jit(every_run, compiler_options=QUICKLY)(*given))
    wrong: set[tuple[str, str, bool]] = set()
    for index, (slot, rounding) in enumerate(choices):
        for x in jax.tree.leaves(results[slot]):
            wide = np.asarray(x, np.float64)
            found, right = wide[index], wide[-1]
            if (name, slot) in EITHER_SIGN:
                found = found * np.sign(np.sum(found * right, axis=-2, keepdims=True))
            found, right = (y.reshape(*y.shape[:2], -1) for y in (found, right))
            sizes = np.linalg.norm(right, axis=-1)
            if (np.linalg.norm(found - right, axis=-1) > WRONG * sizes).any():
                wrong.add((slot, *rounding))
    return wrong


def slots_warned_of(name: str, options: dict[str, Any]) -> set[tuple[str, str, bool]]:
    found: set[tuple[str, str, bool]] = set()
    for dtype, stochastic in ROUNDINGS:
        weights = [jnp.ones(shape, dtype) for shape in SHAPES.get(name, [(2, 3)])]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            MODULES[name].init(weights, **options, stochastic_rounding=stochastic)
        for warning in caught:
            for slot, named in re.findall(r"state\.(\w+)\S* in (\w+)", str(warning.message)):
                found.add((slot, named, stochastic))
    return found


@pytest.mark.parametrize(("name", "options"), CASES, ids=case_name)
def test_warns_where_a_slot_goes_wrong(name: str, options: dict[str, Any]) -> None:
    warned = slots_warned_of(name, options)
    assert warned == slots_that_go_wrong(name, options)
    assert not any(stochastic for _, _, stochastic in warned)


def test_either_sign_of_dions_directions_is_right() -> None:
    (w,), (g,) = ([x[0] for x in leaves] for leaves in numbers("dion"))
    state = MODULES["dion"].init([w])
    signs = jnp.array([1.0, -1.0])
    updates, new = step("dion", [g[0, 0]], state, [w])
    others, turned = step("dion", [g[0, 0]], state._replace(q=[state.q[0] * signs]), [w])
    for x, y in ((updates, others), (new.m, turned.m), (new.q, [turned.q[0] * signs])):
        np.testing.assert_allclose(x[0], y[0], rtol=1e-5, atol=1e-6)
