"""A call that passed is not checked again. One that differs in anything that a check sees is."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Module, Parameter, Variable
from mlax._module.call_checks import CallChecks


def ones(*shape: int) -> Any:
    return Parameter(jnp.ones(shape))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is verified, by the names of the methods that do."""
    done: list[str] = []
    for name in ("verify", "verify_result"):
        original = getattr(CallChecks, name)

        def noting(
            self: Any, *args: Any, name: str = name, original: Any = original, **rest: Any
        ) -> Any:
            done.append(name)
            return original(self, *args, **rest)

        monkeypatch.setattr(CallChecks, name, noting)
    return done


class Scale(Module):
    gain: Parameter[Float[Array, "n"]]
    width: int = 0

    def forward(
        self, x: Float[Array, "*batch n"], times: int = 1
    ) -> tuple[Float[Array, "*batch n"], Self]:
        return x * self.gain.data * times, self


def test_a_call_like_an_earlier_one_is_not_checked(verified):
    model = Scale(ones(3))
    model(jnp.ones(3))
    assert verified == ["verify", "verify_result"]
    for again in (model, Scale(ones(3)), jax.tree.map(lambda a: 2 * a, model)):
        again(jnp.zeros(3))
    assert len(verified) == 2
    jax.jit(lambda model, x: model(x))(model, jnp.ones(3))
    for other in (jnp.ones((2, 3)), jnp.ones((2, 3))):
        model(other)
    model(jnp.ones(3), 2)
    model(jnp.ones(3), times=2)
    Scale(ones(3), 1)(jnp.ones(3))
    assert verified.count("verify") == 5


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (Scale(ones(3)), (jnp.ones(4),)),
        (Scale(ones(4)), (jnp.ones(3),)),
        (Scale(ones(3)), (jnp.ones(3, int),)),
        (Scale(ones(3)), (np.ones(3, np.float32),)),
        (Scale(ones(3)), (jnp.ones(3), 1.5)),
        (Scale(ones(3)), (jnp.ones(3), "a")),
        (Scale(ones(3)), ([jnp.ones(3)],)),
    ],
)
def test_a_call_that_differs_is_checked(model, args):
    Scale(ones(3))(jnp.ones(3))
    Scale(ones(4))(jnp.ones(4))
    with pytest.raises(AnnotationMismatchError):
        model(*args)


def test_results_are_checked_in_each_call():
    class Varies(Module):
        def forward(self, x: Float[Array, "n"], y: Any) -> tuple[Float[Array, "n"], Self]:
            return x[: _length[0]], self

    model = Varies()
    for _ in range(2):
        _length[:] = [3]
        model(jnp.ones(3), None)
        _length[:] = [2]
        with pytest.raises(AnnotationMismatchError, match="the result"):
            model(jnp.ones(3), None)


_length: list[int] = []


def test_nodes_in_other_fields_are_other_calls():
    class Either(Module):
        a: Parameter[Float[Array, "n"]] | None = None
        b: Parameter[Float[Array, "m"]] | None = None

        def forward(self, x: Float[Array, "n"]) -> tuple[Array, Self]:
            return x, self

    class Kinds(Module):
        a: Parameter[Float[Array, "n"]] | Variable[Float[Array, "m"]]

        def forward(self, x: Float[Array, "n"]) -> tuple[Array, Self]:
            return x, self

    Either(b=ones(3))(jnp.ones(5))
    Kinds(Variable(jnp.ones(3)))(jnp.ones(5))
    for wrong in (Either(a=ones(3)), Kinds(ones(3))):
        with pytest.raises(AnnotationMismatchError):
            wrong(jnp.ones(5))


class Inner(Module):
    size: int

    def forward(self, x: Any) -> Any:
        return x, self


class Reads(Module):
    inner: Inner

    @property
    def size(self) -> int:
        return self.inner.size

    def forward(self, x: Float[Array, "{self.inner.size}"]) -> tuple[Array, Self]:
        return x, self


class ReadsProperty(Reads):
    def forward(self, x: Float[Array, "{self.size}"]) -> tuple[Array, Self]:
        return x, self


class ReadsNumber(Module):
    def forward(self, n: Any, x: Float[Array, "{n}"]) -> tuple[Array, Self]:
        return x, self


@pytest.mark.parametrize("cls", [Reads, ReadsProperty])
def test_shapes_that_read_a_child_see_every_child(cls):
    cls(Inner(3))(jnp.ones(3))
    cls(Inner(3))(jnp.ones(3))
    with pytest.raises(AnnotationMismatchError):
        cls(Inner(4))(jnp.ones(3))


@pytest.mark.parametrize("number", [int, np.int64, jnp.int32, np.asarray])
def test_shapes_that_read_an_argument_see_its_value(number):
    ReadsNumber()(number(3), jnp.ones(3))
    with pytest.raises(AnnotationMismatchError):
        ReadsNumber()(number(4), jnp.ones(3))


class Foreign:
    """A PyTree whose structures cannot be compared."""

    def __init__(self, aux: Any) -> None:
        self.aux = aux


jax.tree_util.register_pytree_node(Foreign, lambda f: ((), f.aux), lambda aux, _: Foreign(aux))


@pytest.mark.parametrize("aux", [np.arange(3), [1], {"a": 1}])
def test_trees_that_cannot_be_compared_are_checked_each_time(aux):
    class Takes(Module):
        def forward(self, x: Any) -> Any:
            return x, self

    for _ in range(3):
        Takes()(Foreign(aux))
        Takes()([Foreign(aux)])


def test_the_switch_is_read_in_each_call():
    wrong = Scale(ones(3))
    for _ in range(2):
        with mlax.runtime_checks(False):
            wrong(jnp.ones((3, 1)))
        with pytest.raises(AnnotationMismatchError):
            wrong(jnp.ones((3, 1)))


def test_what_is_remembered_has_an_end():
    class Floats(Module):
        def forward(self, x: float) -> tuple[float, Self]:
            return 1 / x, self

    model = Floats()
    for number in range(1, 3000):
        model(float(number))
    from mlax._module import calls

    checks = calls._plan(Floats.forward).checks
    assert len(checks._passed) <= 1024


def test_a_name_without_a_size_is_named():
    class Later(Module):
        gain: Parameter[Float[Array, "n+1"]]

        def forward(self, x: Float[Array, "n"]) -> Any:
            return x, self

    with pytest.raises(
        TypeError, match=r"^Later: gain: Float\[Array, \"n\+1\"\] cannot be checked"
    ):
        Later(ones(4))
