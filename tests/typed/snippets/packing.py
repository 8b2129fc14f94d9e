"""`mlax.pack`: the type of the tree goes through packing, calls, gradients and optimizers."""

from typing import Self, reveal_type

import jax.numpy as jnp
from jaxtyping import Array

import mlax
from mlax import Module, Packed, Parameter, optim


class Net(Module):
    """A model."""

    kernel: Parameter

    def forward(self, x: Array, scale: float = 1.0) -> tuple[Array, Self]:
        return scale * x @ self.kernel.data, self


def loss_fn(model: Packed[Net], x: Array) -> tuple[Array, Packed[Net]]:
    y, model = model(x)
    return jnp.mean(y), model


def types(model: Net, x: Array) -> None:
    packed = mlax.pack(model, threshold=100, group=lambda path, array: (path[:1], array.ndim))
    reveal_type(packed)  # reveals: Packed[Net]
    reveal_type(packed.unpack())  # reveals: Net
    reveal_type(packed.filter())  # reveals: Packed[Net]
    reveal_type(packed.repack(model, packed.unpack()))  # reveals: Packed[Net]
    reveal_type(packed(x, scale=2.0))  # reveals: tuple[Array, Packed[Net]]
    reveal_type(mlax.pack({"a": x}).unpack())  # reveals: dict[str, Array]


def training(packed: Packed[Net], x: Array) -> None:
    optimizer = optim.Adam()
    state = optimizer.init(packed)
    (_, packed), gradients = mlax.value_and_grad(loss_fn)(packed, x)
    reveal_type(gradients)  # reveals: Packed[Net]
    packed, state = optimizer.update(packed, gradients, state)
    reveal_type(state.m.unpack())  # reveals: Net


def wrong(packed: Packed[Net], x: Array) -> None:
    packed(x, size=2.0)  # error: reportCallIssue // call-arg
    packed.kernel  # error: reportAttributeAccessIssue // attr-defined
    mlax.pack({"a": x}, threshold=1.5)  # error: reportArgumentType // arg-type
    mlax.pack({"a": x}, group=1)  # error: reportArgumentType // arg-type
