"""The pieces of `init` and `step`, one by one."""

import pickle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, optim
from mlax.optimizer import (
    apply_updates,
    follow_schedules,
    initial,
    merged,
    no_steps,
    one_more,
    trainable,
    zeros,
)
from mlax.typing import LeafMismatchError, runtime_checks
from mlax_optimizers import adam
from tests.mlax.devices import run_on_devices

pytestmark = pytest.mark.one_python


def test_no_steps() -> None:
    assert (no_steps().dtype, no_steps().shape, int(no_steps())) == (jnp.int32, (), 0)
    assert not no_steps().weak_type


@pytest.mark.parametrize(
    ("count", "intervals", "expected"),
    [
        (0, [], 1),
        (2**31 - 2, [], 2**31 - 1),
        (2**31 - 1, [], 2**31 - 1),
        (0, [1], 0),
        (1, [3], 2),
        (2, [3], 0),
        (7, [3], 0),  # the interval has become shorter
        (3, [2, 3], 4),
        (5, [2, 3], 0),
        (2**31 - 1, [2**31 - 1, 2**31 - 2], 0),
    ],
)
def test_one_more(count: int, intervals: list[int], expected: int) -> None:
    result = one_more(jnp.int32(count), *intervals)
    assert (result, result.dtype, result.shape) == (expected, jnp.int32, ())
    assert not result.weak_type


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        0.5,
        np.float32(0.5),
        lambda step: 0.5,
        lambda step: jnp.bfloat16(0.5),
        lambda step: np.float64(0.5),
    ],
)
def test_scalars_have_the_default_float_dtype(value: Any, x64: bool) -> None:
    with jax.enable_x64(x64):
        scalar = initial(value)
        assert scalar.dtype == (jnp.float64 if x64 else jnp.float32)
        assert not scalar.weak_type
        assert scalar == 0.5
        assert initial(jnp.float32(0.5)).dtype == scalar.dtype


def test_initial_values() -> None:
    assert initial(None) is None
    assert initial(lambda step: step + 3) == 3
    given = jnp.float32(0.5)
    assert initial(given).unsafe_buffer_pointer() != given.unsafe_buffer_pointer()
    assert not initial(jnp.asarray(0.5)).weak_type
    with pytest.raises(ValueError, match="belong to a state"):
        initial(adam.Adam().held().learning_rate)


class State(NamedTuple):
    step: Any
    learning_rate: Any
    weight_decay: Any
    hyperparameters: Any


def following(rate: Any, held: Any, step: int = 0) -> State:
    """Return a state of SGD, with its schedules followed."""
    h = optim.SGD(rate, momentum=None).held()
    return follow_schedules(State(jnp.int32(step), held, None, h))


def test_schedules_are_followed() -> None:
    held = jnp.float32(0.5)
    kept = following(0.1, held).learning_rate
    assert (kept, kept.dtype) == (held, held.dtype)
    assert following(0.1, held).weight_decay is None
    scheduled = following(lambda step: 2 * step, held, step=3).learning_rate
    assert scheduled == 6
    assert scheduled.dtype == jnp.float32
    assert not scheduled.weak_type


def test_no_state_holds_a_buffer_that_was_given() -> None:
    """Donating a state deletes its buffers, which have to be its own."""
    rate = jnp.float32(0.5)

    def stored(step: Array) -> Array:
        return rate

    assert initial(stored) is not rate
    assert following(stored, rate).learning_rate is not rate
    assert following(0.1, rate).learning_rate is not rate
    weights = {"w": jnp.ones(2)}
    first = adam.init(weights, learning_rate=stored)
    _, second = adam.step(weights, first)
    spend = jax.jit(lambda state: state, donate_argnums=0, keep_unused=True)
    spend(first)
    spend(second)
    assert rate == 0.5
    held = adam.init(weights, learning_rate=0.5)
    _, after = adam.step(weights, held)
    spend(after)
    assert held.learning_rate == 0.5


