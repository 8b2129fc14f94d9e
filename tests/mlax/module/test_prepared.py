"""The result of `mlax.training` and `mlax.inference`: of models, of methods, and of functions."""

import asyncio
import copy
import functools
import inspect
import operator
import pickle
from collections.abc import AsyncGenerator, Generator
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import Module
from tests.mlax.module.option_models import KEY, Dropout, Names, Probe, Sees, X, same_key, seen


def test_it_looks_like_the_model():
    model = Names(Sees())
    prepared = mlax.training(model, rng=KEY)
    assert list(inspect.signature(prepared).parameters) == ["x"]
    with pytest.raises(
        AttributeError, match=r"mlax\.training\(model\.child\)"
    ):  # it would have no options
        prepared.child  # noqa: B018
    assert "mlax.training" in repr(prepared)


def _shaped(shape: Any, rng: Any) -> Any:
    return jax.random.normal(rng, shape)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        lambda one: cloudpickle.loads(cloudpickle.dumps(one)),
    ],
    ids=["copy", "deepcopy", "pickle", "cloudpickle"],
)
def test_it_can_be_copied_and_sent(copied: Any):
    model = Attention(Sees())
    for one, args in (
        (mlax.training(model, rng=KEY), (X,)),
        (mlax.inference(model.decode, batch_axis_name="batch"), (X, 3)),
        (mlax.training(_shaped, rng=KEY), ((2,),)),
        (mlax.capture(mlax.training(model, rng=KEY), operator.attrgetter("child")), (X,)),
    ):
        again = copied(one)
        assert type(again) is type(one)
        assert again.static == one.static
        assert mlax.tree.tree_equal(again(*args), one(*args))


class Attention(Module):
    child: Any

    def forward(self, x: Any) -> Any:
        return self.call(self.child, x)

    def decode(self, x: Any, cache: Any, rng: Any = None, inference_mode: Any = None) -> Any:
        (inner, *_), self = self.call(self.child, x)
        return (inner, rng, inference_mode, cache), self


def test_methods_are_called_with_options_too():
    model = Attention(Sees())
    (inner, rng, mode, cache), _ = mlax.training(model.decode, rng=KEY)(X, 3)
    assert same_key(rng, KEY)
    assert not same_key(inner, KEY)
    assert (mode, cache) == (False, 3)

    def decodes(self: Any, x: Any) -> Any:
        return self.call(self.child.decode, x, cache=4)

    def trains(self: Any, x: Any) -> Any:
        return self.call(mlax.training(self.child.decode, rng=KEY), x, cache=4)

    (_, rng, mode, cache), after = mlax.inference(Names(model, decodes), rng=KEY)(X)
    assert (mode, cache) == (True, 4)
    assert isinstance(after, Names)
    assert not same_key(rng, KEY)
    assert same_key(Names(model, trains)(X)[0][1], KEY)


def test_functions_are_given_what_they_name():
    def loss(model: Any, x: Any, rng: Any = None, inference_mode: Any = "none") -> Any:
        return rng, inference_mode, seen(model)

    rng, mode, inner = mlax.training(loss, rng=KEY)(Sees(), X)
    assert same_key(rng, KEY)
    assert mode is False
    assert inner == ("none", False, "none")
    with pytest.raises(TypeError, match="takes no rng"):
        mlax.training(lambda x: x, rng=KEY)(X)
    with pytest.raises(TypeError, match="takes no rng"):
        mlax.training(jax.jit(Names(Sees())), rng=KEY)(X)
    y, _ = mlax.training(jax.jit(Dropout()), rng=KEY)(X)
    expected, _ = mlax.training(Dropout(), rng=KEY)(X)
    assert jnp.array_equal(y, expected)
    assert mlax.inference(jax.vmap(Probe()))(X)[0][0] == 2


@pytest.mark.parametrize("value", [None, 3, "model", Sees, jnp.ones(2)])
def test_what_cannot_be_called_is_refused(value):
    for prepare in (mlax.training, mlax.inference):
        with pytest.raises(TypeError, match="takes a model or a function, got"):
            prepare(value)


@pytest.mark.parametrize("value", [0, 1.5, "key", jnp.ones(2), np.zeros(2, np.uint32)])
def test_what_is_no_key_is_refused(value):
    with pytest.raises(TypeError, match="rng must be a key"):
        mlax.training(Sees(), rng=value)


def test_a_users_own_call_hands_on_the_options():
    class Logged(Module):
        child: Any

        def forward(self, x: Any, rng: Any = None) -> Any:
            (inner, *_), self = self.call(self.child, x)
            return (rng, inner), self

        def __call__(self, x: Any) -> Any:
            return super().__call__(x)

    (rng, _), _ = mlax.training(Logged(Sees()), rng=KEY)(X)
    assert same_key(rng, KEY)
    (rng2, inner2), _ = mlax.training(Names(Logged(Sees())), rng=KEY)(X)
    assert isinstance(rng2, jax.Array)
    assert not same_key(rng2, inner2)
    assert not same_key(rng, rng2)


class Base(Module):
    def forward(self, x: Any, rng: Any = None) -> Any:
        return (x, rng), self

    def apply(self, x: Any) -> Any:
        return self.forward(x)

    renamed = apply
    nameless = lambda self, x: ((x, "nameless"), self)  # noqa: E731


