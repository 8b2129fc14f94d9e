"""Arguments and results of a module's `set_up`, and inputs that `mlax.set_up` refuses."""

import re
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

import mlax
from mlax import Container, Module, Parameter, Variable, tree_equal
from tests.mlax.models import BatchNorm, Linear, Net, SeedNorm, linear, net

KEY = jax.random.key(0)
X = jnp.ones((4, 3))


def test_set_up_gets_the_arguments_that_it_names():
    class Names(Module):
        seen: Variable = Variable()

        def set_up(self, mask, *rest, scale, flag=7, rng=None, name="n"):
            seen.append((mask, rest, scale, flag, rng is not None, name))
            return self.replace(seen=Variable(0))

        def forward(self, x, mask, *rest, scale=2, rng=None, **more):
            return x, self

    seen: list[Any] = []
    Names()(1, 2, 3, 4, name="m")
    Names()(1, 2, scale=5, rng=KEY)
    mlax.set_up(Names(), 1, 2, rng=KEY)
    assert seen == [
        (2, (3, 4), 2, 7, False, "m"),
        (2, (), 5, 7, True, "n"),
        (2, (), 2, 7, True, "n"),
    ]

    class Asks(Names):
        def set_up(self, labels):
            return self

    with pytest.raises(
        TypeError,
        match=r"^Asks\.set_up takes 'labels', but forward was called without it \(it got: x, mask\)",
    ):
        Asks()(1, 2)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            lambda self: None,
            "Bad.set_up must return the set-up copy, got None.\n  End it with `return self.replace",
        ),
        (lambda self: linear(), "Bad.set_up must return the set-up copy, got Linear("),
        (lambda self: self, "Bad.set_up was called, but Bad is not set up (UNSET: weight)"),
    ],
)
def test_a_set_up_that_returns_something_else(result, message):
    class Bad(Module):
        weight: Parameter = Parameter()

        def set_up(self, x):
            return result(self)

        def forward(self, x):
            return x, self

    for call in (lambda: Bad()(X), lambda: mlax.set_up(Bad(), X)):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
            call()


def test_shared_arrays_are_refused_but_unset_ones_are_fine():
    shared = linear(3, 3)
    with pytest.raises(ValueError, match="are the same array"):
        mlax.set_up(
            Net([Net([shared], BatchNorm()), Net([shared.replace()], BatchNorm())], BatchNorm()),
            X[0],
            rng=KEY,
        )
    default = Parameter()
    layers = [Linear(3, kernel=default, bias=default) for _ in range(3)]
    assert mlax.set_up(Net(layers, BatchNorm()), X[0], rng=KEY).norm.is_set_up
    same = Linear(3)
    model = Net([Net([Linear(3)], BatchNorm()), Net([Linear(3)], BatchNorm())], BatchNorm())
    is_linear = lambda node: isinstance(node, Linear)  # noqa: E731
    model = jax.tree.map(lambda node: same if is_linear(node) else node, model, is_leaf=is_linear)
    with pytest.raises(
        ValueError,
        match=r"^mlax\.set_up: model\.layers\[0\]\.layers\[0\] and model\.layers\[1\]\.layers\[0\] are the same",
    ):
        mlax.set_up(model, X[0], rng=KEY)


def test_wrong_models_and_modules_made_on_the_way():
    for wrong in (X, None, Parameter(1.0), Container([linear()])):
        with pytest.raises(TypeError, match=r"^mlax\.set_up takes a Module, got "):
            mlax.set_up(wrong, X)

    class Makes(Module):
        def forward(self, x: Array) -> tuple[Array, Self]:
            return Linear(2)(x)[0], self

    with pytest.raises(ValueError, match="a Linear made in a forward is not in the model"):
        mlax.set_up(Makes(), X, rng=KEY)


def test_the_result_carries_no_trace_of_the_run():
    model = mlax.set_up(net(), X[0], rng=KEY)
    rebuilt = Net(
        [
            Linear(4, kernel=a.kernel, bias=a.bias)
            if a.out_features == 4
            else Linear(3, kernel=a.kernel, bias=a.bias)
            for a in model.layers
        ],
        BatchNorm(0.9, model.norm.mean, model.norm.var, model.norm.scale, model.norm.steps),
    )
    assert tree_equal(model, rebuilt)

    class Fails(Module):
        def forward(self, x: Array) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mlax.set_up(Fails(), X)
    y, _ = Linear(2)(X, KEY)  # a lazy call after a failed run is lazy again
    assert y.shape == (4, 2)


class Chain(Module):
    """Names no option."""

    child: Module

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.call(self.child, x)


class TrainingOnly(Module):
    """Has options without defaults, and a child that it calls in training."""

    norm: BatchNorm
    head: Linear

    def forward(self, x: Array, batch_axis_name: Any, inference_mode: Any) -> tuple[Array, Self]:
        x, self = self.call(self.norm, x)
        return (x, self) if inference_mode else self.call(self.head, x)


def test_a_model_with_options():
    model = Chain(TrainingOnly(BatchNorm(), Linear(2)))
    with pytest.raises(
        TypeError, match=r'To set it up: mlax\.set_up\(model, x, batch_axis_name="batch"\)'
    ):
        mlax.set_up(model, X[0], rng=KEY)
    done = mlax.set_up(mlax.training(model, rng=KEY, batch_axis_name="batch"), X[0])
    assert type(done) is Chain
    assert done.child.head.is_set_up
    prepared = mlax.training(model, rng=jax.random.key(1), batch_axis_name=())
    assert tree_equal(mlax.set_up(prepared, X[0], rng=KEY), done)  # the last key holds
    with pytest.raises(ValueError, match=r"UNSET; [^:]*:\n  model\.child\.head\.kernel"):
        mlax.set_up(model, X[0], rng=KEY, batch_axis_name="batch")
    for wrong in (done.forward, lambda x: x):
        with pytest.raises(TypeError, match=r"^mlax\.set_up takes a Module, got "):
            mlax.set_up(mlax.training(wrong), X[0])


def test_the_seeds_style():
    model = mlax.set_up(SeedNorm(3), X[0], rng=KEY)
    assert [layer.kernel.data.shape for layer in model.layers.states] == [(3, 4), (4, 3)]
    assert list(model.statistics.data) == ["mean", "var"]
