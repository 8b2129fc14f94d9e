"""What classes say about their fields: abstract properties, converters, and checks of their own."""

import copy
import inspect
import pickle
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import cloudpickle
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Module, Parameter, Variable, field
from mlax.nn.init import ones

T = TypeVar("T")


class Encoder(Module, Generic[T]):
    """A base class that leaves it open how the number of features is known."""

    @property
    @abstractmethod
    def features(self) -> int: ...

    @property
    @abstractmethod
    def kind(self) -> T: ...

    def twice(self) -> int:
        return 2 * self.features


class ByField(Encoder[str]):
    depth: int
    features: int
    kind: str = "field"


class ByProperty(Encoder[str]):
    width: int
    kind: str

    @property
    def features(self) -> int:
        return 10 * self.width


class ByHand(Encoder[str]):
    features: int
    kind: str

    def __init__(self, features: int) -> None:
        self.kind = "hand"
        self.features = features


class Deeper(ByField):
    """Inherits a field that took the place of a property."""

    more: int = 0


class Anew(ByField):
    """Declares it once more, with a default."""

    depth: int = 1
    features: int = 5


class Lacking(Encoder[str]):
    depth: int


def test_fields_and_properties_implement_abstract_properties():
    field = ByField(1, 4)
    assert (field.features, field.twice(), field.kind) == (4, 8, "field")
    assert repr(field) == "ByField(depth=1, features=4, kind='field')"
    assert ByProperty(2, "x").twice() == 40
    assert ByHand(3).twice() == 6
    assert (Deeper(1, 4, more=2).features, Anew().features, Anew(2, 3).features) == (4, 5, 3)
    assert field.replace(features=6).twice() == 12
    for module in (field, ByProperty(2, "x"), ByHand(3), Deeper(1, 4), Anew()):
        for same in (
            copy.copy(module),
            pickle.loads(pickle.dumps(module)),
            jax.tree.map(lambda leaf: leaf, module),
        ):
            assert (type(same), same.twice()) == (type(module), module.twice())
    with pytest.raises(TypeError, match=": features is missing"):
        ByField(1)
    with pytest.raises(AttributeError, match="'ByField' has no attribute 'features'"):
        _ = ByField.features
    with pytest.raises(AnnotationMismatchError, match=r"ByField\.features must be int, got '4'"):
        ByField(1, "4")


def test_what_is_missing_is_named_when_the_class_is_called():
    with pytest.raises(TypeError, match=r"abstract class Lacking .*features.*kind"):
        Lacking(1)

    class Forgetful(Encoder[str]):
        features: int
        kind: str = ""

        def __init__(self) -> None: ...

    with pytest.raises(TypeError, match="did not assign the field 'features'"):
        Forgetful()


def test_the_nearer_of_a_field_and_a_property_counts():
    class Sized(Protocol):
        @property
        def size(self) -> int: ...

    class Plain:
        @property
        def size(self) -> int:
            return 1

    class Own(Module, Sized):
        size: int

    class Base(Module):
        size: int

    class Inherited(Base, Plain): ...

    assert (Own(3).size, Inherited(3).size) == (3, 3)

    class WithProperty(Plain, Module): ...

    with pytest.raises(TypeError, match="Name Base before WithProperty in these bases, or declare"):

        class Behind(WithProperty, Base): ...

    assert issubclass(WithProperty, WithProperty)
    assert Inherited(3).replace(size=4).size == 4

    class Deeper(Base): ...

    with pytest.raises(TypeError) as error:

        class Wrong(Plain, Deeper): ...

    assert str(error.value) == (
        "Plain.size is a property, but Base declares a field size, and comes after Plain in the bases of Wrong.\n"
        "  Name Deeper before Plain in these bases, or declare the field in the body of Wrong again."
    )

    class Swapped(Deeper, Plain): ...

    class Repeated(Plain, Deeper):
        size: int

    assert (Swapped(3).size, Repeated(3).size) == (3, 3)
    with pytest.raises(TypeError, match=r"rename one\.\n.* make it an abstract property in Base"):

        class Overrides(Base):
            @property
            def size(self) -> int:
                return 1


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