class Derived(Base):
    def forward(self, x: Any, rng: Any = None) -> Any:
        (y, inner), _ = mlax.training(super().forward)(x)
        return (y + 1, inner), self


def test_the_method_that_was_passed_runs():
    """Not the one that the class has under its name."""
    assert mlax.training(Derived())(1)[0] == (2, None)
    assert mlax.training(Derived().renamed)(1)[0] == (2, None)
    assert mlax.training(Derived().nameless)(1)[0] == (1, "nameless")
    assert (
        Names(Derived(), lambda self, x: self.call(self.child.nameless, x))(1)[0][1] == "nameless"
    )


def test_functions_take_options_by_position_too():
    def function(model: Any, rng: Any, x: Any, inference_mode: Any = None) -> Any:
        return rng, inference_mode

    other = jax.random.key(8)
    rng, mode = mlax.training(function, rng=KEY)(Sees(), other, X)
    assert same_key(rng, other)
    assert mode is False
    assert mlax.training(function, rng=KEY)(Sees(), other, X, True)[1] is True


def test_several_keys_and_names_that_are_none_are_refused():
    for keys in (jax.random.split(KEY, 3), jax.random.split(jax.random.PRNGKey(0), 3)):
        with pytest.raises(TypeError, match="must be one key"):
            mlax.training(Sees(), rng=keys)
    mlax.training(Sees(), rng=jax.random.PRNGKey(0))(X)
    with pytest.raises(TypeError, match="rng must be a key"):
        mlax.training(Sees(), rng=jnp.uint32(3))
    with pytest.raises(TypeError, match="batch_axis_name must be the name of an axis"):
        mlax.training(Sees(), batch_axis_name={"a": 1})


def mode() -> Any:
    """Return the inference mode that a module called here sees."""
    return seen(Sees())[1]


LOG: list[Any] = []


def stream(xs: Any) -> Generator[Any, Any, Any]:
    try:
        for x in xs:
            try:
                yield x, mode()
            except KeyError:
                yield "caught", mode()
        return mode()
    finally:
        LOG.append(mode())


async def serve(x: Any) -> Any:
    before = mode()
    await asyncio.sleep(0)
    return x, before, mode()


async def stream_later(xs: Any) -> AsyncGenerator[Any, Any]:
    try:
        for x in xs:
            await asyncio.sleep(0)
            try:
                yield x, mode()
            except KeyError:
                yield "caught", mode()
    finally:
        await asyncio.sleep(0)
        LOG.append(mode())


@pytest.mark.one_python
def test_what_a_function_leaves_to_be_run_has_its_options():
    """And nothing else has them in between."""
    LOG.clear()
    outside = mode()
    running = mlax.inference(stream)([1, 2, 3])
    assert inspect.isgenerator(running)
    assert next(running) == (1, True)
    assert mode() == outside
    assert running.send(5) == (2, True)
    assert running.throw(KeyError()) == ("caught", True)
    assert [*running, *LOG] == [(3, True), True]
    stopped = mlax.training(stream)([1])
    assert next(stopped) == (1, False)
    stopped.close()
    assert LOG == [True, False]

    def delegates() -> Any:
        return (yield from mlax.inference(stream)([])), mode()

    with pytest.raises(StopIteration) as stop:
        next(delegates())
    assert stop.value.value == (True, outside)
    for lazy in (map, filter):
        assert all(mlax.inference(lambda lazy=lazy: lazy(lambda _: mode() is True, [1, 2]))())
    assert list(mlax.inference(lambda: (mode() for _ in "ab"))()) == [True, True]
    assert mlax.inference(mlax.training(stream))([1]).send(None) == (1, True)


@pytest.mark.one_python
def test_async_functions_have_their_options_while_others_run():
    async def both() -> Any:
        running = (mlax.inference(serve)(1), serve(2), mlax.training(serve)(3))
        return await asyncio.gather(*running), mode()

    outside = mode()
    expected = [(1, True, True), (2, outside, outside), (3, False, False)]
    assert asyncio.run(both()) == (expected, outside)
    assert asyncio.run(mlax.inference(serve)(1)) == (1, True, True)

    async def streams() -> Any:
        LOG.clear()
        assert [item async for item in mlax.inference(stream_later)([1, 2])] == [
            (1, True),
            (2, True),
        ]
        running = mlax.inference(stream_later)([1, 2])
        assert (await running.asend(None), mode()) == ((1, True), outside)
        assert await running.athrow(KeyError()) == ("caught", True)
        await running.aclose()
        assert LOG == [True, True]

    asyncio.run(streams())


@pytest.mark.one_python
def test_functions_that_were_traced_before_are_refused():
    jitted = jax.jit(lambda x: (x, mode())[0])
    compiled, exported = jitted.lower(X).compile(), jax.export.export(jitted)(X)
    for function, cure in (
        (compiled, r"jax\.jit\(mlax\.inference\(function\)\)\.lower\(x\)\.compile\(\)"),
        (functools.partial(compiled), "always runs with the options of then"),
        (
            exported.call,
            r"an Exported was .*\n.*export\(jax\.jit\(mlax\.inference\(function\)\)\)\(x\)",
        ),
        (jax.jit(exported.call), "always runs with the options of then"),
    ):
        with pytest.raises(TypeError, match=cure):
            mlax.inference(function)
    assert mlax.inference(functools.partial(jitted))(X) is not None
