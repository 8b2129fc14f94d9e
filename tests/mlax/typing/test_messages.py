"""The exact words with which the dtype rule refuses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from mlax import Module, Parameter, Variable, optim
from mlax.optimizer import apply_updates
from mlax.typing import LeafMismatchError, Scalar, Weights, checked
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
        "  gradients: a different container, list instead of tuple"
    )


def test_updates_and_weights() -> None:
    assert message(LeafMismatchError, lambda: apply_updates(jnp.ones(2), jnp.ones(3))) == (
        "optim.apply_updates: leaves that do not correspond to `weights` (no implicit promotion):\n"
        "  updates: float32[2], but weights: float32[3]"
    )


def test_invalid_weights() -> None:
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
        "  weights['wide']: float64[2] (a NumPy array, which JAX would make float32; "
        "use .astype('float32'), or jax.enable_x64)"
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
        == 'adam.step: state.learning_rate must be Float[Array, ""], got a NumPy array float32[1] '
        "(make it a JAX array: jnp.asarray)"
    )
    assert (
        message(TypeError, lambda: adam.step(WEIGHTS, state._replace(learning_rate=np.float32(1))))
        == 'adam.step: state.learning_rate must be Float[Array, ""], got a NumPy scalar float32[] '
        "(make it a JAX array: jnp.asarray)"
    )


@pytest.mark.parametrize(
    ("dtype", "x64"),
    [
        ("bfloat16", False),
        ("float16", False),
        ("float32", False),
        ("float16", True),
        ("float32", True),
        ("float64", True),
    ],
)
def test_scalars_of_a_state_have_the_default_float_dtype(dtype: str, x64: bool) -> None:
    with jax.enable_x64(x64):
        default = "float64" if x64 else "float32"
        weights = jnp.ones(2, "float32")
        state = sgd.init(weights, weight_decay=0.5)
        wrong = jnp.asarray(0.5).astype(jnp.dtype(dtype))
        if wrong.dtype == default:
            sgd.step(weights, state._replace(learning_rate=wrong), weights)
            return
        for name in ("learning_rate", "weight_decay"):  # the second is annotated `Scalar | None`
            other = state._replace(**{name: wrong})
            for call in (sgd.step, jax.jit(sgd.step)):
                text = message(TypeError, lambda: call(weights, other, weights))  # noqa: B023
                assert text == (
                    f"sgd.step: state.{name} must have JAX's default float dtype, {default}, "
                    f"got {dtype}[]"
                )


def test_scalars_outside_a_state_may_be_narrow() -> None:
    @checked
    def loss(x: Weights) -> Scalar:
        return jnp.bfloat16(0)

    assert loss(jnp.ones(2)) == 0


def test_optional_and_nested_annotations_are_spelled_as_written() -> None:
    @checked
    def call(
        x: Float[Array, "n"] | None = None,
        y: dict[str, Callable[[Array], int]] | int | None = None,
    ) -> None: ...

    assert message(TypeError, lambda: call("a")).endswith(  # type: ignore
        """call: x must be Float[Array, "n"] | None, got 'a' (str)"""
    )
    assert message(TypeError, lambda: call(y="a")).endswith(  # type: ignore
        "call: y must be dict[str, Callable[[Array], int]] | int | None, got 'a' (str)"
    )


class Counted(Module):
    """A weight and a count."""

    w: Parameter[Array]
    count: Variable[Array]

    def forward(self, x: Array) -> Array:
        return x


def test_errors_about_whole_models_explain_how_to_pass_parameters() -> None:
    model = Counted(Parameter(jnp.ones(2)), Variable(jnp.zeros((), jnp.int32)))
    what = "leaves that are not floating-point or complex arrays:\n  "
    advice = "int32[] (not differentiable; pass only the parameters: model.filter()"
    for tree, path in ((model, ""), ({"net": [model]}, "['net'][0]")):
        assert message(LeafMismatchError, lambda: adam.init(tree)) == (  # noqa: B023
            f"adam.init: {what}weights{path}.count: {advice}, or Adam().init(model))"
        )
    assert message(LeafMismatchError, lambda: apply_updates(model, model)) == (
        f"optim.apply_updates: {what}weights.count: {advice})"
    )
    adam.init(model.filter())
    adam.Adam().init(model)


def test_shapes_in_the_place_of_arrays() -> None:
    shapes = jax.eval_shape(lambda: WEIGHTS)
    state = adam.init(WEIGHTS)
    assert message(LeafMismatchError, lambda: adam.step(shapes, state)).splitlines()[1] == (
        "  gradients['dense']['b']: float32[3] "
        "(a ShapeDtypeStruct, not an array; use jax.eval_shape for the whole step)"
    )
    jax.eval_shape(adam.step, shapes, state)


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


def test_weights_that_are_none_are_missing() -> None:
    """Unless the gradients have no leaves either: None is a tree."""
    optimizer = optim.AdamW()
    with pytest.raises(ValueError, match=r"^AdamW: step needs the weights$"):
        optimizer.step(jnp.ones(3), optimizer.init(jnp.ones(3)), None)  # type: ignore[arg-type]
    assert optimizer.step(None, optimizer.init(None), None)[0] is None
