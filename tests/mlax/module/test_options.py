"""Options of a call: what a `forward` is passed, keys of children, and what must never go stale."""

import asyncio
import contextvars
import functools
import inspect
import threading
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, Variable

KEY = jax.random.key(0)
X = jnp.ones(64)


class Dropout(Module):
    """Sets a half of its input to zero."""

    def forward(self, x: Array, rng: Any = None, inference_mode: Any = False) -> Any:
        if inference_mode:
            return x, self
        if rng is None:
            raise ValueError("Dropout needs a key")
        return jnp.where(jax.random.bernoulli(rng, 0.5, x.shape), 2 * x, 0), self


class Sees(Module):
    """Returns the options that it is passed."""

    def forward(
        self,
        x: Any = None,
        rng: Any = "none",
        inference_mode: Any = "none",
        batch_axis_name: Any = "none",
    ) -> Any:
        return (rng, inference_mode, batch_axis_name), self


class Needs(Module):
    """Has options without defaults, as the seed's modules have."""

    def forward(self, x: Any, rng: Any, inference_mode: Any, batch_axis_name: Any) -> Any:
        return (rng, inference_mode, batch_axis_name), self


class Quiet(Module):
    """Returns the key that it is passed, or None."""

    def forward(self, x: Any, rng: Any = None) -> Any:
        return (rng,), self


class Names(Module):
    """Names no option, and calls its child in a given way."""

    child: Any
    how: Any = None
    other: Any = None

    def forward(self, x: Any = X) -> Any:
        return self.call(self.child, x) if self.how is None else self.how(self, x)


def data_of(key: Any) -> Any:
    return jax.random.key_data(key).tolist() if isinstance(key, jax.Array) else key


def same_key(one: Any, other: Any) -> bool:
    return bool(data_of(one) == data_of(other))


def seen(model: Any) -> tuple[Any, Any, Any]:
    result: tuple[Any, Any, Any] = model(X)[0]
    return result


# What is passed


def test_nothing_is_passed_where_nothing_was_given():
    assert seen(Names(Sees())) == ("none", "none", "none")
    assert seen(Sees()) == ("none", "none", "none")


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", [Sees, Needs])
def test_options_reach_every_forward_that_names_them(kind, depth):
    model = kind()
    for _ in range(depth):
        model = Names(model)
    rng, mode, axis = seen(mlax.training(model, rng=KEY, batch_axis_name="batch"))
    assert (mode, axis) == (False, "batch")
    assert same_key(rng, KEY) == (depth == 0)
    rng, mode, axis = seen(mlax.inference(model, batch_axis_name=("a", "b"), rng=KEY))
    assert (mode, axis) == (True, ("a", "b"))
    assert seen(mlax.inference(Sees())) == ("none", True, "none")


def test_not_given_is_not_false():
    assert seen(mlax.training(Sees())) == ("none", False, "none")

    def inner(self: Any, x: Any) -> Any:
        return self.call(mlax.inference(self.child), x)

    assert seen(mlax.training(Names(Sees(), inner), batch_axis_name="b")) == ("none", True, "b")
    assert seen(Names(Sees(), inner)) == ("none", True, "none")


def test_what_is_passed_explicitly_wins_and_holds_inside():
    def explicit(self: Any, x: Any) -> Any:
        return self.call(self.child, x, KEY, inference_mode=True, batch_axis_name=None)

    model = Names(Sees(), explicit)
    rng, mode, axis = seen(mlax.training(model, rng=jax.random.key(9), batch_axis_name="b"))
    assert same_key(rng, KEY)
    assert (mode, axis) == (True, None)

    class Outer(Module):
        child: Any

        def forward(self, x: Any, rng: Any = None, *, inference_mode: Any = False) -> Any:
            return self.call(self.child, x)

    _, mode, axis = Outer(Names(Sees()))(X, inference_mode=True)[0]
    assert (mode, axis) == (True, "none")
    assert seen(Outer(Sees())) == ("none", "none", "none")
    one = Outer(Sees())(X, KEY)[0][0]
    assert same_key(one, seen(mlax.training(Outer(Sees()), rng=KEY))[0])
    assert not same_key(one, KEY)
    none = mlax.training(Outer(Sees()), rng=KEY)(X, rng=None)[0]
    assert none == ("none", False, "none")


def test_options_in_keywords_that_forward_collects_are_given():
    class Collects(Module):
        child: Any

        def forward(self, x: Any, **options: Any) -> Any:
            (result, self) = self.call(self.child, x)
            return (result, options), self

    (_, mode, _), options = Collects(Sees())(X, inference_mode=True, rng=KEY)[0]
    assert mode is True
    assert set(options) == {"inference_mode", "rng"}
    (rng, mode, _), options = mlax.training(Collects(Sees()), rng=KEY)(X)[0]
    assert options == {}
    assert mode is False
    assert isinstance(rng, jax.Array)


