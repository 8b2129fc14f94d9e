"""Gradients and states belong together: to one model and to one optimizer."""

from typing import Any, Self, reveal_type

from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, optim


class Encoder(Module):
    """One model."""

    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class Decoder(Module):
    """Another model of the same structure."""

    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


def states(encoder: Encoder, weights: dict[str, Array]) -> None:
    state = optim.adam.init(encoder)
    reveal_type(state)  # reveals: State[Encoder]
    reveal_type(state.m)  # reveals: Encoder
    reveal_type(state.v.kernel.data)  # reveals: Array
    reveal_type(state.step)  # reveals: Array
    reveal_type(state.learning_rate)  # reveals: Array
    reveal_type(state.hyperparameters)  # reveals: Adam
    reveal_type(optim.adam.init(weights).m)  # reveals: dict[str, Array]
    reveal_type(optim.sgd.init(weights).velocity)  # reveals: dict[str, Array] | None
    reveal_type(optim.Adam().init(encoder))  # reveals: State[Encoder]
    assert state.velocity  # error: reportAttributeAccessIssue // attr-defined
    assert optim.sgd.init(encoder).m  # error: reportAttributeAccessIssue // attr-defined
    state.m = encoder  # error: reportAttributeAccessIssue // misc


def places(encoder: Encoder, decoder: Decoder, mesh: Mesh, sharding: NamedSharding) -> None:
    found = mlax.shardings(encoder, mesh, {"kernel": P("data")})
    reveal_type(found)  # reveals: Encoder
    reveal_type(optim.state_shardings(optim.Adam(), encoder, found))  # reveals: State[Encoder]
    reveal_type(optim.state_shardings(optim.Adam(), encoder, sharding))  # reveals: State[Encoder]
    reveal_type(mlax.abstract(encoder, found))  # reveals: Encoder
    mlax.shardings(encoder, mesh, {"kernel": None})  # error: reportArgumentType // dict-item
    optim.state_shardings(optim.adam, encoder, found)


def own(
    encoder: Encoder, gradients: Encoder, state: optim.adam.State[Encoder], sgd: optim.sgd.State[Encoder]
) -> None:
    reveal_type(optim.adam.step(gradients, state))  # reveals: tuple[Encoder, State[Encoder]]
    reveal_type(optim.adam.step(gradients, state, encoder))  # reveals: tuple[Encoder, State[Encoder]]
    reveal_type(optim.sgd.step(gradients, sgd))  # reveals: tuple[Encoder, State[Encoder]]
    optimizer = optim.Adam()
    reveal_type(optimizer.step(gradients, state))  # reveals: tuple[Encoder, State[Encoder]]
    updates, state = optimizer.step(gradients, state, encoder)
    reveal_type(optim.apply_updates(updates, encoder))  # reveals: Encoder
    reveal_type(optimizer.apply_gradients(gradients, state, encoder))  # reveals: tuple[Encoder, State[Encoder]]
    reveal_type(optimizer.update(encoder, gradients, state))  # reveals: tuple[Encoder, State[Encoder]]


def of_another_model(
    decoder: Decoder, gradients: Decoder, state: optim.adam.State[Encoder], encoder: Encoder
) -> None:
    optim.adam.step(gradients, state)  # error: reportArgumentType // misc
    optim.adam.step(encoder, state, decoder)  # error: reportArgumentType // misc
    optimizer = optim.Adam()
    optimizer.step(gradients, state)  # error: reportArgumentType // misc
    optimizer.apply_gradients(gradients, state, decoder)  # error: reportArgumentType // misc
    optimizer.update(decoder, gradients, state)  # error: reportArgumentType // misc


def of_another_optimizer(
    gradients: Encoder, adam: optim.adam.State[Encoder], sgd: optim.sgd.State[Encoder]
) -> None:
    optim.adam.step(gradients, sgd)  # error: reportArgumentType // arg-type
    optim.sgd.step(gradients, adam)  # error: reportArgumentType // arg-type
    optim.Adam().step(gradients, sgd)  # error: reportArgumentType // arg-type
    optim.SGD().step(gradients, adam)  # error: reportArgumentType // arg-type


def arguments(encoder: Encoder, gradients: Encoder, state: optim.adam.State[Encoder]) -> None:
    optim.adam.step(gradients)  # error: reportCallIssue // call-arg
    optim.adam.step(state, gradients)  # error: reportArgumentType // arg-type
    optim.adam.step(gradients, state, learning_rate=1e-3)  # error: reportCallIssue // call-arg
    optim.Adam().apply_gradients(gradients, state)  # error: reportCallIssue // call-arg


def untyped(gradients: Any, state: optim.adam.State[Any]) -> None:
    reveal_type(optim.adam.step(gradients, state))  # reveals: tuple[Any, State[Any]]
