"""What holds for the states and steps of every generated optimizer."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlax.optimizer import apply_updates
from mlax.tree import tree_equal
from mlax.typing import runtime_checks
from tests.mlax.generated_optimizers import CASES, MODULES, case_name, optimizer_class, slots

every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=case_name)
float16 = pytest.mark.filterwarnings("ignore:a slot in float16 .* holds squares")
every_optimizer = pytest.mark.parametrize("name", MODULES)

WEIGHTS: Any = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": [jnp.ones(()), None]}
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)


def types(tree: Any) -> Any:
    """Return shape, dtype and weak type of every leaf."""
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def close(a: Any, b: Any, rtol: float = 1e-6) -> bool:
    """Return whether trees are equal to a few roundings: XLA fuses, and contracts, differently in each program."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7)
    return True


def schedule(step: jax.Array) -> jax.Array:
    return 0.1 / (step + 1)


@every_case
@pytest.mark.parametrize("rate", [0.1, schedule], ids=["number", "schedule"])
def test_types_stay_the_same(name: str, options: dict[str, Any], rate: Any) -> None:
    module = MODULES[name]
    state = module.init(WEIGHTS, learning_rate=rate, **options)
    assert (state.step.dtype, state.step.shape, int(state.step)) == (jnp.int32, (), 0)
    assert state.learning_rate.dtype == jnp.float32
    for slot in slots(state).values():
        assert types(slot) == types(WEIGHTS)
    updates, after = module.step(GRADIENTS, state, WEIGHTS)
    assert types(updates) == types(WEIGHTS)
    assert types(after) == types(state)
    assert after.step == 1
    assert after.hyperparameters == state.hyperparameters
    assert any(jnp.any(u != 0) for u in jax.tree.leaves(updates))