def test_what_was_said_last_holds():
    both = mlax.inference(mlax.training(Sees(), rng=KEY, batch_axis_name="b"))
    rng, mode, axis = seen(both)
    assert (mode, axis) == (True, "b")
    assert same_key(rng, KEY)
    assert seen(mlax.training(mlax.inference(Sees()), batch_axis_name=["c"]))[1:] == (False, ("c",))


def test_a_direct_call_inherits_the_static_options_and_no_key():
    model = Names(Sees(), lambda self, x: (self.child(x)[0], self))
    assert seen(mlax.training(model, rng=KEY, batch_axis_name="b")) == ("none", False, "b")
    other = Sees()
    model = Names(None, lambda self, x: (_of_global["other"](x)[0], self))
    _of_global["other"] = other
    assert seen(mlax.inference(model, rng=KEY)) == ("none", True, "none")


_of_global: dict[str, Any] = {}


def test_set_up_is_in_inference_mode_and_hands_on_its_key():
    collected: list[Any] = []

    class Made(Module):
        child: Any
        w: Parameter = Parameter()

        def set_up(self, x: Any, inference_mode: Any, rng: Any) -> Self:
            collected.append(inference_mode)
            return self.replace(w=Parameter(jnp.zeros(x.shape)))

        def forward(self, x: Any, inference_mode: bool = False) -> Any:
            (result, self) = self.call(self.child, x)
            collected.append(result)
            return x, self

    mlax.set_up(Made(Names(Needs2())), X, rng=KEY)
    assert collected[0] is True
    assert collected[1][1] is True
    collected.clear()
    _, model = mlax.training(Made(Names(Sees())), rng=KEY)(X)
    assert collected[0] is False
    assert model.is_set_up


class Needs2(Module):
    def forward(self, x: Any, rng: Any, inference_mode: Any) -> Any:
        return (rng, inference_mode), self


def test_an_option_without_a_default_that_nobody_gave_names_the_cure():
    for name, cure in (
        ("rng", "rng=key"),
        ("inference_mode", "mlax.inference"),
        ("batch_axis_name", "batch"),
    ):
        with pytest.raises(TypeError, match=r"Needs\.forward.* at child: missing") as error:
            Names(Needs(), functools.partial(call_with_all_but, name))(X)
        assert cure in str(error.value)


def call_with_all_but(name: str, self: Any, x: Any) -> Any:
    given = {"rng": KEY, "inference_mode": True, "batch_axis_name": "b"}
    del given[name]
    return self.call(self.child, x, **given)


# Keys


def test_each_call_of_a_child_has_a_key_of_its_own():
    class Two(Module):
        first: Any
        layers: tuple[Any, ...]

        def forward(self, x: Any) -> Any:
            keys = []
            for child in (self.first, self.first, *self.layers, self.first):
                (key, *_), self = self.call(child, x)
                keys.append(key)
            return keys, self

    def keys_of(model: Any, key: Any) -> Any:
        return mlax.training(model, rng=key)(X)[0]

    keys = [*map(data_of, keys_of(Two(Sees(), (Sees(), Names(Sees()))), KEY))]
    assert len(set(map(tuple, keys))) == 5
    again = [*map(data_of, keys_of(Two(Sees(), (Sees(), Names(Sees()), Sees())), KEY))]
    assert again[:4] == keys[:4]
    assert again[-1] == keys[-1]
    traced = jax.jit(keys_of)(Two(Sees(), ()), KEY)
    assert [*map(data_of, traced)] == [keys[0], keys[1], keys[4]]


def test_one_dropout_called_twice_draws_twice():
    class Twice(Module):
        drop: Dropout

        def forward(self, x: Array) -> Any:
            a, self = self.call(self.drop, x)
            b, self = self.call(self.drop, x)
            return (a, b), self

    for call in (
        lambda m, k: mlax.training(m, rng=k)(X),
        jax.jit(lambda m, k: mlax.training(m, rng=k)(X)),
    ):
        (a, b), _ = call(Twice(Dropout()), KEY)
        assert not jnp.array_equal(a, b)


def test_a_child_can_be_given_its_own_key():
    def own(self: Any, x: Any) -> Any:
        return self.call(mlax.training(self.child, rng=KEY), x)

    assert same_key(seen(mlax.training(Names(Sees(), own), rng=jax.random.key(7)))[0], KEY)
    assert same_key(seen(Names(Sees(), own))[0], KEY)

    def unnamed(self: Any, x: Any) -> Any:
        return self.call(mlax.training(self.child), x)

    inherits = seen(mlax.inference(Names(Sees(), unnamed), rng=KEY))
    assert inherits[1] is False
    assert same_key(inherits[0], seen(mlax.inference(Names(Sees()), rng=KEY))[0])


