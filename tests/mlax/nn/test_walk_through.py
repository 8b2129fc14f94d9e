"""The walk-through of the seed with layers of `mlax.nn` inside: its fields are declared, otherwise it is as it was."""

from collections.abc import Hashable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, nn, optim
from tests.mlax.nn.cases import KEY, array

pytestmark = pytest.mark.one_python

XS = array(16, 3)
YS = jnp.abs(XS).sum(axis=1, keepdims=True)


class MyLayer(Module):
    features: int
    kernel: Parameter
    norm: nn.BatchNorm
    drop: nn.Dropout
    head: nn.Linear

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.kernel = Parameter()
        self.norm = nn.BatchNorm(0.75)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(1)

    def set_up(self, x: Any, rng: Any) -> Self:
        return self.replace(kernel=Parameter(jax.random.normal(rng, (x.shape[-1], self.features))))

    def forward(
        self,
        x: Any,
        rng: Array | None,
        inference_mode: bool = False,
        batch_axis_name: Hashable | tuple[Hashable, ...] = (),
    ) -> tuple[Any, Self]:
        x, self = self.call(
            self.norm, jnp.abs(x @ self.kernel.data), inference_mode, batch_axis_name
        )
        x, self = self.call(self.drop, x, rng, inference_mode, batch_axis_name)
        return self.call(self.head, x)


def call(model: Any, xs: Any, key: Any, inference_mode: bool) -> Any:
    """Pass every argument by hand, to each example."""
    of_one = jax.vmap(
        lambda x: model(x, key, inference_mode, "batch"), axis_name="batch", out_axes=(0, None)
    )
    return of_one(xs)


def test_the_walk_through_trains() -> None:
    """A batch changes the statistics, and nothing else; the optimizer changes what is trained, and nothing else."""
    optimizer = optim.Adam(0.03)

    @jax.jit
    def step(model: Any, state: Any, key: Any) -> Any:
        def loss_fn(model: Any) -> Any:
            ys, model = call(model, XS, key, False)
            return jnp.mean(jnp.square(ys - YS)), model

        (loss, model), gradients = mlax.value_and_grad(loss_fn)(model)
        return *optimizer.update(model, gradients, state), loss

    model = start = mlax.set_up(MyLayer(8), XS[0], rng=KEY)
    state = optimizer.init(model)
    losses = []
    for i in range(100):
        model, state, loss = step(model, state, jax.random.key(i))
        losses.append(float(loss))
        if i == 0:
            hidden = jnp.abs(XS @ start.kernel.data)
            np.testing.assert_allclose(model.norm.mean.data, 0.25 * hidden.mean(0), 1e-5)
            np.testing.assert_allclose(model.norm.variance.data, 0.75 + 0.25 * hidden.var(0), 1e-5)
    assert np.mean(losses[-10:]) < losses[0] / 4
    assert state.m.norm.mean.data is None
    assert not mlax.tree_equal(model.kernel, start.kernel)
    parameters, rest = model.partition()
    assert mlax.tree_equal(parameters.combine(rest), model)

    ys, after = call(model, XS, None, True)
    assert mlax.tree_equal(after, model)
    assert jnp.mean(jnp.square(ys - YS)) < losses[0] / 4
    np.testing.assert_allclose(mlax.inference(nn.Batched(model), rng=KEY)(XS)[0], ys, 1e-5)


def test_options_give_what_is_passed_by_hand() -> None:
    """Without dropout, whose keys would differ."""
    model = mlax.at(MyLayer(8), lambda m: m.drop.rate).set(0.0)
    model = mlax.set_up(model, XS[0], rng=KEY)
    ys, by_hand = call(model, XS, KEY, False)
    zs, batched = mlax.training(nn.Batched(model), rng=KEY)(XS)
    np.testing.assert_allclose(zs, ys, 1e-5)
    np.testing.assert_allclose(batched.inner.norm.mean.data, by_hand.norm.mean.data, 1e-5)
    assert not jnp.allclose(by_hand.norm.mean.data, 0)
