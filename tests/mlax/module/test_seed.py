"""The modules that mlax began with: fields of every kind, and every argument passed on by hand.

They are written as they were then, with their fields declared, and stand beside modules that inherit
the options of a call.
"""

from collections.abc import Hashable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

import mlax
from mlax import Container, Module, Parameter, Variable

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 6)
XS = jax.random.normal(jax.random.key(1), (6, 3))


class Foo(Module):
    pass


class Bar(Module):
    """A field of every kind."""

    a: Parameter
    b: Parameter
    e: Variable
    h: Container
    j: Foo
    k: str
    l: int  # noqa: E741 - the name that it had

    def __init__(self) -> None:
        super().__init__()
        self.a = Parameter(data=jnp.ones((3, 4)))
        self.b = Parameter(data=np.ones([1, 2, 3]), frozen=True)
        self.e = Variable(data=jnp.ones((3, 4)))
        self.h = Container(states=[Foo(), Foo()])
        self.j = Foo()
        self.k = "abc"
        self.l = 1


def test_nodes_are_children_and_all_else_is_static():
    assert [array.shape for array in jax.tree.leaves(Bar())] == [(3, 4), (1, 2, 3), (3, 4)]
    assert [array.shape for array in jax.tree.leaves(Bar().filter())] == [(3, 4)]
    assert [part.k for part in Bar().partition()] == ["abc", "abc"]
    paths = []
    Bar().filter_with_path(lambda path, node: paths.append(jax.tree_util.keystr(path)) or True)
    assert paths == [".a", ".b", ".e"]
    parameters, rest = Bar().partition_with_path(lambda _, node: mlax.is_parameter(node))
    assert mlax.tree_equal(parameters.combine(rest), Bar())


# Layers that take every argument


class Affine(Module):
    features: int
    kernel: Parameter
    calls: int

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.kernel = Parameter()
        self.calls = 0

    def set_up(self, x: Any, rng: Any) -> Self:
        return self.replace(kernel=Parameter(jax.random.normal(rng, (x.shape[-1], self.features))))

    def forward(
        self,
        x: Any,
        rng: Array | None,
        inference_mode: bool = False,
        batch_axis_name: Hashable | tuple[Hashable, ...] = (),
    ) -> tuple[Any, Self]:
        return x @ self.kernel.data, self.replace(calls=self.calls + 1)


class BatchNorm(Module):
    mean: Variable
    count: Variable

    def __init__(self) -> None:
        super().__init__()
        self.mean = Variable()
        self.count = Variable(data=jnp.zeros((), int))

    def set_up(self, x: Any) -> Self:
        return self.replace(mean=Variable(jnp.zeros_like(x)))

    def forward(
        self,
        x: Any,
        rng: Array | None,
        inference_mode: bool = False,
        batch_axis_name: Hashable | tuple[Hashable, ...] = (),
    ) -> tuple[Any, Self]:
        if inference_mode:
            return x - self.mean.data, self
        mean = lax.pmean(x, batch_axis_name)
        return x - mean, self.replace(
            mean=Variable(0.9 * self.mean.data + 0.1 * mean), count=Variable(self.count.data + 1)
        )


class Dropout(Module):
    rate: float

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self,
        x: Any,
        rng: Array | None,
        inference_mode: bool = False,
        batch_axis_name: Hashable | tuple[Hashable, ...] = (),
    ) -> tuple[Any, Self]:
        if inference_mode:
            return x, self
        assert rng is not None
        kept = jax.random.bernoulli(rng, 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0), self


class Model(Module):
    """Three layers, which subclasses call in one way or another."""

    affine: Affine
    norm: BatchNorm
    drop: Dropout


class ByHand(Model):
    def forward(
        self,
        x: Any,
        rng: Array | None,
        inference_mode: bool = False,
        batch_axis_name: Hashable | tuple[Hashable, ...] = (),
    ) -> tuple[Any, Self]:
        keys = (None,) * 3 if rng is None else jax.random.split(rng, 3)
        x, self = self.call(self.affine, x, keys[0], inference_mode, batch_axis_name)
        x, self = self.call(self.norm, x, keys[1], inference_mode, batch_axis_name)
        return self.call(self.drop, x, keys[2], inference_mode, batch_axis_name)


class Inherits(Model):
    def forward(self, x: Any) -> tuple[Any, Self]:
        return self.chain(x, self.affine, self.norm, self.drop)


class OwnKeys(Model):
    """Inherits the static options, and gives its children the keys that `ByHand` gives them."""

    def forward(self, x: Any, rng: Array | None = None) -> tuple[Any, Self]:
        keys: Any = (None,) * 3 if rng is None else jax.random.split(rng, 3)
        x, self = self.call(self.affine, x, keys[0])
        x, self = self.call(self.norm, x, rng=keys[1])
        return self.call(self.drop, x, keys[2])


