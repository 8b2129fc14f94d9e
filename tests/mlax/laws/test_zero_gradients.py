"""Without decay, zero gradients change no weights, for every generated optimizer whose algorithm has this
property.
"""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax.optimizer import apply_updates
from mlax.tree import tree_equal
from tests.mlax.generated_optimizers import MODULES, every_case, every_optimizer, init, step, trees
from tests.mlax.generated_optimizers import optimizer_class as class_of

pytestmark = pytest.mark.one_python

# Hyperparameters that pull weights towards zero.
DECAYS = ("weight_decay", "weight_decay_rate", "adam_weight_decay", "lambd")

# Optimizers that move also then, and why.
MOVING = {
    "noisy_sgd": "noise is added to the gradient",
    "fromage": "weights shrink by the root of one plus the squared learning rate in each step",
    "yogi": "the first moment may begin above zero, as in Optax",
}
# Optimizers that compute the new weights, of which the update is the difference, rounded.
ROUNDING = {"schedule_free_sgd", "schedule_free_adamw"}


def without_decay(name: str, options: dict[str, Any]) -> dict[str, Any]:
    fields = class_of(MODULES[name]).__dataclass_fields__
    return {**options, **{decay: 0.0 for decay in DECAYS if decay in fields}}


def change(name: str, options: dict[str, Any]) -> float:
    """Return the largest change of the weights by three steps."""
    start, _ = trees(name)
    zeros = jax.tree.map(jnp.zeros_like, start)

    def body(_: Any, carry: Any) -> Any:
        weights, state = carry
        updates, state = step(name, zeros, state, weights)
        return apply_updates(updates, weights), state

    @jax.jit
    def run(state: Any) -> Any:
        weights, _ = jax.lax.fori_loop(0, 3, body, (start, state))
        return jax.tree.map(lambda w, w0: jnp.max(jnp.abs(w - w0)), weights, start)

    return max(map(float, jax.tree.leaves(run(init(name, start, **options)))))


@every_case
def test_zero_gradients_move_nothing(name: str, options: dict[str, Any]) -> None:
    moved = change(name, without_decay(name, options))
    if name in MOVING:
        assert moved > 1e-6, f"not so any more: {MOVING[name]}"
    else:
        assert moved <= (1e-6 if name in ROUNDING else 0.0)


@every_optimizer
def test_decay_does_something(name: str) -> None:
    """The law before would hold if nothing that it sets to zero were read."""
    fields = class_of(MODULES[name]).__dataclass_fields__
    weights, gradients = trees(name)
    for decay in DECAYS:
        if decay not in fields:
            continue
        runs: list[Any] = []
        for value in (0.0, 0.5):
            state = init(name, weights, **{**without_decay(name, {}), decay: value})
            for _ in range(2):
                updates, state = step(name, gradients, state, weights)
            runs.append(updates)
        assert not tree_equal(*runs), decay


@pytest.mark.parametrize("name", sorted({*MOVING, *ROUNDING}))
def test_exceptions_are_of_optimizers_that_exist(name: str) -> None:
    assert name in MODULES
