"""The dtypes in which every generated optimizer computes and stores its numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.tree import tree_equal
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    close,
    every_case,
    every_optimizer,
    init,
    is_key,
    refuses_complex,
    slots,
    step,
    trees,
    types,
)

pytestmark = pytest.mark.one_python

SHAPES = [(), (0,), (3,), (2, 3), (2, 0), (2, 1, 3), (2, 2, 1, 2)]

# Options without which real numbers are put in, that do not turn with the weights; and no noise.
UNBIASED: dict[str, dict[str, Any]] = {
    "noisy_sgd": {"eta": 0.0},
    "yogi": {"initial_mean": 0.0},
}


def cast(tree: Any, dtype: Any, source: Any = None) -> Any:
    """Return a tree in another dtype: all leaves, or those in one dtype only."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if source is None or x.dtype == source else x, tree
    )


@every_case
@pytest.mark.parametrize("slot_dtype", [None, jnp.float32], ids=["own", "float32"])
def test_any_tree_of_weights(name: str, options: dict[str, Any], slot_dtype: Any) -> None:
    """Traced only: a step of every leaf type costs a compilation."""
    dtypes = [jnp.float32, jnp.bfloat16, jnp.float16]
    if not refuses_complex(name):
        dtypes.append(jnp.complex64)
    # Not every dtype in every shape: their interplay is nowhere.
    leaves = [
        jax.ShapeDtypeStruct(shape, dtypes[i % len(dtypes)]) for i, shape in enumerate(SHAPES)
    ]
    weights = {"a": leaves[:3], "b": (None, leaves[3], {}, [leaves[4:]], None), "c": ()}

    def run(weights: Any) -> Any:
        state = init(name, weights, slot_dtype=slot_dtype, **options)
        return state, step(name, weights, state, weights)

    state, (updates, after) = jax.eval_shape(run, weights)
    assert types(updates) == types(weights)
    assert types(after) == types(state)
    for slot in slots(state).values():
        assert jax.tree.structure(slot) == jax.tree.structure(weights)
        for x, w in zip(jax.tree.leaves(slot), jax.tree.leaves(weights), strict=True):
            wide = jnp.complex64 if w.dtype == jnp.complex64 else jnp.float32
            assert x.dtype == (wide if slot_dtype else w.dtype)
            assert x.shape == w.shape


@every_optimizer
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_float32_rounded(name: str, dtype: Any) -> None:
    """No slot that a phase stored is read again in the step: nothing is rounded twice."""
    weights, gradients = cast(trees(name), dtype)
    state = init(name, weights)
    for scale in (0.5, -0.7):
        scaled = jax.tree.map(lambda g, scale=scale: g * jnp.asarray(scale, dtype), gradients)
        _, state = step(name, scaled, state, weights)
    result = step(name, gradients, state, weights)
    exact = step(name, *cast((gradients, state, weights), jnp.float32, dtype))
    rounded = jax.tree.map(lambda x, like: x if is_key(x) else x.astype(like.dtype), exact, result)
    assert types(rounded) == types(result)
    assert tree_equal(result, rounded)


# Only if LLVM optimizes both programs does it contract the same products and sums of this one.
CONTRACTED = pytest.param("optimistic_adam", marks=pytest.mark.optimized)


@pytest.mark.parametrize(
    "name", [CONTRACTED if name == "optimistic_adam" else name for name in MODULES]
)
def test_wide_slots_of_half_precision_weights(name: str) -> None:
    weights, gradients = cast(trees(name), jnp.bfloat16)
    state = init(name, weights, slot_dtype=jnp.float32)
    updates, after = step(name, gradients, state, weights)
    wide_weights, wide_gradients = cast((weights, gradients), jnp.float32)
    expected_updates, expected = step(name, wide_gradients, init(name, wide_weights), wide_weights)
    assert tree_equal(slots(after), slots(expected))
    assert tree_equal(updates, cast(expected_updates, jnp.bfloat16))
    if slots(state):
        with pytest.raises((TypeError, ValueError), match=r"weights"):
            MODULES[name].step(gradients, state, **arguments(name, gradients))


@every_optimizer
def test_complex_weights(name: str) -> None:
    """Real gradients in complex form move weights as real ones do; and rotating everything rotates the update.

    A complex square root and division take several roundings each, hence twice the tolerance; and schedule-free
    updates are differences of weights, which are a hundred times larger.
    """
    weights, gradients = trees(name)
    z, w = cast((gradients, weights), jnp.complex64)
    if refuses_complex(name):
        with pytest.raises(
            TypeError, match=r"complex leaves are not supported: .*\n.*weights\['a'\]"
        ):
            init(name, z)
        return
    options = UNBIASED.get(name, {})
    rtol = 2e-4 if name.startswith("schedule_free") else 2e-6
    real, _ = step(name, gradients, init(name, weights, **options), weights)
    updates, _ = step(name, z, init(name, w, **options), w)
    assert close(jax.tree.map(jnp.real, updates), real, rtol=rtol)
    turned, turned_weights = jax.tree.map(lambda x: x * 1j, (z, w))
    updates, _ = step(name, turned, init(name, turned_weights, **options), turned_weights)
    assert close(jax.tree.map(lambda x: (x / 1j).real, updates), real, rtol=rtol)
    assert np.all([x.dtype == jnp.complex64 for x in jax.tree.leaves(updates)])
