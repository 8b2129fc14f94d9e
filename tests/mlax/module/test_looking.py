"""`mlax.capture` and `mlax.first_non_finite`."""

import inspect
import re
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, Variable

KEY = jax.random.key(0)
X = jnp.arange(1.0, 4.0)


class Times(Module):
    factor: Parameter = Parameter(2.0)
    calls: Variable = Variable(0)

    def forward(self, x: Array) -> tuple[Array, Self]:
        counted = self.replace(calls=Variable(self.calls.data + 1))
        return x * self.factor.data, counted


class Log(Module):
    def forward(self, x: Array) -> tuple[Array, Self]:
        return jnp.log(x), self


class Block(Module):
    inner: Any

    def forward(self, x: Array) -> Any:
        h, self = self.call(self.inner, x)
        return x + h, self


class Net(Module):
    blocks: tuple[Any, ...]
    head: Any
    unused: Any = None

    def forward(self, x: Array, *, again: bool = False) -> Any:
        x, self = self.chain(x, *self.blocks)
        if again:
            x, self = self.call(self.head, x)
        return self.call(self.head, x)


def net() -> Any:
    return Net((Block(Times()), Block(Times(Parameter(3.0)))), Times(Parameter(5.0)), Log())


def test_capture_returns_the_result_the_model_and_the_outputs():
    y, model = net()(X)
    again, changed, ((first, second), head) = mlax.capture(net(), lambda m: (m.blocks, m.head))(X)
    assert jnp.array_equal(again, y)
    assert mlax.tree_equal(changed, model)
    assert jnp.array_equal(first, 3 * X)
    assert jnp.array_equal(second, 12 * X)
    assert jnp.array_equal(head, y)


@pytest.mark.parametrize("jit", [True, False])
def test_capture_takes_any_tree_of_modules(jit):
    def features(model: Any, x: Array) -> Any:
        where = lambda m: {"in": m.blocks[0].inner, "all": [m], "one": m.blocks[-1]}  # noqa: E731
        return mlax.capture(model, where)(x)[2]

    found = (jax.jit(features) if jit else features)(net(), X)
    assert jnp.array_equal(found["in"], 2 * X)
    assert jnp.array_equal(found["all"][0], 60 * X)
    assert jnp.array_equal(found["one"], 12 * X)
    assert jnp.array_equal(mlax.capture(net(), lambda m: m.head)(X)[2], 60 * X)


def test_a_module_called_twice_has_two_outputs():
    _, _, head = mlax.capture(net(), lambda m: m.head)(X, again=True)
    assert isinstance(head, tuple)
    assert [float(one[0]) for one in head] == [60, 300]


