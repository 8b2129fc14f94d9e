"""Slots and scalars of a new state: shapes, dtypes, buffers, warnings and refusals."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mlax.leafwise import matrices, vectors
from mlax.optimizer import (
    copies,
    folded,
    full,
    identities,
    key,
    normals,
    refuse_complex,
    scalar,
    slot_values,
    zeros,
)
from mlax.tree import tree_equal

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {
    "a": jnp.linspace(-1, 1, 6).reshape(2, 3),
    "b": [jnp.ones((), jnp.bfloat16), None, np.full((4,), 1 + 1j, np.complex64)],
}


def row(h: int, shape: tuple[int, ...]) -> Any:
    """Return a shape, a tuple of shapes or no entry, by the number of axes."""
    return {0: [], 1: [shape, (h,)], 2: shape[:1]}[len(shape)]


MAKERS: dict[str, Callable[..., Any]] = {
    "zeros": zeros,
    "full": lambda w, slot_dtype: full(w, 0.25, slot_dtype),
    "traced": lambda w, slot_dtype: full(w, jnp.float32(0.25), slot_dtype),
    "copies": copies,
    "normals": lambda w, slot_dtype: normals(w, key(3), 0.5, slot_dtype),
    "rows": lambda w, slot_dtype: full(w, 0.25, slot_dtype, shape=row, h=7),
    "vectors": lambda w, slot_dtype: zeros(w, slot_dtype, shape=lambda _, shape: vectors(shape)),
    "identities": lambda w, slot_dtype: identities(
        w, slot_dtype, shape=lambda h, shape: matrices(shape, h), h=3
    ),
}


def forms(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype.name, getattr(x, "weak_type", False)), tree)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("slot_dtype", [None, jnp.float32, jnp.bfloat16])
def test_everywhere_the_same(name: str, slot_dtype: Any) -> None:
    make = MAKERS[name]
    slot = make(WEIGHTS, slot_dtype)
    assert not any(getattr(x, "weak_type", True) for x in jax.tree.leaves(slot))
    for dtype in {x.dtype for x in jax.tree.leaves(slot)} - {jnp.dtype("complex64")}:
        assert dtype in ([slot_dtype] if slot_dtype else [jnp.float32, jnp.bfloat16])
    jitted = jax.jit(lambda w: make(w, slot_dtype))(WEIGHTS)
    assert tree_equal(jitted, slot)
    assert forms(jax.eval_shape(lambda w: make(w, slot_dtype), WEIGHTS)) == forms(slot)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), WEIGHTS)
    swept = jax.vmap(lambda w: make(w, slot_dtype), out_axes=0)(stacked)
    assert tree_equal(jax.tree.map(lambda x: x[1], swept), slot)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("jit", [False, True])
def test_buffers_are_shared_with_nothing(name: str, jit: bool) -> None:
    weights = jax.tree.map(jnp.array, WEIGHTS)

    def make(w: Any) -> Any:
        return MAKERS[name](w, None), MAKERS[name](w, None)

    slots = (jax.jit(make) if jit else make)(weights)
    arrays = [x for x in jax.tree.leaves((weights, slots)) if x.size]
    pointers = [x.unsafe_buffer_pointer() for x in arrays]
    assert len(set(pointers)) == len(pointers)


def test_what_is_in_them() -> None:
    slot: Any = full(WEIGHTS, 0.25, None)
    assert tree_equal(slot, jax.tree.map(lambda x: jnp.full_like(x, 0.25), WEIGHTS))
    assert tree_equal(copies(WEIGHTS, None), WEIGHTS)
    wide: Any = copies(WEIGHTS, jnp.float32)
    assert (wide["b"][0].dtype, wide["b"][2].dtype) == (jnp.float32, jnp.complex64)
    rows: Any = full(WEIGHTS, 0.25, None, shape=row, h=7)
    expected: Any = {
        "a": jnp.full(2, 0.25),
        "b": [(), None, (jnp.full(4, 0.25 + 0j), jnp.full(7, 0.25 + 0j))],
    }
    assert tree_equal(rows, expected)
    eyes: Any = identities(WEIGHTS["a"], None, shape=lambda _, s: matrices(s, 2))
    assert tree_equal(eyes, (jnp.eye(2), jnp.ones(())))


def test_begin_at_a_hyperparameter() -> None:
    assert tree_equal(full(WEIGHTS["a"], jnp.float32(3), None), jnp.full((2, 3), 3.0))
    assert tree_equal(full(WEIGHTS["a"], lambda step: step + 2.0, None), jnp.full((2, 3), 2.0))
    swept: Any = jax.vmap(lambda rate: full(WEIGHTS["a"], rate, None))(jnp.arange(4.0))
    np.testing.assert_array_equal(swept[:, 1, 1], [0, 1, 2, 3])


def test_noise() -> None:
    leaf, seed = jnp.zeros((300, 8)), key(1)
    slot: Any = normals([leaf, leaf.astype(complex)], seed, 0.5, None)
    np.testing.assert_allclose([jnp.std(x) for x in slot], 0.5, rtol=0.05)
    np.testing.assert_allclose([jnp.mean(x) for x in slot], 0.0, atol=0.05)
    others: Any = [
        normals([leaf, leaf], seed, 0.5, None)[1],
        normals([leaf], seed, 0.5, None, number=1)[0],
        0.5 * jax.random.normal(jax.random.fold_in(folded(seed, 0), 0), leaf.shape),
    ]
    for other in others:  # independent, of what a step draws too
        assert abs(jnp.mean(slot[0] * other)) < 0.02
    eight: Any = normals([leaf], seed, jnp.float32(0.5), jnp.int8, int8="signed")
    assert eight[0].dtype == jnp.int8
    np.testing.assert_allclose(slot_values(eight)[0], slot[0], atol=0.02)
    with pytest.raises(TypeError, match=r"slot_values: slot\['a'\] must be an array, got 1"):
        slot_values({"a": 1})
    with pytest.raises(TypeError, match="slot_values: slot: the keys of a dict cannot be sorted"):
        slot_values({"a": slot[0], 1: slot[0]})
    assert tree_equal(normals([leaf], seed, 0.0, None), [leaf])


def test_slots_like_the_weights_are_sharded_like_them() -> None:
    sharding = NamedSharding(jax.make_mesh((1,), ("x",)), PartitionSpec("x"))
    weights = jax.device_put(jnp.ones((2, 3)), sharding)
    full_of_noise = normals(weights, key(0), 2.0, jnp.bfloat16)
    full_of_twos = full(weights, 2.0, jnp.bfloat16)
    for slot in (zeros(weights, None), full_of_twos, copies(weights, None), full_of_noise):
        assert slot.sharding.is_equivalent_to(sharding, 2)


@pytest.mark.parametrize("wrong", [3, [3], (1.5,), [(2,), None]])
def test_wrong_shapes_are_refused(wrong: Any) -> None:
    def shape_of(h: Any, shape: Any) -> Any:
        return wrong

    with pytest.raises(TypeError, match=r"shape_of must return a shape or a list of shapes"):
        zeros(WEIGHTS, None, shape=shape_of)


def test_scalars_and_keys() -> None:
    value = scalar(0.5)
    assert (value, value.dtype, value.shape, value.weak_type) == (0.5, jnp.float32, (), False)
    given = jnp.float32(3)
    assert scalar(given).unsafe_buffer_pointer() != given.unsafe_buffer_pointer()
    with jax.enable_x64(True):
        assert scalar(0.1) == 0.1
    first = key(7)
    assert jnp.issubdtype(first.dtype, jax.dtypes.prng_key)
    assert first.shape == ()
    steps = [folded(first, jnp.int32(i)) for i in range(3)]
    assert len({tuple(np.asarray(jax.random.key_data(k))) for k in [first, *steps]}) == 4


def test_refuse_complex() -> None:
    refuse_complex({"a": WEIGHTS["a"]}, "Rprop", "signs")
    with pytest.raises(TypeError) as raised:
        refuse_complex(WEIGHTS, "Rprop", "the sign of a complex gradient is not defined")
    assert str(raised.value) == (
        "Rprop: complex leaves are not supported: the sign of a complex gradient is not defined:\n"
        "  weights['b'][2]: complex64[4]"
    )
