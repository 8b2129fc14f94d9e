"""`map_leaves`: in which dtype a leaf is computed, what it returns, and how often it is traced."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from mlax.leafwise import abs2, cbrt, map_leaves, sqrt

pytestmark = pytest.mark.one_python

RATE = jnp.float32(0.1)
seen: list[Any] = []


def scaled(h: Any, g: Array, m: Array, *, rate: Any) -> tuple[Array, Array]:
    seen.append((g.dtype, m.dtype, getattr(rate, "dtype", None)))
    m = h * m + (1 - h) * g
    return -rate * m, m


def run(g: Any, m: Any, rate: Any = RATE, h: float = 0.5) -> tuple[Any, Any]:
    """Map a function that no other test has traced."""
    seen.clear()

    def leaf(h: Any, g: Array, m: Array, *, rate: Any) -> tuple[Array, Array]:
        return scaled(h, g, m, rate=rate)

    return map_leaves(leaf, h, (g,), (m,), rate=rate)


@pytest.mark.parametrize(
    ("gradient", "slot", "computed"),
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float16", "float16", "float32"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "float32"),
        ("complex64", "complex64", "complex64"),
    ],
)
def test_the_dtype_of_the_arithmetic(gradient: str, slot: str, computed: str) -> None:
    g, m = jnp.ones((2, 3), gradient), jnp.ones((2, 3), slot)
    update, new = run(g, m)
    assert seen == [(jnp.dtype(computed),) * 3]
    assert (update.dtype, update.shape) == (g.dtype, g.shape)
    assert (new.dtype, new.shape) == (m.dtype, m.shape)
    assert not update.weak_type
    assert not new.weak_type


def test_float64_arithmetic() -> None:
    with jax.enable_x64(True):
        run(jnp.ones(2, "float32"), jnp.ones(2, "float64"), jnp.float64(1))
        assert seen == [(jnp.dtype("float64"),) * 3]
        run(jnp.ones(2, "float32"), jnp.ones(2, "float32"), jnp.float64(1))
        assert seen == [(jnp.dtype("float32"),) * 3]
        run(jnp.ones(2, "complex64"), jnp.ones(2, "float64"), jnp.float64(1))
        assert seen == [(jnp.dtype("complex128"),) * 3]


def test_half_precision_is_rounded_once() -> None:
    """Rounding the product before the sum, or the slot before the update, would give other numbers."""
    g = jnp.linspace(-1, 1, 101).astype(jnp.bfloat16)
    m = jnp.linspace(0.3, 0.7, 101).astype(jnp.bfloat16)
    update, new = run(g, m, jnp.float32(0.75), 0.5)
    exact = 0.5 * np.asarray(m, np.float32) + 0.5 * np.asarray(g, np.float32)  # nothing rounds here
    np.testing.assert_array_equal(new, exact.astype(jnp.bfloat16))
    np.testing.assert_array_equal(update, (np.float32(-0.75) * exact).astype(jnp.bfloat16))
    twice = (-0.75 * new.astype(jnp.float32)).astype(jnp.bfloat16)
    assert (np.asarray(update) != np.asarray(twice)).any()


def test_a_slot_in_float16_stays_finite() -> None:
    """Numbers that are too large are clipped; infinities and NaN are kept."""
    g = jnp.array([300.0, -1e4, 1.0, jnp.inf, jnp.nan], jnp.float16)
    update, new = map_leaves(squared, None, (g,), (jnp.zeros(5, jnp.float16),))
    np.testing.assert_array_equal(new, [65504, 65504, 1, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(update, [-65504, -65504, -1, -jnp.inf, jnp.nan])


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e3m4"])
def test_a_narrow_slot_stays_finite(dtype: str) -> None:
    largest = float(jnp.finfo(dtype).max)
    g = jnp.array([largest, -largest, 1.0], dtype)
    update, new = map_leaves(squared, None, (g,), (jnp.zeros(3, dtype),))
    np.testing.assert_array_equal(new.astype("float32"), [largest, largest, 1])
    np.testing.assert_array_equal(update.astype("float32"), [-largest, -largest, -1])


def squared(h: Any, g: Array, v: Array) -> tuple[Array, Array]:
    v = v + g**2
    return -v, v


def test_strict_promotion_inside() -> None:
    def promoting(h: Any, g: Array) -> tuple[Array]:
        return (g * jnp.ones((), jnp.int32),)

    with pytest.raises(ValueError, match="strict"):
        map_leaves(promoting, None, (jnp.ones(2),), ())


def test_structure_is_kept() -> None:
    tree = {
        "a": (jnp.ones(()), None),
        "b": [jnp.ones((0, 3)), np.ones((1, 2, 1), np.float32)],
        "c": {},
    }
    update, new = run(tree, tree)
    assert jax.tree.structure(update) == jax.tree.structure(new) == jax.tree.structure(tree)
    assert [x.shape for x in jax.tree.leaves(update)] == [(), (0, 3), (1, 2, 1)]
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves((update, new)))


@pytest.mark.parametrize("empty", [{}, (), None, [None, {}]])
def test_no_leaves(empty: Any) -> None:
    assert run(empty, empty) == (empty, empty)


def optional(h: Any, g: Array, w: Any, m: Any, n: Any, *, rate: Any, decay: Any) -> tuple[Any, ...]:
    assert w is None
    assert m is None
    assert decay is None
    return g * rate, m, n + g


def test_none_is_passed_on_and_comes_back() -> None:
    update, m, n = map_leaves(
        optional, None, ({"a": jnp.ones(2)}, None), (None, {"a": jnp.ones(2)}), rate=2.0, decay=None
    )
    assert m is None
    np.testing.assert_array_equal(update["a"], [2, 2])
    np.testing.assert_array_equal(n["a"], [2, 2])


def factored(h: Any, g: Array, slot: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
    row, column = slot
    return g, (row + g.sum(1), column + g.sum(0))


def test_a_slot_may_have_several_arrays_for_each_leaf() -> None:
    g = {"a": jnp.ones((2, 3), jnp.bfloat16)}
    slot = {"a": (jnp.zeros(2), jnp.zeros(3, jnp.bfloat16))}
    _, new = map_leaves(factored, None, (g,), (slot,))
    row, column = new["a"]
    np.testing.assert_array_equal(row, [3, 3])
    assert (row.dtype, column.dtype) == (jnp.float32, jnp.bfloat16)


def test_integers_and_keys_are_not_widened() -> None:
    def noisy(h: Any, g: Array, key: Array, *, count: Array) -> tuple[Array, Array]:
        assert count.dtype == jnp.int32
        return g + jax.random.normal(jax.random.fold_in(key, count), g.shape, g.dtype), key

    key = jax.random.key(0)
    update, new = map_leaves(noisy, None, (jnp.ones(2, jnp.bfloat16),), (key,), count=jnp.int32(3))
    assert update.dtype == jnp.bfloat16
    assert new.dtype == key.dtype


def test_a_complex_result_for_a_real_slot_gives_its_real_part() -> None:
    _, new = run(jnp.full(2, 1 + 1j), jnp.zeros(2, jnp.float32))
    np.testing.assert_array_equal(new, [0.5, 0.5])


def test_wrong_leaf_functions_are_named() -> None:
    def missing(h: Any, g: Array, m: Array) -> tuple[Array]:
        return (g,)

    with pytest.raises(ValueError, match="missing: expected an update and 1 slots, got 1 results"):
        map_leaves(missing, None, (jnp.ones(2),), (jnp.ones(2),))

    def reduced(h: Any, g: Array) -> tuple[Array]:
        return (g.sum(),)

    with pytest.raises(ValueError, match=r"a leaf of shape \(2,\) became one of shape \(\)"):
        map_leaves(reduced, None, (jnp.ones(2),), ())


def test_a_leaf_function_has_a_name() -> None:
    with pytest.raises(TypeError, match=r"functools.partial\(.*: expected a module-level function"):
        map_leaves(functools.partial(max), None, (jnp.ones(2),), ())


def test_each_distinct_leaf_is_traced_once() -> None:
    shapes = [(2, 3), (4,), (2, 3), (4,), (2, 3)]
    tree = [jnp.ones(shape) for shape in shapes]
    seen.clear()

    def leaf(h: Any, g: Array, m: Array, *, rate: Any) -> tuple[Array, Array]:
        return scaled(h, g, m, rate=rate)

    map_leaves(leaf, 0.5, (tree,), (tree,), rate=RATE)
    assert len(seen) == 2
    map_leaves(leaf, 0.5, (tree,), (tree,), rate=jnp.float32(0.7))
    assert len(seen) == 2, "the second eager call is already compiled"
    jax.jit(lambda t: map_leaves(leaf, 0.25, (t,), (t,), rate=1.0)).trace(tree)
    assert len(seen) == 4


def test_the_optimizer_is_named_in_a_profile() -> None:
    tree = [jnp.ones(2)]
    lowered = jax.jit(lambda t: map_leaves(scaled, 0.5, (t,), (t,), rate=1.0)).lower(tree)
    assert "/test_elements_and_axes/" in lowered.as_text(debug_info=True)
    assert "update_leaf" in lowered.as_text()


def test_without_jit() -> None:
    with jax.disable_jit():
        update, new = map_leaves(
            scaled, 0.5, (np.ones(2, np.float32),), (jnp.ones(2, jnp.bfloat16),), rate=2.0
        )
    np.testing.assert_array_equal(update, [-2, -2])
    assert new.dtype == jnp.bfloat16


def test_abs2() -> None:
    z = jnp.array([3 + 4j, 1j])
    np.testing.assert_array_equal(abs2(z), [25, 1])
    assert abs2(z).dtype == z.dtype
    np.testing.assert_array_equal(abs2(jnp.array([-3.0])), [9])
    assert abs2(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def numbers_alone(_: None, g: Array, *, one: Any) -> tuple[Array]:
    share = jnp.sum(jnp.where(jnp.real(g) > 0, jnp.real(one), 0.0)) + jnp.mean(
        jnp.where(g == 0, 1.0, 0.0)
    )
    return (share.astype(g.dtype) * g,) if jnp.iscomplexobj(g) else (share * g,)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "complex64"])
def test_python_numbers_have_the_precision_of_the_leaf(dtype: str) -> None:
    """Also those that only meet each other, and those that are the same for all leaves."""
    with jax.enable_x64(True):
        g = jnp.asarray([0.5, -0.5, 2.0, 0.0], dtype)
        (updates,) = map_leaves(numbers_alone, None, (g,), (), one=1.0)
        assert updates.dtype == g.dtype
        np.testing.assert_array_equal(updates, 2.25 * np.asarray(g))


@pytest.mark.parametrize(("root", "power"), [(sqrt, 1 / 2), (cbrt, 1 / 3)])
def test_roots_have_a_derivative_at_zero(root: Any, power: float) -> None:
    x = jnp.array([0.0, 1.0, 64.0, 1e-30, jnp.inf])
    np.testing.assert_allclose(root(x), x**power, rtol=1e-6)
    expected = power * np.asarray(x)[1:] ** (power - 1)
    np.testing.assert_allclose(jax.vmap(jax.grad(root))(x), [0.0, *expected], rtol=1e-6)
    second = power * (power - 1) * np.asarray(x)[1:3] ** (power - 2)
    found = jax.vmap(jax.grad(jax.grad(root)))(x[:3])
    np.testing.assert_allclose(found, [0.0, *second], rtol=1e-6)
    assert jnp.isnan(root(jnp.nan))
    assert jnp.isnan(jax.grad(root)(jnp.nan))


def test_the_root_of_a_complex_square_has_a_derivative_at_zero() -> None:
    z = jnp.array([0.0, 3.0, 3j])
    found = jax.grad(lambda z: jnp.sum(sqrt(abs2(z)).real))(z)
    np.testing.assert_allclose(found, [0.0, 1.0, -1j], atol=1e-6)
