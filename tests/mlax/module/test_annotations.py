"""Shapes and dtypes are checked at construction, by `replace`, and in calls, dimensions tied by name."""

import re
from dataclasses import KW_ONLY
from typing import Any, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int, PyTree

import mlax
from mlax import AnnotationMismatchError, Container, Module, Parameter, Variable
from tests.mlax.models import Linear, linear

T = TypeVar("T")


def ones(*shape: int) -> Parameter:
    return Parameter(jnp.ones(shape))


class Weights(NamedTuple):
    kernel: Parameter[Float[Array, "in out"]]
    scale: Parameter[Float[Array, "out"]] | None = None


class Fields(Module):
    """A tie to `n` in every kind of annotation."""

    _: KW_ONLY
    plain: Parameter[Float[Array, "n"]] = Parameter()
    either: Parameter[Float[Array, "n"]] | Variable[Int[Array, "n"]] | None = None
    listed: list[Parameter[Float[Array, "n"]]] = mlax.field(default_factory=list)
    pair: tuple[Parameter[Float[Array, "n"]], Variable[Int[Array, ""]]] | None = None
    many: "tuple[Parameter[Float[Array, 'n']], ...]" = ()
    named: "dict[str, list[Parameter[Float[Array, 'n']]]]" = mlax.field(default_factory=dict)
    boxed: Container[dict[str, Parameter[Float[Array, "n"]]]] | None = None
    weights: Weights | None = None
    tree: Parameter[dict[str, Float[Array, "n"]]] = Parameter()
    any_tree: Parameter[PyTree[Float[Array, "n"]]] = Parameter()
    nested: list["Parameter[Float[Array, 'n']]"] = mlax.field(default_factory=list)
    bare: Parameter = Parameter()


GOOD = {
    "plain": ones(3),
    "either": Variable(np.arange(3)),
    "listed": [ones(3), Parameter(), Parameter(None)],
    "pair": (ones(3), Variable(1)),
    "many": (ones(3), ones(3)),
    "named": {"a": [ones(3)]},
    "boxed": Container({"a": ones(3)}),
    "weights": Weights(ones(2, 3), ones(3)),
    "tree": Parameter({"a": jnp.ones(3)}),
    "any_tree": Parameter([jnp.ones(3), (jnp.ones(3),)]),
    "nested": [ones(3)],
    "bare": ones(1, 2, 3, 4),
}
BAD = {
    "plain": (ones(4), "plain"),
    "either": (Parameter(jnp.ones(4)), "either"),
    "listed": ([ones(3), ones(4)], "listed[1]"),
    "pair": ((ones(4), Variable(1)), "pair[0]"),
    "many": ((ones(3), ones(4)), "many[1]"),
    "named": ({"a": [ones(4)]}, "named['a'][0]"),
    "boxed": (Container({"a": ones(4)}), "boxed.states['a']"),
    "weights": (Weights(ones(2, 3), ones(4)), "weights.scale"),
    "tree": (Parameter({"a": jnp.ones(4)}), "tree"),
    "any_tree": (Parameter([jnp.ones(4)]), "any_tree"),
    "nested": ([ones(4)], "nested[0]"),
}


def test_what_fits_is_accepted():
    module = Fields(**GOOD)
    assert Fields().replace(**GOOD).plain is module.plain
    with mlax.runtime_checks(False):
        Fields(**{name: value for name, (value, _) in BAD.items()})


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(name):
    value, where = BAD[name]
    changes = (
        {**{"plain": ones(3)}, name: value}
        if name != "plain"
        else {"plain": value, "listed": [ones(3)]}
    )
    blamed = re.escape(where) if name != "plain" else r"listed\[0\]"
    with pytest.raises(
        AnnotationMismatchError, match=rf"^Fields: {blamed} does not match its annotation\n"
    ):
        Fields(**changes)


def test_dtypes_and_ranks():
    for value in (ones(2, 3), Parameter(1.0), Parameter(1j * jnp.ones(3))):
        with pytest.raises(AnnotationMismatchError, match=r'expected Float\[Array, "n"\]'):
            Fields(plain=value)
    with pytest.raises(
        AnnotationMismatchError, match=re.escape('pair[1]: float32[], expected Int[Array, ""]')
    ):
        Fields(pair=(ones(3), Variable(1.0)))


