"""`value_and_grad`: the value has the loss function's types, the gradients have the model's."""

from typing import Self, reveal_type

import jax
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, optim


class Linear(Module):
    """A model."""

    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ self.kernel.data, self


def loss(model: Linear, x: Array, y: Array) -> tuple[Array, Linear]:
    prediction, model = model(x)
    return jax.numpy.mean((prediction - y) ** 2), model


def loss_and_more(model: Linear, x: Array) -> tuple[Array, Linear, dict[str, Array], int]:
    prediction, model = model(x)
    return prediction.mean(), model, {"prediction": prediction}, 3


def no_model(x: Array) -> tuple[Array, Array]:
    return x, x


def no_pair(model: Linear, x: Array) -> Array:
    return model(x)[0]


def types(model: Linear, x: Array, y: Array) -> None:
    reveal_type(mlax.value_and_grad(loss)(model, x, y))  # reveals: tuple[tuple[Array, Linear], Linear]
    (value, model), gradients = mlax.value_and_grad(loss)(model, x, y)
    reveal_type(value)  # reveals: Array
    reveal_type(gradients.kernel.data)  # reveals: Array
    (value, model, aux, number), gradients = mlax.value_and_grad(loss_and_more)(model, x)
    reveal_type(aux)  # reveals: dict[str, Array]
    reveal_type(number)  # reveals: int
    reveal_type(gradients)  # reveals: Linear


def training(model: Linear, x: Array, y: Array) -> Linear:
    optimizer = optim.Adam()
    state = optimizer.init(model)
    (_, model), gradients = mlax.value_and_grad(loss)(model, x, y)
    model, state = optimizer.update(model, gradients, state)
    reveal_type(state)  # reveals: State[Linear]
    return model


def arguments(model: Linear, x: Array) -> None:
    mlax.value_and_grad(loss)(model, x)  # error: reportCallIssue // call-arg
    mlax.value_and_grad(loss)(x, x, x)  # error: reportArgumentType // arg-type
    mlax.value_and_grad(loss)(model, x, y="y")  # error: reportArgumentType // arg-type
    mlax.value_and_grad(no_model)  # error: reportArgumentType // type-var
    mlax.value_and_grad(no_pair)  # error: reportArgumentType // type-var