class Conv(Module):
    kernel_size: tuple[int, int] = field(converter=pair)
    strides: tuple[int, int] = field(converter=pair, default=1)
    _: KW_ONLY
    name: str = field(converter=str.lower, default_factory=lambda: "CONV")
    scale: Parameter[Float[Array, ""]] = field(converter=as_parameter, default=1.0)


def test_converters_apply_to_arguments_and_defaults_and_in_replace():
    conv = Conv(3, name="C1")
    assert (conv.kernel_size, conv.strides, conv.name) == ((3, 3), (1, 1), "c1")
    assert conv.scale.data == 1
    assert Conv(kernel_size=2, strides=(1, 2), scale=jnp.array(3.0)).strides == (1, 2)
    changed = conv.replace(strides=2, name="OTHER", scale=2.0)
    assert (changed.strides, changed.name, changed.scale.data) == ((2, 2), "other", 2)
    assert changed.kernel_size is conv.kernel_size
    assert str(inspect.signature(Conv)).startswith("(kernel_size: Any, strides: Any = 1, *, name:")
    with pytest.raises(AnnotationMismatchError, match="must be tuple"):
        Conv("3")
    with pytest.raises(TypeError, match="Conv takes kernel_size, strides by position"):
        Conv(1, 2, 3)


def test_converters_apply_where_init_and_post_init_assign():
    class WithInit(Module):
        a: int = field(converter=lambda x: int(x) + 1)
        b: int = field(converter=lambda x: x + 1, default=1)
        c: int = field(converter=lambda x: 2 * x, default_factory=lambda: 1)

        def __init__(self, a: str) -> None:
            self.a = a
            self.b = self.a

    class WithPostInit(Module):
        a: int = field(converter=int)
        b: int = field(converter=lambda x: x + 1, init=False)
        c: int = field(converter=lambda x: x + 1, init=False, default=7)
        more: InitVar[int] = 0

        def __post_init__(self, more: int) -> None:
            assert isinstance(self.a, int)
            self.b = self.a + more

    class Calls(WithPostInit):
        def __init__(self, a: str) -> None:
            super().__init__(a, 10)

    class Anew(WithPostInit):
        a: int = field(converter=lambda x: 100 * int(x))

        def __init__(self, a: str) -> None:
            super().__init__(a, 10)

    made = WithInit("1")
    assert (made.a, made.b, made.c) == (2, 3, 2)
    made = WithPostInit("1", 5)
    assert (made.a, made.b, made.c) == (1, 7, 8)
    assert (Calls("2").b, Anew("2").a, Anew("2").b) == (13, 200, 211)


def test_nobody_sees_a_default_that_is_not_converted():
    class Base(Module):
        a: int = field(converter=int, init=False, default="1")
        b: tuple[int, ...] = field(converter=tuple, init=False, default_factory=lambda: [1])
        c: Any = field(converter=str, default=3)
        d: Any = field(converter=str, default_factory=lambda: made.append(1) or len(made))
        seen: Any = field(init=False)

        def __post_init__(self) -> None:
            self.seen = (self.a, self.b, self.c, self.d)

    class ByHand(Base):
        def __init__(self) -> None:
            self.seen = (self.a, self.c)

    class Calls(Base):
        c: Any = field(converter=lambda x: 2 * x, default=3)
        d: Any = field(converter=lambda x: 2 * x)

        def __init__(self) -> None:
            super().__init__()

    made: list[int] = []
    assert Base().seen == (1, (1,), "3", "1")
    assert Base(c=4, d=5).seen == (1, (1,), "4", "5")
    assert made == [1]
    by_hand = ByHand()
    assert (by_hand.seen, by_hand.b, by_hand.d) == ((1, "3"), (1,), "2")
    assert Calls().seen == (1, (1,), 6, "33")
    loaded: Any = pickle.loads(cloudpickle.dumps(Base))
    assert loaded().seen == (1, (1,), "3", "4")


