"""Annotations that cannot be resolved are not checked. mlax warns about each of them once."""

import warnings
from typing import Any, ClassVar, Generic, Self, TypeVar

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Module, Parameter
from mlax.typing import checked

T = TypeVar("T")


def warned(function: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_a_field_warns_once_and_names_everything():
    class Layer(Module):
        w: "Parameter[Nowhere]"
        size: int = 3

    def twice() -> None:
        Layer(Parameter(1.0))
        Layer(Parameter(2.0)).replace(w=Parameter(3.0))
        jax.jit(lambda layer: layer.replace(size=4))(Layer(Parameter(2.0)))

    assert warned(twice) == [
        "Layer: the annotation of w, 'Parameter[Nowhere]', cannot be resolved, so w is not checked "
        "(there is no Nowhere at run time).\n"
        f"  Import Nowhere outside of `if TYPE_CHECKING`, or define it at the top level of {__name__}."
    ]
    with pytest.raises(AnnotationMismatchError, match=r"^Layer\.size"):
        Layer(Parameter(1.0), "a")


def test_each_field_of_each_class_warns_on_its_own():
    class Base(Module):
        a: "Nowhere" = 1
        b: "list[Elsewhere]" = ()
        shared: ClassVar["Nobody"] = 3
        c: "Nowhere" = 2

    class Derived(Base):
        c: int = 3  # resolved here

    class Other(Base):
        d: "Nowhere" = 4

    assert [text.split(", ")[0] for text in warned(Derived)] == [
        "Derived: the annotation of a",
        "Derived: the annotation of b",
    ]
    assert [text.split(", ")[0] for text in warned(lambda: (Base(), Other(), Derived()))] == [
        "Base: the annotation of c",
        "Other: the annotation of d",
    ]


def test_nothing_is_resolved_and_nothing_warns_while_checks_are_off():
    class Layer(Module):
        w: "Nowhere" = 1

        def forward(self, x: "Nowhere") -> tuple[Any, Self]:
            return x, self

    with mlax.runtime_checks(False):
        assert warned(lambda: Layer()(3)) == []
    assert len(warned(lambda: Layer()(3))) == 2


def test_forward_warns_once():
    class Layer(Module):
        def forward(self, x: "Nowhere", scale: int = 2) -> "tuple[Elsewhere, Self]":
            return x, self

    class Derived(Layer):
        pass

    def calls() -> None:
        Layer()(jnp.ones(3))
        jax.jit(lambda layer, x: layer(x))(Layer(), jnp.ones(3))
        Derived()(jnp.ones(3))

    assert [text.partition(", so ")[0] for text in warned(calls)] == [
        "Layer.forward: the annotation of x, 'Nowhere', cannot be resolved",
        "Layer.forward: the annotation of the result, 'tuple[Elsewhere, Self]', cannot be resolved",
    ]
    with pytest.raises(AnnotationMismatchError, match=r"^Derived\.forward: scale"):
        Derived()(jnp.ones(3), "a")


@pytest.mark.parametrize(
    ("annotation", "error"),
    [
        ("1 +", "SyntaxError"),
        ("jax.Nothing", "AttributeError"),
        ("int | 'Layer'", "TypeError"),
        ("int[3]", "TypeError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_annotations_that_raise(annotation, error):
    namespace = {"__annotations__": {"w": annotation}, "__module__": __name__}
    layer = type("Layer", (Module,), namespace)
    (text,) = warned(lambda: (layer(3), layer(4)))
    assert f"Layer: the annotation of w, {annotation!r}, cannot be resolved" in text
    assert error in text
    assert text.endswith("Correct the annotation, or annotate with Any.")


class Early(Module):
    """Its annotations name what is defined below, before the first use."""

    weight: "Late" = Parameter()
    others: "tuple[Later, ...] | None" = None
    same: "Early | None" = None

    def forward(self, x: "LateArray") -> "tuple[LateArray, Later]":
        return x, self


Late = Parameter[Float[Array, "n"]]
LateArray = Float[Array, "n"]


class Later(Module):
    pass


def test_classes_that_are_defined_by_the_first_use_do_not_warn():
    assert warned(lambda: Early(Parameter(jnp.ones(3)), (Later(),), Early())(jnp.ones(3))) == []
    with pytest.raises(AnnotationMismatchError, match=r"^Early\.others\[0\] must be Later"):
        Early(others=(Early(),))
    with pytest.raises(AnnotationMismatchError, match=r"^Early\.same must be Early"):
        Early(same=Later())


def test_local_classes_may_name_themselves():
    class Local(Module, Generic[T]):
        part: "Local[T] | None" = None
        kind: "type[Local] | None" = None

        def forward(self, x: "Local | int") -> "tuple[Local | int, Self]":
            return x, self

    class Derived(Local[T]):
        pass

    assert warned(lambda: Local(Local(), Local)(3)) == []
    assert warned(lambda: Derived(Derived(), Derived)(Derived())) == []
    for wrong in (lambda: Local(3), lambda: Local(None, int), lambda: Derived()("a")):
        with pytest.raises(AnnotationMismatchError):
            wrong()


def test_checked_functions_warn_once_too():
    @checked
    def scaled(x: "Nowhere", by: int) -> Any:
        return x

    (text,) = warned(lambda: (scaled(1, 2), scaled(1, 2)))
    assert text.startswith("test_unresolved.scaled: the annotation of x, 'Nowhere', cannot be")
    with pytest.raises(TypeError, match="by must be int"):
        scaled(1, "a")


def test_a_warning_made_an_error_is_raised_where_the_user_is():
    class Layer(Module):
        w: "Nowhere" = 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Nowhere"):
            Layer()
    assert Layer().w == 1