@pytest.mark.parametrize(
    ("returned", "given"),
    [
        (jnp.ones(3), r"float32\[3\]"),
        ("fast", r"'fast' \(str\)"),
        (None, "None"),
        (1j, r"1j \(complex\)"),
        (True, r"True \(bool\)"),
    ],
)
def test_schedules_must_return_scalars(returned: Any, given: str) -> None:
    def broken(step: Any) -> Any:
        return returned

    with pytest.raises(
        TypeError, match=rf"^a schedule must return a real scalar, got {given} from .*broken"
    ):
        following(broken, jnp.float32(0))
    with pytest.raises(TypeError, match="a schedule must return a real scalar"):
        adam.init(jnp.ones(2), learning_rate=broken)


@pytest.mark.parametrize(
    ("leaf", "slot_dtype", "dtype"),
    [
        ("float32", None, "float32"),
        ("bfloat16", None, "bfloat16"),
        ("complex64", None, "complex64"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("complex64", "float32", "complex64"),
        ("complex64", "bfloat16", "complex64"),
    ],
)
def test_zeros(leaf: str, slot_dtype: Any, dtype: str) -> None:
    weights = {"a": jnp.ones((2, 3), leaf), "b": (jnp.asarray(1.0).astype(leaf), None)}
    slot = zeros(weights, slot_dtype and np.dtype(slot_dtype))
    assert jax.tree.structure(slot) == jax.tree.structure(weights)
    assert all(x.dtype == dtype and not x.weak_type and not x.any() for x in jax.tree.leaves(slot))


def test_zeros_are_never_weakly_typed() -> None:
    assert not zeros(jnp.asarray(1.0), None).weak_type


def test_complex_slots_under_x64() -> None:
    with jax.enable_x64(True):
        assert zeros(jnp.ones(2, "complex64"), np.dtype("float64")).dtype == "complex128"
        assert zeros(jnp.ones(2, "complex128"), np.dtype("float32")).dtype == "complex64"


@pytest.mark.filterwarnings("ignore:Adam. the dtype of these slots is too narrow")
@pytest.mark.parametrize(
    "dtype",
    ["float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float8_e3m4"],
)
def test_narrow_weights_are_computed_in_float32(dtype: str) -> None:
    weights = {"w": jnp.asarray([1.0, -0.5], dtype)}
    optimizer = adam.Adam(learning_rate=0.25, b2=0.5)
    state = optimizer.init(weights)
    updates, state = optimizer.step(weights, state, weights)
    np.testing.assert_array_equal(updates["w"].astype("float32"), [-0.25, 0.25])
    assert {x.dtype for x in (updates["w"], state.m["w"], state.v["w"])} == {jnp.dtype(dtype)}
    new = apply_updates(updates, weights)
    np.testing.assert_array_equal(new["w"].astype("float32"), [0.75, -0.25])
    mixed = adam.init(weights, slot_dtype=jnp.float32)
    _, mixed = adam.step(weights, mixed, weights)
    np.testing.assert_array_equal(mixed.m["w"], np.float32([0.1, -0.05]))


def test_small_integers_are_refused() -> None:
    with pytest.raises(LeafMismatchError, match=r"weights: int4\[2\] \(not differentiable"):
        adam.init(jnp.ones(2, jnp.int4))


def test_apply_updates() -> None:
    assert pickle.loads(pickle.dumps(apply_updates)) is optim.apply_updates
    weights = {
        "a": jnp.ones(2, jnp.bfloat16),
        "b": np.ones(2, np.float32),
        "c": jnp.ones((), jnp.complex64),
    }
    new = apply_updates(weights, weights)
    assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, weights)
    assert all(isinstance(x, jax.Array) and (x == 2).all() for x in jax.tree.leaves(new))
    with runtime_checks(False):
        apply_updates(weights, weights)


@pytest.mark.parametrize("rounding", [False, True])
def test_weights_keep_their_dtype_and_shape_where_checks_are_off(rounding: bool) -> None:
    """Gradients of another dtype, or of a shape to broadcast, are refused."""
    sgd = optim.SGD(0.1, stochastic_rounding=rounding)
    with runtime_checks(False):
        for weights, gradients in (
            (jnp.ones(2), jnp.ones(2, jnp.bfloat16)),
            (jnp.ones(2, jnp.bfloat16), jnp.ones(2)),
            (jnp.ones(1), jnp.ones(2)),
        ):
            with pytest.raises(TypeError, match="cannot take a step"):
                sgd.apply_gradients(gradients, sgd.init(gradients), weights)


