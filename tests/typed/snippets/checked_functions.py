"""`checked` adds checks and leaves the signature as it is."""

from typing import reveal_type

from jaxtyping import Array, Float

from mlax.typing import Weights, checked


@checked
def norm(weights: Float[Array, "n"], *, power: int = 2) -> Float[Array, ""]:
    """Return a norm."""
    return (weights**power).sum()


@checked
def same(first: Weights, second: Weights) -> Weights:
    """Return one of two alike trees."""
    return first if second is first else second


def calls(x: Array, tree: dict[str, Array]) -> None:
    reveal_type(norm(x, power=3))  # reveals: Array
    reveal_type(same(tree, tree))  # reveals: dict[str, Array]
    norm(x, powr=3)  # error: reportCallIssue // call-arg
    norm("x")  # error: reportArgumentType // arg-type
    norm(x, 3)  # error: reportCallIssue // call-arg
    norm()  # error: reportCallIssue // call-arg