class Passes(Module):
    """Is passed everything by hand, and gives it to a child that names nothing."""

    inner: Inherits

    def forward(
        self, x: Any, rng: Any, inference_mode: Any, batch_axis_name: Any
    ) -> tuple[Any, Self]:
        options = mlax.inference if inference_mode else mlax.training
        return self.call(options(self.inner, rng=rng, batch_axis_name=batch_axis_name), x)


class Around(Module):
    """Names no option."""

    model: Model

    def forward(self, x: Any) -> tuple[Any, Self]:
        return self.call(self.model, x)


def made(cls: Any) -> Any:
    """Return a model that is set up, with the same arrays for every class."""
    model = mlax.set_up(ByHand(Affine(8), BatchNorm(), Dropout(0.5)), XS[0], rng=KEY)
    return cls(model.affine, model.norm, model.drop)


def batched(call: Any) -> Any:
    return jax.vmap(call, axis_name="batch", out_axes=(0, None))


def by_hand(model: Any, xs: Any, keys: Any, inference_mode: bool) -> Any:
    return batched(lambda x, key: model(x, key, inference_mode, "batch"))(xs, keys)


def inherited(model: Any, xs: Any, keys: Any, inference_mode: bool) -> Any:
    prepare = mlax.inference if inference_mode else mlax.training
    return batched(lambda x, key: prepare(model, rng=key, batch_axis_name="batch")(x))(xs, keys)


@pytest.mark.one_python
@pytest.mark.parametrize("wrap", [lambda call: call, lambda call: jax.jit(call, static_argnums=3)])
@pytest.mark.parametrize("inference_mode", [False, True])
def test_what_is_passed_by_hand_and_what_is_inherited_give_the_same(inference_mode, wrap):
    ys, model = wrap(by_hand)(made(ByHand), XS, KEYS, inference_mode)
    assert int(model.norm.count.data) == (not inference_mode)
    assert bool((ys == 0).any()) == (not inference_mode)
    assert model.affine.calls == 1
    for other in (OwnKeys, ByHand):
        zs, changed = wrap(inherited)(made(other), XS, KEYS, inference_mode)
        assert jnp.allclose(ys, zs, rtol=1e-6)
        assert mlax.tree_equal(changed.affine, model.affine)
        assert jnp.allclose(changed.norm.mean.data, model.norm.mean.data, rtol=1e-6)
    zs, changed = wrap(inherited)(made(Inherits), XS, KEYS, inference_mode)
    assert bool(jnp.allclose(ys, zs, rtol=1e-6)) == inference_mode  # other keys, the same law
    assert jnp.allclose(changed.norm.mean.data, model.norm.mean.data, rtol=1e-6)
    assert jnp.allclose(ys, jnp.where((ys == 0) | (zs == 0), ys, zs), rtol=1e-6)


@pytest.mark.parametrize("inner", [Inherits, ByHand])
def test_a_model_that_names_no_option_may_hold_either(inner):
    ys, model = inherited(Around(made(inner)), XS, KEYS, False)
    assert (ys == 0).any()
    assert int(model.model.norm.count.data) == 1
    ys, _ = inherited(Around(made(inner)), XS, KEYS, True)
    assert jnp.allclose(ys, by_hand(made(ByHand), XS, KEYS, True)[0], rtol=1e-6)


def test_a_model_that_passes_everything_on_may_hold_one_that_inherits():
    ys, _ = by_hand(Passes(made(Inherits)), XS, KEYS, False)
    zs, _ = inherited(made(Inherits), XS, KEYS, False)
    assert jnp.allclose(ys, zs, rtol=1e-6)


def test_the_first_call_sets_up_from_the_key_that_is_passed():
    layers = Affine(8), BatchNorm(), Dropout(0.5)
    y, model = ByHand(*layers)(XS[0], KEY, True)
    assert model.affine.is_set_up
    assert jnp.array_equal(model(XS[0], None, True)[0], y)
    z, other = mlax.inference(OwnKeys(*layers), rng=KEY)(XS[0])
    assert jnp.array_equal(z, y)
    assert mlax.tree_equal(other.affine, model.affine)
    with pytest.raises(ValueError, match="Affine at affine is not set up"):
        ByHand(*layers)(XS[0], None, True)


def test_a_static_field_that_a_forward_changes_is_traced_again():
    traces = 0

    @jax.jit
    def call(model: Any, x: Any) -> Any:
        nonlocal traces
        traces += 1
        return model(x, None)

    model = made(ByHand).affine
    for _ in range(3):
        _, model = call(model, XS[0])
    assert model.calls == traces == 3
