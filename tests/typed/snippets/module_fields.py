"""A module's constructor and its fields."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, Self, reveal_type

import jax
from jaxtyping import Array, Float, Int

from mlax import Module, Parameter, Variable


class Linear(Module):
    """Fields of every kind: static, a bare Parameter, an annotated one, a Variable with a default."""

    width: int
    depth: int = 1
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    bias: Parameter = Parameter()
    calls: Variable[Int[Array, ""]] = Variable(0)
    kind: ClassVar[str] = "affine"

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


class Scaled(Linear):
    """Inherited fields come first."""

    scale: Parameter[Float[Array, "out"]] = Parameter()


class Pair(Module):
    """Children in fields."""

    first: Linear
    second: Linear | None = None
    more: tuple[Linear, ...] = ()


def constructor() -> None:
    Linear(3)
    Linear(3, 2)
    Linear(width=3, kernel=Parameter(jax.numpy.ones((2, 3))))
    Scaled(3, scale=Parameter())
    Pair(Linear(3), more=(Linear(3), Linear(3)))
    Linear()  # error: reportCallIssue // call-arg
    Linear("3")  # error: reportArgumentType // arg-type
    Linear(3, 2, Parameter())  # error: reportCallIssue // call-arg
    Linear(3, widht=3)  # error: reportCallIssue // call-arg
    Linear(3, kernel=jax.numpy.ones((2, 3)))  # error: reportArgumentType // arg-type
    Linear(3, kernel=Variable(0))  # error: reportArgumentType // arg-type
    Scaled(3, scale=3)  # error: reportArgumentType // arg-type
    Pair()  # error: reportCallIssue // call-arg
    Pair(3)  # error: reportArgumentType // arg-type
    Pair(Linear(3), more=[Linear(3)])  # error: reportArgumentType // arg-type


def reading(linear: Linear, scaled: Scaled, pair: Pair) -> None:
    reveal_type(linear.width)  # reveals: int
    reveal_type(linear.kernel)  # reveals: Parameter[Array]
    reveal_type(linear.kernel.data)  # reveals: Array
    reveal_type(linear.kernel.frozen)  # reveals: bool
    reveal_type(linear.bias)  # reveals: Parameter[Array]
    reveal_type(linear.bias.data)  # reveals: Array
    reveal_type(linear.calls.data)  # reveals: Array
    reveal_type(linear.kind)  # reveals: str
    reveal_type(scaled.scale.data)  # reveals: Array
    reveal_type(scaled.width)  # reveals: int
    reveal_type(pair.first.kernel.data)  # reveals: Array
    reveal_type(pair.second)  # reveals: Linear | None
    reveal_type(pair.more)  # reveals: tuple[Linear, ...]
    assert linear.widht  # error: reportAttributeAccessIssue // attr-defined
    assert linear.kernel.value  # error: reportAttributeAccessIssue // attr-defined
    assert linear.scale  # error: reportAttributeAccessIssue // attr-defined
    assert pair.second.width  # error: reportOptionalMemberAccess // union-attr


def writing(linear: Linear, scaled: Scaled, pair: Pair) -> None:
    linear.width = 3  # error: reportAttributeAccessIssue // misc
    linear.kernel = Parameter()  # error: reportAttributeAccessIssue // misc
    linear.kernel.data = jax.numpy.ones((2, 3))  # error: reportAttributeAccessIssue // misc
    linear.kernel.frozen = True  # error: reportAttributeAccessIssue // misc
    linear.calls.data = jax.numpy.zeros(())  # error: reportAttributeAccessIssue // misc
    linear.unknown = 3  # error: reportAttributeAccessIssue // attr-defined
    scaled.width = 3  # error: reportAttributeAccessIssue // misc
    pair.first.width = 3  # error: reportAttributeAccessIssue // misc


def replacing(linear: Linear, scaled: Scaled) -> None:
    reveal_type(linear.replace(width=3))  # reveals: Linear
    reveal_type(scaled.replace(width=3, kernel=Parameter()))  # reveals: Scaled
    linear.replace(3)  # error: reportCallIssue // call-arg


def nodes() -> None:
    reveal_type(Parameter(jax.numpy.ones(3)))  # reveals: Parameter[Array]
    reveal_type(Parameter(jax.numpy.ones(3), frozen=True))  # reveals: Parameter[Array]
    Parameter(jax.numpy.ones(3), frozn=True)  # error: reportCallIssue // call-overload


def trees(weights: Parameter[dict[str, Array]], anything: Parameter[Any]) -> None:
    reveal_type(weights.data)  # reveals: dict[str, Array]
    reveal_type(weights.data["bias"])  # reveals: Array
    reveal_type(anything.data)  # reveals: Any
