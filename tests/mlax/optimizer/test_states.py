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
    types,
    with_rate,
)
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": [jnp.ones(()), None]}
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)


def schedule(step: jax.Array) -> jax.Array:
    return 0.1 / (step + 1)


@functools.cache
def compiled_step(name: str) -> Callable[..., Any]:
    """Return a step that all tests share: it is compiled once for each choice of options."""
    return jax.jit(lambda *trees: step(name, *trees))


@every_case
def test_types_stay_the_same(name: str, options: dict[str, Any]) -> None:
    state = init(name, WEIGHTS, **options)
    assert (state.step.dtype, state.step.shape, int(state.step)) == (jnp.int32, (), 0)
    assert rate_of(name, state).dtype == jnp.float32
    for slot in slots(state).values():
        assert types(slot) == types(WEIGHTS)
    updates, after = step(name, GRADIENTS, state, WEIGHTS)
    assert types(updates) == types(WEIGHTS)
    assert types(after) == types(state)
    assert after.step == 1
    assert after.hyperparameters == state.hyperparameters
    moved = [jnp.any(x != y) for x, y in zip(*map(jax.tree.leaves, (after, state)), strict=True)]
    assert any(moved[1:] + [jnp.any(u != 0) for u in jax.tree.leaves(updates)])
    scheduled = init(name, WEIGHTS, schedule, **options)
    assert types(scheduled)[:-1] == types(state)[:-1]
    run = lambda state: step(name, GRADIENTS, state, WEIGHTS)  # noqa: E731
    assert types(jax.eval_shape(run, scheduled)) == (types(WEIGHTS), types(scheduled))


@every_case
def test_jit_is_eager_is_without_checks(name: str, options: dict[str, Any]) -> None:
    state = init(name, WEIGHTS, **options)
    eager = step(name, GRADIENTS, state, WEIGHTS)
    assert close(compiled_step(name)(GRADIENTS, state, WEIGHTS), eager, rounding(name))
    with runtime_checks(False):
        assert tree_equal(step(name, GRADIENTS, state, WEIGHTS), eager)
    initial = jax.jit(lambda w: init(name, w, **options), compiler_options=QUICKLY)
    assert close(initial(WEIGHTS), state)
    shapes = jax.eval_shape(lambda w: init(name, w, **options), WEIGHTS)
    assert types(shapes) == types(state)


@every_case
def test_the_class_gives_the_results_of_the_functions(name: str, options: dict[str, Any]) -> None:
    cls: Any = optimizer_class(MODULES[name])
    optimizer = cls(**{rate_name(name): 0.3}, **options)
    given = arguments(name)
    state = optimizer.init(WEIGHTS)
    assert tree_equal(state, init(name, WEIGHTS, 0.3, **options))
    updates, after = optimizer.step(GRADIENTS, state, WEIGHTS, **given)
    assert tree_equal((updates, after), step(name, GRADIENTS, state, WEIGHTS))
    moved = optimizer.apply_gradients(GRADIENTS, state, WEIGHTS, **given)
    assert tree_equal(moved, MODULES[name].apply_gradients(GRADIENTS, state, WEIGHTS, **given))
    assert tree_equal(moved, optimizer.update(WEIGHTS, GRADIENTS, state, **given))
    # The sum is part of the leaf's program, where XLA contracts a product and a sum.
    assert close(moved, (apply_updates(updates, WEIGHTS), after), rounding(name))
    other = cls(**{rate_name(name): schedule}, **options)
    message = rf"the state has different hyperparameters: {rate_name(name)} is"
    with pytest.raises(ValueError, match=message):
        other.step(GRADIENTS, state, WEIGHTS, **given)


