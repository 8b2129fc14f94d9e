"""Laws for the states and steps of every generated optimizer.

More laws, one subject each, are in tests/mlax/laws.
"""

import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.optimizer import apply_updates
from mlax.tree import tree_equal
from mlax.typing import runtime_checks
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    close,
    every_case,
    every_optimizer,
    init,
    is_key,
    optimizer_class,
    rate_name,
    rate_of,
    rounding,
    slots,
    step,
    trees,
    types,
    with_rate,
)
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python


def schedule(step: jax.Array) -> jax.Array:
    return 0.1 / (step + 1)


@functools.cache
def compiled_step(name: str) -> Callable[..., Any]:
    """Return a step that all tests share: it is compiled once for each choice of options."""
    return jax.jit(lambda *trees: step(name, *trees))


@every_case
def test_types_stay_the_same(name: str, options: dict[str, Any]) -> None:
    weights, gradients = trees(name)
    state = init(name, weights, **options)
    assert (state.step.dtype, state.step.shape, int(state.step)) == (jnp.int32, (), 0)
    assert rate_of(name, state).dtype == jnp.float32
    for slot in slots(state).values():
        assert types(slot) == types(weights)
    updates, after = step(name, gradients, state, weights)
    assert types(updates) == types(weights)
    assert types(after) == types(state)
    assert after.step == 1
    assert after.hyperparameters == state.hyperparameters
    moved = [jnp.any(x != y) for x, y in zip(*map(jax.tree.leaves, (after, state)), strict=True)]
    assert any(moved[1:] + [jnp.any(u != 0) for u in jax.tree.leaves(updates)])
    scheduled = init(name, weights, schedule, **options)
    assert types(scheduled)[:-1] == types(state)[:-1]
    run = lambda state: step(name, gradients, state, weights)  # noqa: E731
    assert types(jax.eval_shape(run, scheduled)) == (types(weights), types(scheduled))


@every_case
def test_jit_is_eager_is_without_checks(name: str, options: dict[str, Any]) -> None:
    weights, gradients = trees(name)
    state = init(name, weights, **options)
    eager = step(name, gradients, state, weights)
    assert close(compiled_step(name)(gradients, state, weights), eager, rounding(name))
    with runtime_checks(False):
        assert tree_equal(step(name, gradients, state, weights), eager)
    initial = jax.jit(lambda w: init(name, w, **options), compiler_options=QUICKLY)
    assert close(initial(weights), state)
    shapes = jax.eval_shape(lambda w: init(name, w, **options), weights)
    assert types(shapes) == types(state)


@every_case
def test_the_class_gives_the_results_of_the_functions(name: str, options: dict[str, Any]) -> None:
    weights, gradients = trees(name)
    cls: Any = optimizer_class(MODULES[name])
    optimizer = cls(**{rate_name(name): 0.3}, **options)
    given = arguments(name, gradients)
    state = optimizer.init(weights)
    assert tree_equal(state, init(name, weights, 0.3, **options))
    updates, after = optimizer.step(gradients, state, weights, **given)
    assert tree_equal((updates, after), step(name, gradients, state, weights))
    moved = optimizer.apply_gradients(gradients, state, weights, **given)
    assert tree_equal(moved, MODULES[name].apply_gradients(gradients, state, weights, **given))
    assert tree_equal(moved, optimizer.update(weights, gradients, state, **given))
    # The sum is part of the leaf's program, where XLA contracts a product and a sum.
    assert close(moved, (apply_updates(updates, weights), after), rounding(name))
    other = cls(**{rate_name(name): schedule}, **options)
    message = rf"the state has different hyperparameters: {rate_name(name)} is"
    with pytest.raises(ValueError, match=message):
        other.step(gradients, state, weights, **given)


@every_case
def test_rates_are_vmapped_and_share_a_trace(name: str, options: dict[str, Any]) -> None:
    weights, gradients = trees(name)
    rates = jnp.array([0.0, 1e-3, 1e-2, 0.1, 1.0])
    traces: list[int] = []
    less = jax.tree.map(lambda g: 0.7 * g, gradients)
    many = jax.tree.map(lambda *two: jnp.stack(two), gradients, less)

    @jax.jit
    def train(state: Any) -> Any:
        traces.append(1)

        def body(state: Any, gradients: Any) -> Any:
            updates, state = step(name, gradients, state, weights)
            return state, updates

        state, updates = jax.lax.scan(body, state, many)
        return updates, state

    def looped(rate: float) -> Any:
        """Take two steps: some move only from the second on."""
        state = init(name, weights, rate, **options)
        train.trace(state)
        first, state = compiled_step(name)(gradients, state, weights)
        second, state = compiled_step(name)(less, state, weights)
        return jax.tree.map(lambda *two: np.stack(two), first, second), state

    apart = [looped(float(rate)) for rate in rates]
    assert len(traces) == 1
    swept = jax.vmap(lambda rate: train(init(name, weights, rate, **options)))(rates)
    for i, one in enumerate(apart):
        assert close(jax.tree.map(lambda x, i=i: x[i], swept), one, rounding(name))
    assert not tree_equal(apart[1][0], apart[2][0])


