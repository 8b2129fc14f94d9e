"""Modules nested hundreds deep work, although Python's limit of recursion would not let them."""

import copy
import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter

DEPTH = 300
CALLED = 150  # of these a call has more than a thousand frames, and what JAX notes of each operation grows with them


class Nested(Module):
    inner: "Nested | tuple[Nested] | None"
    added: Parameter[Float[Array, "n"]] = Parameter()

    def set_up(self, x: Float[Array, "n"]) -> Self:
        return self.replace(added=Parameter(jnp.ones_like(x)))

    def forward(self, x: Float[Array, "n"]) -> tuple[Float[Array, "n"], Self]:
        x = x + self.added.data
        match self.inner:
            case None:
                return x, self
            case (inner,):
                return self.call(inner, x)
            case inner:
                return self.call(inner, x)


def nested(is_set_up: bool = True, in_tuples: bool = False, depth: int = DEPTH) -> Nested:
    model = None
    for _ in range(depth):
        added = Parameter(jnp.ones(2)) if is_set_up else Parameter()
        model = Nested((model,) if in_tuples and model is not None else model, added)
    assert model is not None
    return model


X = jnp.ones(2)


@pytest.fixture(autouse=True)
def limit_of_recursion_as_python_starts() -> Iterator[None]:
    """The limit is only ever raised, so an earlier test may have made enough room."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


def loss(model: Nested) -> tuple[Array, Nested]:
    y, model = model(X)
    return y.sum(), model


CALLS: dict[str, Callable[[Callable[..., Nested]], Array]] = {
    "call": lambda make: make()(X)[0],
    "jit": lambda make: jax.jit(lambda m: m(X)[0])(make()),
    "eval_shape": lambda make: X + jnp.zeros(jax.eval_shape(make(), X)[0].shape) + CALLED,
    "options": lambda make: mlax.inference(make())(X)[0],
    "set_up": lambda make: mlax.set_up(make(False), X)(X)[0],
    "set_up in a call": lambda make: make(False)(X)[0],
    "pickle": lambda make: pickle.loads(pickle.dumps(make()))(X)[0],
    "deepcopy": lambda make: copy.deepcopy(make())(X)[0],
}


@pytest.mark.parametrize("in_tuples", [False, True], ids=["fields", "tuples"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_deeply_nested_modules_are_called(call, in_tuples):
    make = functools.partial(nested, in_tuples=in_tuples, depth=CALLED)
    np.testing.assert_array_equal(call(make), X + CALLED)


GRADIENTS: dict[str, Callable[[Nested], Nested]] = {
    "grad": jax.grad(lambda model: loss(model)[0]),
    "value_and_grad": lambda model: mlax.value_and_grad(loss)(model)[1],
}


@pytest.mark.parametrize("gradients", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_deeply_nested_modules_have_gradients(gradients):
    found = jax.tree.leaves(gradients(nested()))
    assert len(found) == DEPTH
    np.testing.assert_array_equal(np.stack(found), np.ones((DEPTH, 2)))


SAME: dict[str, Callable[[Nested], Any]] = {
    "flatten": lambda model: jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(model)),
    "paths": lambda model: jax.tree_util.tree_map_with_path(lambda _, leaf: leaf, model),
    "copy": copy.copy,
    "replace": lambda model: model.replace(added=model.added),
    "combine": lambda model: model.partition()[0].combine(model.partition()[1]),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME.keys())
def test_deeply_nested_modules_are_taken_apart_and_put_together(make):
    model = nested()
    assert mlax.tree_equal(make(model), model)


def test_deeply_nested_modules_print():
    assert repr(nested()).count("Nested") == DEPTH


@pytest.mark.parametrize(
    "change",
    [
        lambda model: mlax.unfreeze(mlax.freeze((model,))[0]),
        lambda model: mlax.at(model, innermost).apply(lambda node: node),
        lambda model: mlax.at(model, innermost).set(Parameter(jnp.ones(2))),
    ],
    ids=["freeze", "apply", "set"],
)
def test_more_deeply_nested_modules_are_changed(change):
    model = nested()
    for _ in range(DEPTH):
        model = Nested(model, Parameter(jnp.ones(2)))
    assert mlax.tree_equal(change(model), model)


def innermost(model: Any) -> Any:
    for _ in range(2 * DEPTH - 1):
        model = model.inner
    return model.added