def test_converters_apply_to_init_vars():
    class Scaled(Module):
        size: int
        scale: InitVar[float] = field(converter=float)
        more: "InitVar[int]" = field(converter=int, default="7", kw_only=True)
        total: Any = field(init=False)

        def __post_init__(self, scale: float, more: int) -> None:
            self.total = (scale, more)

    class Calls(Scaled):
        def __init__(self) -> None:
            super().__init__(1, scale="3", more="4")

    assert Scaled(1, "2").total == (2.0, 7)
    assert Calls().total == (3.0, 4)
    with pytest.raises(ValueError, match="could not convert") as caught:
        Scaled(1, "wide")
    assert caught.value.__notes__ == ["in the converter of Scaled.scale, which got 'wide'"]
    with pytest.raises(TypeError, match=r"Constant\.kind is a ClassVar, to which no converter is"):

        class Constant(Module):
            kind: ClassVar[int] = field(converter=int, default="3")


def test_a_class_as_converter_leaves_its_instances_as_they_are():
    class Scale(Module):
        scale: Parameter = field(converter=Parameter, default=1.0)
        flag: int = field(converter=int, default=True)

    scale = Parameter(2.0)
    assert Scale(scale).scale is scale
    assert Scale().replace(scale=scale).scale is scale
    assert type(Scale().flag) is int


def test_a_default_is_declared_with_its_field():
    class Base(Module):
        size: int = field(converter=int, default="3", metadata={"unit": "px"})
        kind: ClassVar[str] = "base"
        more: "InitVar[int]" = 1

        def __post_init__(self, more: int) -> None:
            assert more == 1

    class Anew(Base):
        size: int = 5
        kind = "anew"

    assert Base.__dataclass_fields__["size"].metadata["unit"] == "px"
    assert (Base().size, Anew().size, Anew.kind) == (3, 5, "anew")
    with pytest.raises(AnnotationMismatchError):
        Anew("5")
    with pytest.raises(TypeError) as error:

        class Wrong(Base):
            size = 5

    assert str(error.value) == (
        "Wrong.size = 5 does not set the default of the field size, because Wrong does not declare it: constructors "
        "would not use it.\n  Declare it in the body of Wrong, `size: int = ...`, or rename it."
    )
    with pytest.raises(TypeError, match="does not set the default of the field more"):
        type("Wrong", (Base,), {"more": 5})


def test_error_of_a_converter_keeps_its_type_and_names_the_field():
    class Wide(Module):
        width: int = field(converter=int)

    for make in (lambda: Wide("wide"), lambda: Wide(1).replace(width="wide")):
        with pytest.raises(ValueError, match="invalid literal") as caught:
            make()
        assert caught.value.__notes__ == ["in the converter of Wide.width, which got 'wide'"]
    with pytest.raises(TypeError, match="converter must be a function, got 3"):
        field(converter=3)


class Attention(Module):
    width: int
    heads: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def __check__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got {self.width} and {self.heads}"
            )

    def set_up(self, x: Array) -> Self:
        return self.replace(kernel=self.kernel.made(None, (x.size, self.width), ones, x.dtype))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ self.kernel.data, self.replace(heads=self.width)


def test_checks_run_in_the_constructor_and_in_replace():
    with pytest.raises(ValueError, match="got 8 and 3") as caught:
        Attention(8, 3)
    assert caught.value.__notes__ == [
        "in Attention.__check__ of Attention(width=8, heads=3, kernel=Parameter(UNSET))"
    ]
    model = Attention(8, 4)
    with pytest.raises(ValueError, match="got 8 and 3"):
        model.replace(heads=3)
    with pytest.raises(ValueError, match="got 9 and 4"), mlax.runtime_checks(False):
        model.replace(width=9)
    assert jax.jit(lambda m, x: m(x)[1])(model, jnp.ones(2)).heads == 8  # also in set_up and jit


def test_every_class_checks_and_bases_come_first():
    order: list[str] = []

    class Mixin:
        def __check__(self) -> None:
            order.append("mixin")

    class Base(Module):
        a: int = field(converter=int)

        def __check__(self) -> None:
            order.append(f"base {self.a + 1}")

    class Middle(Base): ...

    class Derived(Middle, Mixin):
        def __check__(self) -> None:
            order.append("derived")

    Derived("1")
    assert order == ["mixin", "base 2", "derived"]
    order.clear()
    Base(2).replace(a="3")
    assert order == ["base 3", "base 4"]


