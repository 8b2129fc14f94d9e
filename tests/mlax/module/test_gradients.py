"""`value_and_grad`: what it differentiates, returns and refuses."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import Container, Module, Parameter, Variable, tree_equal, value_and_grad
from tests.mlax.models import BatchNorm, SeedNorm, linear, net
from tests.names import stable

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 3))


class Mixed(Module):
    """A field of every kind that `jax.grad` alone would stumble over."""

    weight: Parameter
    nested: list[Parameter]
    frozen: Parameter = Parameter(7, frozen=True)
    count: Variable = Variable(0)
    key: Variable = Variable(jax.random.key(1))
    filtered: Parameter = Parameter(None)
    name: str = "mixed"


def mixed() -> Mixed:
    return Mixed(
        Parameter({"a": jnp.ones(2), "b": (2.0 * jnp.ones(3),)}),
        [Parameter(jnp.ones(2, jnp.bfloat16))],
    )


def test_gradients_of_unfrozen_parameters_only():
    def loss_fn(model: Mixed, scale: Any, *, shift: Any = 0) -> Any:
        weight = model.weight.data
        loss = scale * (weight["a"].sum() + (weight["b"][0] ** 2).sum()) + shift
        loss += model.nested[0].data.astype(float).sum()
        noise = jax.random.normal(model.key.data)
        return loss, model.replace(count=Variable(model.count.data + 1)), noise, {"scale": scale}

    for function in (value_and_grad(loss_fn), jax.jit(value_and_grad(loss_fn))):
        (loss, after, noise, aux), gradients = function(mixed(), 2.0, shift=1.0)
        assert float(loss) == 2 * (2 + 12) + 2 + 1
        assert int(after.count.data) == 1
        assert tree_equal(after.replace(count=Variable(0)), mixed())
        assert float(noise) == float(jax.random.normal(jax.random.key(1)))
        assert float(aux["scale"]) == 2
        assert type(gradients) is Mixed
        assert jax.tree.structure(gradients) == jax.tree.structure(mixed().filter())
        expected = (
            mixed()
            .filter()
            .replace(
                weight=Parameter({"a": 2 * jnp.ones(2), "b": (8 * jnp.ones(3),)}),
            )
        )
        assert tree_equal(gradients, expected)
        assert gradients.nested[0].data.dtype == jnp.bfloat16
        assert gradients.frozen.frozen


def test_it_agrees_with_grad_and_keeps_the_name():
    def squares(model: Any, x: Any) -> Any:
        """Sum of squares."""
        y, model = model(x)
        return (y**2).mean(), model

    model = linear(3, 2)
    (loss, after), gradients = value_and_grad(squares)(model, X)
    expected = jax.grad(lambda m: squares(m, X)[0])(model)
    assert all(map(jnp.allclose, jax.tree.leaves(gradients), jax.tree.leaves(expected)))
    assert tree_equal(after, model)
    assert loss.shape == ()
    assert value_and_grad(squares).__name__ == "squares"
    assert value_and_grad(squares).__doc__ == "Sum of squares."


def test_complex_parameters_have_the_gradients_of_jax():
    z = jnp.array([1 + 2j, 3 - 1j])
    model = Container({"z": Parameter(z)})
    loss_fn = lambda m: ((jnp.abs(m.states["z"].data) ** 2).sum(), m)  # noqa: E731
    _, gradients = value_and_grad(loss_fn)(model)
    assert gradients.states["z"].data.dtype == z.dtype
    assert jnp.allclose(gradients.states["z"].data, 2 * jnp.conj(z))


@pytest.mark.parametrize(
    "model",
    [
        Container([]),
        BatchNorm(steps=Variable(0), mean=Variable(jnp.ones(1)), var=None, scale=None),
        Container([Parameter(1, frozen=True)]),
    ],
    ids=stable,
)
def test_no_parameters(model):
    (loss, after), gradients = value_and_grad(lambda m: (jnp.asarray(2.0), m))(model)
    assert float(loss) == 2
    assert tree_equal(after, model)
    assert jax.tree.leaves(gradients) == []
    assert jax.tree.structure(gradients) == jax.tree.structure(model.filter())


def test_a_container_is_a_model():
    models = Container([linear(3, 2), linear(3, 2)])

    def loss_fn(models: Any, x: Any) -> Any:
        results = [model(x)[0] for model in models.states]
        return sum(y.mean() for y in results), models

    _, gradients = value_and_grad(loss_fn)(models, X)
    assert len(jax.tree.leaves(gradients)) == 4


def test_vmap_over_models():
    stacked = jax.vmap(lambda k: mlax.set_up(mlax_linear(), X, rng=k))(jax.random.split(KEY, 3))
    step = value_and_grad(lambda m, x: ((m(x)[0] ** 2).mean(), m))
    (losses, _), gradients = jax.vmap(step, in_axes=(0, None))(stacked, X)
    assert losses.shape == (3,)
    assert gradients.kernel.data.shape == (3, 3, 2)


def mlax_linear() -> Any:
    return linear(3, 2).replace(kernel=Parameter(), bias=Parameter())


RETURNS = {
    "a loss alone": (lambda m: jnp.ones(()), "must return (loss, model, *aux), got f32[]"),
    "a nested pair": (lambda m: (jnp.ones(()), (m, 1)), "that the call returned, got (Linear("),
    "nothing": (lambda m: None, "must return (loss, model, *aux), got None"),
    "the model first": (lambda m: (m, jnp.ones(())), "that the call returned, got f32[] ("),
    "a loss for each example": (
        lambda m: (m(X)[0].mean(1), m),
        "must return a real scalar array as the loss, got float32[4].\n  Reduce it over the batch",
    ),
    "a complex loss": (lambda m: (1j * m(X)[0].mean(), m), "got complex64[]"),
    "an integer": (lambda m: (jnp.asarray(1), m), "got int32[]"),
    "a Python number": (lambda m: (1.0, m), "got 1.0 (float)"),
}


@pytest.mark.parametrize(("loss_fn", "message"), RETURNS.values(), ids=RETURNS.keys())
def test_what_a_loss_function_must_return(loss_fn, message):
    def train(model: Any) -> Any:
        return loss_fn(model)

    with pytest.raises(TypeError, match=r"^value_and_grad\(train\): train must return ") as error:
        value_and_grad(train)(linear(3, 2))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "model", [jnp.ones(2), [linear()], None, Parameter(1.0), {"a": 1}], ids=stable
)
def test_what_a_model_must_be(model):
    with pytest.raises(
        TypeError,
        match=r"^value_and_grad\(<lambda>\): the first argument must be a Module or a Con",
    ):
        value_and_grad(lambda m: (1.0, m))(model)


def test_a_model_that_is_not_set_up():
    with pytest.raises(ValueError, match="UNSET") as error:
        value_and_grad(lambda m: (1.0, m))(net().replace(layers=[]))
    assert str(error.value) == (
        "value_and_grad(<lambda>): 3 nodes are UNSET; set up the model first, model = mlax.set_up(model, x, rng=key):\n"
        "  model.norm.mean\n  model.norm.var\n  model.norm.scale"
    )


def test_shared_arrays():
    layer = linear(3, 3)
    model = Container([layer, layer.replace()])  # two modules with the same nodes
    with pytest.raises(
        ValueError,
        match=re.escape("model.states[0].kernel and model.states[1].kernel are the same"),
    ):
        value_and_grad(lambda m: (1.0, m))(model)


def batch_loss(model: Any, x: Any) -> Any:
    run = lambda row: model(row, batch_axis_name="batch")  # noqa: E731
    y, model = jax.vmap(run, axis_name="batch", out_axes=(0, None))(x)
    return (y**3).mean(), model, y


@pytest.mark.one_python
@pytest.mark.parametrize("make", [net, lambda: SeedNorm(3)], ids=["dataclass", "seed"])
def test_batch_norm_as_a_user_writes_it(make):
    model = mlax.set_up(make(), X[0], rng=KEY)
    step = jax.jit(value_and_grad(batch_loss))
    (loss, after, y), gradients = step(model, X)
    assert np.allclose(y.mean(0), 0, atol=1e-5)
    assert np.allclose(y.std(0), 1, atol=2e-2)
    eager = value_and_grad(batch_loss)(model, X)
    for a, b in zip(
        jax.tree.leaves(eager), jax.tree.leaves(((loss, after, y), gradients)), strict=True
    ):
        assert np.allclose(a, b, atol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(model)
    assert jax.tree.structure(gradients) == jax.tree.structure(model.filter())
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    before, changed = model.partition(mlax.is_variable)[0], after.partition(mlax.is_variable)[0]
    assert not tree_equal(before, changed)
    assert tree_equal(model.filter(), after.filter())
    if make is net:
        layered, _ = jax.vmap(lambda row: hidden(model, row), out_axes=(0, None))(X)
        assert np.allclose(after.norm.mean.data, 0.1 * layered.mean(0), atol=1e-5)
        assert np.allclose(after.norm.var.data, 0.9 + 0.1 * layered.var(0), atol=1e-5)
        assert int(after.norm.steps.data) == 1
        (_, again, _), _ = step(after, X)
        assert int(again.norm.steps.data) == 2


def hidden(model: Any, x: Any) -> Any:
    for layer in model.layers:
        x, _ = layer(model.activation(x))
    return x, model


def test_a_training_step_lowers_the_loss():
    model = mlax.set_up(net(), X[0], rng=KEY)

    def loss_fn(model: Any, x: Any) -> Any:
        _, model, y = batch_loss(model, x)
        return (y**2 @ jnp.arange(3.0)).mean(), model

    step = jax.jit(value_and_grad(loss_fn))
    (first, _), gradients = step(model, X)
    params, rest = model.partition()
    params = jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients)
    (second, _), _ = step(params.combine(rest), X)
    assert float(second) < float(first)


def test_the_ways_to_get_it_wrong_say_so():
    class Forgetful(Module):
        used: Any
        forgotten: Any

        def forward(self, x: Any) -> Any:
            return self.call(self.used, x)

    model = Forgetful(linear(3, 2), BatchNorm())
    with pytest.raises(ValueError, match=r"model\.forgotten\.scale"):
        mlax.set_up(model, X, rng=KEY)
    with pytest.raises(ValueError, match=r"not set up \(UNSET: kernel, bias\)"):
        jax.jit(lambda m: m(X[0]))(net())
    ready = mlax.set_up(net(), X[0], rng=KEY)
    with pytest.raises(
        ValueError, match=r"^BatchNorm at norm cannot be called: nodes are filtered out"
    ):
        batch_loss(ready.filter(), X)