@every_case
def test_jit_is_eager_is_without_checks(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    state = module.init(WEIGHTS, **options)
    eager = module.step(GRADIENTS, state, WEIGHTS)
    assert close(jax.jit(module.step)(GRADIENTS, state, WEIGHTS), eager)
    with runtime_checks(False):
        assert tree_equal(module.step(GRADIENTS, state, WEIGHTS), eager)
    assert close(jax.jit(lambda w: module.init(w, **options))(WEIGHTS), state)
    shapes = jax.eval_shape(lambda w: module.init(w, **options), WEIGHTS)
    assert types(shapes) == types(state)


@every_case
def test_the_class_does_what_the_functions_do(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    optimizer: Any = optimizer_class(module)(learning_rate=0.3, **options)
    state = optimizer.init(WEIGHTS)
    assert tree_equal(state, module.init(WEIGHTS, learning_rate=0.3, **options))
    updates, after = optimizer.step(GRADIENTS, state, WEIGHTS)
    assert tree_equal((updates, after), module.step(GRADIENTS, state, WEIGHTS))
    weights = apply_updates(updates, WEIGHTS)
    assert tree_equal(optimizer.apply_gradients(GRADIENTS, state, WEIGHTS), (weights, after))
    assert tree_equal(optimizer.update(WEIGHTS, GRADIENTS, state), (weights, after))
    with pytest.raises(ValueError, match=r"the state has other hyperparameters: learning_rate is"):
        optimizer_class(module)(learning_rate=schedule, **options).step(GRADIENTS, state, WEIGHTS)  # type: ignore


@every_case
def test_learning_rates_are_vmapped_and_share_a_trace(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    rates = jnp.array([0.0, 1e-3, 1e-2, 0.1, 1.0])
    traces: list[int] = []

    @jax.jit
    def train(state: Any) -> Any:
        traces.append(1)
        updates, state = module.step(GRADIENTS, state, WEIGHTS)
        return module.step(updates, state, WEIGHTS)

    looped = [train(module.init(WEIGHTS, learning_rate=float(rate), **options)) for rate in rates]
    assert len(traces) == 1
    swept = jax.vmap(lambda rate: train(module.init(WEIGHTS, learning_rate=rate, **options)))(rates)
    for i, one in enumerate(looped):
        assert close(jax.tree.map(lambda x, i=i: x[i], swept), one)
    assert not tree_equal(looped[1][0], looped[2][0])


@every_optimizer
def test_the_learning_rate_can_be_replaced_in_the_state(name: str) -> None:
    module = MODULES[name]
    state = module.init(WEIGHTS, learning_rate=0.1)
    replaced = state._replace(learning_rate=jnp.float32(0.7))
    assert tree_equal(
        module.step(GRADIENTS, replaced, WEIGHTS),
        module.step(GRADIENTS, module.init(WEIGHTS, learning_rate=0.7), WEIGHTS),
    )


@every_optimizer
def test_schedules_are_called_with_the_steps_done(name: str) -> None:
    module = MODULES[name]
    state = module.init(WEIGHTS, learning_rate=schedule)
    assert state.learning_rate == jnp.float32(0.1)
    for step in range(3):
        fixed = state._replace(
            learning_rate=jnp.float32(0.1) / (step + 1),
            hyperparameters=module.init(WEIGHTS).hyperparameters,
        )
        updates, state = module.step(GRADIENTS, state, WEIGHTS)
        assert tree_equal(updates, module.step(GRADIENTS, fixed, WEIGHTS)[0])
        assert state.learning_rate == fixed.learning_rate


@every_case
def test_a_scan_compiles_once_and_is_a_loop(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    traces: list[int] = []

    def body(carry: Any, gradients: Any) -> Any:
        traces.append(1)
        weights, state = carry
        updates, state = module.step(gradients, state, weights)
        return (apply_updates(updates, weights), state), None

    many = jax.tree.map(lambda g: jnp.stack([g, -g, 2 * g]), GRADIENTS)
    carry = (WEIGHTS, module.init(WEIGHTS, learning_rate=schedule, **options))
    scanned, _ = jax.lax.scan(body, carry, many)
    assert len(traces) == 1
    for i in range(3):
        carry, _ = body(carry, jax.tree.map(lambda g, i=i: g[i], many))
    assert close(scanned, carry)


@every_case
def test_buffers_are_its_own_and_can_be_donated(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    weights = jax.tree.map(jnp.copy, WEIGHTS)
    rate = jnp.float32(0.1)
    for init in (module.init, jax.jit(module.init, static_argnames=tuple(options))):
        state = init(weights, learning_rate=rate, **options)
        pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((weights, rate, state))]
        assert len(set(pointers)) == len(pointers)
    expected = jax.tree.map(np.array, module.step(GRADIENTS, state, weights))
    donating = jax.jit(module.step, donate_argnums=(0, 1))
    result = donating(jax.tree.map(jnp.copy, GRADIENTS), state, weights)
    assert close(result, expected)
    assert rate == jnp.float32(0.1)
    donating(jax.tree.map(jnp.copy, GRADIENTS), result[1], weights)


# A step of every leaf type costs a compilation, so that the laws over trees are stated on what is traced.
leaf = st.builds(
    jax.ShapeDtypeStruct,
    st.lists(st.integers(0, 3), max_size=4).map(tuple),
    st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64]),
)
trees = st.recursive(
    leaf | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


@float16
@every_case
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(weights=trees, slot_dtype=st.sampled_from([None, jnp.float32]))
def test_any_tree_of_weights(
    name: str, options: dict[str, Any], weights: Any, slot_dtype: Any
) -> None:
    module = MODULES[name]

    def run(weights: Any) -> Any:
        state = module.init(weights, slot_dtype=slot_dtype, **narrow(name), **options)
        return state, module.step(weights, state, weights)

    state, (updates, after) = jax.eval_shape(run, weights)
    assert types(updates) == types(weights)
    assert types(after) == types(state)
    for slot in slots(state).values():
        assert jax.tree.structure(slot) == jax.tree.structure(weights)
        for x, w in zip(jax.tree.leaves(slot), jax.tree.leaves(weights), strict=True):
            wide = jnp.complex64 if w.dtype == jnp.complex64 else jnp.float32
            assert x.dtype == (wide if slot_dtype else w.dtype)
            assert x.shape == w.shape


def narrow(name: str) -> dict[str, Any]:
    """Return decays with which slots in bfloat16 do not stall."""
    fields = optimizer_class(MODULES[name]).__dataclass_fields__
    return {field: 0.9 for field in ("b1", "b2") if field in fields}


@every_optimizer
@pytest.mark.parametrize("empty", [{}, (), None, {"a": [None, {}]}], ids=repr)
def test_trees_without_leaves(name: str, empty: Any) -> None:
    module = MODULES[name]
    state = module.init(empty)
    updates, state = module.step(empty, state, empty)
    assert updates == empty
    assert state.step == 1


@every_optimizer
def test_numpy_leaves(name: str) -> None:
    module = MODULES[name]
    weights, gradients = (jax.tree.map(np.asarray, tree) for tree in (WEIGHTS, GRADIENTS))
    state = module.init(weights)
    assert close(
        module.step(gradients, state, weights),
        module.step(GRADIENTS, module.init(WEIGHTS), WEIGHTS),
    )


@float16
@every_optimizer
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_float32_rounded(name: str, dtype: Any) -> None:
    module = MODULES[name]
    weights, gradients = (jax.tree.map(lambda x: x.astype(dtype), t) for t in (WEIGHTS, GRADIENTS))
    state = module.init(weights, **narrow(name))
    for key, slot in slots(state).items():
        state = state._replace(**{key: jax.tree.map(lambda z, g: z + abs(g) + 1, slot, gradients)})
    result = module.step(gradients, state, weights)
    wide = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == dtype else x, (gradients, state, weights)
    )
    exact = module.step(*wide)
    rounded = jax.tree.map(lambda x, like: x.astype(like.dtype), exact, result)
    assert tree_equal(result, rounded)


@every_optimizer
def test_wide_slots_of_half_precision_weights(name: str) -> None:
    module = MODULES[name]
    weights, gradients = (
        jax.tree.map(lambda x: x.astype(jnp.bfloat16), t) for t in (WEIGHTS, GRADIENTS)
    )
    state = module.init(weights, slot_dtype=jnp.float32)
    updates, after = module.step(gradients, state, weights)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), gradients)
    _, expected = module.step(wide, module.init(wide))
    for key, slot in slots(after).items():
        assert tree_equal(slot, slots(expected)[key])
    assert types(updates) == types(weights)
    if slots(state):
        with pytest.raises(ValueError, match=r"step needs the weights \(slot_dtype is not None\)"):
            module.step(gradients, state)


