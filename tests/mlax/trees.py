"""Hypothesis strategies for trees of modules of many shapes."""

import enum
import functools
from collections import OrderedDict
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from mlax import Container, Module, Parameter, Variable

T = TypeVar("T")


class Empty(Module):
    pass


class Wide(Module):
    a: Any
    b: Any = 1
    c: Any = None
    _: KW_ONLY
    d: Any = ()
    e: Any = "e"


class Longer(Wide):
    f: Any = None


class Typed(Module, Generic[T]):
    left: T
    right: T | None = None


class ByHand(Module):
    size: int
    part: Any
    derived: Any

    def __init__(self, part: Any, size: int = 3):
        super().__init__()
        self.part = part
        self.size = size
        self.derived = Variable(jnp.zeros(size))


class Mixin:
    def hello(self) -> str:
        return "hello"


class Mixed(Mixin, Wide):
    pass


class Pair(NamedTuple):
    first: Any
    second: Any


class Color(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Config:
    value: Any


def double(x: Any, by: Any = 2) -> Any:
    return by * x


ARRAYS = [
    jnp.ones((2, 3)),
    jnp.arange(3.0),
    jnp.zeros((0, 2)),
    jnp.asarray(2.5, jnp.bfloat16),
    jnp.asarray(1 + 2j),
    jnp.asarray(float("nan")),
]
EXACT = [
    jnp.arange(3),
    jnp.asarray(True),
    jnp.uint8(7),
    jax.random.key(3),
    jax.random.split(jax.random.key(0)),
]


def short(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return the same strategy with a short `repr`: Hypothesis warns of a long one."""
    return st.composite(lambda draw: draw(strategy))()


arrays = short(st.sampled_from(ARRAYS))
any_arrays = short(st.sampled_from(ARRAYS + EXACT))
names = st.sampled_from(["a", "b", "kernel", "x y"])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return tuples, lists, dicts and NamedTuples, nested a little."""

    def containers(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.lists(inside, max_size=3),
            st.lists(inside, max_size=3).map(tuple),
            st.dictionaries(names, inside, max_size=2),
            st.dictionaries(names, inside, max_size=2).map(OrderedDict),
            st.builds(Pair, inside, inside),
        )

    return short(st.recursive(leaves, containers, max_leaves=4))


def data_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return short(st.one_of(leaves, leaves, nested(leaves | st.none()), st.none()))


nodes = short(
    st.one_of(
        st.builds(Parameter, data_of(arrays)),
        st.builds(Parameter, data_of(any_arrays), frozen=st.just(True)),
        st.builds(Variable, data_of(any_arrays)),
        st.sampled_from([Parameter(), Variable(), Parameter(frozen=True)]),
    )
)

atoms = short(
    st.one_of(
        st.integers(-2, 2),
        st.sampled_from(
            [1.0, 0.0, -0.0, float("nan"), True, 1j, "a", b"a", len, double, int, Color.RED, Empty]
        ),
        st.sampled_from([np.float32(1), np.int8(1), range(3), functools.partial(double, by=3)]),
    )
)
statics = short(
    st.recursive(
        atoms,
        lambda inside: st.one_of(
            st.lists(inside, max_size=2).map(tuple),
            st.builds(Config, inside),
            st.builds(lambda value: functools.partial(double, value), inside),
            st.frozensets(st.integers(0, 3), max_size=2),
        ),
        max_leaves=3,
    )
)


def modules_around(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return modules and Containers whose fields hold `inside` and static values."""
    states = nested(inside | st.none())
    fields = short(st.one_of(states, states, statics))
    return st.one_of(
        st.builds(Wide, fields, fields, fields, d=fields, e=fields),
        st.builds(Longer, fields, fields, f=fields),
        st.builds(Mixed, fields, d=fields),
        st.builds(Typed, inside, inside | st.none()),
        st.builds(ByHand, fields, st.integers(0, 3)),
        st.builds(Container, states),
    )


inner = st.recursive(nodes, modules_around, max_leaves=8)
modules = short(modules_around(short(inner)))