def test_what_cannot_be_captured_says_why():
    for where, error, message in (
        (lambda m: m.unused, ValueError, "unused was not called, or only as another object"),
        (lambda m: Times(), ValueError, "where(model) is a Times that is not in the model"),
        (lambda m: (m.head, m.head.factor.data), TypeError, "where(model)[1] is float32[]"),
        (lambda m: None, TypeError, "must return modules of the model, got None"),
        (lambda m: (), TypeError, "must return modules of the model, got ()"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            mlax.capture(net(), where)(X)
    for wrong in (3, None, jax.jit(net()), lambda x: x):
        with pytest.raises(TypeError, match=r"mlax\.capture takes a Module"):
            mlax.capture(wrong, lambda m: m)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"mlax\.first_non_finite takes a Module"):
            mlax.first_non_finite(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_module_inside_a_scan_is_refused():
    class Scans(Module):
        cell: Any

        def forward(self, x: Array) -> Any:
            return lax.scan(lambda c, y: (c, self.call(self.cell, y)[0]), 0, x)[1], self

    model = Scans(Log())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cell was called only inside a transformation"):
            mlax.capture(model, lambda m: m.cell)(X)
    assert mlax.capture(model, lambda m: m)(X)[2].shape == (3,)


def test_modules_that_are_called_directly_are_found_too():
    class Direct(Module):
        child: Any

        def forward(self, x: Array) -> Any:
            return self.child(x)[0], self

    assert jnp.array_equal(mlax.capture(Direct(Times()), lambda m: m.child)(X)[2], 2 * X)
    assert mlax.first_non_finite(Direct(Log()))(-X) == "child"


class Drop(Module):
    def forward(self, x: Array, rng: Array, inference_mode: bool) -> Any:
        return (x if inference_mode else x * jax.random.bernoulli(rng, 0.5, x.shape)), self


@pytest.mark.parametrize("order", [0, 1])
def test_capture_and_options_go_together(order):
    model = Block(Drop())
    expected = mlax.training(model, rng=KEY)(X)[0] - X
    if order:
        call = mlax.capture(mlax.training(model, rng=KEY), lambda m: m.inner)
    else:
        call = mlax.training(mlax.capture(model, lambda m: m.inner), rng=KEY)
    assert list(inspect.signature(call).parameters) == ["x"]
    assert jnp.array_equal(call(X)[2], expected)
    assert jnp.array_equal(mlax.inference(call)(X)[2], X)


def test_captures_inside_captures():
    class Probes(Module):
        model: Any

        def forward(self, x: Array) -> Any:
            y, _, inner = mlax.capture(self.model, lambda m: m.inner)(x)
            return (y, inner), self

    probes = Probes(Block(Times()))
    (_, inner), _, (outer, whole) = mlax.capture(probes, lambda m: (m.model.inner, m.model))(X)
    assert jnp.array_equal(inner, 2 * X)
    assert jnp.array_equal(outer, 2 * X)
    assert jnp.array_equal(whole, 3 * X)


def test_one_object_in_two_blocks_has_two_outputs():
    """An activation, say: as in any transformation, each place is a module of its own."""
    log = Log()
    models = [Net((Block(log), Block(log)), log), Net((Block(Log()), Block(Log())), Log())]
    models.append(
        jax.tree.map(lambda _: log, models[1], is_leaf=lambda node: isinstance(node, Log))
    )
    for model in models:
        inner = mlax.capture(model, lambda m: [block.inner for block in m.blocks])(X + 2)[2]
        first = jnp.log(X + 2)
        assert jnp.allclose(inner[0], first)
        assert jnp.allclose(inner[1], jnp.log(X + 2 + first))


def test_a_capture_takes_no_capture():
    """The outputs of the inner one would be lost."""
    inner = mlax.capture(Block(Times()), lambda m: m.inner)
    for outer in (lambda m: mlax.capture(m, lambda m: m), mlax.first_non_finite):
        for model in (inner, mlax.inference(inner)):
            with pytest.raises(
                TypeError, match=r"what mlax\.capture returned\.\n  Name all modules in one"
            ):
                outer(model)
    with pytest.raises(TypeError, match=r"what mlax\.first_non_finite returned"):
        mlax.capture(mlax.first_non_finite(Block(Times())), lambda m: m)


def test_call_does_not_take_a_capture():
    class Wrong(Module):
        child: Any

        def forward(self, x: Array) -> Any:
            return self.call(mlax.capture(self.child, lambda m: m), x)

    with pytest.raises(TypeError, match=r"Wrong\.call takes a module inside this Wrong"):
        Wrong(Times())(X)


def test_a_packed_model_is_looked_into_as_the_model():
    packed: Any = mlax.pack(net())
    _, changed, head = mlax.capture(packed, lambda m: m.head)(X)
    assert jnp.array_equal(head, 60 * X)
    assert isinstance(changed, mlax.Packed)
    dropped = mlax.training(mlax.pack(Block(Drop())), rng=KEY)(X)[0]
    assert jnp.array_equal(dropped, mlax.training(Block(Drop()), rng=KEY)(X)[0])


def test_the_first_non_finite_output_is_named():
    model = Net((Block(Times()), Block(Log()), Block(Log())), Times())
    assert mlax.first_non_finite(model)(X) is None
    assert mlax.first_non_finite(model)(-X) == "blocks[1].inner"
    assert mlax.first_non_finite(Net((), Times(Parameter(jnp.inf))))(X) == "head"
    assert mlax.first_non_finite(Log())(jnp.zeros(2)) == "Log"

    class Own(Module):
        child: Any

        def forward(self, x: Array) -> Any:
            (x, self) = self.call(self.child, x)
            return {"a": 1, "b": [x, x / 0 * 0]}, self

    assert mlax.first_non_finite(Block(Own(Times())).inner)(X) == "Own"
    assert (
        mlax.first_non_finite(mlax.inference(Own(Drop()), rng=KEY))(X.astype(jnp.bfloat16)) == "Own"
    )


def test_modules_in_a_scan_are_named_by_the_one_around():
    class Scans(Module):
        cell: Any

        def forward(self, x: Array) -> Any:
            return lax.scan(lambda c, y: (c, self.call(self.cell, y)[0]), 0, x)[1], self

    assert mlax.first_non_finite(Net((Scans(Log()),), Times()))(-X) == "blocks[0]"


def test_first_non_finite_needs_values():
    with pytest.raises(TypeError, match="reads values"):
        jax.jit(lambda x: mlax.first_non_finite(net())(x) and x)(X)