@every_optimizer
def test_complex_weights(name: str) -> None:
    """Real gradients in complex form move weights as real ones do; and a rotated gradient rotates the update.

    A complex square root and division take several roundings each, hence twice the tolerance.
    """
    module = MODULES[name]
    z = jax.tree.map(lambda x: x.astype(jnp.complex64), GRADIENTS)
    real, _ = module.step(GRADIENTS, module.init(WEIGHTS), WEIGHTS)
    updates, _ = module.step(z, module.init(z), z)
    assert close(jax.tree.map(jnp.real, updates), real, rtol=2e-6)
    turned, _ = module.step(jax.tree.map(lambda x: x * 1j, z), module.init(z), z)
    assert close(jax.tree.map(lambda x: (x / 1j).real, turned), real, rtol=2e-6)


@every_case
def test_leaves_are_independent_of_their_order(name: str, options: dict[str, Any]) -> None:
    module = MODULES[name]
    updates, _ = module.step(GRADIENTS, module.init(WEIGHTS, **options), WEIGHTS)
    turned = {"x": WEIGHTS["b"], "y": WEIGHTS["a"]}
    again, _ = module.step(
        {"x": GRADIENTS["b"], "y": GRADIENTS["a"]}, module.init(turned, **options), turned
    )
    assert tree_equal(again, {"x": updates["b"], "y": updates["a"]})


CONTINUE = """
import pickle, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        name, optimizer, state, gradients, weights = pickle.load(file)
    result = optimizer.step(gradients, state, weights)
    with open(path, "wb") as file:
        pickle.dump((optimizer, result), file)
"""


def test_pickles_continue_in_a_fresh_process(tmp_path: Path) -> None:
    expected: dict[Path, Any] = {}
    for i, (name, options) in enumerate(CASES):
        module = MODULES[name]
        optimizer: Any = optimizer_class(module)(**options)
        _, state = optimizer.step(GRADIENTS, optimizer.init(WEIGHTS), WEIGHTS)
        path = tmp_path / f"{i}.pickle"
        path.write_bytes(pickle.dumps((name, optimizer, state, GRADIENTS, WEIGHTS)))
        expected[path] = (optimizer, optimizer.step(GRADIENTS, state, WEIGHTS))
    subprocess.run([sys.executable, "-c", CONTINUE, *map(str, expected)], check=True)
    for path, (optimizer, result) in expected.items():
        again, (updates, state) = pickle.loads(path.read_bytes())
        assert again == optimizer
        assert state.hyperparameters == result[1].hyperparameters
        assert tree_equal((updates, state), result)
