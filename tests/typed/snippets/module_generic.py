"""Modules that are generic in their children."""

from typing import Generic, Self, TypeVar, reveal_type

from jaxtyping import Array

from mlax import Module, Parameter

A = TypeVar("A", bound=Module)
B = TypeVar("B", bound=Module)


class Scale(Module):
    """One leaf module."""

    factor: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.factor.data * x, self


class Shift(Module):
    """Another."""

    offset: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.offset.data + x, self


class Pair(Module, Generic[A, B]):
    """Two modules, each of a type of its own."""

    first: A
    second: B

    def swapped(self) -> "Pair[B, A]":
        return Pair(self.second, self.first)

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x, self


class Named(Pair[Scale, Shift]):
    """A generic module with its types filled in."""

    name: str = "named"


def inferred(scale: Scale, shift: Shift) -> None:
    pair = Pair(scale, shift)
    reveal_type(pair)  # reveals: Pair[Scale, Shift]
    reveal_type(pair.first)  # reveals: Scale
    reveal_type(pair.second.offset.data)  # reveals: Array
    reveal_type(pair.swapped())  # reveals: Pair[Shift, Scale]
    assert pair.first.offset  # error: reportAttributeAccessIssue // attr-defined
    pair.first = scale  # error: reportAttributeAccessIssue // misc
    Pair(scale, 3)  # error: reportArgumentType // type-var
    Pair(scale)  # error: reportCallIssue // call-arg


def calls(pair: Pair[Scale, Shift], named: Named, x: Array) -> None:
    reveal_type(pair(x))  # reveals: tuple[Array, Pair[Scale, Shift]]
    reveal_type(pair.replace(first=pair.first))  # reveals: Pair[Scale, Shift]
    reveal_type(named.first)  # reveals: Scale
    reveal_type(named(x))  # reveals: tuple[Array, Named]


def annotated(pair: Pair[Scale, Shift]) -> Pair[Shift, Scale]:
    return pair  # error: reportReturnType // return-value
