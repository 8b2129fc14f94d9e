"""A constructor of one's own: typed as written; the assignments in it are what checkers dislike."""

from typing import Self, reveal_type

import jax.numpy as jnp
from jaxtyping import Array

from mlax import Module, Parameter


class ByHand(Module):
    """Accepted at run time, and reported, since the fields are read-only to a checker."""

    width: int
    kernel: Parameter

    def __init__(self, width: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.width = width  # error: reportAttributeAccessIssue // misc
        self.kernel = Parameter(scale * jnp.ones(width))  # error: reportAttributeAccessIssue // misc

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class ByClassMethod(Module):
    """The clean way."""

    width: int
    kernel: Parameter

    @classmethod
    def ones(cls, width: int) -> Self:
        return cls(width, Parameter(jnp.ones(width)))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


def constructors() -> None:
    reveal_type(ByHand(3, scale=2.0))  # reveals: ByHand
    reveal_type(ByClassMethod.ones(3))  # reveals: ByClassMethod
    ByHand(3, kernel=Parameter())  # error: reportCallIssue // call-arg
    ByHand(scale=2.0)  # error: reportCallIssue // call-arg
    ByClassMethod.ones("3")  # error: reportArgumentType // arg-type


def afterwards(by_hand: ByHand, x: Array) -> None:
    by_hand.width = 3  # error: reportAttributeAccessIssue // misc
    reveal_type(by_hand.replace(width=3))  # reveals: ByHand
    reveal_type(by_hand(x))  # reveals: tuple[Array, ByHand]
