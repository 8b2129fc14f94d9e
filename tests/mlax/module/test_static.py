"""Static values that differ never share a trace; those that are the same do."""

import dataclasses
import datetime
import enum
import functools
import operator
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from mlax import Module, tree_equal
from tests.names import stable

NAN = float("nan")


class Holder(Module):
    value: Any


@dataclasses.dataclass(frozen=True)
class Config:
    value: Any
    note: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class Coarse:
    """Equal to every other one, if one asks Python."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coarse)

    def __hash__(self) -> int:
        return 0


@dataclasses.dataclass(frozen=True)
class Fine:
    """Its equality also depends on attributes that are not fields."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fine) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return 0


def fine(value: Any, hidden: Any) -> Fine:
    made = Fine(value)
    object.__setattr__(made, "hidden", hidden)
    return made


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Mine(float):
    pass


class Text(str):
    __slots__ = ("__dict__",)


class Point(NamedTuple):
    x: int


class Annotated(Point): ...


def with_attribute(value: Any, inside: Any) -> Any:
    value.inside = inside
    return value


def double(x: Any, factor: Any = 2) -> Any:
    return factor * x


GROUPS: list[list[Any]] = [
    [1, 1.0, True, 1 + 0j, np.float32(1), np.float64(1), np.int32(1), np.bool_(True), Number.ONE],
    [
        0.0,
        -0.0,
        0,
        False,
        np.float32(0.0),
        np.float32(-0.0),
        0j,
        complex(0.0, -0.0),
        complex(-0.0, 0),
    ],
    [Mine(0.0), Mine(-0.0), 0.0],
    [NAN, float("inf"), -float("inf")],
    [np.datetime64(1, "s"), np.datetime64(1, "m"), np.int64(1), datetime.timedelta(1)],
    [(1,), (1.0,), (True,), ((1,),), (1, ()), frozenset({1}), frozenset({1.0})],
    [
        Config(1),
        Config(1.0),
        Config(True),
        Config((1,)),
        Config((1.0,)),
        Coarse(1),
        Coarse(1.0),
        Fine(1),
    ],
    [Config(Config(0.0)), Config(Config(-0.0))],
    [fine(1, 2), fine(1, 3), fine(1.0, 2)],
    [Color.RED, Color.BLUE, "RED", 1],
    [
        with_attribute(make(), inside)
        for make in (
            lambda: Text("a"),
            lambda: Annotated(1),
            lambda: Mine(1),
            lambda: functools.partial(len),
        )
        for inside in (1, 1.0, (1,), -0.0)
    ],
    [
        functools.partial(double, 1),
        functools.partial(double, 1.0),
        functools.partial(double, factor=1),
    ],
    [functools.partial(double, factor=1), functools.partial(double, factor=True), double],
    ["a".join, "b".join, "a".split, (1).__add__, (1.0).__add__, (True).__add__],
    [slice(1), slice(1.0), slice(True), slice(0, 1)],
    [range(0, 3, 2), range(0, 4, 2)],
    ["1", b"1", 1],
    [int, float, np.float32, np.dtype("float32"), jax.numpy.float32],
    [operator.add, operator.mul, jax.numpy.add, len],
    [None, (), 0, "", False],
]


def traces(values: list[Any]) -> int:
    count = 0

    @jax.jit
    def identity(module: Holder) -> Holder:
        nonlocal count
        count += 1
        return module

    for value in values:
        back = identity(Holder(value))
        assert type(back.value) is type(value)
    return count


@pytest.mark.parametrize("values", GROUPS, ids=stable)
def test_values_that_differ_never_share_a_trace(values):
    assert traces(values) == len(values)
    assert len({jax.tree.structure(Holder(value)) for value in values}) == len(values)
    for value in values:
        assert repr(jax.jit(lambda x: x)(Holder(value)).value) == repr(value)
    for value in values[1:]:
        assert not tree_equal(Holder(values[0]), Holder(value))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NAN * 1.0,
        lambda: (NAN * 1.0, 1),
        lambda: Config(NAN * 1.0),
        lambda: np.float32("nan"),
        lambda: functools.partial(double, factor=(1, 2.0)),
        lambda: Config(functools.partial(double, 1)),
        lambda: Config(1, note=object()),
        lambda: functools.partial(functools.partial(double, 1), factor=3),
        lambda: "a".join,
        lambda: slice(1, 2),
        lambda: frozenset({1, 2.0}),
        lambda: with_attribute(Text("a"), (1,)),
        lambda: with_attribute(Annotated(1), with_attribute(Mine(1), 2)),
        lambda: functools.update_wrapper(functools.partial(double, 1), double),
        lambda: Color.RED,
        lambda: np.datetime64(1, "s"),
        lambda: 10**30,
        lambda: "x" * 1000,
    ],
)
def test_values_that_are_the_same_share_one(make):
    assert traces([make(), make()]) == 1
    assert tree_equal(Holder(make()), Holder(make()))
    assert hash(jax.tree.structure(Holder(make()))) == hash(jax.tree.structure(Holder(make())))


def test_bound_methods_of_equal_owners():
    class Owner:
        def __init__(self, size: Any):
            self.size = size

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Owner) and self.size == other.size

        def __hash__(self) -> int:
            return hash(self.size)

        def method(self) -> None: ...

        def other(self) -> None: ...

    assert traces([Owner(1).method, Owner(1).method]) == 1
    assert traces([Owner(1).method, Owner(2).method, Owner(1).other]) == 3
    assert traces([Config(1).__init__, Config(1.0).__init__]) == 2


def test_a_class_is_a_static_value_whatever_its_metaclass():
    assert traces([Config, Color, Holder, Config]) == 3


class Numbers(Module):
    rate: float | None = np.float32(0.5)
    size: "int" = 1
    power: complex = 1j
    flag: bool = True
    betas: tuple[float, float] | float = 0.9
    pads: tuple[int | tuple[int, int], ...] = ()
    own: np.float32 | float = 1.0
    whatever: Any = None


def test_numbers_of_numpy_become_those_of_python_where_these_are_annotated() -> None:
    """One in a product would change the dtype of the result, and be another static value."""
    number = Numbers(
        size=np.int64(3),
        power=np.complex64(1),
        flag=np.bool_(True),
        betas=(np.float64(0.5), 1),
        pads=(np.int8(1), (np.uint8(2), 3)),
    )
    assert tree_equal(number, Numbers(0.5, 3, 1 + 0j, True, (0.5, 1), (1, (2, 3))))
    assert type(number.replace(rate=np.float64(0.1)).rate) is float
    assert type(number.replace(rate=np.int32(2)).rate) is int
    kept = Numbers(own=np.float32(1), whatever=np.float32(1))
    assert type(kept.own) is type(kept.whatever) is np.float32
    with pytest.raises(TypeError, match=r"Numbers\.size must be int, got float64\[\]"):
        Numbers(size=np.float64(3))
