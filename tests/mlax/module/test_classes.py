"""Classes of modules: what they define, inherit and mix in."""

import abc
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pytest

from mlax import Module, Parameter, tree_equal
from tests.mlax.models import Linear, linear
from tests.mlax.module.test_construction import Pair, Plain, every_copy


def test_class_variables_properties_and_methods():
    class Mine(Module):
        kind: ClassVar[str] = "affine"
        weight: Parameter

        @property
        def size(self) -> int:
            return self.weight.data.size

        @cached_property
        def doubled(self) -> Any:
            return 2 * self.weight.data

        @classmethod
        def ones(cls, size: int) -> "Mine":
            return cls(Parameter(jnp.ones(size)))

        @staticmethod
        def helper(x: Any) -> Any:
            return x

        def total(self) -> Any:
            return self.weight.data.sum()

    module = Mine.ones(3)
    assert (module.size, float(module.total()), module.kind, module.helper(1)) == (
        3,
        3,
        "affine",
        1,
    )
    assert module.doubled is module.doubled
    assert len(jax.tree.leaves(module)) == 1
    assert jax.jit(Mine.total)(module) == 3
    with pytest.raises(TypeError, match="no field 'kind'"):
        module.replace(kind="b")
    with pytest.raises(TypeError, match="no field 'size'"):
        module.replace(size=1)


def test_abstract_methods():
    class Base(Module):
        size: int

        @abc.abstractmethod
        def width(self) -> int: ...

    class Concrete(Base):
        def width(self) -> int:
            return self.size

    with pytest.raises(TypeError, match="abstract"):
        Base(3)
    assert Concrete(3).width() == 3
    with pytest.raises(TypeError, match=r"^Module is abstract"):
        Module()
    with pytest.raises(NotImplementedError, match="Concrete defines no forward"):
        Concrete(3)(1)


class Mixin:
    def describe(self) -> str:
        return f"{type(self).__name__} of {self.size}"


class Registered:
    seen: ClassVar[list[str]] = []

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        Registered.seen.append(cls.__name__)


class Left(Module):
    size: int
    left: Parameter = Parameter()


class Right(Module):
    right: Parameter = Parameter()


class First(Mixin, Left):
    pass


class Second(Left, Mixin, Registered):
    pass


class Diamond(Right, First):
    pass


class Slotted:
    __slots__ = ("cache",)


class WithSlots(Mixin, Slotted, Left):
    pass


@pytest.mark.parametrize("cls", [First, Second, Diamond, WithSlots])
def test_multiple_inheritance(cls):
    module = cls(3)
    assert module.describe() == f"{cls.__name__} of 3"
    for each in every_copy(module).values():
        assert tree_equal(each, module)
        assert each.describe() == module.describe()
    assert Registered.seen == ["Second"]


def test_generic_modules():
    pair = Pair[Plain, Linear](Plain(1), linear())
    assert type(pair) is Pair
    assert tree_equal(pair, Pair(Plain(1), linear()))

    class Named(Pair[Plain, Linear]):
        name: str = "named"

    assert Named(Plain(1), linear()).name == "named"
