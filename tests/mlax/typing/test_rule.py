"""The dtype rule rejects every single wrong leaf, in every argument and under every transformation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax.optimizer import apply_updates
from mlax.typing import LeafMismatchError, Weights, checked, runtime_checks
from mlax_optimizers import adam

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"a": jnp.ones((2, 3)), "b": (jnp.ones(4), jnp.ones(())), "none": None}

# One leaf or container is wrong in each.
WRONG: dict[str, Any] = {
    "dtype": WEIGHTS | {"a": jnp.ones((2, 3), jnp.bfloat16)},
    "integer": WEIGHTS | {"a": jnp.ones((2, 3), jnp.int32)},
    "bool": WEIGHTS | {"a": jnp.ones((2, 3), bool)},
    "shape": WEIGHTS | {"a": jnp.ones((3, 2))},
    "more axes": WEIGHTS | {"a": jnp.ones((1, 2, 3))},
    "missing": {"b": WEIGHTS["b"], "none": None},
    "extra": WEIGHTS | {"c": jnp.ones(1)},
    "None": WEIGHTS | {"a": None},
    "instead of None": WEIGHTS | {"none": jnp.ones(1)},
    "other container": WEIGHTS | {"b": list(WEIGHTS["b"])},
    "container": WEIGHTS | {"a": {"x": jnp.ones((2, 3))}},
}

# Each calls `f(tree)` with what JAX makes of the tree there.
Transformation = Callable[[Callable[[Any], Any], Any], Any]


def under_jit(f: Callable[[Any], Any], tree: Any) -> Any:
    return jax.jit(f)(tree)


def under_vmap(f: Callable[[Any], Any], tree: Any) -> Any:
    return jax.vmap(f)(jax.tree.map(lambda x: jnp.stack([x, x]), tree))


def under_grad(f: Callable[[Any], Any], tree: Any) -> Any:
    def loss(scale: Any) -> Any:
        result = f(jax.tree.map(lambda x: x * scale.astype(x.dtype), tree))
        return sum(jnp.sum(x.astype(float)) for x in jax.tree.leaves(result))

    return jax.grad(loss)(jnp.float32(1))


def under_scan(f: Callable[[Any], Any], tree: Any) -> Any:
    return jax.lax.scan(lambda c, t: (c, f(t)), 0, jax.tree.map(lambda x: jnp.stack([x, x]), tree))


def under_checkpoint(f: Callable[[Any], Any], tree: Any) -> Any:
    return jax.checkpoint(f)(tree)


TRANSFORMATIONS: list[Transformation] = [
    lambda f, tree: f(tree),
    under_jit,
    under_vmap,
    under_grad,
    under_scan,
    under_checkpoint,
]
everywhere = pytest.mark.parametrize(
    "transformed", TRANSFORMATIONS, ids=["eager", "jit", "vmap", "grad", "scan", "checkpoint"]
)
each_wrong = pytest.mark.parametrize("wrong", WRONG)


@everywhere
@each_wrong
def test_wrong_gradients_are_rejected(transformed: Transformation, wrong: str) -> None:
    state = adam.init(WEIGHTS)
    with pytest.raises(LeafMismatchError, match=r"do not correspond to `weights`.*\n  gradients"):
        transformed(lambda tree: adam.step(tree, state, WEIGHTS)[0], WRONG[wrong])
    with pytest.raises(LeafMismatchError, match=r"do not correspond to `state.m`.*\n  gradients"):
        transformed(lambda tree: adam.step(tree, state)[0], WRONG[wrong])


@everywhere
@pytest.mark.parametrize("slot", ["m", "v"])
@each_wrong
def test_wrong_slots_are_rejected(transformed: Transformation, slot: str, wrong: str) -> None:
    state = adam.init(WEIGHTS)
    with pytest.raises(
        LeafMismatchError, match=rf"do not correspond to `weights`.*\n  state.{slot}"
    ):
        transformed(
            lambda tree: adam.step(WEIGHTS, state._replace(**{slot: tree}), WEIGHTS)[0],
            WRONG[wrong],
        )


@everywhere
@each_wrong
def test_wrong_updates_are_rejected(transformed: Transformation, wrong: str) -> None:
    with pytest.raises(LeafMismatchError, match=r"do not correspond to `weights`.*\n  updates"):
        transformed(lambda tree: apply_updates(tree, WEIGHTS), WRONG[wrong])


@everywhere
@pytest.mark.parametrize("wrong", ["integer", "bool"])
def test_weights_that_are_not_inexact_are_rejected(transformed: Transformation, wrong: str) -> None:
    with pytest.raises(
        LeafMismatchError, match=r"not floating-point or complex.*\n  weights\['a'\]"
    ):
        transformed(lambda tree: adam.init(tree).m, WRONG[wrong])


@everywhere
def test_what_corresponds_is_accepted(transformed: Transformation) -> None:
    state = adam.init(WEIGHTS)
    transformed(lambda tree: adam.step(tree, state, WEIGHTS)[0], WEIGHTS)
    transformed(lambda tree: adam.step(tree, state)[0], WEIGHTS)
    transformed(lambda tree: apply_updates(tree, WEIGHTS), WEIGHTS)


@everywhere
def test_a_wrong_result_is_rejected(transformed: Transformation) -> None:
    @checked
    def widened(tree: Weights) -> Weights:
        return jax.tree.map(lambda x: x.astype(jnp.complex64), tree)

    with pytest.raises(
        LeafMismatchError, match=r"`tree`.*\n  result\['a'\]: complex64\[2,3\], but"
    ):
        transformed(lambda tree: jax.tree.map(jnp.real, widened(tree)), WEIGHTS)


@everywhere
def test_checks_that_are_off_reject_nothing(transformed: Transformation) -> None:
    @checked
    def first(a: Weights, b: Weights) -> Weights:
        return a

    with pytest.raises(LeafMismatchError):
        transformed(lambda tree: first(tree, WEIGHTS), WRONG["shape"])
    with runtime_checks(False):
        transformed(lambda tree: first(tree, WEIGHTS), WRONG["shape"])


def test_nothing_is_computed_before_the_check() -> None:
    calls: list[str] = []

    @checked
    def f(a: Weights, b: Weights) -> Weights:
        calls.append("called")
        return a

    with pytest.raises(LeafMismatchError):
        f(WEIGHTS, WRONG["dtype"])
    assert calls == []


def test_arithmetic_is_strict_where_checks_are_off() -> None:
    """Without checks a wrong dtype still meets JAX's own refusal instead of a promotion."""
    with runtime_checks(False), pytest.raises(TypeError):
        apply_updates(WRONG["dtype"], WEIGHTS)
