"""`reduce_leaves`, the PRNG keys of leaves, `every` and `unless`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from mlax.leafwise import (
    Totals,
    count_all,
    every,
    handed_on,
    map_leaves,
    normal,
    rademacher,
    reduce_leaves,
    total_max,
    total_mean,
    total_min,
    total_norm,
    totals,
    uniform,
    unless,
)
from mlax.tree import tree_equal

pytestmark = pytest.mark.one_python

seen: list[Any] = []


def gather(
    h: float, g: Array, w: Array | None, m: Array, *, rate: Any
) -> tuple[tuple[Array], Totals]:
    seen.append(g.dtype)
    m = h * m + rate * g
    return (m,), totals(way=g * (m if w is None else w), length=m)


TREE: Any = {
    "a": jnp.linspace(-1, 1, 6).reshape(2, 3),
    "b": [jnp.float32(0.5), None, jnp.ones((0, 2))],
}


def test_slots_and_sums_over_all_leaves() -> None:
    w = jax.tree.map(lambda x: x + 2, TREE)
    (m,), sums = reduce_leaves(gather, 0.5, (TREE, w), (TREE,), rate=jnp.float32(3))
    assert sums.keys() == {"way", "length"}
    assert tree_equal(m, jax.tree.map(lambda x: 0.5 * x + 3 * x, TREE))
    flat, flat_w = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (TREE, w))
    np.testing.assert_allclose(sums["way"], np.dot(flat, flat_w), rtol=1e-6)
    np.testing.assert_allclose(sums["length"], 3.5 * flat.sum(), rtol=1e-6)
    for total in sums.values():
        assert (total.shape, total.dtype, total.weak_type) == ((), jnp.float32, False)


@pytest.mark.parametrize("empty", [{}, (), None, [None]])
def test_trees_without_leaves_have_sums_of_zero(empty: Any) -> None:
    slots, sums = reduce_leaves(gather, 0.5, (empty, None), (empty,), rate=1.0)
    assert slots == (empty,)
    assert tree_equal((sums["way"], sums["length"]), (jnp.zeros(()), jnp.zeros(())))


def measure(h: None, g: Array) -> tuple[tuple[()], Totals]:
    return (), totals(length=total_norm(g), plain=g)


def extremes(h: None, g: Array) -> tuple[tuple[()], Totals]:
    positive = g.real > 0.5
    return (), totals(
        high=total_max(g),
        low=total_min(g),
        mean=total_mean(g),
        part=total_mean(positive),
        n=positive,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "complex64"])
def test_means_and_extremes_of_all_leaves(dtype: str) -> None:
    """A leaf without elements is no reason for an extreme of 0; a tree without elements is one."""
    with jax.enable_x64(dtype == "float64"):
        tree = jax.tree.map(lambda x: (x - 3).astype(dtype), TREE)
        flat = np.concatenate([np.ravel(x).astype(np.complex128) for x in jax.tree.leaves(tree)])
        many = jax.tree.map(lambda x: jnp.stack([x + 3, x]), tree)
        _, batched = jax.vmap(lambda tree: reduce_leaves(extremes, None, (tree,), ()))(many)
        _, above = reduce_leaves(extremes, None, (jax.tree.map(lambda x: x + 4, tree),), ())
        real = flat.real
        expected = {"high": real.max(), "low": real.min(), "mean": real.mean(), "part": 0, "n": 0}
        for name, value in expected.items():
            np.testing.assert_allclose(batched[name][1], value, rtol=1e-6)
        np.testing.assert_allclose(above["part"], np.mean(real + 4 > 0.5))
        assert above["n"] == np.sum(real + 4 > 0.5)
        assert count_all(tree) == flat.size
        for empty in ({}, {"a": jnp.ones((0, 2), dtype)}):
            _, sums = reduce_leaves(extremes, None, (empty,), ())
            assert [float(sums[name]) for name in expected] == [0.0] * 5
            assert count_all(empty) == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_the_norm_of_all_leaves_when_squares_overflow_or_underflow(
    dtype: Any, scale: float
) -> None:
    tree = jax.tree.map(lambda x: (scale * x).astype(dtype), TREE)
    flat = np.concatenate([np.ravel(x).astype(np.complex128) for x in jax.tree.leaves(tree)])
    _, sums = reduce_leaves(measure, None, (tree,), ())
    np.testing.assert_allclose(sums["length"], np.linalg.norm(flat), rtol=1e-6)
    np.testing.assert_allclose(sums["plain"], flat.real.sum(), rtol=1e-6)
    assert sums["length"].dtype == jnp.float32
    assert reduce_leaves(measure, None, ({},), ())[1]["length"] == 0


def test_in_which_dtype_sums_are_taken() -> None:
    seen.clear()
    ones = jnp.ones(4096, jnp.bfloat16)  # in bfloat16 a sum of ones stays at 256
    (m,), sums = reduce_leaves(gather, 0.0, (ones, None), (ones,), rate=1.0)
    way = sums["way"]
    assert (way, way.dtype, m.dtype) == (4096, jnp.float32, jnp.bfloat16)
    assert seen == [jnp.float32]
    z = jnp.full(3, 1 + 2j)
    _, sums = reduce_leaves(gather, 0.0, (z, z.conj()), (z,), rate=1.0)
    assert (sums["way"], sums["length"], sums["length"].dtype) == (15, 3, jnp.float32)
    with jax.enable_x64(True):
        _, sums = reduce_leaves(gather, 0.0, (TREE, None), (TREE,), rate=1.0)
        assert sums["way"].dtype == jnp.float64


def test_a_slot_that_is_not_there() -> None:
    def count(h: Any, g: Array, m: None) -> tuple[tuple[None], Totals]:
        return (m,), totals(n=jnp.ones_like(g))

    assert reduce_leaves(count, None, (TREE,), (None,))[0] == (None,)


def test_wrong_results_are_named() -> None:
    def plain(h: Any, g: Array) -> Any:
        return g, g

    with pytest.raises(ValueError, match=r"plain: expected a tuple of slots, and totals\(\.\.\.\)"):
        reduce_leaves(plain, None, (TREE,), ())

    def fewer(h: Any, g: Array, m: Array) -> Any:
        return (), totals(g=g)

    with pytest.raises(ValueError, match="fewer: expected 1 slots, got 0"):
        reduce_leaves(fewer, None, (TREE,), (TREE,))

    def other(h: Any, g: Array, m: Any) -> Any:
        return g, (g, g)

    with pytest.raises(
        ValueError, match="other: a slot with 1 arrays for a leaf of this shape got 2"
    ):
        map_leaves(other, None, (TREE,), (TREE,))


def listed(h: Any, g: Array, m: tuple[Array, ...]) -> tuple[Array, Any]:
    return g, [x + 1 for x in m]


def test_a_list_of_arrays_is_stored_as_a_tuple() -> None:
    slot: Any = {"a": (jnp.zeros(2), jnp.zeros(3)), "b": [(), None, (jnp.zeros(1),)]}
    _, new = map_leaves(listed, None, (TREE,), (slot,))
    assert tree_equal(new, jax.tree.map(lambda x: x + 1, slot))


def noisy(h: Any, g: Array, *, key: Array) -> tuple[Array]:
    return (normal(key, g),)


def test_each_leaf_has_noise_of_its_own() -> None:
    seen: list[Any] = []

    def noisy(h: Any, g: Array, *, key: Array) -> tuple[Array]:
        seen.append(g.shape)
        return (normal(key, g),)

    tree = [jnp.zeros(1000) for _ in range(5)]
    key = jax.random.key(3)
    (noise,) = map_leaves(noisy, None, (tree,), (), key=key)
    assert len(seen) == 1, "the position of a leaf is no reason to trace it again"
    for position, x in enumerate(noise):
        folded = jax.random.fold_in(key, position)
        np.testing.assert_array_equal(x, jax.random.normal(folded, (1000,)))
    assert np.unique(np.concatenate(noise)).size > 4990
    jitted = jax.jit(lambda key: map_leaves(noisy, None, (tree,), (), key=key))(key)
    assert tree_equal(jitted, (noise,))


def other_noise(h: Any, g: Array, *slots: Array, key: Array) -> tuple[Array, Array, Array]:
    return normal(key, g), uniform(key, g), rademacher(key, g)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_noise_in_other_dtypes(dtype: str) -> None:
    g = jnp.zeros(20_000, dtype)
    noise, parts, signs = map_leaves(other_noise, None, (g,), (g, g), key=jax.random.key(0))
    assert noise.dtype == parts.dtype == signs.dtype == jnp.dtype(dtype)
    parts, signs = np.asarray(parts, np.complex64), np.asarray(signs, np.complex64)
    assert not np.any(parts.imag)
    assert not np.any(signs.imag)
    assert parts.real.min() >= 0
    assert 0.99 < parts.real.max() <= 1
    np.testing.assert_allclose([parts.mean(), signs.mean()], [0.5, 0], atol=0.03)
    assert set(signs.real) == {-1.0, 1.0}
    x = np.asarray(noise).astype(np.complex128)
    assert abs(x.mean()) < 0.03
    assert abs(np.mean(np.abs(x) ** 2) - 1) < 0.03


def thirds(h: None, g: Array) -> tuple[tuple[()], Totals]:
    return (), totals(length=total_norm(g), third=handed_on(g / 3), one=handed_on(1.0))


def spread(h: None, g: Array, third: Array, one: Array) -> tuple[Array]:
    assert third.dtype == one.dtype == jnp.float32
    return (3 * third - one,)


def test_what_is_handed_on_is_not_rounded() -> None:
    tree = {"a": jnp.array([1.0, 2.0, 100.0], jnp.bfloat16), "b": [None, jnp.bfloat16(5.0)]}
    _, sums = reduce_leaves(thirds, None, (tree,), ())
    third: Any = sums["third"]
    assert third["a"].dtype == jnp.float32
    (back,) = map_leaves(spread, None, (tree, third, sums["one"]), ())
    assert tree_equal(back, jax.tree.map(lambda x: x - 1, tree))
    _, sums = reduce_leaves(thirds, None, ({},), ())
    assert map_leaves(spread, None, ({}, sums["third"], sums["one"]), ()) == ({},)


@pytest.mark.parametrize("left_out", [False, True])
def test_unless(left_out: bool) -> None:
    old = {"a": jnp.ones(2, jnp.complex64), "k": jax.random.key(0), "t": (jnp.zeros(3), None)}
    new = {"a": jnp.full(2, jnp.nan), "k": jax.random.key(1), "t": [2 * jnp.ones(3), None]}
    found = jax.jit(lambda test: unless(test, new, old))(left_out)
    expected = old if left_out else {**old, "a": jnp.full(2, jnp.nan, jnp.complex64)}
    expected |= {} if left_out else {"k": new["k"], "t": (2 * jnp.ones(3), None)}
    assert jax.tree.structure(found) == jax.tree.structure(old)
    np.testing.assert_array_equal(found["a"], expected["a"])
    assert tree_equal({**found, "a": 0}, {**expected, "a": 0})


def test_every() -> None:
    def body(carry: Any, step: Array) -> Any:
        new = every(3, step, lambda: [carry[0] + 1, step * jnp.ones(2)], carry)
        return new, new

    start: Any = (jnp.int32(0), jnp.zeros(2))
    _, (counts, at) = jax.lax.scan(body, start, jnp.arange(8, dtype=jnp.int32))
    np.testing.assert_array_equal(counts, [1, 1, 1, 2, 2, 2, 3, 3])
    np.testing.assert_array_equal(at[:, 0], [0, 0, 0, 3, 3, 3, 6, 6])


def test_every_single_step_has_no_condition() -> None:
    jaxpr = jax.make_jaxpr(lambda s, x: every(1, s, lambda: x + 1, x))(jnp.int32(0), jnp.ones(2))
    assert "cond" not in str(jaxpr)
    jaxpr = jax.make_jaxpr(lambda s, x: every(2, s, lambda: x + 1, x))(jnp.int32(0), jnp.ones(2))
    assert "cond" in str(jaxpr)


def test_every_computes_only_when_it_is_due() -> None:
    calls: list[int] = []

    def called(x: Any) -> Any:
        calls.append(1)
        return np.asarray(x) + 1

    def new(x: Array) -> Array:
        return jax.pure_callback(called, jax.ShapeDtypeStruct((2,), jnp.float32), x)

    step = jax.jit(lambda s, x: every(4, s, lambda: new(x), x))
    x = jnp.zeros(2)
    for s in range(9):
        x = step(jnp.int32(s), x)
    np.testing.assert_array_equal(x, [3, 3])
    assert len(calls) == 3
