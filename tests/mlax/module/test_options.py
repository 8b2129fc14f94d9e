"""Options of a call: passed, inherited, and given by hand."""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, Variable
from tests.mlax.module.option_models import (
    KEY,
    Dropout,
    Names,
    Needs,
    Quiet,
    Sees,
    X,
    same_key,
    seen,
)


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


@pytest.mark.one_python
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


def test_an_option_that_forward_does_not_name_names_the_cure():
    with pytest.raises(TypeError, match="unexpected keyword argument 'rng'") as error:
        Names(Sees())(X, rng=KEY)
    assert "mlax.training(model, rng=key)(x)" in str(error.value)
