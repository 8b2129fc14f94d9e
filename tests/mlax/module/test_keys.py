"""Keys of children, of set-up, and of repeated calls."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, Variable
from tests.mlax.module.option_models import KEY, Dropout, Names, Sees, X, data_of, same_key, seen


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
