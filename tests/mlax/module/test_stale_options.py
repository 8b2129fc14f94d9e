"""Options inside transformations, in functions that JAX has cached, and in threads: never those of another call."""

import asyncio
import contextvars
import functools
import threading
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Module
from tests.mlax.module.option_models import (
    KEY,
    Dropout,
    Names,
    Probe,
    Quiet,
    Sees,
    X,
    data_of,
    same_key,
    seen,
)


@jax.jit
def mode_of(x: Array) -> Array:
    return _probe(x)[0]


_probe = Probe()


def test_a_function_jitted_outside_sees_the_static_options_of_each_call():
    model = Names(Probe(), lambda self, x: (mode_of(x), self))
    for _ in range(2):
        assert mode_of(jnp.array(0.0)) == 0
        assert mlax.training(model)(jnp.array(0.0))[0] == 1
        assert mlax.inference(model)(jnp.array(0.0))[0] == 2
        assert mlax.inference(model, batch_axis_name="b")(jnp.array(0.0))[0] == 12
        assert model(jnp.array(0.0))[0] == 0
    assert mlax.inference(mode_of)(jnp.array(0.0)) == 2
    call = jax.jit(Probe())
    for _ in range(2):
        assert call(0.0)[0] == 0
        assert mlax.training(call)(0.0)[0] == 1
        assert mlax.inference(call)(0.0)[0] == 2


def scanned_body(carry: Any, x: Any) -> Any:
    return carry, _probe(x)[0]


@jax.custom_jvp
def custom_jvp(x: Array) -> Array:
    return _probe(x)[0]


custom_jvp.defjvp(lambda x, t: (custom_jvp(*x), *t))


@jax.custom_vjp
def custom_vjp(x: Array) -> Array:
    return _probe(x)[0]


custom_vjp.defvjp(lambda x: (_probe(x)[0], None), lambda _, g: (g,))

TRANSFORMED: dict[str, Any] = {
    "jit": jax.jit(lambda x: _probe(x)[0]),
    "vmap": jax.vmap(lambda x: _probe(x)[0]),
    "scan": lambda x: lax.scan(scanned_body, 0.0, x)[1],
    "map": lambda x: lax.map(lambda y: _probe(y)[0], x),
    "checkpoint": jax.checkpoint(lambda x: _probe(x)[0]),
    "cond": lambda x: lax.cond(x[0] >= 0, mode_of, lambda y: y, x),
    "while": lambda x: lax.fori_loop(0, 1, lambda _, y: _probe(y)[0], x),
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "jvp": lambda x: jax.jvp(lambda y: _probe(y)[0], (x,), (x,))[0],
    "eval": lambda x: jax.make_jaxpr(lambda y: _probe(y)[0])(x) and _probe(x)[0],
}


@pytest.mark.one_python
@pytest.mark.parametrize("outer", ["eager", "jit"])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_static_options_are_seen_inside_transformations(name, outer):
    function = TRANSFORMED[name]
    model = Names(None, lambda self, x: (function(x), self))
    x = jnp.zeros(2)
    for _ in range(2):
        for options, value in ((lambda m: m, 0), (mlax.training, 1), (mlax.inference, 2)):
            call = options(model) if outer == "eager" else jax.jit(options(model))
            assert jnp.all(call(x)[0] == value), (options, value)


def drops(self: Any) -> Any:
    return lambda x: self.call(self.child, x)[0]


def with_custom_jvp(function: Any) -> Any:
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda x, t: (function(*x), *t))
    return wrapped


def with_custom_vjp(function: Any) -> Any:
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda x: (function(x), None), lambda _, g: (g,))
    return wrapped


INSIDE: dict[str, Any] = {
    "jit": lambda self, x: jax.jit(drops(self))(x),
    "vmap": lambda self, x: jax.vmap(drops(self))(x[None]),
    "scan": lambda self, x: lax.scan(lambda c, y: (c, drops(self)(y)), 0, x[None])[1],
    "cond": lambda self, x: lax.cond(x[0] > 0, drops(self), lambda y: y, x),
    "while": lambda self, x: lax.fori_loop(0, 2, lambda _, y: drops(self)(y), x),
    "checkpoint": lambda self, x: jax.checkpoint(drops(self))(x),
    "grad": lambda self, x: jax.grad(lambda y: drops(self)(y).sum())(x),
    "linearize": lambda self, x: jax.linearize(drops(self), x)[0],
    "jvp": lambda self, x: jax.jvp(drops(self), (x,), (x,))[0],
    "eval_shape": lambda self, x: x + jax.eval_shape(drops(self), x).shape[0],
    "custom_jvp": lambda self, x: jax.grad(lambda y: with_custom_jvp(drops(self))(y).sum())(x),
}


@pytest.mark.one_python
@pytest.mark.parametrize("outer", ["eager", "jit"])
@pytest.mark.parametrize("name", INSIDE)
def test_a_key_is_not_inherited_inside_a_transformation(name, outer):
    def call(model: Any, x: Array, key: Array) -> Any:
        return mlax.training(model, rng=key)(x)

    model = Names(Dropout(), lambda self, x: (INSIDE[name](self, x), self))
    run = call if outer == "eager" else jax.jit(call)
    for seed in range(2):
        with pytest.raises(
            ValueError, match=r"Dropout\.forward at child: a key is not inherited"
        ) as error:
            run(model, X, jax.random.key(seed))
        assert "mlax.training(child, rng=key)" in str(error.value)

    def gives(self: Any, x: Array) -> Any:
        def drop(y: Array) -> Array:
            return self.call(mlax.training(self.child, rng=jax.random.key(3)), y)[0]

        return lax.scan(lambda c, y: (c, drop(y)), 0, x[None])[1], self

    run(Names(Dropout(), gives), X, KEY)