def test_the_message_says_what_it_is_tied_to():
    with pytest.raises(AnnotationMismatchError) as error:
        Linear(3, kernel=ones(2, 3), bias=ones(4))
    assert str(error.value) == (
        "Linear: bias does not match its annotation\n"
        '  bias: float32[4], expected Float[Array, "out"]\n'
        "  dimensions are tied by name to\n"
        '    kernel: float32[2,3] as Float[Array, "in out"]'
    )
    assert error.value.__cause__ is None
    assert AnnotationMismatchError.__module__ == "mlax"
    with pytest.raises(AnnotationMismatchError) as error:
        linear()(np.ones((2, 2)))
    assert str(error.value).splitlines()[:2] == [
        "Linear.forward: x does not match its annotation",
        '  x: float64[2,2] (a NumPy array), expected Float[Array, "*batch in"]',
    ]


def test_replace_checks_what_changed():
    stacked = jax.vmap(lambda _: linear(), axis_size=5)(None)
    assert stacked.replace(out_features=3).kernel.data.shape == (5, 2, 3)
    assert stacked.replace(kernel=Parameter(jnp.zeros((5, 2, 3)))).kernel.data.sum() == 0
    assert stacked.replace(kernel=Parameter(stacked.kernel.data[:3])).kernel.data.shape == (3, 2, 3)
    assert linear().replace(kernel=ones(5, 2, 3)).kernel.data.shape == (5, 2, 3)
    assert linear().replace(kernel=ones(5, 2, 3), bias=ones(5, 3)).bias.data.shape == (5, 3)
    for wrong in (jnp.ones((5, 2, 3), int), jnp.ones(3), jnp.ones(())):
        with pytest.raises(AnnotationMismatchError, match=r"^Linear\.replace: kernel"):
            linear().replace(kernel=Parameter(wrong, frozen=True))
    with pytest.raises(AnnotationMismatchError, match=r"^Linear\.replace: bias"):
        linear().replace(kernel=ones(5, 2, 3), bias=ones(5, 4))
    with pytest.raises(AnnotationMismatchError, match=r"^Linear\.replace: kernel"):
        linear().replace(kernel=Parameter(jnp.ones((2, 3), int), frozen=True))
    with pytest.raises(AnnotationMismatchError, match=r"^Linear\.replace: bias"):
        linear().replace(kernel=ones(2, 4), bias=ones(5))
    linear().replace(kernel=Parameter(None), bias=Parameter())


class Early(Module):
    """Constructed before what its annotations name exists."""

    weight: "Later" = Parameter()
    weights: "list[Later]" = mlax.field(default_factory=list)

    def forward(self, x: "LaterArray") -> tuple["LaterArray", Self]:
        return x, self


with pytest.warns(UserWarning, match="Later") as early:
    Early(ones(1, 2, 3))(1)
Later = Parameter[Float[Array, "n"]]
LaterArray = Float[Array, "n"]


def test_a_name_that_appears_later_is_found():
    assert [str(warning.message).split(":")[0] for warning in early] == [
        "Early", "Early", "Early.forward", "Early.forward",
    ]  # fmt: skip
    with pytest.raises(AnnotationMismatchError, match=r"^Early: weight "):
        Early(ones(1, 2, 3))
    with pytest.raises(AnnotationMismatchError, match=r"^Early: weights\[0\] "):
        Early(ones(3), [ones(4)])
    with pytest.raises(AnnotationMismatchError, match=r"^Early\.forward: x "):
        Early(ones(3))(1)


def test_errors_of_the_user_are_left_alone():
    class Fails(Module):
        def forward(self, x: Float[Array, "n"]) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError) as error:
        Fails()(jnp.ones(3))
    assert not getattr(error.value, "__notes__", [])
    with pytest.raises(AnnotationMismatchError) as mismatch:
        Linear(3, kernel=ones(2, 3), bias=ones(4))
    assert not getattr(mismatch.value, "__notes__", [])


def test_generic_fields_and_local_classes():
    class Local(Module, Generic[T]):
        value: Parameter[T]
        inner: "Local | Unknown | None" = None
        other: "Missing[Float]" = None

    with pytest.warns(UserWarning, match=r"^Local: the annotation of (inner|other), ") as caught:
        module = Local[Array](ones(3), Local(Parameter({"a": 1.0}), other=3))
    assert len(caught) == 2
    assert jax.tree.leaves(module)[0].shape == (3,)


def test_empty_nodes_and_shapes_pass():
    for empty in (
        Parameter(),
        Parameter(None),
        Parameter(jax.ShapeDtypeStruct((9, 9), "int8"), frozen=True),
    ):
        Linear(3, kernel=empty, bias=ones(4))
    shapes: Any = jax.eval_shape(linear)
    assert shapes.replace(
        bias=Parameter(jax.ShapeDtypeStruct((4,), "float32"))
    ).bias.data.shape == (4,)
