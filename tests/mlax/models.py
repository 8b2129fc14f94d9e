"""Modules as users write them, shared by the tests of the module system."""

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlax import Container, Module, Parameter, Variable

AxisNames = Any


class Linear(Module):
    """Affine map on the last axis; the kernel is made when the first input is seen."""

    out_features: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    bias: Parameter[Float[Array, "out"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        kernel = jax.random.normal(rng, (x.shape[-1], self.out_features), x.dtype)
        bias = jnp.zeros(self.out_features, x.dtype)
        return self.replace(kernel=Parameter(kernel), bias=Parameter(bias))

    def forward(
        self, x: Float[Array, "*batch in"], rng: Array | None = None
    ) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


class BatchNorm(Module):
    """Normalizes by the statistics of a batch, under `vmap` with an axis name; keeps running ones."""

    momentum: float = 0.9
    mean: Variable[Float[Array, "n"]] = Variable()
    var: Variable[Float[Array, "n"]] = Variable()
    scale: Parameter[Float[Array, "n"]] = Parameter()
    steps: Variable[Int[Array, ""]] = Variable(0)

    def set_up(self, x: Float[Array, "n"]) -> Self:
        return self.replace(
            mean=Variable(jnp.zeros_like(x)),
            var=Variable(jnp.ones_like(x)),
            scale=Parameter(jnp.ones(x.shape, x.dtype)),
        )

    def forward(
        self,
        x: Float[Array, "n"],
        rng: Array | None = None,
        inference_mode: bool = False,
        batch_axis_name: AxisNames = (),
    ) -> tuple[Float[Array, "n"], Self]:
        if inference_mode:
            mean, var = self.mean.data, self.var.data
        else:
            mean = jax.lax.pmean(x, batch_axis_name)
            var = jax.lax.pmean((x - mean) ** 2, batch_axis_name)
            keep = self.momentum
            self = self.replace(
                mean=Variable(keep * self.mean.data + (1 - keep) * mean),
                var=Variable(keep * self.var.data + (1 - keep) * var),
                steps=Variable(self.steps.data + 1),
            )
        return self.scale.data * (x - mean) / jnp.sqrt(var + 1e-5), self


def squash(x: Array) -> Array:
    """Return the tangent; a function of one's own, as `jnp.tanh` does not pickle."""
    return jnp.tanh(x)


class Net(Module):
    """Layers in a list, and a normalization."""

    layers: list[Module]
    norm: BatchNorm
    activation: Callable[[Array], Array] = squash

    def forward(
        self,
        x: Array,
        rng: Array | None = None,
        inference_mode: bool = False,
        batch_axis_name: AxisNames = (),
    ) -> tuple[Array, Self]:
        for layer in self.layers:
            x, self = self.call(layer, self.activation(x))
        x, self = self.call(
            self.norm, x, inference_mode=inference_mode, batch_axis_name=batch_axis_name
        )
        return x, self


class SeedNorm(Module):
    """The same normalization in the seed's style: own `__init__`, PyTree-valued data, a Container."""

    momentum: float
    statistics: Variable[dict[str, Array]]
    scale: Parameter
    layers: Container[list[Linear]]

    def __init__(self, features: int, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.statistics = Variable({"mean": jnp.zeros(features), "var": jnp.ones(features)})
        self.scale = Parameter(jnp.ones(features))
        self.layers = Container([Linear(4), Linear(features)])

    def forward(self, x: Array, batch_axis_name: AxisNames = ()) -> tuple[Array, Self]:
        for layer in self.layers.states:
            x, self = self.call(layer, x)
        mean = jax.lax.pmean(x, batch_axis_name)
        var = jax.lax.pmean((x - mean) ** 2, batch_axis_name)
        keep = self.momentum
        old = self.statistics.data
        new = {
            "mean": keep * old["mean"] + (1 - keep) * mean,
            "var": keep * old["var"] + (1 - keep) * var,
        }
        y = self.scale.data * (x - mean) / jnp.sqrt(var + 1e-5)
        return y, self.replace(statistics=Variable(new))


def linear(inputs: int = 2, outputs: int = 3) -> Linear:
    """Return a Linear with concrete, distinct weights."""
    kernel = jnp.arange(inputs * outputs, dtype=float).reshape(inputs, outputs)
    return Linear(outputs, kernel=Parameter(kernel), bias=Parameter(jnp.ones(outputs)))


def net() -> Net:
    """Return a Net that is not set up."""
    return Net([Linear(4), Linear(3)], BatchNorm())