_running: list[Any] = []


def _drops_of_the_running(x: Array) -> Array:
    return _running[0].call(_running[0].child, x)[0]


CACHED: dict[str, Any] = {
    "jit": jax.jit(_drops_of_the_running),
    "vmap": lambda x: jax.vmap(_drops_of_the_running)(x[None])[0],
    "scan": lambda x: lax.scan(_scans, 0, x[None])[1][0],
    "checkpoint": jax.checkpoint(_drops_of_the_running),
    "custom_jvp": with_custom_jvp(_drops_of_the_running),
    "custom_vjp": with_custom_vjp(_drops_of_the_running),
    # The forward rule runs in the trace around `vjp`, where the key is valid.
    "vjp of custom_vjp": lambda x: jax.vjp(with_custom_vjp(_drops_of_the_running), x)[0],
    "vjp of custom_jvp": lambda x: jax.vjp(with_custom_jvp(_drops_of_the_running), x)[0],
}


def _scans(carry: Any, x: Array) -> Any:
    return carry, _drops_of_the_running(x)


class Runs(Module):
    """Calls its child in a function that JAX has seen before."""

    child: Any
    how: str

    def forward(self, x: Any) -> Any:
        _running[:] = [self]
        return CACHED[self.how](x), self


@pytest.mark.parametrize("outer", ["eager", "jit"])
@pytest.mark.parametrize("name", CACHED)
def test_what_jax_caches_by_identity_draws_anew_or_refuses(name, outer):
    def call(model: Any, x: Array, key: Array) -> Any:
        return mlax.training(model, rng=key)(x)[0]

    run = call if outer == "eager" else jax.jit(call)
    results: list[Any] = []
    refusals: list[str] = []
    for seed in range(3):
        try:
            results.append(run(Runs(Dropout(), name), X + seed, jax.random.key(seed)))
        except ValueError as error:
            refusals.append(str(error))
    assert all("a key is not inherited" in refusal for refusal in refusals)
    if results:
        assert name in {"custom_jvp", "custom_vjp", "vjp of custom_vjp", "vjp of custom_jvp"}
        zero = {tuple((result == 0).tolist()) for result in results}
        assert len(zero) == len(results) == 3


def test_keys_do_not_depend_on_what_is_cached():
    """A cached body does not run again, so calls in it must not count."""

    class Mixed(Module):
        child: Any
        how: str

        def forward(self, x: Array) -> Any:
            _running[:] = [self]
            CACHED[self.how](x)
            (key, *_), self = self.call(self.child, x)
            return key, self

    for how in ("jit", "scan", "checkpoint"):
        model = Mixed(Names(Sees(), _unchanged_or_seen), how)
        first, second = (mlax.training(model, rng=KEY)(X)[0] for _ in range(2))
        assert same_key(first, second)


def _unchanged_or_seen(self: Any, x: Any) -> Any:
    traced = isinstance(x, jax.core.Tracer)
    return (x, self) if traced else self.call(self.child, x)


def test_an_option_passed_as_an_array_is_not_inherited_silently():
    class Outer(Module):
        child: Any

        def forward(self, x: Array, inference_mode: Any = False) -> Any:
            return self.call(self.child, x)

    with pytest.raises(
        TypeError, match=r"Sees\.forward at child: inference_mode was passed as an array"
    ):
        Outer(Sees())(X, jnp.array(True))
    with pytest.raises(TypeError, match="not inherited"):
        jax.jit(Outer(Sees()))(X, inference_mode=True)
    Outer(Names(Quiet()))(X, jnp.array(True))
    assert mlax.inference(jax.jit(Outer(Probe())))(X)[0][0] == 2


def test_threads_do_not_share_options():
    found: list[Any] = []

    class Threads(Module):
        child: Any

        def forward(self, x: Array) -> Any:
            context = contextvars.copy_context()
            for target in (self.child, functools.partial(context.run, self.call, self.child)):
                thread = threading.Thread(target=lambda target=target: found.append(target(x)[0]))
                thread.start()
                thread.join()
            return x, self

    mlax.training(Threads(Sees()), rng=KEY)(X)
    assert found == [("none", "none", "none")] * 2


def test_concurrent_threads_and_tasks_keep_their_own_options():
    barrier = threading.Barrier(2)

    class Waits(Module):
        def forward(self, x: Any, rng: Any = None, inference_mode: Any = None) -> Any:
            barrier.wait(20)
            return (data_of(rng), inference_mode), self

    found: dict[Any, Any] = {}

    def work(mode: Any, seed: int) -> None:
        key = jax.random.key(seed)
        found[seed] = mode(Waits(), rng=key)(X)[0]

    threads = [
        threading.Thread(target=work, args=args)
        for args in ((mlax.training, 1), (mlax.inference, 2))
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == {1: ([0, 1], False), 2: ([0, 2], True)}

    async def task(mode: Any) -> Any:
        model = mode(Names(Sees()))
        one = seen(model)
        await asyncio.sleep(0)
        return one, seen(model), seen(Sees())

    async def both() -> Any:
        return await asyncio.gather(task(mlax.training), task(mlax.inference))

    first, second = asyncio.run(both())
    assert [each[1] for each in first] == [False, False, "none"]
    assert [each[1] for each in second] == [True, True, "none"]
