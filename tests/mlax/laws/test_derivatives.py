"""All optimizers and transformations can be differentiated through their steps, also where numbers are 0."""

import contextlib
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import (
    MODULES,
    every_case,
    floats,
    init,
    is_elementwise,
    optimizer_class,
    step,
)
from tests.mlax.optim.transformations.examples import EXAMPLES, arguments

pytestmark = pytest.mark.one_python

# Beside what `every_case` has: where zero is divided by, or a root taken of it.
MORE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("amsgrad", {"eps_root": 0.0}),
    ("cautious_adamw", {"scaling": "mean"}),
    ("dog", {"init_step": "learning_rate"}),
    ("muon", {"preconditioning": "spectral"}),
    ("muon", {"preconditioning": "aol", "others": "adam"}),
    ("muon", {"preconditioning": "schatten"}),
    ("polyak_sgd", {"variant": "sps_plus"}),
]


def derivatives(
    init: Any, step: Any, names: str = "ab", numbers: list[dict[str, float]] | None = None
) -> Any:
    """Return the derivatives of what two steps lead to, by the weights, by what gradients are multiplied by, and by
    all floats.

    Some gradients of the matrix are 0, and all of the vector. The four cases: with gradients and weights, and with
    either or both of them 0.

    Args:
        init: Called with the weights, and the floats by keyword.
        step: Called with gradients, state and weights.
        names: Which leaves there are: "a", the matrix, and "b", the vector.
        numbers: Floats of the optimizer; each of the four cases is done with each of these.
    """

    def loss(factor: Any, scale: Any, numbers: Any) -> Any:
        matrix = scale.astype("float32") * jnp.ones((2, 2), "float32")
        both = {"a": matrix, "b": scale * jnp.ones(3)}
        weights = {name: both[name] for name in names}
        state = init(weights, **numbers)
        for _ in range(2):
            gradients = {name: 0 * w for name, w in weights.items()}
            some = factor.astype("float32") * (weights["a"] + 0.5)
            gradients["a"] = some * jnp.array([1, 0], "float32")
            updates, state = step(gradients, state, weights)
            weights = apply_updates(updates, weights)
        return sum(jnp.sum(w**2).astype(float) for w in weights.values())

    cases = [(*case, one) for one in numbers or [{}] for case in product([1.0, 0.0], repeat=2)]
    stacked = jax.tree.map(lambda *x: jnp.array(x), *cases)
    # One operation after the other, which are shared by all optimizers: no program has to be compiled.
    with jax.disable_jit():
        return jax.vmap(jax.grad(loss, argnums=(0, 1, 2)))(*stacked)


MOST = 10
"""At least so many sets of floats are tried: operations on as many numbers are shared by all optimizers."""


def numbers_of(cls: Any, options: dict[str, Any]) -> list[dict[str, float]]:
    """Return the floats of an optimizer, and again with each 0 that may be; some several times."""
    found = [floats(cls, **options)]
    for name in found[0]:
        with contextlib.suppress(ValueError):
            cls(**{**options, name: 0.0})
            found.append({**found[0], name: 0.0})
    return found + found[:1] * (MOST - len(found))


@every_case
def test_a_step_has_finite_derivatives(name: str, options: dict[str, Any]) -> None:
    numbers = numbers_of(optimizer_class(MODULES[name]), options)
    with jax.enable_x64(True):
        found = derivatives(
            lambda weights, **numbers: init(name, weights, **{**options, **numbers}),
            lambda gradients, state, weights: step(name, gradients, state, weights),
            "a" if is_elementwise(name) else "ab",
            numbers,
        )
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found)), found


@pytest.mark.parametrize(("name", "options"), MORE_OPTIONS, ids=str)
def test_a_step_with_options_has_finite_derivatives(name: str, options: dict[str, Any]) -> None:
    test_a_step_has_finite_derivatives(name, options)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_transformation_has_finite_derivatives(name: str) -> None:
    optimizer: Any = EXAMPLES[name]
    with jax.enable_x64(True):
        found = derivatives(optimizer.init, partial(optimizer.step, **arguments(optimizer)))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found)), found
