"""Slots annotated `Entries`: compared entry by entry with the shapes that follow from the weights."""

from typing import Annotated, Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax.optimizer import Dtype, Optimizer, integer, zeros
from mlax.typing import Entries, LeafMismatchError, Shape, Weights, checked, runtime_checks


class Factored(Optimizer):
    length: Annotated[int, integer()] = 2
    slot_dtype: Dtype | None = None


def _row(h: Factored, shape: Shape) -> Shape:
    return shape[: h.length]


def _parts(h: Factored, shape: Shape) -> list[Shape]:
    return [(n, h.length) for n in shape]


class State(NamedTuple, Generic[Weights]):
    row: Annotated[Entries, _row]
    parts: Annotated[Entries, _parts] | None
    hyperparameters: Factored


@checked
def init(weights: Weights, h: Factored) -> State[Weights]:
    row = zeros(weights, h.slot_dtype, shape=_row, h=h)
    return State(row, zeros(weights, h.slot_dtype, shape=_parts, h=h), h)


@checked
def step(gradients: Weights, state: State[Weights], weights: Weights | None = None) -> Any:
    return gradients


WEIGHTS: Any = {"a": jnp.ones((2, 3, 4)), "b": [jnp.ones(()), None, jnp.ones(5, jnp.bfloat16)]}


def refused(gradients: Any, state: Any, weights: Any = None) -> list[str]:
    """Return the lines of the error of a step."""
    with pytest.raises(LeafMismatchError) as raised:
        step(gradients, state, weights)
    return str(raised.value).splitlines()


@pytest.mark.parametrize("h", [Factored(), Factored(1), Factored(slot_dtype=jnp.float32)])
def test_states_from_init_are_accepted(h: Factored) -> None:
    state = init(WEIGHTS, h)
    step(WEIGHTS, state, WEIGHTS)
    step(WEIGHTS, state._replace(parts=None), WEIGHTS)
    jax.jit(step)(WEIGHTS, state, WEIGHTS)
    step(WEIGHTS, jax.tree.map(np.asarray, state), WEIGHTS)
    init({}, h)
    step({}, init({}, h), {})
    z = {"z": jnp.ones((2, 2), jnp.complex64)}
    assert init(z, h).row["z"].dtype == jnp.complex64
    step(z, init(z, h), z)
    if h.slot_dtype is None:
        step(WEIGHTS, state)


def test_under_vmap() -> None:
    stacked = jax.tree.map(lambda w: jnp.stack([w, w]), WEIGHTS)
    state = jax.vmap(lambda w: init(w, Factored()))(stacked)
    jax.vmap(step)(stacked, state, stacked)
    assert refused(stacked, state)[1].startswith(
        "  state.row['a']: float32[2,2,3], but expected flo"
    )


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            lambda s: s.row | {"a": jnp.ones((2, 4))},
            [
                "state.row['a']: float32[2,4], but expected float32[2,3] for weights['a']: float32[2,3,4]"
            ],
        ),
        (
            lambda s: s.row | {"a": jnp.ones((2, 3), jnp.bfloat16)},
            [
                "state.row['a']: bfloat16[2,3], but expected float32[2,3] for weights['a']: float32[2,3,4]"
            ],
        ),
        (
            lambda s: s.row | {"a": ()},
            ["state.row['a']: (), but expected float32[2,3] for weights['a']: float32[2,3,4]"],
        ),
        (lambda s: {"b": s.row["b"]}, ["state.row['a']: missing"]),
        (
            lambda s: s.row | {"a": 1.0},
            ["state.row['a']: 1.0 (float) (make it an array: jnp.asarray(..., dtype=...))"],
        ),
        (
            lambda s: s.row | {"a": jax.ShapeDtypeStruct((2, 3), jnp.float32)},
            [
                "state.row['a']: float32[2,3] (a ShapeDtypeStruct, not an array; "
                "use jax.eval_shape for the whole step)",
            ],
        ),
    ],
)
def test_each_wrong_entry_is_named(change: Any, lines: list[str]) -> None:
    state = init(WEIGHTS, Factored())
    assert refused(WEIGHTS, state._replace(row=change(state)), WEIGHTS) == [
        "test_entries.step: leaves that do not correspond to `weights` (no implicit promotion):",
        *("  " + line for line in lines),
    ]


def test_tuples_of_arrays() -> None:
    state = init(WEIGHTS, Factored())
    assert state.parts is not None
    parts = state.parts | {"a": state.parts["a"][:2]}
    assert refused(WEIGHTS, state._replace(parts=parts, row=parts), WEIGHTS)[1:] == [
        "  state.row['a']: (float32[2,2], float32[3,2]), but expected float32[2,3] "
        "for weights['a']: float32[2,3,4]",
        "  state.row['b'][0]: (), but expected float32[] for weights['b'][0]: float32[]",
        "  state.row['b'][2]: (bfloat16[5,2]), but expected bfloat16[5] "
        "for weights['b'][2]: bfloat16[5]",
        "  state.parts['a']: (float32[2,2], float32[3,2]), but expected "
        "(float32[2,2], float32[3,2], float32[4,2]) for weights['a']: float32[2,3,4]",
    ]


def test_slots_in_another_dtype() -> None:
    h = Factored(slot_dtype=jnp.bfloat16)
    narrow, own = init(WEIGHTS, h), init(WEIGHTS, Factored())
    assert refused(WEIGHTS, own._replace(hyperparameters=h), WEIGHTS)[1:] == [
        "  state.row['a']: float32[2,3], but expected bfloat16[2,3] for weights['a']: float32[2,3,4]",
        "  state.row['b'][0]: float32[], but expected bfloat16[] for weights['b'][0]: float32[]",
        "  state.parts['a']: (float32[2,2], float32[3,2], float32[4,2]), but expected "
        "(bfloat16[2,2], bfloat16[3,2], bfloat16[4,2]) for weights['a']: float32[2,3,4]",
    ]
    with pytest.raises(
        ValueError, match=r"Factored: step needs the weights \(slot_dtype is not No"
    ):
        step(WEIGHTS, narrow)


def test_other_hyperparameters_are_other_shapes() -> None:
    state = init(WEIGHTS, Factored(1))
    lines = refused(WEIGHTS, state._replace(hyperparameters=Factored(2)))
    assert (
        "  state.row['a']: float32[2], but expected float32[2,3] for gradients['a']: f" in lines[1]
    )


def test_the_result_is_checked_too() -> None:
    @checked
    def broken(weights: Weights, h: Factored) -> State[Weights]:
        return State(weights, None, h)

    with pytest.raises(
        LeafMismatchError, match=r"result\.row\['a'\]: float32\[2,3,4\], but expected"
    ):
        broken(WEIGHTS, Factored())
    with runtime_checks(False):
        broken(WEIGHTS, Factored())


def test_a_module_as_weights() -> None:
    class Pair(mlax.Module):
        a: mlax.Parameter[Any]
        b: mlax.Parameter[Any]

    model = Pair(mlax.Parameter(jnp.ones((2, 3))), mlax.Parameter(jnp.ones(())))
    state = init(model, Factored())
    step(model, state, model)
    jax.jit(step)(model, state, model)
    other: Any = zeros(model, None, shape=_parts, h=Factored())
    assert "state.row" in refused(model, state._replace(row=other), model)[1]


def test_alone_it_says_nothing() -> None:
    @checked
    def take(weights: Weights, anything: Entries) -> None: ...

    take(WEIGHTS, 3)
