"""Floats given as arrays: leaves of `state.hyperparameters`, which a step reads at run time."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import optim
from mlax.optimizer._specified import specifications
from mlax.typing import LeafMismatchError
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    every_optimizer,
    floats,
    is_elementwise,
    optimizer_class,
)

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"k": jnp.linspace(0.1, 1.0, 9).reshape(3, 3), "b": jnp.ones(4)}


def gradients_at(step: int, weights: Any) -> Any:
    """Return gradients that are another for each step. SOAP's eigenvectors would be those of rounding errors if they
    were the same, or if the matrix were not square.
    """
    return jax.tree.map(lambda w: 0.3 * jnp.cos((3 + 2 * step) * w + step), weights)


GRADIENTS: Any = gradients_at(0, WEIGHTS)


def larger_floats(cls: Any) -> dict[str, float]:
    """Return numbers for all floats that could be arrays: the defaults, but large enough to make a difference."""
    return {name: max(v, 1e-4) if v else v for name, v in floats(cls).items()}


@every_optimizer
def test_sweeps_and_gradients_of_all_floats(name: str) -> None:
    """Steps with arrays are those with numbers. In a sweep of models, two for each float, in which this one is a little
    larger and smaller, their difference is the derivative by it.
    """
    cls = optimizer_class(MODULES[name])
    numbers = larger_floats(cls)
    # An elementwise optimizer shows in one leaf all that there is to see.
    start = {"k": WEIGHTS["k"]} if is_elementwise(name) else WEIGHTS

    def moves(values: dict[str, Any]) -> Any:
        optimizer: Any = cls(**values)
        weights = jax.tree.map(lambda w: w.astype("float64"), start)
        state = optimizer.init(weights)
        arrays = [key for key, value in values.items() if isinstance(value, jax.Array)]
        held = [key for key in arrays if specifications(cls)[key].schedulable]
        assert len(jax.tree.leaves(state.hyperparameters)) == len(arrays) - len(held)
        updates = list[Any]()
        for step in range(2):
            gradients = jax.tree.map(lambda g: g.astype("float64"), gradients_at(step, start))
            given = arguments(name, gradients)
            update, state = optimizer.step(gradients, state, weights, **given)
            weights = optim.apply_updates(update, weights)
            updates += [jnp.ravel(u) for u in jax.tree.leaves(update)]
        return jnp.concatenate(updates)

    def total(values: dict[str, Any]) -> Any:
        moved = moves(values)
        return moved @ jnp.cos(jnp.arange(moved.size)), moved

    with jax.enable_x64(True):
        fixed: Any = jax.jit(lambda: moves(numbers))()
        if not numbers:
            return
        # Decays are read as 1 - b, which may be small: b3 of CAME is 0.9999.
        sizes = {key: x * (1 - x) if 0 < x < 1 else x for key, x in numbers.items()}
        widths = {key: 1e-5 * size or 1e-7 for key, size in sizes.items()}
        pairs = [{**numbers, key: numbers[key] + d} for key, h in widths.items() for d in (h, -h)]
        models = jax.tree.map(lambda *x: jnp.array(x), numbers, *pairs)
        result = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(models)
        (totals, moved), slopes = jax.tree.map(np.asarray, result)
    np.testing.assert_allclose(moved[0], fixed, rtol=1e-7, atol=1e-12)
    differences = dict(zip(numbers, totals[1::2] - totals[2::2], strict=True))
    for key, width in widths.items():
        slope = differences[key] / (2 * width)
        np.testing.assert_allclose(slopes[key][0], slope, rtol=1e-3, atol=1e-9, err_msg=key)


def test_numbers_are_compiled_in() -> None:
    """As literals: those of Python and of NumPy, shape () included, in the optimizer and around it."""

    def program(b1: Any, limit: Any) -> tuple[str, int]:
        optimizer = optim.ClipGradients(optim.Adam(0.1, b1=b1), max_norm=limit)
        state = optimizer.init(jnp.ones(3))
        traced = jax.make_jaxpr(optimizer.step)(jnp.ones(3), state, jnp.ones(3))
        assert not traced.consts
        return str(traced), len(traced.jaxpr.invars)

    text, inputs = program(0.8125, 2.625)
    assert "0.8125" in text
    assert "2.625" in text
    for kind in (np.float64, np.float32, np.array):
        assert program(kind(0.8125), kind(2.625)) == (text, inputs)
    array, more = program(jnp.float32(0.8125), jnp.float32(2.625))
    assert more == inputs + 2
    assert "0.8125" not in array
    # With the same names, the same operations: 1 - b1 and the like are computed in the program, nothing else.
    assert text.count("convert_element_type") == array.count("convert_element_type")


def wrapped(b1: Any, limit: Any) -> Any:
    inside = [optim.ClipGradients(optim.Adam(0.1, b1=b1), max_norm=limit), optim.SGD(0.1)]
    return optim.MultiOptimizer(inside, [lambda path, weight: path == "k"])


def test_an_optimizer_is_a_tree_of_its_arrays() -> None:
    optimizer = wrapped(jnp.float32(0.5), jnp.float32(2.0))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(optimizer)]
    assert paths == [".optimizers[0].optimizer.b1", ".optimizers[0].max_norm"]
    assert jax.tree.leaves(wrapped(0.5, 2.0)) == []
    state = optimizer.init(WEIGHTS)
    taken = jax.jit(lambda o, s: o.step(GRADIENTS, s, WEIGHTS))(optimizer, state)[1]
    assert jax.tree.structure(taken) == jax.tree.structure(state)
    names = jax.tree.map(lambda leaf: "leaf", optimizer)  # whatever the leaves are
    assert jax.tree.structure(names) == jax.tree.structure(optimizer)


def test_arrays_cannot_be_static() -> None:
    optimizer = optim.Adam(b1=jnp.float32(0.5))
    with pytest.raises(TypeError, match="Adam cannot be hashed because b1 is an array"):
        hash(optimizer)
    with pytest.raises(ValueError, match="hash"):
        jax.jit(lambda o: 0, static_argnums=0)(optimizer)


def test_concrete_arrays_are_validated_and_tracers_are_not() -> None:
    with pytest.raises(ValueError, match=r"Adam: eps must be > 0, got -1\.0"):
        optim.Adam(eps=jnp.float32(-1.0))
    for wrong in ({"learning_rate": jnp.complex64(0.1)}, {"b2": jnp.complex64(0.9)}):
        with pytest.raises(TypeError, match=r"got .*complex64.*hyperparam_dtype=jnp\.float32"):
            optim.Adam(**wrong)
    with pytest.raises(ValueError, match="nesterov needs a momentum and no dampening"):
        optim.SGD(momentum=0.9, nesterov=True, dampening=jnp.float32(0.5))
    jax.jit(lambda eps: optim.Adam(eps=eps).eps)(-1.0)
    jax.jit(lambda x: optim.SGD(momentum=0.9, nesterov=True, dampening=x).dampening)(0.5)


def test_the_state_wins_and_keeps_its_kind() -> None:
    state = optim.Adam(0.1, b1=jnp.float32(0.5)).init(WEIGHTS)
    with pytest.raises(ValueError, match=r"b1 is an array in the state, 0\.5 in the optimizer"):
        optim.Adam(0.1, b1=0.5).step(GRADIENTS, state, WEIGHTS)
    optimizer, numbers = optim.Adam(0.1, b1=jnp.float32(0.5)), optim.Adam(0.1, b1=0.5).init(WEIGHTS)
    with pytest.raises(ValueError, match=r"b1 is 0\.5 in the state, an array in the optimizer"):
        optimizer.step(GRADIENTS, numbers, WEIGHTS)
    kinds: list[Callable[[Any], Any]] = [
        lambda x: optim.Adam(0.1, b1=x),
        lambda x: optim.ClipGradients(optim.SGD(0.1), max_norm=x),
        lambda x: optim.Lookahead(optim.SGD(0.1), 1, slow_step_size=x),
    ]
    for make in kinds:
        given, other = make(jnp.float32(0.25)), make(jnp.float32(0.75))
        state = given.init(WEIGHTS)
        one, after = other.step(GRADIENTS, state, WEIGHTS)
        expected, _ = given.step(GRADIENTS, state, WEIGHTS)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, one, expected))
        for old, new in zip(*map(jax.tree.leaves, (state, after)), strict=True):
            assert old.unsafe_buffer_pointer() != new.unsafe_buffer_pointer()


def test_vmap_sweeps_two_numbers() -> None:
    weights, gradient = jnp.ones(3), jnp.asarray([0.1, -0.3, 2.0])

    def moved(rate: Any, b2: Any) -> Any:
        optimizer = optim.ClipGradients(optim.Adam(rate, b2=b2), max_norm=b2)
        state, w = optimizer.init(weights), weights
        for _ in range(2):
            w, state = optimizer.apply_gradients(gradient, state, w)
        return w

    swept: Any = jax.jit(jax.vmap(moved))(jnp.asarray([0.1, 0.2]), jnp.asarray([0.9, 0.5]))
    np.testing.assert_allclose(swept, [moved(0.1, 0.9), moved(0.2, 0.5)], rtol=1e-5)


def test_arrays_are_saved_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    optimizer = optim.Adam(0.1, b1=jnp.float32(0.5))
    state = optimizer.init(WEIGHTS)
    mlax.save(path, state)
    loaded = mlax.load(path, like=optim.Adam(0.1, b1=jnp.float32(0.5)).init(WEIGHTS))
    assert loaded.hyperparameters.b1 == 0.5
    with pytest.raises(LeafMismatchError, match=r"hyperparameters\.b1: <an array>, but 0\.5"):
        mlax.load(path, like=optim.Adam(0.1, b1=0.5).init(WEIGHTS))
    copied = pickle.loads(pickle.dumps(state))
    assert jax.tree.structure(copied) == jax.tree.structure(state)
