"""Filtering and comparing keep types; predicates narrow them."""

from typing import Any, Self, reveal_type

from jaxtyping import Array

import mlax
from mlax import ENode, Module, Parameter, Variable


class Linear(Module):
    """A model."""

    kernel: Parameter = Parameter()
    calls: Variable = Variable(0)

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ self.kernel.data, self


def shaped(path: tuple[Any, ...], node: ENode[Any]) -> bool:
    return len(path) > 1 and mlax.is_parameter(node)


def filtering(model: Linear) -> None:
    reveal_type(model.filter())  # reveals: Linear
    reveal_type(model.filter(mlax.is_variable))  # reveals: Linear
    reveal_type(model.filter_with_path(shaped))  # reveals: Linear
    reveal_type(model.combine(model.filter()))  # reveals: Linear
    weights, rest = model.partition()
    reveal_type(weights)  # reveals: Linear
    reveal_type(rest)  # reveals: Linear
    reveal_type(model.partition(mlax.is_frozen_param, mlax.is_variable)[0])  # reveals: Linear
    model.filter(3)  # error: reportArgumentType // arg-type
    model.combine(3)  # error: reportArgumentType // arg-type


def comparing(model: Linear) -> None:
    reveal_type(mlax.tree_equal(model, model))  # reveals: bool


def narrowing(anything: object) -> None:
    if mlax.is_module(anything):
        reveal_type(anything)  # reveals: Module
