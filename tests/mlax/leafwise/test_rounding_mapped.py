"""`map_leaves` with an `Output`: random bits, new weights, and what every optimizer does with them."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from mlax import optim
from mlax.leafwise import Output, Rounding, Totals, map_leaves, reduce_leaves, totals
from mlax.leafwise._rounding import next_key, random_bits
from mlax.tree import tree_equal
from tests.mlax.devices import run_on_devices
from tests.mlax.generated_optimizers import (
    MODULES,
    analysis,
    arguments,
    every_optimizer,
    init,
    slots,
)
from tests.quickly import WITHOUT_LLVM

pytestmark = pytest.mark.one_python
optimized = pytest.mark.optimized

HALF = jnp.bfloat16


def bits(step: int, leaf: int, result: int, shape: tuple[int, ...] = (64, 64)) -> Any:
    """Return the random bits of one result, as flat numbers from -1/2 to 1/2."""
    key = Rounding(jnp.int32(step)).key("leaf")
    assert key is not None
    for places in [0, *[1] * leaf]:
        key = next_key(key, np.uint32(places))
    return np.asarray(random_bits(key, result, shape), np.float64).ravel() / 2**32 - 0.5


def test_random_bits_are_uniform_and_independent() -> None:
    """Over positions, steps, leaves and results, and of neighbours in each: all within 4.5 standard deviations."""
    block = np.array(
        [
            [[bits(step, leaf, which) for which in (1, 2, 3)] for leaf in range(4)]
            for step in range(12)
        ]
    )
    size = block.size
    assert abs(block.mean()) < 4.5 / np.sqrt(12 * size)
    counts = np.histogram(block, 256, (-0.5, 0.5))[0]
    assert ((counts - size / 256) ** 2 / (size / 256)).sum() < 255 + 4.5 * np.sqrt(2 * 255)
    # Of each position, over steps, leaves and results; and the other way round.
    for axes in ((0, 1, 2), (3,), (0,)):
        means = block.mean(axes)
        assert abs(means).max() < 6 / np.sqrt(12 * size / means.size)
    positions = block.reshape(12, 4, 3, 64, 64)
    for axis in range(5):
        for distance in (1, 2):
            a, b = (
                np.moveaxis(positions, axis, 0)[part]
                for part in (slice(distance, None), slice(None, -distance))
            )
            assert abs((a * b).mean() * 12) < 4.5 / np.sqrt(a.size), (axis, distance)


def test_sequences_that_overlap_do_not_run_alike() -> None:
    """Leaves of many elements have keys that are nearer to each other than they have elements."""
    first, second = (
        np.asarray(random_bits(jnp.uint32(key), 1, (4096,)), float) for key in (1_000, 1_005)
    )
    assert abs(np.corrcoef(first[5:], second[:-5])[0, 1]) < 4.5 / 64


def quickly(function: Any, *args: Any) -> Any:
    return jax.jit(function).lower(*args).compile(WITHOUT_LLVM)(*args)


def moved(h: Any, g: Array, m: Array, n: tuple[Array, Array]) -> tuple[Array, Array, Any]:
    # Each with one rounding, as XLA contracts products and sums in some programs.
    return g / 512, m + g / 256, (n[0] * 1.001, n[1] + g / 1024)


def trees(dtype: Any = HALF) -> dict[str, Any]:
    random = np.random.default_rng(0)
    leaves = [jnp.asarray(random.normal(size=(5, 7)), dtype) for _ in range(2)]
    wide = jnp.asarray(random.normal(size=(5, 7)), jnp.float32)
    return {"a": leaves[0], "b": [leaves[1], None], "c": wide}


def mapped(step: Any, tree: Any) -> Any:
    pair = jax.tree.map(lambda x: (x, x), tree)
    return map_leaves(moved, None, (tree,), (tree, pair), Output(tree, True, Rounding(step)))


@optimized
def test_each_result_is_its_own_and_reproducible() -> None:
    """The same under `jit`, `vmap` and eagerly. Float32 leaves are not affected. No two results get the same
    bits.
    """
    tree = trees()
    eager = mapped(jnp.int32(3), tree)
    assert tree_equal(eager, mapped(jnp.int32(3), tree))
    assert tree_equal(eager, quickly(mapped, jnp.int32(3), tree))
    batched = quickly(jax.vmap(mapped, in_axes=(0, None)), jnp.arange(2, 5), tree)
    assert tree_equal(eager, jax.tree.map(lambda x: x[1], batched))
    nearest, other = mapped(None, tree), jax.tree.map(lambda x: x[2], batched)
    for place, same in (("a", False), ("c", True)):
        for result, of_other_step, to_nearest in zip(eager, other, nearest, strict=True):
            assert tree_equal(result[place], of_other_step[place]) == same
            assert tree_equal(result[place], to_nearest[place]) == same


def third(h: Any, g: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
    return a + 1 / 768, a + 1 / 768, b + 1 / 768


@optimized
def test_leaves_and_results_are_rounded_independently() -> None:
    """Equal numbers, in two leaves, in two slots and as an update: no two go up together more often than by chance."""
    tree = [jnp.ones(3000, HALF), None, jnp.ones(3000, HALF)]
    results = map_leaves(
        third, None, (tree,), (tree, tree), Output(rounding=Rounding(jnp.int32(0)))
    )
    up = [np.asarray(x, float) > 1 for x in jax.tree.leaves(results)]
    assert all(abs(x.mean() - 1 / 6) < 0.03 for x in up)
    assert np.abs(np.corrcoef(up) - np.eye(6)).max() < 0.08


def summed(h: Any, g: Array, m: Array) -> tuple[tuple[Array], Totals]:
    return (m + g / 768,), totals(g=g)


@optimized
def test_slots_of_a_reduction_are_rounded_too() -> None:
    tree = jnp.ones(3000, HALF)
    (m,), sums = reduce_leaves(summed, None, (tree,), (tree,), Rounding(jnp.int32(0)))
    assert abs(float(jnp.mean(m.astype(float))) - 1 - 1 / 768) < 3e-4
    assert float(sums["g"]) == 3000
    ((m,), _) = reduce_leaves(summed, None, (tree,), (tree,))
    np.testing.assert_array_equal(m, tree)


def step_of(h: Any, g: Array) -> tuple[Array]:
    return (h * g,)


@optimized
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_new_weights_are_rounded_once(dtype: str) -> None:
    """The sum, not the update before it, for all weights whatever the option."""
    random = np.random.default_rng(1)
    w, g = (jnp.asarray(random.normal(size=4000), dtype) for _ in range(2))
    (new,) = map_leaves(step_of, 0.75, (g,), (), Output(w, True))
    exact = 0.75 * np.asarray(g, np.float64) + np.asarray(w, np.float64)
    np.testing.assert_array_equal(new, exact.astype(w.dtype))
    (update,) = map_leaves(step_of, 0.75, (g,), (), Output(w))
    assert (np.asarray(optim.apply_updates(update, w)) != np.asarray(new)).any()
    assert tree_equal(update, map_leaves(step_of, 0.75, (g,), ())[0])


@optimized
def test_updates_lead_to_the_stochastically_rounded_sum_where_they_can() -> None:
    """Always if they are smaller than half the weights; for most weights if both are of similar size."""
    random = np.random.default_rng(1)
    w, g = (jnp.asarray(random.normal(size=20_000), HALF) for _ in range(2))
    step = jnp.int32(0)
    for size, missed in ((0.01, (0, 0.005)), (0.77, (0.02, 0.25))):
        (new,) = map_leaves(step_of, size, (g,), (), Output(w, True, Rounding(step)))
        (update,) = map_leaves(step_of, size, (g,), (), Output(w, False, Rounding(step)))
        misses = np.asarray(optim.apply_updates(update, w)) != np.asarray(new)
        small = np.abs(np.asarray(g, float) * size) < 0.49 * np.abs(np.asarray(w, float))
        assert not misses[small].any()
        assert missed[0] <= misses.mean() <= missed[1]


def step_of_module(name: str, dtype: Any, *, applied: bool = True) -> tuple[str, Any]:
    """Return the jaxpr of a step on one leaf as text, and the state."""
    weights = {"w": jnp.ones((4, 3), dtype)}
    state = init(name, weights, stochastic_rounding=True)
    function = MODULES[name].apply_gradients if applied else MODULES[name].step
    run = functools.partial(function, **arguments(name, weights))
    return str(jax.make_jaxpr(run)(weights, state, weights)), state


@every_optimizer
def test_every_optimizer_rounds_all_that_is_narrow(name: str) -> None:
    """The weights, or the sum that updates lead to, and each array in a slot that is written; nothing in float32."""
    for applied in (True, False):
        text, state = step_of_module(name, HALF, applied=applied)
        written = [slot for phase in analysis(name).phases for slot in phase.slots]
        arrays = [x for slot in written for x in jax.tree.leaves(getattr(state, slot))]
        assert text.count("name=_stochastically") == 1 + len(arrays)
    assert "name=_stochastically" not in step_of_module(name, jnp.float32)[0]


@optimized
@pytest.mark.parametrize("name", ["adam", "dadapt_adamw"])
def test_wide_leaves_do_not_notice(name: str) -> None:
    """In a mixed tree; bit for bit."""
    weights = trees()
    results: list[Any] = []
    for stochastic in (False, True):
        state = init(name, weights, stochastic_rounding=stochastic)
        given = arguments(name, weights)
        new, after = MODULES[name].apply_gradients(weights, state, weights, **given)
        results.append([new, *slots(after).values()])
    assert not tree_equal(*results)
    for nearest, random in zip(*results, strict=True):
        assert tree_equal(nearest["c"], random["c"])


def test_the_weights_are_needed() -> None:
    optimizer = optim.Adam(stochastic_rounding=True)
    weights = {"w": jnp.ones(2, HALF)}
    message = r"Adam: step needs the weights \(stochastic_rounding\)"
    with pytest.raises(ValueError, match=message):
        optimizer.step(weights, optimizer.init(weights))
    with pytest.raises(ValueError, match="Adam: apply_gradients needs the weights"):
        optimizer.apply_gradients(weights, optimizer.init(weights), None)


def test_training_is_differentiated_as_if_nothing_were_rounded() -> None:
    def end(rate: Array) -> Array:
        weights = jnp.ones(64, HALF)
        state = optim.sgd.init(weights, learning_rate=rate, stochastic_rounding=True)
        for _ in range(3):
            weights, state = optim.sgd.apply_gradients(weights, state, weights)
        return jnp.mean(weights.astype(jnp.float32))

    slope = jax.grad(end)(jnp.float32(0.1))
    assert float(slope) == pytest.approx(-3 * 0.9**2, rel=0.02)


@optimized
def test_equal_leaves_are_traced_once_and_share_their_loops() -> None:
    """Leaves differ only in their key, which is computed outside their loops: eight leaves have the loops of
    one.
    """
    seen: list[Any] = []

    def leaf(h: Any, g: Array, m: Array) -> tuple[Array, Array]:
        seen.append(g)
        return g / 3, m + g / 3

    def step(count: Any, tree: Any) -> Any:
        return map_leaves(leaf, None, (tree,), (tree,), Output(tree, True, Rounding(count)))

    tree = [jnp.ones((32, 32), HALF)] * 8
    text = jax.jit(step).lower(jnp.int32(0), tree).compile(WITHOUT_LLVM).as_text()
    assert len(seen) == 1
    assert len(re.findall(r" remainder\(", text)) == 8
    text = re.sub(r", metadata=\{.*", "", text)
    bodies = re.findall(r"\n%fused_computation\S* (.*?)\n}", text, re.DOTALL)
    loops = {re.sub(r"(%|param_)[\w.]+", "", body) for body in bodies if "bf16[32,32]" in body}
    assert len(loops) < 5


@optimized
def test_adam_takes_six_bytes_a_weight() -> None:
    """Weights and both moments; a step keeps no array of the weights' shape in float32, and no random bits."""
    optimizer = optim.Adam(stochastic_rounding=True)
    weights = {"a": jnp.ones((96, 128), HALF), "b": jnp.ones((96, 128), HALF)}
    state = optimizer.init(weights)
    kept = sum(x.nbytes for x in jax.tree.leaves((weights, state.m, state.v)))
    assert kept == 6 * 2 * 96 * 128
    step = jax.jit(optimizer.apply_gradients, donate_argnums=(1, 2))
    compiled = step.lower(weights, state, weights).compile()
    arrays = re.findall(r"= (\w+)\[96,128\]", compiled.as_text().partition("\nENTRY")[2])
    assert set(arrays) == {"bf16"}
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes < kept + 2 * 2 * 96 * 128 + 100  # and the gradients
    assert memory.alias_size_in_bytes >= kept


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from mlax import optim, tree_equal

optimizer = optim.Adam(1e-3, stochastic_rounding=True)
whole = {"w": jnp.linspace(-1, 1, 8 * 6).reshape(8, 6).astype(jnp.bfloat16)}
mesh = jax.make_mesh((2,), ("x",))
split = jax.device_put(whole, NamedSharding(mesh, PartitionSpec("x", None)))
step = jax.jit(optimizer.apply_gradients)
results = [step(weights, optimizer.init(weights), weights) for weights in (whole, split)]
assert len(results[1][0]["w"].sharding.device_set) == 2
assert tree_equal(*jax.device_get(results))
nearest = jax.jit(optim.Adam(1e-3).apply_gradients)(whole, optim.Adam(1e-3).init(whole), whole)
assert not tree_equal(results[0][0], nearest[0])
"""


@optimized
@pytest.mark.filterwarnings("ignore:Adam. the dtype of these slots is too narrow")
def test_sharding_changes_nothing() -> None:
    run_on_devices(2, SHARDED)
