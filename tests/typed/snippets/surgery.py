"""Filtering, comparing and changes deep inside a tree keep types; predicates narrow them."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self, reveal_type

from jaxtyping import Array

import mlax
from mlax import Container, ENode, Module, Parameter, Variable, optim


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
    model.filter(3)  # error: reportArgumentType // arg-type
    model.combine(3)  # error: reportArgumentType // arg-type


def partitioning(model: Linear, predicates: list[Callable[[ENode[Any]], bool]]) -> None:
    is_a = mlax.is_variable
    reveal_type(model.partition(is_a))  # reveals: tuple[Linear, Linear]
    reveal_type(model.partition(is_a, lambda n: n.data is None))  # reveals: tuple[Linear, Linear, Linear]
    first, _, _, last = model.partition(is_a, is_a, is_a)
    reveal_type((first, last))  # reveals: tuple[Linear, Linear]
    _, _, _, _, rest = model.partition(is_a, is_a, is_a, is_a)
    reveal_type(rest)  # reveals: Linear
    reveal_type(model.partition(is_a, is_a, is_a, is_a, is_a))  # reveals: tuple[Linear, ...]
    reveal_type(model.partition(*predicates))  # reveals: tuple[Linear, ...]
    (whole,) = model.partition_with_path()
    reveal_type(whole)  # reveals: Linear
    reveal_type(model.partition_with_path(shaped))  # reveals: tuple[Linear, Linear]
    reveal_type(Container(model.kernel).partition()[1].states)  # reveals: Parameter[Array]
    _, _, _ = model.partition()  # error: reportAssignmentType, reportUnknownVariableType // misc
    (_,) = model.partition()  # error: reportAssignmentType // misc
    _, _, _ = model.partition(is_a)  # error: reportAssignmentType, reportUnknownVariableType // misc
    _, _ = model.partition_with_path()  # error: reportAssignmentType, reportUnknownVariableType // misc
    model.partition(3)  # error: reportArgumentType, reportCallIssue // call-overload


class Pair(NamedTuple):
    """A NamedTuple in a model."""

    first: Linear
    rate: float


class Net(Module):
    """A model of models."""

    layers: tuple[Linear, ...]
    heads: dict[str, Linear]
    pair: Pair
    inner: Linear | None = None
    name: str = "net"
    width: int = 3


def places(net: Net, state: optim.adam.State[Net]) -> None:
    reveal_type(mlax.at(net, lambda m: m.pair.rate))  # reveals: At[Net, float]
    reveal_type(mlax.at(net, lambda m: m.pair.rate).set(3))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: m.pair.rate).apply(lambda rate: rate / 2))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: m.layers[0].kernel.data).get())  # reveals: Array
    reveal_type(mlax.at(net, lambda m: m.heads["a"].kernel.frozen).set(True))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: m.inner).set(None))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: m.inner).set(Linear()))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: m.layers).apply(mlax.freeze))  # reveals: Net
    reveal_type(mlax.at(state, lambda s: s.m.pair.first.kernel).get())  # reveals: Parameter[Array]
    mlax.at(net, lambda m: m.layers[0].kernl)  # error: reportAttributeAccessIssue, reportUnknownLambdaType // attr-defined
    mlax.at(state, lambda s: s.mm)  # error: reportAttributeAccessIssue, reportUnknownLambdaType // attr-defined
    mlax.at(net, 3)  # error: reportArgumentType // arg-type
    mlax.at(net, lambda m: m.width).set("3")  # error: reportArgumentType // arg-type
    mlax.at(net, lambda m: m.width).apply(str)  # error: reportArgumentType // arg-type
    mlax.at(net, lambda m: m.layers[0].kernel).set(Variable(0))  # error: reportArgumentType // arg-type


def several_places(net: Net) -> None:
    names = mlax.at(net, lambda m: (m.name, m.width))
    reveal_type(names.get())  # reveals: tuple[str, int]
    reveal_type(names.set(("a", 3)))  # reveals: Net
    reveal_type(mlax.at(net, lambda m: [x.kernel for x in m.layers]).get())  # reveals: list[Parameter[Array]]
    reveal_type(mlax.at(net, lambda m: m.layers[1:]).get())  # reveals: tuple[Linear, ...]
    names.set((3, 3))  # error: reportArgumentType // arg-type
    names.set(("a",))  # error: reportArgumentType // arg-type
    names.set("a")  # error: reportArgumentType // arg-type


def freezing(model: Linear, tree: tuple[Linear, dict[str, Variable]]) -> None:
    reveal_type(mlax.freeze(model))  # reveals: Linear
    reveal_type(mlax.freeze(model.kernel))  # reveals: Parameter[Array]
    reveal_type(mlax.unfreeze(tree))  # reveals: tuple[Linear, dict[str, Variable[Array]]]


def comparing(model: Linear) -> None:
    reveal_type(mlax.tree_equal(model, model))  # reveals: bool


def narrowing(anything: object) -> None:
    if mlax.is_module(anything):
        reveal_type(anything)  # reveals: Module
