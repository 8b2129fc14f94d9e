"""Options of a call, methods of children, and chains keep exact types."""

from typing import Self, assert_type

import jax
from jaxtyping import Array

import mlax
from mlax import Module, Parameter


class Linear(Module):
    kernel: Parameter[Array]

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ self.kernel.data, self

    def decode(self, x: Array, length: int) -> tuple[str, Self]:
        return f"{x}{length}", self


class Dropout(Module):
    def forward(
        self, x: Array, rng: Array | None = None, inference_mode: bool = False
    ) -> tuple[Array, Self]:
        return (x if inference_mode or rng is None else 2 * x), self


class Text(Module):
    def forward(self, x: Array) -> tuple[str, Self]:
        return str(x), self


class Length(Module):
    def forward(self, x: str) -> tuple[int, Self]:
        return len(x), self


class Net(Module):
    linear: Linear
    dropout: Dropout
    text: Text
    length: Length
    layers: tuple[Linear, ...]

    def forward(self, x: Array, key: Array) -> tuple[int, Self]:
        word, self = self.call(self.linear.decode, x, 3)
        assert_type(word, str)
        y, self = self.call(mlax.training(self.linear, rng=key), x)
        assert_type(y, Array)
        word, self = self.call(mlax.inference(self.linear.decode), x, length=3)
        assert_type(word, str)
        count, self = self.chain(x, self.linear, self.dropout, self.text, self.length)
        assert_type(count, int)
        y, self = self.chain(x, *self.layers)
        assert_type(y, Array)
        self.chain(x, self.length)  # error: reportArgumentType, reportCallIssue // arg-type
        self.call(self.linear.decode, x)  # error: reportCallIssue // arg-type
        return count, self


def use(model: Net, x: Array, key: Array) -> None:
    assert_type(mlax.training(model, rng=key, batch_axis_name="batch"), Net)
    count, model = mlax.training(model, rng=key)(x, key)
    assert_type(count, int)
    assert_type(mlax.inference(model.linear.decode)(x, 2), tuple[str, Linear])
    mlax.training(model)(x)  # error: reportCallIssue // call-arg
    mlax.training(3)  # error: reportArgumentType // type-var
    mlax.inference(jax.jit(model))(x, key)