def test_lazy_set_up_takes_the_inherited_key():
    class Made(Module):
        w: Parameter = Parameter()

        def set_up(self, x: Array, rng: Array) -> Self:
            return self.replace(w=Parameter(jax.random.normal(rng, x.shape)))

        def forward(self, x: Array) -> Any:
            return x * self.w.data, self

    class Pair(Module):
        a: Made = Made()
        b: Made = Made()

        def forward(self, x: Array) -> Any:
            x, self = self.call(self.a, x)
            return self.call(self.b, x)

    _, model = mlax.training(Names(Pair()), rng=KEY)(X)
    assert not jnp.array_equal(model.child.a.w.data, model.child.b.w.data)
    with pytest.raises(ValueError, match=r"Made at child\.a is not set up"):
        Names(Pair())(X)


# What must never go stale


@jax.jit
def jitted_outside(child: Any, x: Any) -> Any:
    return child(x)


@jax.jit
def mode_of(x: Array) -> Array:
    return _probe(x)[0]


class Probe(Module):
    def forward(self, x: Array, inference_mode: Any = None, batch_axis_name: Any = None) -> Any:
        modes = {None: 0.0, False: 1.0, True: 2.0}
        return x * 0 + modes[inference_mode] + (10 if batch_axis_name else 0), self


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


def test_one_key_draws_anew_in_a_scan_over_keys():
    class Scans(Module):
        child: Dropout

        def forward(self, x: Array, rng: Any = None) -> Any:
            keys = jax.random.split(rng, 3)

            def step(_: Any, key: Array) -> Any:
                return 0, self.call(mlax.training(self.child, rng=key), x)[0]

            return lax.scan(step, 0, keys)[1], self

    for seed in (0, 1):
        masks = mlax.training(Scans(Dropout()), rng=jax.random.key(seed))(X)[0]
        assert len({tuple(mask.tolist()) for mask in masks}) == 3


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


def test_options_end_with_the_call_also_after_an_error():
    class Fails(Module):
        def forward(self, x: Any, inference_mode: Any = None) -> Any:
            raise RuntimeError("stop")

    class Catches(Module):
        fails: Any
        child: Any

        def forward(self, x: Any) -> Any:
            with pytest.raises(RuntimeError):
                self.call(mlax.inference(self.fails, rng=KEY), x)
            return self.call(self.child, x)

    with pytest.raises(RuntimeError):
        mlax.training(Fails(), rng=KEY)(X)
    assert seen(Sees()) == ("none", "none", "none")
    assert seen(Catches(Fails(), Sees())) == ("none", "none", "none")
    assert seen(mlax.training(Catches(Fails(), Sees())))[1] is False


def test_reentrant_calls_and_models_inside_other_losses():
    class Distills(Module):
        teacher: Any
        student: Any

        def forward(self, x: Array) -> Any:
            def loss_fn(student: Any) -> Any:
                (target, *_) = mlax.inference(self.teacher)(x)
                y, student = mlax.training(student, rng=jax.random.key(5))(x)
                return jnp.sum((y - target) ** 2), student

            (loss, student), gradients = mlax.value_and_grad(loss_fn)(self.student)
            return (loss, gradients), self.replace(student=student)

    class Noisy(Module):
        w: Parameter
        drop: Dropout = Dropout()

        def forward(self, x: Array) -> Any:
            return self.call(self.drop, x * self.w.data)

    model = Distills(Noisy(Parameter(1.0)), Noisy(Parameter(2.0)))
    (loss, gradients), model = mlax.training(model, rng=KEY)(X)
    assert float(loss) > 0
    assert float(gradients.w.data) != 0


# What training and inference return


def test_it_looks_like_the_model():
    model = Names(Sees())
    prepared = mlax.training(model, rng=KEY)
    assert list(inspect.signature(prepared).parameters) == ["x"]
    with pytest.raises(
        AttributeError, match=r"mlax\.training\(model\.child\)"
    ):  # it would have no options
        prepared.child  # noqa: B018
    assert "mlax.training" in repr(prepared)


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


# The same values, threaded by hand and inherited


