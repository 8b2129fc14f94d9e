"""A module file with `from __future__ import annotations`: all annotations are strings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

from mlax import AnnotationMismatchError, Module, Parameter, set_up, tree_equal

if TYPE_CHECKING:
    from pathlib import Path


class Stringly(Module):
    size: int
    where: Path | None = None
    kind: ClassVar[str] = "a"
    activation: Callable[[Array], Array] = jnp.tanh
    _: KW_ONLY
    weight: Parameter[Float[Array, "n {self.size}"]] = Parameter()
    next: Stringly | None = None
    other: Later | None = None

    def set_up(self, x: Float[Array, "n"], rng: Array) -> Self:
        return self.replace(weight=Parameter(jax.random.normal(rng, (*x.shape, self.size))))

    def forward(
        self, x: Float[Array, "n"], where: Path | None = None
    ) -> tuple[Float[Array, "{self.size}"], Self]:
        return self.activation(x @ self.weight.data), self


class Later(Module):
    weight: Parameter[Float[Array, "n"]]


def test_fields_and_calls_are_checked():
    with pytest.warns(UserWarning, match="'Path | None'") as caught:
        model = set_up(Stringly(3), jnp.ones(2), rng=jax.random.key(0))
    assert [str(warning.message).partition("(")[0] for warning in caught] == [
        f"{place}: the annotation of where, 'Path | None', cannot be resolved, so where is not checked "
        for place in ("Stringly", "Stringly.forward")
    ]
    assert all(warning.filename == __file__ for warning in caught)
    assert model(jnp.ones(2))[0].shape == (3,)
    assert tree_equal(jax.jit(lambda m: m)(model), model)
    assert list(Stringly.__dataclass_fields__) == [
        "size", "where", "kind", "activation", "weight", "next", "other",
    ]  # fmt: skip
    assert Stringly(3, next=model, other=Later(Parameter(jnp.ones(1)))).next is model
    with pytest.raises(TypeError):
        Stringly(3, None, jnp.tanh, Parameter())
    with pytest.raises(AnnotationMismatchError, match=r"^Stringly: weight "):
        Stringly(3, weight=Parameter(jnp.ones((2, 4))))
    with pytest.raises(AnnotationMismatchError, match=r"^Stringly\.forward: x "):
        model(jnp.ones(4))
    with pytest.raises(AnnotationMismatchError, match=r"^Later: weight "):
        Later(Parameter(jnp.ones((1, 1))))


def test_local_classes():
    class Local(Module):
        part: Local | Any = None
        weight: Parameter[Float[Array, "n"]] = Parameter()

        def forward(self, x: Float[Array, "n"]) -> tuple[Local, Self]:
            return self, self

    weight = Parameter(jnp.ones(2))
    assert Local(Local(), weight)(jnp.ones(2))[0].part.part is None
    with pytest.raises(AnnotationMismatchError, match=r"^Local: weight "):
        Local(weight=Parameter(1.0))
    with pytest.raises(AnnotationMismatchError, match=r"^Local\.forward: x "):
        Local(weight=Parameter(jnp.ones(1)))(1.0)