def test_copies_and_transformations_run_neither_checks_nor_converters():
    count: list[str] = []

    def converter(value: Any) -> Any:
        count.append("converted")
        return value

    class Counted(Module):
        a: Any = field(converter=converter)
        x: Variable = Variable(0)

        def __check__(self) -> None:
            count.append("checked")

        def forward(self) -> tuple[None, Self]:
            return None, self

    class Outer(Module):
        inner: Counted

        def forward(self) -> tuple[None, Self]:
            return self.call(self.inner)

    model = Counted(1)
    assert count == ["converted", "checked"]
    jax.jit(lambda m: m)(model)
    jax.tree.map(lambda leaf: "anything", model)
    jax.vmap(lambda m: m)(jax.tree.map(lambda leaf: leaf[None], model))
    copy.copy(model), copy.deepcopy(model), model.filter()
    Outer(model)()
    assert count == ["converted", "checked"]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda self: self.x.data > 0, r"<lambda> returned bool\[\], which has no effect"),
        (lambda self: setattr(self, "x", 1), "is frozen|cannot assign"),
    ],
)
def test_checks_that_are_no_checks_are_refused(check: Callable[[Any], Any], message: str):
    cls: Any = type("Odd", (Module,), {"__annotations__": {"x": Any}, "__check__": check})
    with pytest.raises((TypeError, AttributeError), match=message):
        cls(Variable(1.0))
    for no_method in (3, classmethod(lambda _: None), staticmethod(lambda _: None)):
        with pytest.raises(TypeError, match=r"^Odd\.__check__ must be a method, got .*\n  Define"):
            type("Odd", (Module,), {"__check__": no_method})


def test_check_of_values_says_why_it_cannot_run_under_jit():
    class Positive(Module):
        x: Variable[Array]

        def __check__(self) -> None:
            if self.x.data < 0:
                raise ValueError("x must be >= 0")

    with pytest.raises(ValueError, match="must be >= 0"):
        Positive(Variable(-1.0))
    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        jax.jit(lambda m: m.replace(x=Variable(m.x.data + 1)))(Positive(Variable(1.0)))
    assert any("not the values of arrays" in note for note in caught.value.__notes__)


def test_classes_with_contracts_travel_by_value():
    class Local(Encoder[str]):
        features: int = field(converter=int)
        kind: str

        def __check__(self) -> None:
            if self.features < 0:
                raise ValueError("negative")

    loaded = pickle.loads(cloudpickle.dumps(Local))
    assert loaded is not None
    assert loaded("3", "x").twice() == 6
    with pytest.raises(ValueError, match="negative"):
        loaded("-1", "x")


def test_at_converts_and_checks() -> None:
    class Inner(Module):
        width: int = field(converter=int)

        def __check__(self) -> None:
            if self.width < 0:
                raise ValueError("width must be >= 0")

    class Outer(Module):
        inner: Inner

    width = mlax.at(Outer(Inner(1)), lambda m: m.inner.width)
    assert width.set("3").inner.width == 3
    with pytest.raises(ValueError, match="must be >= 0"):
        width.set(-1)


@pytest.mark.one_python
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("__check_init__", print, r"Wrong\.__check_init__ would not run\.\n  Name it __check__"),
        ("x", field(default=[]), r"Wrong\.x: all instances would share the default list"),
        ("x", field(default=jnp.ones(2)), r"Wrong\.x = float32\[2\]: a field cannot hold a bare"),
        (
            "x",
            field(),
            r"Wrong: non-default argument 'x' follows .*\n.*mlax\.field\(kw_only=True\)",
        ),
    ],
)
def test_habits_from_elsewhere_are_refused_with_what_helps(name: str, value: Any, message: str):
    class Base(Module):
        first: int = 1

    with pytest.raises(TypeError, match=message):
        type("Wrong", (Base,), {"__annotations__": {"x": Any} if name == "x" else {}, name: value})


def test_fields_have_no_option_static():
    with pytest.raises(TypeError, match=r"does not take static\.\n  Leave it out"):
        field(static=True)  # type: ignore[call-overload]
