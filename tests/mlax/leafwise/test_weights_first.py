"""On CPU, new slots are written after weights computed from old ones: no slot is copied, and nothing else
changes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import optim
from mlax.experimental import optim as experimental
from mlax.leafwise import Output, _mapping, _weights_first, map_leaves
from tests.mlax.devices import run_on_devices
from tests.quickly import QUICKLY, WITHOUT_LLVM

pytestmark = [pytest.mark.one_python, pytest.mark.optimized]

FLOAT32, BFLOAT16 = jnp.float32, jnp.bfloat16

# Those whose weights are computed from old slots: by their equations, or as what is stored is rounded afterwards.
FROM_OLD_SLOTS: dict[str, tuple[Any, Any]] = {
    "lion": (optim.Lion(), FLOAT32),
    "lion, narrow": (optim.Lion(), BFLOAT16),
    "optimistic gradient descent": (optim.OptimisticGradientDescent(), FLOAT32),
    "sgd": (optim.SGD(momentum=0.9), BFLOAT16),
    "rmsprop": (optim.RMSprop(), BFLOAT16),
    "adam": (optim.Adam(stochastic_rounding=True), BFLOAT16),
    "adamw, to nearest": (optim.AdamW(b2=0.99), BFLOAT16),
    "narrow slots": (optim.Adam(b2=0.99, slot_dtype=BFLOAT16), FLOAT32),
    "inside": (
        optim.MultiOptimizer([optim.Lion(), optim.Adam()], [lambda path, _: path == "a"]),
        FLOAT32,
    ),
}
from_old_slots = pytest.mark.parametrize(
    ("optimizer", "dtype"), FROM_OLD_SLOTS.values(), ids=FROM_OLD_SLOTS
)


def weights_of(dtype: Any, count: int = 2**14) -> dict[str, Any]:
    return {name: jnp.linspace(-1, 1, count, dtype=dtype) for name in "ab"}


def one_step(optimizer: Any) -> Callable[..., Any]:
    def step(weights: Any, state: Any, gradients: Any) -> Any:
        return optimizer.apply_gradients(gradients, state, weights)

    return step


def several_steps(optimizer: Any) -> Callable[..., Any]:
    step = one_step(optimizer)

    def steps(weights: Any, state: Any, gradients: Any) -> Any:
        run = weights, state
        return jax.lax.scan(lambda run, _: (step(*run, gradients), None), run, length=3)[0]

    return steps


def temporaries(step: Any, *trees: Any) -> int:
    """Return the bytes that a step needs beside its arguments, with weights and state given for good."""
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*trees).compile(WITHOUT_LLVM)
    return int(compiled.memory_analysis().temp_size_in_bytes)


# The moments are computed from the last gradient; the second moment's last operation has one array; what the weights
# and a slot share is an expensive operation, which XLA would not repeat.
READ_BY_OTHERS = {
    "adan": optim.Adan(),
    "adabelief": optim.AdaBelief(),
    "adadelta": optim.AdaDelta(),
    "schedule-free": experimental.ScheduleFreeSGD(),
}


@pytest.mark.parametrize("optimizer", READ_BY_OTHERS.values(), ids=READ_BY_OTHERS)
def test_slots_that_other_slots_read_are_not_copied(optimizer: Any) -> None:
    test_no_slot_is_copied(optimizer, FLOAT32, dict)


@from_old_slots
@pytest.mark.parametrize("form", [dict, mlax.pack], ids=["plain", "packed"])
def test_no_slot_is_copied(optimizer: Any, dtype: Any, form: Any) -> None:
    weights: Any = form(weights_of(dtype))
    state = optimizer.init(weights)
    assert temporaries(one_step(optimizer), weights, state, weights) < 2**12  # a leaf has 2**15


def test_slots_that_sums_read_are_written_after_them() -> None:
    """Of D-adaptation's slots, only the second moment is copied before it is written, as in Optax."""
    count = 8
    weights = {str(i): jnp.zeros(2**14) for i in range(count)}
    optimizer = experimental.DAdaptAdamW()
    needed = temporaries(one_step(optimizer), weights, optimizer.init(weights), weights)
    assert needed < (count + 1.5) * weights["0"].nbytes  # otherwise 13