class BatchNorm(Module):
    mean: Variable = Variable(jnp.zeros(3))
    count: Variable = Variable(0)

    def forward(self, x: Array, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        if inference_mode:
            return x - self.mean.data, self
        mean = lax.pmean(x, batch_axis_name) if batch_axis_name else x
        changed = self.replace(
            mean=Variable(0.9 * self.mean.data + 0.1 * mean), count=Variable(self.count.data + 1)
        )
        return x - mean, changed


class Inherits(Module):
    norm: BatchNorm = BatchNorm()
    drop: Dropout = Dropout()
    again: Dropout = Dropout()

    def forward(self, x: Array) -> Any:
        return self.chain(x, self.norm, self.drop, self.again)


class Threads(Module):
    norm: BatchNorm = BatchNorm()
    drop: Dropout = Dropout()
    again: Dropout = Dropout()

    def forward(self, x: Array, keys: Any, inference_mode: bool, batch_axis_name: Any) -> Any:
        x, self = self.call(
            self.norm, x, inference_mode=inference_mode, batch_axis_name=batch_axis_name
        )
        x, self = self.call(self.drop, x, keys[0], inference_mode)
        return self.call(self.again, x, keys[1], inference_mode)


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_a_model_threaded_by_hand_and_with_inherited_options_gives_the_same(inference_mode, jit):
    xs = jax.random.normal(KEY, (5, 3))
    prepare = mlax.inference if inference_mode else mlax.training

    def by_itself(model: Any, xs: Array, key: Array) -> Any:
        call = prepare(model, rng=key, batch_axis_name="batch")
        return jax.vmap(call, axis_name="batch", out_axes=(0, None))(xs)

    keys_of = Keys()

    def by_hand(model: Any, xs: Array, key: Array) -> Any:
        keys = mlax.training(keys_of, rng=key)(xs)[0]
        call = lambda x: model(x, keys, inference_mode, "batch")  # noqa: E731
        return jax.vmap(call, axis_name="batch", out_axes=(0, None))(xs)

    a, b = by_itself, by_hand
    if jit:
        a, b = jax.jit(a), jax.jit(b)
    y, first = a(Inherits(), xs, KEY)
    z, second = b(Threads(), xs, KEY)
    assert jnp.allclose(y, z, rtol=1e-6)
    assert jnp.allclose(first.norm.mean.data, second.norm.mean.data)
    assert int(first.norm.count.data) == int(second.norm.count.data) == (not inference_mode)


class Keys(Module):
    """The keys that the two dropouts of Inherits get."""

    drop: Quiet = Quiet()
    again: Quiet = Quiet()

    def forward(self, x: Array) -> Any:
        (one,), self = self.call(self.drop, x)
        (other,), self = self.call(self.again, x)
        return (one, other), self


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


def test_a_users_own_call_may_call_several_times():
    class Twice(Module):
        calls: Variable = Variable(0)

        def forward(self, x: Any, rng: Any = None) -> Any:
            return rng, self.replace(calls=Variable(self.calls.data + 1))

        def __call__(self, x: Any) -> Any:
            first, self = super().__call__(x)
            second, self = super().__call__(x)
            return (first, second), self

    (first, second), model = mlax.training(Twice(), rng=KEY)(X)
    assert int(model.calls.data) == 2
    assert not same_key(first, second)
    (first, second), model = mlax.training(Names(Twice()), rng=KEY)(X)
    assert isinstance(first, jax.Array)
    assert not same_key(first, second)


def test_a_lazy_set_up_and_the_forward_after_it_have_different_keys():
    class Noisy(Module):
        noise: Parameter = Parameter()

        def set_up(self, x: Any, rng: Any) -> Self:
            return self.replace(noise=Parameter(jax.random.normal(rng, x.shape)))

        def forward(self, x: Any, rng: Any = None) -> Any:
            return jax.random.normal(rng, x.shape) - self.noise.data, self

    assert jnp.all(mlax.training(Noisy(), rng=KEY)(X)[0] != 0)


def test_options_cannot_be_positional_only():
    class Positional(Module):
        def forward(self, x: Any, rng: Any = None, /) -> Any:
            return rng, self

    with pytest.raises(TypeError, match=r"Positional\.forward: the option rng is positional-only"):
        mlax.training(Positional(), rng=KEY)(X)


def test_truth_values_of_other_types_share_no_trace():
    for value in (1, np.True_, True, 1.0):
        assert mlax.inference(Names(Sees()))(X)[0][1] is True

        class Passes(Module):
            child: Any

            def forward(self, x: Any, inference_mode: Any = None) -> Any:
                return self.call(self.child, x)

        assert Passes(Sees())(X, value)[0][1] is True
    assert mlax.training(Names(Sees()), batch_axis_name=0)(X)[0][2] == 0
    assert mlax.training(Names(Sees()), batch_axis_name=0)(X)[0][2] is not False


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


def test_an_option_that_forward_does_not_name_names_the_cure():
    with pytest.raises(TypeError, match="unexpected keyword argument 'rng'") as error:
        Names(Sees())(X, rng=KEY)
    assert "mlax.training(model, rng=key)(x)" in str(error.value)