@every_optimizer
def test_the_rate_can_be_replaced_in_the_state(name: str) -> None:
    weights, gradients = trees(name)
    state = init(name, weights, 0.1)
    replaced = step(name, gradients, with_rate(name, state, jnp.float32(0.7)), weights)
    assert tree_equal(replaced, step(name, gradients, init(name, weights, 0.7), weights))
    # Some move only from the second step on.
    afters = (replaced[1], step(name, gradients, state, weights)[1])
    assert not tree_equal(*(step(name, gradients, after, weights)[0] for after in afters))


@every_optimizer
def test_schedules_are_called_with_the_steps_done(name: str) -> None:
    weights, gradients = trees(name)
    state = init(name, weights, schedule)
    assert rate_of(name, state) == jnp.float32(0.1)
    numbers = init(name, weights).hyperparameters
    for done in range(3):
        fixed = with_rate(name, state, jnp.float32(0.1) / (done + 1))
        fixed = fixed._replace(hyperparameters=numbers)
        updates, state = step(name, gradients, state, weights)
        assert tree_equal(updates, step(name, gradients, fixed, weights)[0])
        assert rate_of(name, state) == rate_of(name, fixed)


@every_case
def test_loops_in_a_program_and_around_it_compile_once_and_are_the_same(
    name: str, options: dict[str, Any]
) -> None:
    weights, gradients = trees(name)
    traces: list[int] = []
    many = jax.tree.map(lambda g: jnp.stack([g, -0.7 * g, 2 * g]), gradients)

    def body(i: Any, carry: Any) -> Any:
        traces.append(1)
        weights, state = carry
        updates, state = step(name, jax.tree.map(lambda g: g[i], many), state, weights)
        return apply_updates(updates, weights), state

    @partial(jax.jit, compiler_options=QUICKLY)
    def steps(first: int, end: int, carry: Any) -> Any:
        return jax.lax.fori_loop(first, end, body, carry)

    carry = (weights, init(name, weights, schedule, **options))
    looped = steps(0, 3, carry)
    for i in range(3):
        carry = steps(i, i + 1, carry)
    assert len(traces) == 1  # types that changed, weak ones too, would make it two
    assert tree_equal(looped, carry)


@every_optimizer
@pytest.mark.parametrize("empty", [{}, (), {"a": [None, {}]}], ids=repr)
def test_trees_without_leaves(name: str, empty: Any) -> None:
    state = init(name, empty)
    updates, after = step(name, empty, state, empty)
    assert updates == empty
    assert after.step == 1
    assert types(after) == types(state)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(after) if not is_key(x))


@every_optimizer
def test_numpy_leaves(name: str) -> None:
    weights, gradients = trees(name)
    expected = step(name, gradients, init(name, weights), weights)
    weights, gradients = jax.tree.map(np.asarray, (weights, gradients))
    assert close(step(name, gradients, init(name, weights), weights), expected)


CONTINUE = """
import pickle, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        given, optimizer, state, gradients, weights = pickle.load(file)
    result = optimizer.step(gradients, state, weights, **given)
    with open(path, "wb") as file:
        pickle.dump((optimizer, result), file)
"""


def test_pickles_continue_in_a_fresh_process(tmp_path: Path) -> None:
    expected: dict[Path, Any] = {}
    for i, name in enumerate(MODULES):
        weights, gradients = trees(name)
        optimizer: Any = optimizer_class(MODULES[name])()
        given = arguments(name, gradients)
        _, state = optimizer.step(gradients, optimizer.init(weights), weights, **given)
        path = tmp_path / f"{i}.pickle"
        path.write_bytes(pickle.dumps((given, optimizer, state, gradients, weights)))
        expected[path] = (optimizer, optimizer.step(gradients, state, weights, **given))
    subprocess.run([sys.executable, "-c", CONTINUE, *map(str, expected)], check=True)
    for path, (optimizer, result) in expected.items():
        again, (updates, state) = pickle.loads(path.read_bytes())
        assert again == optimizer
        assert state.hyperparameters == result[1].hyperparameters
        assert tree_equal((updates, state), result)