@every_case
def test_rates_are_vmapped_and_share_a_trace(name: str, options: dict[str, Any]) -> None:
    rates = jnp.array([0.0, 1e-3, 1e-2, 0.1, 1.0])
    traces: list[int] = []
    less = jax.tree.map(lambda g: 0.7 * g, GRADIENTS)
    many = jax.tree.map(lambda *two: jnp.stack(two), GRADIENTS, less)

    @jax.jit
    def train(state: Any) -> Any:
        traces.append(1)

        def body(state: Any, gradients: Any) -> Any:
            updates, state = step(name, gradients, state, WEIGHTS)
            return state, updates

        state, updates = jax.lax.scan(body, state, many)
        return updates, state

    def looped(rate: float) -> Any:
        """Take two steps: some move only from the second on."""
        state = init(name, WEIGHTS, rate, **options)
        train.trace(state)
        first, state = compiled_step(name)(GRADIENTS, state, WEIGHTS)
        second, state = compiled_step(name)(less, state, WEIGHTS)
        return jax.tree.map(lambda *two: np.stack(two), first, second), state

    apart = [looped(float(rate)) for rate in rates]
    assert len(traces) == 1
    swept = jax.vmap(lambda rate: train(init(name, WEIGHTS, rate, **options)))(rates)
    for i, one in enumerate(apart):
        assert close(jax.tree.map(lambda x, i=i: x[i], swept), one, rounding(name))
    assert not tree_equal(apart[1][0], apart[2][0])


@every_optimizer
def test_the_rate_can_be_replaced_in_the_state(name: str) -> None:
    state = init(name, WEIGHTS, 0.1)
    replaced = step(name, GRADIENTS, with_rate(name, state, jnp.float32(0.7)), WEIGHTS)
    assert tree_equal(replaced, step(name, GRADIENTS, init(name, WEIGHTS, 0.7), WEIGHTS))
    # Some move only from the second step on.
    afters = (replaced[1], step(name, GRADIENTS, state, WEIGHTS)[1])
    assert not tree_equal(*(step(name, GRADIENTS, after, WEIGHTS)[0] for after in afters))


@every_optimizer
def test_schedules_are_called_with_the_steps_done(name: str) -> None:
    state = init(name, WEIGHTS, schedule)
    assert rate_of(name, state) == jnp.float32(0.1)
    numbers = init(name, WEIGHTS).hyperparameters
    for done in range(3):
        fixed = with_rate(name, state, jnp.float32(0.1) / (done + 1))
        fixed = fixed._replace(hyperparameters=numbers)
        updates, state = step(name, GRADIENTS, state, WEIGHTS)
        assert tree_equal(updates, step(name, GRADIENTS, fixed, WEIGHTS)[0])
        assert rate_of(name, state) == rate_of(name, fixed)


@every_case
def test_loops_in_a_program_and_around_it_compile_once_and_are_the_same(
    name: str, options: dict[str, Any]
) -> None:
    traces: list[int] = []
    many = jax.tree.map(lambda g: jnp.stack([g, -0.7 * g, 2 * g]), GRADIENTS)

    def body(i: Any, carry: Any) -> Any:
        traces.append(1)
        weights, state = carry
        updates, state = step(name, jax.tree.map(lambda g: g[i], many), state, weights)
        return apply_updates(updates, weights), state

    @partial(jax.jit, compiler_options=QUICKLY)
    def steps(first: int, end: int, carry: Any) -> Any:
        return jax.lax.fori_loop(first, end, body, carry)

    carry = (WEIGHTS, init(name, WEIGHTS, schedule, **options))
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
    weights, gradients = (jax.tree.map(np.asarray, tree) for tree in (WEIGHTS, GRADIENTS))
    state = init(name, weights)
    assert close(
        step(name, gradients, state, weights),
        step(name, GRADIENTS, init(name, WEIGHTS), WEIGHTS),
    )


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
        optimizer: Any = optimizer_class(MODULES[name])()
        given = arguments(name)
        _, state = optimizer.step(GRADIENTS, optimizer.init(WEIGHTS), WEIGHTS, **given)
        path = tmp_path / f"{i}.pickle"
        path.write_bytes(pickle.dumps((given, optimizer, state, GRADIENTS, WEIGHTS)))
        expected[path] = (optimizer, optimizer.step(GRADIENTS, state, WEIGHTS, **given))
    subprocess.run([sys.executable, "-c", CONTINUE, *map(str, expected)], check=True)
    for path, (optimizer, result) in expected.items():
        again, (updates, state) = pickle.loads(path.read_bytes())
        assert again == optimizer
        assert state.hyperparameters == result[1].hyperparameters
        assert tree_equal((updates, state), result)
