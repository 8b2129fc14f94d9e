"""Changed copies: `replace`, `partition`, `at`, `freeze`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar, assert_type

from jaxtyping import Array

import mlax
from mlax import Container, ENode, Module, Parameter, Variable, optim

M = TypeVar("M", bound=Module)


class Dropout(Module):
    rate: float = 0.5

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x, self


class Block(Module):
    dropout: Dropout
    kernel: Parameter = Parameter()
    width: int = 3
    inner: Dropout | None = None

    def forward(self, x: Array) -> tuple[Array, Self]:
        x, self = self.call(self.dropout, x)
        return x, self.replace(width=self.width + 1)


class Pair(NamedTuple):
    first: Block
    rate: float


class Net(Module):
    blocks: tuple[Block, ...]
    heads: dict[str, Dropout]
    pair: Pair
    states: Container[list[Parameter]]
    name: str = "net"


def replaced(net: Net, block: Block) -> None:
    assert_type(net.replace(name="b"), Net)
    assert_type(block.replace(width=3, inner=None), Block)
    assert_type(block.replace(kernel=Parameter(), dropout=Dropout()), Block)
    assert_type(block.replace(), Block)
    assert_type(net.blocks[0].replace(width=3), Block)


def replaced_in_any_module(module: M, other: Module, changes: dict[str, Any]) -> M:
    other.replace(width=3)
    other.replace(**changes)
    return module.replace(width=3)  # false alarm: pyrefly


def replaced_by_name(block: Block, changes: dict[str, Any]) -> None:
    assert_type(block.replace(**changes), Block)


def not_fields(net: Net, block: Block) -> None:
    net.replace(nam="b")  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace(widht=3)  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace("b")  # wrong


def other_types(net: Net, block: Block) -> None:
    net.replace(name=3)  # wrong: unseen by pyright, mypy, ty before 3.13
    net.replace(blocks=[block])  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace(dropout=3)  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace(width="3")  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace(kernel=Variable(0))  # wrong: unseen by pyright, mypy, ty before 3.13
    block.replace(inner=block)  # wrong: unseen by pyright, mypy, ty before 3.13


def partitioned(net: Net) -> None:
    assert_type(net.partition(), tuple[Net, Net])
    assert_type(net.partition(mlax.is_variable), tuple[Net, Net])
    assert_type(net.partition(mlax.is_variable, mlax.is_parameter), tuple[Net, Net, Net])
    a, b, c, d = net.partition(mlax.is_variable, lambda node: node.data is None, mlax.is_parameter)
    assert_type((a, b, c, d), tuple[Net, Net, Net, Net])
    is_a = mlax.is_variable
    assert_type(net.partition(is_a, is_a, is_a, is_a), tuple[Net, Net, Net, Net, Net])
    assert_type(net.partition(is_a, is_a, is_a, is_a, is_a), tuple[Net, ...])


def partitioned_by_path(net: Net) -> None:
    (rest,) = net.partition_with_path()
    assert_type(rest, Net)
    first, rest = net.partition_with_path(lambda path, node: len(path) > 1 and node.data is None)
    assert_type((first, rest), tuple[Net, Net])


def partitioned_by_many(net: Net, predicates: list[Callable[[ENode[Any]], bool]]) -> None:
    assert_type(net.partition(*predicates), tuple[Net, ...])
    first, second, rest = net.partition(*predicates)
    assert_type(first.combine(second, rest), Net)


def wrong_numbers_of_parts(net: Net) -> None:
    _, _, _ = net.partition()  # wrong
    (_,) = net.partition()  # wrong
    _, _ = net.partition(mlax.is_variable, mlax.is_parameter)  # wrong
    _, _ = net.partition_with_path()  # wrong
    net.partition(3)  # wrong
    net.partition_with_path(mlax.is_parameter)  # wrong


def places(net: Net) -> None:
    assert_type(mlax.at(net, lambda m: m.pair.rate), mlax.At[Net, float])
    assert_type(mlax.at(net, lambda m: m.pair.rate).get(), float)
    assert_type(mlax.at(net, lambda m: m.pair.rate).set(3), Net)
    assert_type(mlax.at(net, lambda m: m.pair.rate).apply(lambda rate: rate / 2), Net)
    assert_type(mlax.at(net, lambda m: m.heads["a"]).set(Dropout()), Net)
    assert_type(mlax.at(net, lambda m: m.states.states[0].data).get(), Array)
    assert_type(mlax.at(net, lambda m: m.blocks[0].kernel.frozen).set(True), Net)
    assert_type(mlax.at(net, lambda m: m.blocks[0].kernel.data).apply(lambda x: 2 * x), Net)


def optional_places(net: Net) -> None:
    inner = mlax.at(net, lambda m: m.blocks[0].inner)
    assert_type(inner.set(None), Net)
    assert_type(inner.set(Dropout()), Net)


def places_of_a_function(net: Net) -> None:
    def where(net: Net) -> float:
        return net.pair.rate

    assert_type(mlax.at(net, where).set(0.1), Net)


def places_in_states(net: Net, weights: dict[str, Array]) -> None:
    state = optim.adam.init(net)
    assert_type(mlax.at(state, lambda s: s.m.pair.first.kernel).get(), Parameter[Array])
    assert_type(mlax.at(state, lambda s: s.learning_rate).apply(lambda rate: rate / 2), optim.adam.State[Net])
    assert_type(mlax.at(weights, lambda w: w["a"]).apply(lambda x: 2 * x), dict[str, Array])


def several_places(net: Net) -> None:
    assert_type(mlax.at(net, lambda m: (m.name, m.pair.rate)).get(), tuple[str, float])
    assert_type(mlax.at(net, lambda m: (m.name, m.pair.rate)).set(("a", 0.1)), Net)
    rates = mlax.at(net, lambda m: [block.dropout.rate for block in m.blocks])
    assert_type(rates.get(), list[float])
    assert_type(rates.apply(lambda values: [value / 2 for value in values]), Net)
    assert_type(mlax.at(net, lambda m: m.blocks[1:]).get(), tuple[Block, ...])
    assert_type(mlax.at(net, lambda m: {key: m.heads[key] for key in m.heads}).get(), dict[str, Dropout])


def no_such_places(net: Net) -> None:
    mlax.at(net, lambda m: m.blocks[0].dropout.rat)  # wrong
    mlax.at(net, lambda m: m.block)  # wrong
    mlax.at(net, lambda m: m.pair.second)  # wrong
    mlax.at(net, lambda m: [block.droput for block in m.blocks])  # wrong
    mlax.at(optim.adam.init(net), lambda s: s.mm)  # wrong
    mlax.at(net, 3)  # wrong


def values_of_other_types(net: Net) -> None:
    mlax.at(net, lambda m: m.name).set(3)  # wrong
    mlax.at(net, lambda m: m.blocks[0].width).set("3")  # wrong
    mlax.at(net, lambda m: m.blocks[0].width).apply(str)  # wrong
    mlax.at(net, lambda m: m.blocks[0].kernel).set(Variable(0))  # wrong
    mlax.at(net, lambda m: (m.name, m.pair.rate)).set((3, 3))  # wrong
    mlax.at(net, lambda m: (m.name, m.pair.rate)).set(("a",))  # wrong
    mlax.at(net, lambda m: m.name).set()  # wrong


def frozen(net: Net) -> None:
    assert_type(mlax.freeze(net), Net)
    assert_type(mlax.freeze(net.blocks[0].kernel), Parameter[Array])
    assert_type(mlax.at(net, lambda m: m.blocks).apply(mlax.freeze), Net)
    both: tuple[Net, dict[str, Dropout]] = mlax.unfreeze((net, net.heads))
    print(both)