# A reduction of what is computed from several arrays comes between the loops that need it.
REDUCED = {
    "sm3": optim.SM3(),
    "lamb": optim.LAMB(),
    "lars": optim.LARS(),
    "adafactor": optim.Adafactor(min_dim_size_to_factor=8),
}


@pytest.mark.parametrize("optimizer", REDUCED.values(), ids=REDUCED)
def test_leaves_share_temporary_arrays(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA would compute all leaves at once, and keep the temporaries of all. The numbers are the same."""
    count = 5
    weights = {str(i): jnp.cos(i + jnp.arange(2.0**14)).reshape(128, 128) for i in range(count)}
    state = optimizer.init(weights)
    leaf = weights["0"].nbytes

    def compiled() -> Any:
        _mapping.update_leaf.clear_cache()
        return (
            jax.jit(one_step(optimizer), donate_argnums=(0, 1))
            .lower(weights, state, weights)
            .compile(WITHOUT_LLVM)
        )

    in_turn = compiled()
    monkeypatch.setattr(_weights_first, "_LARGE", 2**15)
    together = compiled()
    one, all_of_them = (run.memory_analysis().temp_size_in_bytes for run in (in_turn, together))
    assert one < 2.1 * leaf
    assert all_of_them > (count - 1) * leaf
    results = [
        run(*jax.tree.map(jnp.copy, (weights, state)), weights) for run in (in_turn, together)
    ]
    for x, y in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    _mapping.update_leaf.clear_cache()


def at_once(function: Callable[[Any], Any], slots: Any) -> Any:
    """Leave all of it to XLA."""
    return function(slots), False


def quickly(function: Any, *trees: Any) -> Any:
    """Compute something whose order is XLA's own affair."""
    return jax.jit(function, compiler_options=QUICKLY)(*trees)


@from_old_slots
@pytest.mark.parametrize("steps", [one_step, several_steps, "vmap", "derivative"])
def test_results_are_the_same(
    optimizer: Any, dtype: Any, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: Any = weights_of(dtype, count=40)
    state = optimizer.init(weights)

    def computed() -> Any:
        _mapping.update_leaf.clear_cache()
        step: Any = one_step(optimizer)
        if steps == "vmap":
            many = jax.tree.map(lambda w: jnp.stack([w, -w]), weights)
            return quickly(jax.vmap(step, in_axes=(0, None, 0)), many, state, many)
        if steps == "derivative":

            def loss(gradients: Any) -> Any:
                moved = step(*step(weights, state, gradients), gradients)[0]
                return sum((x.astype(FLOAT32) ** 2).sum() for x in jax.tree.leaves(moved))

            return quickly(jax.grad(loss), weights)
        return quickly(steps(optimizer), weights, state, weights)

    ordered = computed()
    monkeypatch.setattr(_mapping, "weights_first", at_once)
    narrow = BFLOAT16 in (dtype, getattr(optimizer, "slot_dtype", None))
    # Two programs: XLA joins the loops of each in its own way, and LLVM products with sums; what is then stored in
    # bfloat16 is now and then the next number.
    tolerance = 2.0**-7 if narrow else 1e-5
    for one, other in zip(jax.tree.leaves(ordered), jax.tree.leaves(computed()), strict=True):
        x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.max(np.abs(x - y)) <= tolerance * np.max(np.abs(y))
    _mapping.update_leaf.clear_cache()


def test_no_order_if_the_weights_read_only_new_slots() -> None:
    """Adam's weights are computed from the new moments where these are stored as they are. NovoGrad and Fromage
    reduce only arrays that are there.
    """
    weights = weights_of(FLOAT32)

    def lowered(optimizer: Any) -> str:
        return (
            jax.jit(one_step(optimizer)).lower(weights, optimizer.init(weights), weights).as_text()
        )

    for as_it_is in (optim.Adam(), optim.NovoGrad(), optim.Fromage()):
        assert "optimization_barrier" not in lowered(as_it_is)
    for ordered in (optim.Lion(), optim.LAMB()):
        assert "optimization_barrier" in lowered(ordered)


def test_step_does_not_order_updates() -> None:
    """XLA adds it where it is computed; `step` and what uses it have the copy, and no more."""
    weights, optimizer = weights_of(FLOAT32), optim.Lion()

    def step(weights: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.step(gradients, state, weights)
        return optim.apply_updates(updates, weights), state

    leaf = weights["a"].nbytes
    assert temporaries(step, weights, optimizer.init(weights), weights) < 2.1 * leaf


def positive(_: None, g: Any, m: Any) -> tuple[Any, Any]:
    return (g if m.sum() > 0 else -g), m


def test_without_jit_leaf_functions_see_numbers() -> None:
    ones = {"w": jnp.ones(2)}
    with jax.disable_jit():
        for output in (Output(), Output(weights=ones, applied=True)):
            moved, _ = map_leaves(positive, None, (ones,), (ones,), output)
            assert moved["w"][0] == 1 + output.applied


@pytest.mark.parametrize("broken", [jnp.nan, jnp.inf])
def test_infinite_and_nan_weights_do_not_reach_slots(broken: float) -> None:
    weights = {"w": jnp.asarray([1.0, broken])}
    optimizer = optim.Lion()
    new, state = jax.jit(optimizer.apply_gradients)(
        {"w": jnp.ones(2)}, optimizer.init(weights), weights
    )
    assert not np.isfinite(new["w"][1])
    np.testing.assert_array_equal(state.m["w"], np.float32(1 - 0.99) * np.ones(2, np.float32))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 6)])
