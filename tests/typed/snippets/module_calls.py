"""Calling a module: arguments and results are those of its own `forward`."""

from typing import Self, reveal_type

import jax
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter


class Linear(Module):
    """The layers' usual signature."""

    width: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        kernel = jax.random.normal(rng, (x.shape[-1], self.width))
        return self.replace(kernel=Parameter(kernel))

    def forward(
        self, x: Float[Array, "*batch in"], rng: Array | None = None
    ) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data, self


class Attention(Module):
    """A signature of its own, and a result that is not one array."""

    query: Linear

    def forward(
        self, x: Array, *, mask: Array, heads: int = 1
    ) -> tuple[dict[str, Array], Self]:
        y, self = self.call(self.query, x)
        reveal_type(y)  # reveals: Array
        return {"y": y * mask, "heads": jax.numpy.asarray(heads)}, self


class Block(Module):
    """A module that calls its children."""

    first: Linear
    attention: Attention

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        y, self = self.call(self.first, x, rng)
        reveal_type(y)  # reveals: Array
        reveal_type(self)  # reveals: Self@Block // Self
        z, self = self.call(self.attention, y, mask=y, heads=2)
        reveal_type(z)  # reveals: dict[str, Array]
        self.call(self.first)  # error: reportCallIssue // arg-type
        self.call(self.first, "x")  # error: reportArgumentType // arg-type
        self.call(self.attention, y)  # error: reportCallIssue // arg-type
        self.call(self.attention, y, msk=y)  # error: reportCallIssue // arg-type
        self.call(y, x)  # error: reportArgumentType, reportCallIssue // arg-type
        return z["y"], self


class Shortened(Linear):
    """A `forward` that does not fit its base's breaks the base's callers, and is reported."""

    def forward(self, x: Array) -> tuple[Array, Self]:  # error: reportIncompatibleMethodOverride // override
        return x, self


def results(linear: Linear, attention: Attention, block: Block, x: Array) -> None:
    reveal_type(linear(x))  # reveals: tuple[Array, Linear]
    reveal_type(linear.forward(x))  # reveals: tuple[Array, Linear]
    reveal_type(linear(x, rng=jax.random.key(0)))  # reveals: tuple[Array, Linear]
    reveal_type(attention(x, mask=x))  # reveals: tuple[dict[str, Array], Attention]
    y, block = block(x)
    reveal_type(y)  # reveals: Array
    reveal_type(block)  # reveals: Block


def arguments(linear: Linear, attention: Attention, x: Array) -> None:
    linear()  # error: reportCallIssue // call-arg
    linear("x")  # error: reportArgumentType // arg-type
    linear(x, rgn=x)  # error: reportCallIssue // call-arg
    linear(x, None, True)  # error: reportCallIssue // call-arg
    linear.forward("x")  # error: reportArgumentType // arg-type
    attention(x)  # error: reportCallIssue // call-arg
    attention(x, x)  # error: reportCallIssue // call-arg
    attention(x, mask=x, heads="2")  # error: reportArgumentType // arg-type


def set_up(linear: Linear, x: Array, key: Array) -> None:
    reveal_type(mlax.set_up(linear, x, rng=key))  # reveals: Linear
    reveal_type(mlax.set_up(linear, jax.ShapeDtypeStruct((2, 3), "float32"), rng=key))  # reveals: Linear
    reveal_type(mlax.set_up(mlax.training(linear, batch_axis_name="batch"), x, rng=key))  # reveals: Linear
    reveal_type(mlax.set_up(mlax.inference(linear, rng=key), x))  # reveals: Linear
    reveal_type(linear.is_set_up)  # reveals: bool
    mlax.set_up(x, x, rng=key)  # error: reportArgumentType // type-var
