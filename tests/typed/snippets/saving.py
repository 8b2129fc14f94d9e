"""`load` returns the type of `like`, or arrays by name; `load_contents` is text."""

from typing import reveal_type

from jaxtyping import Array

import mlax
from mlax import Module, Parameter


class Net(Module):
    """A model."""

    kernel: Parameter = Parameter()


def loads(net: Net, weights: dict[str, Array], step: int) -> None:
    reveal_type(mlax.load("x", like=net))  # reveals: Net
    reveal_type(mlax.load("x", like=(net, step)))  # reveals: tuple[Net, int]
    reveal_type(mlax.load("x", weights, strict=False))  # reveals: dict[str, Array]
    reveal_type(mlax.load("x"))  # reveals: dict[str, Any]
    reveal_type(mlax.load_contents("x").static)  # reveals: dict[str, str]
    reveal_type(mlax.load_contents("x").arrays["w"].shape)  # reveals: tuple[int, ...]
    reveal_type(mlax.load_metadata("x"))  # reveals: dict[str, str]
    mlax.load("x", strict=False)  # error: reportCallIssue // call-overload
    mlax.load(3, like=net)  # error: reportArgumentType, reportCallIssue // call-overload
