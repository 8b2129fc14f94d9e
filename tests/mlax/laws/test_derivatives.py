"""All optimizers and transformations can be differentiated through their steps, also where numbers are 0."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import every_case, init, is_elementwise, step
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


def derivatives(init: Any, step: Any, names: str = "ab") -> Any:
    """Return the derivatives of what two steps lead to, by the weights and by what gradients are multiplied by.

    Some gradients of the matrix are 0, and all of the vector. The four cases: with gradients and weights, and with
    either or both of them 0.

    Args:
        init: Called with the weights.
        step: Called with gradients, state and weights.
        names: Which leaves there are: "a", the matrix, and "b", the vector.
    """

    def loss(factor: Any, scale: Any) -> Any:
        matrix = scale.astype("float32") * jnp.ones((2, 2), "float32")
        both = {"a": matrix, "b": scale * jnp.ones(3)}
        weights = {name: both[name] for name in names}
        state = init(weights)
        for _ in range(2):
            gradients = {name: 0 * w for name, w in weights.items()}
            some = factor.astype("float32") * (weights["a"] + 0.5)
            gradients["a"] = some * jnp.array([1, 0], "float32")
            updates, state = step(gradients, state, weights)
            weights = apply_updates(updates, weights)
        return sum(jnp.sum(w**2).astype(float) for w in weights.values())

    factors, scales = jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([1.0, 1.0, 0.0, 0.0])
    # One operation after the other, which are shared by all optimizers: no program has to be compiled.
    with jax.disable_jit():
        return jax.vmap(jax.grad(loss, argnums=(0, 1)))(factors, scales)


@every_case
def test_a_step_has_finite_derivatives(name: str, options: dict[str, Any]) -> None:
    with jax.enable_x64(True):
        found = derivatives(
            lambda weights: init(name, weights, **options),
            lambda gradients, state, weights: step(name, gradients, state, weights),
            "a" if is_elementwise(name) else "ab",
        )
        assert np.isfinite(found).all(), found


@pytest.mark.parametrize(("name", "options"), MORE_OPTIONS, ids=str)
def test_a_step_with_options_has_finite_derivatives(name: str, options: dict[str, Any]) -> None:
    test_a_step_has_finite_derivatives(name, options)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_transformation_has_finite_derivatives(name: str) -> None:
    optimizer: Any = EXAMPLES[name]
    with jax.enable_x64(True):
        found = derivatives(optimizer.init, partial(optimizer.step, **arguments(optimizer)))
        assert np.isfinite(found).all(), found
