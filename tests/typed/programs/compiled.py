"""Types behind `jit`, `grad` and `checkpoint`."""

from functools import partial
from typing import Any, Self, assert_type

import jax
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, optim


class Dense(Module):
    width: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def forward(self, x: Array, *, inference_mode: bool = False) -> tuple[Array, Self]:
        return x @ self.kernel.data, self

    @mlax.jit
    def doubled(self, x: Array) -> Array:
        return 2 * x

    @mlax.checkpoint
    def again(self, x: Array) -> Array:
        return 2 * x


@mlax.jit
def norm(x: Array, order: float = 2.0) -> Array:
    return jax.numpy.sum(x**order)


@mlax.jit(static_argnames="steps", donate_argnums=0)
def run(weights: dict[str, Array], steps: int) -> dict[str, Array]:
    return weights


@mlax.jit
def train_step(model: Dense, state: optim.adam.State[Dense], x: Array) -> tuple[Dense, optim.adam.State[Dense]]:
    _, gradients = mlax.value_and_grad(loss)(model, x)
    return optim.Adam().update(model, gradients, state)


def loss(model: Dense, x: Array) -> tuple[Array, Dense]:
    y, model = model(x)
    return y.mean(), model


def plain_loss(model: Dense, x: Array) -> Array:
    return model(x)[0].mean()


def decorated(x: Array, weights: dict[str, Array]) -> None:
    assert_type(norm(x), Array)
    assert_type(norm(x, order=1.0), Array)
    assert_type(run(weights, steps=3), dict[str, Array])


def stages(x: Array) -> None:
    compiled = norm.lower(x).compile()
    print(compiled.as_text(), norm.trace(jax.ShapeDtypeStruct((3,), "float32")).jaxpr, norm.eval_shape(x))
    norm.clear_cache()


def jitted_module(model: Dense, x: Array) -> None:
    assert_type(mlax.jit(model)(x), tuple[Array, Dense])
    assert_type(mlax.jit(model, static_argnames="inference_mode")(x, inference_mode=True), tuple[Array, Dense])
    assert_type(mlax.jit(mlax.inference(model))(x), tuple[Array, Dense])


def jitted_method(model: Dense, x: Array) -> None:
    assert_type(mlax.jit(model.forward)(x), tuple[Array, Dense])
    assert_type(model.doubled(x), Array)
    assert_type(model.again(x), Array)


def jitted_lambda(x: Array) -> None:
    double = mlax.jit(lambda: 2 * x)
    assert_type(double(), Array)
    mlax.jit(lambda y: y)(x)  # false alarm: pyright
    mlax.jit(lambda y, z: y)(x, x)  # false alarm: pyright


def jitted_partial(x: Array) -> None:
    assert_type(mlax.jit(partial(plain_loss, x=x), donate_argnums=0)(Dense(3)), Array)


def training(model: Dense, state: optim.adam.State[Dense], x: Array) -> Dense:
    for _ in range(3):
        model, state = train_step(model, state, x)
    return model


def gradients(model: Dense, x: Array) -> None:
    assert_type(mlax.grad(plain_loss)(model, x), Dense)
    assert_type(mlax.grad(plain_loss, argnums=1)(model, x), Array)
    assert_type(mlax.grad(plain_loss, argnums=(0, 1))(model, x), tuple[Dense, Array])
    assert_type(mlax.grad(loss, has_aux=True)(model, x), tuple[Dense, Dense])
    assert_type(mlax.jit(mlax.grad(plain_loss))(model, x), Dense)


def gradient_of_lambda(model: Dense, x: Array) -> None:
    mlax.grad(lambda y: y.sum())(x)
    mlax.grad(lambda m: plain_loss(m, x))(model)
    mlax.value_and_grad(lambda m: loss(m, x))(model)
    mlax.value_and_grad(lambda m: (m(x)[0].mean(), m))(model)
    mlax.jit(mlax.value_and_grad(lambda m, x: loss(m, 2 * x)))(model, x)  # false alarm: pyright


def checkpointed(model: Dense, x: Array) -> None:
    assert_type(mlax.checkpoint(plain_loss)(model, x), Array)
    assert_type(mlax.checkpoint(model)(x), tuple[Array, Dense])
    assert_type(mlax.checkpoint(plain_loss, policy=jax.checkpoint_policies.dots_saveable)(model, x), Array)
    assert_type(mlax.grad(mlax.checkpoint(plain_loss))(model, x), Dense)


def untyped(f: Any, x: Array) -> None:
    mlax.jit(f)(x, x)
    mlax.grad(f)(x)
    mlax.checkpoint(f)(x)


def wrong_arguments(model: Dense, x: Array, weights: dict[str, Array]) -> None:
    norm()  # wrong
    norm("x")  # wrong
    norm(x, ordr=1.0)  # wrong
    norm(x, 1.0, 2.0)  # wrong
    run(weights, "3")  # wrong
    run(weights)  # wrong
    mlax.jit(model)(x, x)  # wrong
    mlax.jit(model)("x")  # wrong
    model.doubled()  # wrong
    model.doubled("x")  # wrong
    model.again(3, 4)  # wrong
    mlax.jit(plain_loss)(x, model)  # wrong
    train_step(model, optim.sgd.init(model), x)  # wrong
    mlax.checkpoint(plain_loss)(model)  # wrong


def wrong_results(model: Dense, x: Array) -> None:
    norm(x).wdth  # wrong
    mlax.jit(model)(x)[1].wdth  # wrong
    a, b, c = mlax.jit(model)(x)  # wrong
    mlax.jit(mlax.grad(plain_loss))(model, x).wdth  # wrong
    mlax.grad(plain_loss)(model, x).wdth  # wrong
    mlax.grad(plain_loss, argnums=1)(model, x).kernel  # wrong
    mlax.checkpoint(model)(x)[1].wdth  # wrong
    norm.lowr(x)  # wrong


def wrong_options(model: Dense, x: Array) -> None:
    mlax.jit(norm, static_argname="order")  # wrong
    mlax.jit(3)  # wrong
    mlax.grad(loss)(model, x)  # wrong
    mlax.grad(plain_loss)(x, x)  # wrong
    mlax.grad(plain_loss, has_aux=True)  # wrong
    mlax.grad(plain_loss, argnum=1)  # wrong
    mlax.value_and_grad(lambda m: m(x)[0])(model)  # wrong: unseen by pyright, mypy, pyrefly, ty
    mlax.value_and_grad(lambda m: loss(m, x))(x)  # wrong: unseen by pyright, mypy, pyrefly, ty
    mlax.value_and_grad(lambda m: loss(m, x))(model)[0][2]  # wrong
