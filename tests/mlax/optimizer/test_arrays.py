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


def floats(optimizer: Any) -> dict[str, Any]:
    """Return the numbers that could have been arrays."""
    specs = specifications(type(optimizer))
    found = {name: getattr(optimizer, name) for name, spec in specs.items() if spec.arrays}
    return {name: value for name, value in found.items() if value is not None}


@every_optimizer
def test_a_step_with_arrays_is_the_step_with_numbers(name: str) -> None:
    """And the derivative of the sum of the weights by each of them is finite, so that of every weight is."""
    cls = optimizer_class(MODULES[name])
    numbers = floats(cls())
    # An elementwise optimizer shows in one leaf all that there is to see.
    start = {"k": WEIGHTS["k"]} if is_elementwise(name) else WEIGHTS

    def moved(values: Any) -> Any:
        optimizer: Any = cls(**values)
        weights, state = start, optimizer.init(start)
        assert len(jax.tree.leaves(state.hyperparameters)) == len(values)
        for step in range(3):
            gradients = gradients_at(step, start)
            given = arguments(name, gradients)
            weights, state = optimizer.apply_gradients(gradients, state, weights, **given)
        return sum(map(jnp.sum, jax.tree.leaves(weights))), weights

    fixed = jax.jit(lambda: moved({})[1])()
    if not numbers:
        return
    slopes, moving = jax.jit(jax.grad(moved, has_aux=True))(numbers)
    for one, other in zip(jax.tree.leaves(moving), jax.tree.leaves(fixed), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(slopes))


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