class Dense(mlax.Module):
    """A weight, a frozen weight and a count."""

    w: mlax.Parameter[Float[Array, "n"]]
    fixed: mlax.Parameter[Float[Array, "n"]]
    count: mlax.Variable[Array]

    def forward(self, x: Array) -> Any:
        return x * self.w.data, self


def dense() -> Dense:
    return Dense(
        w=mlax.Parameter(jnp.ones(3)),
        fixed=mlax.Parameter(jnp.ones(3), frozen=True),
        count=mlax.Variable(jnp.zeros((), jnp.int32)),
    )


def test_a_module_gives_its_unfrozen_parameters() -> None:
    model = dense()
    weights = trainable(model)
    assert [x.shape for x in jax.tree.leaves(weights)] == [(3,)]
    back = merged(jax.tree.map(lambda x: x + 1, weights), model)
    assert mlax.tree_equal(back.fixed, model.fixed)
    assert mlax.tree_equal(back.count, model.count)
    np.testing.assert_array_equal(back.w.data, [2, 2, 2])


def test_what_was_frozen_since_is_named_with_the_cure() -> None:
    model, optimizer = dense(), adam.Adam()
    thawed = mlax.unfreeze(model)
    for then, now in ((model, thawed), (thawed, model)):
        with pytest.raises(LeafMismatchError) as error:
            optimizer.update(now, trainable(now), optimizer.init(then))
        was, is_now = then.fixed.frozen, now.fixed.frozen
        _, *lines = str(error.value).splitlines()
        assert lines == [
            f"  state.m.fixed.frozen: {was}, but weights.fixed.frozen: {is_now}",
            f"  state.v.fixed.frozen: {was}, but weights.fixed.frozen: {is_now}",
            "  Parameters have been frozen or unfrozen since `state` was computed: compute it anew "
            "(a state: optimizer.init(model))",
        ]


def test_any_other_tree_is_itself() -> None:
    tree = {"a": jnp.ones(2)}
    assert trainable(tree) is tree
    assert merged(tree, {"a": jnp.zeros(2)}) is tree


def test_shared_weights_are_refused() -> None:
    shared = jnp.ones(2)
    with pytest.raises(ValueError, match=r"weights\['a'\] and weights\['b'\] are the same array"):
        adam.Adam().init({"a": shared, "b": shared})
    with pytest.raises(ValueError, match=r"adam.init: weights\['a'\] and"):
        adam.init({"a": shared, "b": shared})


def test_weights_that_are_still_unset_are_refused() -> None:
    class Unmade(Module):
        kernel: Parameter[Array] = Parameter()
        bias: Parameter[Array] = Parameter(jnp.ones(2))

    for init in (adam.Adam().init, adam.init):
        with pytest.raises(
            ValueError, match=r"adam.init: a node is UNSET; set up the model first"
        ) as error:
            init({"model": Unmade().filter()})
        assert str(error.value).endswith("\n  weights['model'].kernel")


def test_an_optimizer_updates_a_model() -> None:
    model = dense()
    optimizer = adam.Adam(learning_rate=0.5, b1=0.5, b2=0.5)  # exact in float32
    state = optimizer.init(model)
    gradients = jax.tree.map(jnp.ones_like, trainable(model))
    model, state = optimizer.update(model, gradients, state)
    np.testing.assert_allclose(model.w.data, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(model.fixed.data, 1)
    assert state.step == 1


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from mlax_optimizers import adam

sharding = NamedSharding(jax.make_mesh((2,), ("data",)), PartitionSpec("data"))
weights = {"w": jax.device_put(jnp.ones((4, 2)), sharding)}
for init in (adam.init, lambda w: adam.init(w, slot_dtype=jnp.bfloat16, b2=0.9)):
    state = init(weights)
    assert state.m["w"].sharding.is_equivalent_to(sharding, 2), state.m["w"].sharding
    updates, state = jax.jit(adam.step)(weights, state, weights)
    assert state.v["w"].sharding.is_equivalent_to(sharding, 2), state.v["w"].sharding
"""


def test_slots_keep_the_sharding_of_the_weights() -> None:
    run_on_devices(2, SHARDED)