@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [
        (optim.Lion(), jnp.complex64),
        (experimental.ACProp(), jnp.complex64),  # whose second slot is real
        (optim.RMSprop(slot_dtype=BFLOAT16), FLOAT32),
        (
            optim.Adafactor(1e-3, min_dim_size_to_factor=2, stochastic_rounding=True),
            BFLOAT16,
        ),  # slots of other shapes
    ],
    ids=lambda x: type(x).__name__,
)
def test_any_leaf_and_any_slot(optimizer: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    weights = {"w": jnp.ones(shape, dtype)}
    step: Any = jax.jit(one_step(optimizer))
    state = optimizer.init(weights)
    found = step(weights, state, weights)
    assert mlax.tree_equal(*(jax.tree.map(jnp.shape, trees) for trees in (found, (weights, state))))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mlax import optim

optimizer = optim.Lion()
weights = {"w": jnp.linspace(-1, 1, 32).reshape(8, 4)}
expected = jax.jit(optimizer.apply_gradients)(weights, optimizer.init(weights), weights)
for axis in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(axis,))
    sharding, whole = NamedSharding(mesh, P("d", None)), NamedSharding(mesh, P(None, None))
    mine = jax.device_put(weights, sharding)
    state = optimizer.init(mine)
    for slots in (state, state._replace(m=jax.device_put(state.m, whole))):
        moved = jax.jit(optimizer.apply_gradients)(mine, slots, mine)
        assert moved[0]["w"].sharding.is_equivalent_to(sharding, 2)
        jax.tree.map(np.testing.assert_array_equal, moved, expected)

    # Only the weights differ from device to device.
    once = {"w": weights["w"][:4]}
    step = lambda w, m: optimizer.apply_gradients(once, optimizer.init(once)._replace(m=m), w)
    manual = jax.shard_map(
        lambda w, m: (moved := step(w, m))[:1] + (moved[1].m,),
        mesh=mesh, in_specs=(P("d"), P()), out_specs=(P("d"), P()),
    )
    if axis is AxisType.Auto:
        found = jax.jit(manual)(mine, once)
        assert found[0]["w"].shape == (8, 4) and found[1]["w"].shape == (4, 4)
text = jax.jit(optimizer.apply_gradients).lower(mine, state, mine).compile().as_text()
assert "all-" not in text and "collective" not in text, text
"""


def test_sharded_weights_work() -> None:
    """However slots are sharded, and without a word between devices."""
    run_on_devices(2, SHARDED)
