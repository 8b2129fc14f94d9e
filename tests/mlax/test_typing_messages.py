"""The exact words with which the dtype rule refuses."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mlax.optimizer import apply_updates
from mlax.typing import LeafMismatchError, Weights, checked
from mlax_optimizers import adam, sgd

WEIGHTS: Any = {"dense": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}


def message(error: type[Exception], call: Any) -> str:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_gradients_against_slots() -> None:
    gradients = {"dense": {"w": jnp.ones((2, 3), jnp.bfloat16)}}
    assert message(LeafMismatchError, lambda: adam.step(gradients, adam.init(WEIGHTS))) == (
        "adam.step: leaves that do not correspond to `state.m` (no implicit promotion):\n"
        "  gradients['dense']['w']: bfloat16[2,3], but state.m['dense']['w']: float32[2,3]\n"
        "  gradients['dense']['b']: missing"
    )


def test_gradients_against_weights_and_every_leaf_is_listed() -> None:
    many = {str(i): jnp.ones(2) for i in range(50)}
    wrong = {key: leaf.astype(jnp.float16) for key, leaf in many.items()} | {"x": jnp.ones(1)}
    state = adam.init(many)
    lines = message(LeafMismatchError, lambda: adam.step(wrong, state, many)).splitlines()
    assert (
        lines[0] == "adam.step: leaves that do not correspond to `weights` (no implicit promotion):"
    )
    assert lines[1] == "  gradients['0']: float16[2], but weights['0']: float32[2]"
    assert lines[-1] == "  gradients['x']: not in weights"
    assert len(lines) == 1 + 50 + 1


def test_the_first_argument_that_differs_is_blamed() -> None:
    half = {"dense": {"w": WEIGHTS["dense"]["w"], "b": jnp.ones(3, jnp.float16)}}
    state = adam.init(WEIGHTS)
    wrong_state = state._replace(m=half, v=half)
    assert message(LeafMismatchError, lambda: adam.step(half, wrong_state, WEIGHTS)) == (
        "adam.step: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  gradients['dense']['b']: float16[3], but weights['dense']['b']: float32[3]"
    )
    assert message(LeafMismatchError, lambda: adam.step(WEIGHTS, wrong_state, WEIGHTS)) == (
        "adam.step: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  state.m['dense']['b']: float16[3], but weights['dense']['b']: float32[3]\n"
        "  state.v['dense']['b']: float16[3], but weights['dense']['b']: float32[3]"
    )
    assert message(LeafMismatchError, lambda: adam.step(WEIGHTS, state._replace(v=half))) == (
        "adam.step: leaves that do not correspond to `state.m` (no implicit promotion):\n"
        "  state.v['dense']['b']: float16[3], but state.m['dense']['b']: float32[3]"
    )


def test_other_containers() -> None:
    state = adam.init((jnp.ones(2), jnp.ones(3)))
    assert message(LeafMismatchError, lambda: adam.step([jnp.ones(2), jnp.ones(3)], state)) == (
        "adam.step: leaves that do not correspond to `state.m` (no implicit promotion):\n"
        "  gradients: other containers, list instead of tuple"
    )


def test_updates_and_weights() -> None:
    assert message(LeafMismatchError, lambda: apply_updates(jnp.ones(2), jnp.ones(3))).endswith(
        "apply_updates: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  updates: float32[2], but weights: float32[3]"
    )


def test_weights_that_are_no_weights() -> None:
    weights = {
        "count": jnp.ones(2, jnp.int32),
        "mask": np.ones(2, bool),
        "name": "dense",
        "rate": 0.5,
        "wide": np.ones(2),
    }
    assert message(LeafMismatchError, lambda: adam.init(weights)) == (
        "adam.init: leaves that are not floating-point or complex arrays:\n"
        "  weights['count']: int32[2] (not differentiable; leave it out, or put None in its place)\n"
        "  weights['mask']: bool[2] (not differentiable; leave it out, or put None in its place)\n"
        "  weights['name']: 'dense' (str) (not an array; leave it out, or put None in its place)\n"
        "  weights['rate']: 0.5 (float) (make it an array: jnp.asarray(..., dtype=...))\n"
        "  weights['wide']: float64[2] (NumPy's, which JAX makes float32; "
        "say so: .astype('float32'), or jax.enable_x64)"
    )


def test_scalars_and_states_of_other_types() -> None:
    state = adam.init(WEIGHTS)
    assert message(TypeError, lambda: adam.step(WEIGHTS, state._replace(step=1.0))) == (
        'adam.step: state.step must be Int32[Array, ""], got 1.0 (float)'
    )
    assert (
        message(TypeError, lambda: adam.step(WEIGHTS, state._replace(learning_rate=jnp.ones(2))))
        == 'adam.step: state.learning_rate must be Float[Array, ""], got float32[2]'
    )
    assert message(TypeError, lambda: adam.step(WEIGHTS, sgd.init(WEIGHTS))) == (
        "adam.step: state must be adam.State, got sgd.State"
    )
    assert (
        message(
            TypeError,
            lambda: adam.step(WEIGHTS, state._replace(learning_rate=np.float32([1])[0:1])),
        )
        == 'adam.step: state.learning_rate must be Float[Array, ""], got a NumPy float32[1]'
    )


def test_hyperparameters_are_left_to_the_class() -> None:
    """Typeguard would refuse a NumPy float32, and describe everything else in its own words."""
    assert adam.init(WEIGHTS, b1=np.float32(0.5)).hyperparameters.b1 == 0.5
    assert message(TypeError, lambda: adam.init(WEIGHTS, b1="fast")) == (
        "Adam: b1 must be a number, got 'fast' (str)"
    )
    assert message(ValueError, lambda: adam.init(WEIGHTS, eps=-1.0)) == (
        "Adam: eps must be > 0, got -1.0"
    )


def test_slots_in_their_own_dtype() -> None:
    weights = jnp.ones(2, jnp.bfloat16)
    state = adam.init(weights, slot_dtype=jnp.float32)
    assert message(ValueError, lambda: adam.step(weights, state)) == (
        "Adam: step needs the weights (slot_dtype is not None)"
    )
    wrong = state._replace(v=weights)
    assert message(LeafMismatchError, lambda: adam.step(weights, wrong, weights)) == (
        "adam.step: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  state.v: bfloat16[2], but weights in slot_dtype: float32[2]"
    )
    assert message(LeafMismatchError, lambda: adam.step(jnp.ones(2), state, weights)) == (
        "adam.step: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  gradients: float32[2], but weights: bfloat16[2]"
    )


def test_results() -> None:
    @checked
    def halved(weights: Weights) -> tuple[Weights, list[Weights]]:
        return weights, [jnp.ones(2)]

    assert message(LeafMismatchError, lambda: halved(jnp.ones(3))).endswith(
        "halved: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  result[1][0]: float32[2], but weights: float32[3]"
    )


def test_calls_that_do_not_fit_the_signature_get_pythons_own_message() -> None:
    assert message(TypeError, lambda: adam.step(WEIGHTS)) == (
        "step() missing 1 required positional argument: 'state'"
    )
    assert "unexpected keyword argument 'weihgts'" in message(
        TypeError, lambda: adam.step(WEIGHTS, adam.init(WEIGHTS), weihgts=WEIGHTS)
    )
