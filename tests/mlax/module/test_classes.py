"""Classes of modules: what they define, inherit and mix in."""

import abc
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import Module, Parameter, Variable, tree_equal
from tests.mlax.models import Linear, linear
from tests.mlax.module.test_construction import Pair, Plain, every_copy


def test_class_variables_properties_and_methods():
    class Mine(Module):
        kind: ClassVar[str] = "affine"
        weight: Parameter

        @property
        def size(self) -> int:
            return self.weight.data.size

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
    with pytest.raises(NotImplementedError, match="Concrete does not define forward"):
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


class Wrapper(Module):
    inner: Linear

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_getattr_may_delegate_to_a_child():
    model = Wrapper(linear())
    for again in every_copy(model).values():
        assert again.out_features == model.inner.out_features
    with pytest.raises(AttributeError):
        model.nothing  # noqa: B018


def test_a_default_tuple_of_nodes_is_fresh():
    class Two(Module):
        nodes: tuple = (Parameter(jnp.ones(2)), (Variable(1.0), None))

    first, second = Two(), Two()
    assert first.nodes[0].data is not second.nodes[0].data
    assert first.nodes[1][0].data is not second.nodes[1][0].data
    assert tree_equal(first, second)


@pytest.mark.parametrize("calls_super", [True, False])
def test_a_class_with_its_own_init_subclass(calls_super):
    class Base(Module):
        def __init_subclass__(cls, tag="", **kwargs):
            if calls_super:
                super().__init_subclass__(**kwargs)
            cls.tag = tag

    class Layer(Base, tag="conv"):
        w: Parameter = Parameter(1.0)

    class Deeper(Layer, tag="deep"):
        b: Parameter = Parameter(2.0)

    assert (Layer.tag, Deeper.tag) == ("conv", "deep")
    assert len(jax.tree.leaves(Layer())) == 1
    assert len(jax.tree.leaves(Deeper())) == 2


def test_kw_only_is_as_in_dataclasses():
    class Base(Module):
        a: int = 0

    class Layer(Base, kw_only=True):
        b: int = 1
        c: str

    assert Layer(5, c="x").a == 5
    with pytest.raises(TypeError, match="Layer takes a by position"):
        Layer(5, 1, "x")


@pytest.mark.parametrize("annotation", [ClassVar, ClassVar[dict], "ClassVar[dict]"])
def test_class_variables_may_be_anything(annotation):
    namespace = {"__annotations__": {"registry": annotation}, "registry": {}}
    namespace["__module__"] = __name__
    layer = type("Layer", (Module,), namespace)
    assert layer().registry is layer.registry
    assert not dataclasses.fields(layer)


UNDECLARED: dict[str, tuple[Any, str]] = {
    "parameter": (Parameter(jnp.ones(3)), "a Parameter, .*`it: Parameter = "),
    "unset": (Variable(), "a Variable, .*`it: Variable = "),
    "module": (Linear(3), "a Linear, .*`it: Linear = "),
    "array": (jnp.arange(3.0), r"float32\[3\], .*`it: Variable = .*`it: ClassVar = "),
    "numpy": (np.arange(3), r"int64\[3\], .*`it: Variable = .*`it: ClassVar = "),
    "key": (jax.random.key(0), r"key.*\[\], .*`it: ClassVar = "),
    "ref": (jax.new_ref(jnp.ones(3)), r"float32\[3\], "),
    "list": ([Linear(3), None], r"a list with a Linear, .*`it: list = mlax\.field\("),
    "dict": ({"a": (1, Parameter())}, r"a dict with a Parameter, .*`it: dict = mlax\.field\("),
    "tuple": ((1, jnp.ones(2)), r"a tuple with float32\[2\], "),
}


@pytest.mark.parametrize(("value", "message"), UNDECLARED.values(), ids=UNDECLARED)
def test_what_belongs_to_the_model_is_declared(value, message):
    class Base(Module):
        it: Any = None

    body = {"__module__": __name__, "it": value}
    for bases in ((Module,), (Base,), (type("Mixin", (), body), Module)):
        own = {} if len(bases) == 2 else body
        with pytest.raises(TypeError, match=rf"(?s)^Net\.it is {message}"):
            type("Net", bases, own)
    for annotation in (ClassVar, "ClassVar[Any]"):
        declared = type("Net", (Module,), body | {"__annotations__": {"it": annotation}})
        assert declared().it is value
    mixin = type("Mixin", (), body | {"__annotations__": {"it": ClassVar[Any]}})
    assert type("Net", (mixin, Module), {})().it is value


def test_other_attributes_of_a_class_need_no_annotation():
    class Net(Module):
        w: Parameter = Parameter(1.0)
        sizes = (1, 2)
        names = ["a"]  # noqa: RUF012
        activation = staticmethod(jax.nn.relu)
        partial = functools.partial(jnp.sum, axis=0)

    class Deeper(Net):
        sizes = (3,)

    assert (Net().sizes, Deeper().sizes, Deeper().names) == ((1, 2), (3,), ["a"])
    assert len(jax.tree.leaves(Deeper())) == 1


def test_a_cached_property_is_refused():
    def total(self):
        return self.w.data.sum()

    body = {"total": functools.cached_property(total)}
    body["total"].__set_name__(None, "total")
    for bases, own in (((Module,), body), ((type("Mixin", (), body), Module), {})):
        with pytest.raises(TypeError, match=r"^Net\.total: .*\n  Make it a property.*Variable"):
            type("Net", bases, own)


def test_a_field_cannot_be_called_self():
    with pytest.raises(TypeError, match=r"^Layer\.self: .*choose another name"):
        type("Layer", (Module,), {"__annotations__": {"self": int}, "self": 1})


@pytest.mark.parametrize("base", [Parameter, Variable])
@pytest.mark.parametrize(
    "body",
    [
        {"__init__": lambda self, x: None},
        {"__annotations__": {"tag": str}},
        {"__slots__": ("tag",)},
    ],
    ids=["init", "annotation", "slots"],
)
def test_a_class_of_nodes_has_no_attributes_of_its_own(base, body):
    with pytest.raises(TypeError, match=r"^Tagged\.\w+: .*\n.*field of a Module"):
        type("Tagged", (base,), body)


def test_a_class_of_nodes_may_have_methods():
    class Statistic(Variable):
        def mean(self):
            return self.data.mean()

    doubled = jax.tree.map(lambda x: 2 * x, Statistic(jnp.ones(2)))
    assert type(doubled) is Statistic
    assert doubled.mean() == 2
