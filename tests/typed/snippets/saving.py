"""`load` returns the type of `like`, or arrays by name; `load_contents` is text."""

from typing import Any, reveal_type

import jax.numpy as jnp
import numpy as np
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
    reveal_type(mlax.load("x", (net, step), dtype=jnp.bfloat16))  # reveals: tuple[Net, int]
    reveal_type(mlax.load("x"))  # reveals: dict[str, Any]
    reveal_type(mlax.load_contents("x").static)  # reveals: dict[str, str]
    reveal_type(mlax.load_contents("x").arrays["w"].shape)  # reveals: tuple[int, ...]
    reveal_type(mlax.load_metadata("x"))  # reveals: dict[str, str]
    mlax.load("x", strict=False)  # error: reportCallIssue // call-overload
    mlax.load("x", net, dtype=0.5)  # error: reportArgumentType, reportCallIssue // call-overload
    mlax.load(3, like=net)  # error: reportArgumentType, reportCallIssue // call-overload


def names(path: str) -> str | list[str] | None:
    return [f"{i}.{path}" for i in range(2)] if path else None


def part(path: str, array: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    return array.T


def renames(net: Net, step: int) -> None:
    reveal_type(mlax.load("x", net, rename=names, transform=part))  # reveals: Net
    reveal_type(mlax.load("x", like=(net, step), rename=lambda path: path.upper()))  # reveals: tuple[Net, int]
    mlax.load("x", net, transform=lambda path, array: array.T, ignore=lambda name: name in {"x"})
    mlax.load("x", net, transform=lambda path, array: array.astype(np.float32)[0])
    mlax.load("x", net, rename={"a": "b"}.get)
    mlax.load("x", net, rename=lambda path: 3)  # error: reportArgumentType, reportCallIssue // arg-type, return-value
    mlax.load("x", net, ignore="x")  # error: reportArgumentType, reportCallIssue // call-overload
    mlax.load("x", rename=names)  # error: reportCallIssue // call-overload
