"""The structure of the weights' tree does not affect any generated optimizer, or as little as possible."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax.tree import tree_equal
from tests.mlax.generated_optimizers import (
    analysis,
    close,
    every_case,
    init,
    step,
    types,
)

pytestmark = pytest.mark.one_python

# Pieces of the leaves have the shapes of others: each shape costs a compilation.
WEIGHTS: Any = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.ones(()), "c": jnp.ones(3)}
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)


def has_key(name: str) -> bool:
    """Whether leaves differ by their place: each has random numbers of its own."""
    return "normal" in analysis(name).called


def has_totals(name: str) -> bool:
    return any(phase.totals for phase in analysis(name).phases)


def can_be_split(name: str) -> bool:
    """Whether no equation sees a leaf as a whole. Totals of the whole tree do not depend on where it is split."""
    return not analysis(name).sees_leaves and not has_key(name)


def run(name: str, options: dict[str, Any], gradients: Any, weights: Any) -> Any:
    """Return the updates of two steps."""
    state = init(name, weights, **options)
    first, state = step(name, gradients, state, weights)
    halves = jax.tree.map(lambda g: -0.5 * g, gradients)
    return first, step(name, halves, state, weights)[0]


def renamed(tree: Any) -> Any:
    """Return the leaves in another order, and nested."""
    return ({"x": [tree["c"], None]}, tree["b"], {"y": ({}, tree["a"])})


def split(tree: Any) -> Any:
    """Return the leaves cut to pieces."""
    return [*tree["a"], tree["b"], *tree["c"]]


@every_case
def test_a_step_commutes_with_renaming_nesting_and_splitting(
    name: str, options: dict[str, Any]
) -> None:
    expected = run(name, options, GRADIENTS, WEIGHTS)
    updates = run(name, options, renamed(GRADIENTS), renamed(WEIGHTS))
    others = tuple(map(renamed, expected))
    if has_key(name):
        assert types(updates) == types(others)
        assert not tree_equal(updates, others)
    elif has_totals(name):
        assert close(updates, others, rtol=1e-5)
    else:
        assert tree_equal(updates, others)
    if can_be_split(name):
        pieces = run(name, options, split(GRADIENTS), split(WEIGHTS))
        assert close(pieces, tuple(map(split, expected)), rtol=1e-5 if has_totals(name) else 1e-6)


def test_most_optimizers_can_be_split() -> None:
    """Otherwise half of the law says nothing."""
    assert all(map(can_be_split, ("sgd", "adam", "prodigy")))
    assert not any(map(can_be_split, ("adafactor", "noisy_sgd")))
