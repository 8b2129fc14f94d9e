"""Construction and `replace` do not check again what passed before. What differs in anything that a check sees is."""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Container, Module, Parameter, Variable
from mlax._module import field_checks


def ones(*shape: int) -> Any:
    return Parameter(jnp.ones(shape))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is verified, by the names of classes and methods."""
    done: list[str] = []
    original = field_checks.verify_together

    @functools.wraps(original)
    def noting(module: Any, where: str, *args: Any, **rest: Any) -> Any:
        done.append(where)
        return original(module, where, *args, **rest)

    monkeypatch.setattr(field_checks, "verify_together", noting)
    return done


def affine() -> Any:
    class Affine(Module):
        kernel: Parameter[Float[Array, "in out"]]
        bias: Parameter[Float[Array, "out"]] | Variable[Float[Array, "in"]] | None = None
        rest: tuple[Parameter[Float[Array, "out"]], ...] | Container[list[Parameter]] = ()
        size: int = 0

    return Affine


def test_a_module_like_an_earlier_one_is_not_checked(verified):
    cls = affine()
    model = cls(ones(2, 3), ones(3), (ones(3),))
    for _ in range(3):
        cls(ones(2, 3), ones(3), (ones(3),), 5)
        jax.eval_shape(lambda: cls(ones(2, 3), ones(3), (ones(3),)))
    assert verified == ["Affine"]
    for _ in range(3):
        model.replace(kernel=ones(2, 4))
        model.replace(bias=ones(4), size=3)
        model.replace(bias=ones(3), size=3)
    assert verified[1:] == ["Affine.replace", "Affine.replace"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda cls: cls(ones(2, 3), ones(4)),
        lambda cls: cls(ones(3, 2), ones(3)),
        lambda cls: cls(ones(2, 3), Variable(jnp.ones(3))),
        lambda cls: cls(ones(2, 3), None, (ones(3), ones(2))),
        lambda cls: cls(ones(2, 3), None, (ones(2),)),
        lambda cls: cls(Parameter(jnp.ones((2, 3), int), frozen=True), ones(3)),
        lambda cls: cls(Parameter([jnp.ones((2, 3))]), ones(3)),
        lambda cls: cls(ones(2, 3)).replace(bias=ones(3, 1), rest=(ones(3, 3), ones(1))),
        lambda cls: cls(ones(2, 3), ones(3)).replace(kernel=ones(3), bias=ones(4)),
    ],
)
def test_what_differs_is_checked(wrong):
    cls = affine()
    cls(ones(2, 3), ones(3))
    cls(ones(2, 3), ones(3), (ones(3),))
    cls(ones(2, 3), Variable(jnp.ones(2)), Container([ones(9)]))
    cls(ones(2, 3)).replace(bias=ones(3), rest=(ones(3), ones(3)))
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(AnnotationMismatchError):
            wrong(cls)


def test_the_same_nodes_in_other_fields_are_checked():
    class Either(Module):
        a: Parameter[Float[Array, "n"]] | int = 0
        b: Parameter[Float[Array, "n n"]] | int = 0

    unset = Either(Parameter(), Parameter())
    assert isinstance(Either(ones(3), 0), Either)
    assert isinstance(unset.replace(a=ones(4)), Either)
    for wrong in (lambda: Either(0, ones(3)), lambda: unset.replace(b=ones(4))):
        with pytest.raises(AnnotationMismatchError):
            wrong()


def test_the_same_change_of_another_module_is_checked():
    class Gain(Module):
        gain: Parameter[Float[Array, "n"]]

    whole = Parameter(jnp.ones(3, int), frozen=True)
    with mlax.runtime_checks(False):
        cast = Gain(whole)
    assert cast.replace(gain=whole.with_data(whole.data + 1)).gain.data[0] == 2
    with pytest.raises(AnnotationMismatchError):
        Gain(ones(3)).replace(gain=whole)


class Inner(Module):
    size: int


class Sized(Module):
    size: int
    inner: Inner
    own: Parameter[Float[Array, "{self.size}"]] = Parameter()
    other: Parameter[Float[Array, "{self.inner.size} {self.size}+n"]] = Parameter()
    n: Parameter[Float[Array, "n"]] = Parameter()

    @property
    def twice(self) -> int:
        return 2 * self.inner.size


class Doubled(Sized):
    own: Parameter[Float[Array, "{self.twice}"]] = Parameter()


def test_shapes_that_are_computed_see_the_whole_module():
    for _ in range(2):
        Sized(3, Inner(4), ones(3))
        Doubled(3, Inner(4), ones(8))
        for wrong in (
            lambda: Sized(4, Inner(4), ones(3)),
            lambda: Doubled(3, Inner(5), ones(8)),
        ):
            with pytest.raises(AnnotationMismatchError):
                wrong()


@pytest.mark.parametrize(
    "changes",
    [{"size": 4}, {"inner": Inner(5)}, {"own": ones(4)}, {"size": 4, "own": ones(5)}],
    ids=str,
)
def test_a_size_that_is_replaced_has_to_fit_the_nodes_that_follow_from_it(changes):
    model = Sized(3, Inner(4)).replace(own=ones(3), other=ones(4, 9))
    for _ in range(2):
        with pytest.raises(
            AnnotationMismatchError, match=r"^Sized\.replace: (own|other) does not"
        ) as error:
            model.replace(**changes)
        assert ("in the same call" in str(error.value)) == ("own" not in changes)
        assert model.replace(inner=Inner(4)).replace(size=3).size == 3
        fitting = model.replace(size=5, inner=Inner(6), own=ones(5), other=ones(6, 9))
        assert fitting.other.data.shape == (6, 9)


def test_a_stack_is_replaced_like_a_layer():
    stack = jax.vmap(lambda x: Sized(3, Inner(4), Parameter(x)))(jnp.ones((7, 3)))
    assert stack.replace(inner=Inner(5), own=ones(6, 3)).own.data.shape == (6, 3)
    with pytest.raises(AnnotationMismatchError, match=r"float32\[7,3\], expected"):
        stack.replace(size=4)

    class Longer(Module):
        a: Parameter[Float[Array, "n"]]
        b: Parameter[Float[Array, "n+1"]]

    for shape in ((4,), (7, 5)):  # the size of n is not known here: a call checks it
        assert Longer(ones(3), ones(4)).replace(b=ones(*shape)).b.data.shape == shape


def test_a_name_that_is_defined_later_is_checked_from_then_on():
    namespace: dict[str, Any] = {"Module": Module, "Self": Self, "Parameter": Parameter}
    namespace["__name__"] = __name__
    with pytest.warns(UserWarning, match="no LaterArray at run time"):
        exec('class Late(Module):\n    x: "Parameter[LaterArray]"\nLate(Parameter(1.0))', namespace)
    globals()["LaterArray"] = Float[Array, "n"]
    try:
        with pytest.raises(AnnotationMismatchError, match=r"^Late: x "):
            namespace["Late"](Parameter(1.0))
    finally:
        del globals()["LaterArray"]


def test_what_was_made_without_checks_is_not_remembered():
    cls = affine()
    for _ in range(2):
        with mlax.runtime_checks(False):
            wrong = cls(ones(2))
            wrong.replace(bias=ones(3, 3))
        with pytest.raises(AnnotationMismatchError):
            cls(ones(2))
        with pytest.raises(AnnotationMismatchError):
            wrong.replace(bias=Parameter(1.0))


class Foreign:
    """A PyTree whose structures cannot be compared."""

    def __init__(self, aux: Any) -> None:
        self.aux = aux


jax.tree_util.register_pytree_node(Foreign, lambda f: ((), f.aux), lambda aux, _: Foreign(aux))


def test_trees_that_cannot_be_compared_are_checked_each_time(verified):
    class Holds(Module):
        data: Parameter[tuple[Foreign, Float[Array, "n"]]]

    for _ in range(2):
        with pytest.raises(AnnotationMismatchError):
            Holds(Parameter((Foreign(np.arange(3)), jnp.ones((2, 2)))))
        assert Holds(Parameter((Foreign(np.arange(3)), jnp.ones(3)))).data.data[1].shape == (3,)
    assert len(verified) == 4


def test_what_is_remembered_has_an_end():
    cls = affine()
    for n in range(1500):
        cls(Parameter(jax.ShapeDtypeStruct((n, 1), jnp.float32)))
    assert 0 < len(field_checks._memory_of(cls)._passed) <= 1024
