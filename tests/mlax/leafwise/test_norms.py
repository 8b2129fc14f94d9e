"""Functions of a whole leaf and of shapes, compared with their definitions in NumPy in float64."""

import logging
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from mlax.leafwise import (
    along,
    as_vector,
    clip,
    largest,
    least,
    matrices,
    mean,
    norm,
    outer_mean,
    product,
    reduced,
    rms,
    smallest,
    std,
    summed,
    trust_ratio,
    two_axes,
    two_largest_axes,
    vectors,
    without,
)

pytestmark = pytest.mark.one_python

SHAPES = [(), (1,), (5,), (0,), (2, 3), (3, 0, 2), (2, 1, 4), (2, 3, 1, 2)]
MAGNITUDES = [0.0, 1e-38, 1e-30, 1e-20, 1.0, 1e15, 1e30]

LARGE = 2**14 + 3

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@pytest.fixture(autouse=True)
def strict() -> Any:
    """Leaf arithmetic is traced like this."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def values(shape: tuple[int, ...], scale: float = 1.0, dtype: Any = np.float32) -> Any:
    x = np.random.default_rng(sum(shape) + len(shape)).normal(size=(2, *shape))
    x = x[0] + 1j * x[1] if np.issubdtype(dtype, np.complexfloating) else x[0]
    return jnp.asarray((scale * x).astype(dtype))


def exact(x: Array) -> Any:
    return np.asarray(x).astype(np.complex128 if jnp.iscomplexobj(x) else np.float64)


def norm_and_rms(x: Array) -> tuple[Array, Array]:
    return norm(x), rms(x)


@pytest.mark.optimized
@pytest.mark.parametrize("scale", MAGNITUDES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_norms_of_any_magnitude(shape: tuple[int, ...], scale: float, dtype: Any) -> None:
    x = values(shape, scale, dtype)
    expected = (
        np.linalg.norm(exact(x).ravel()),
        np.sqrt(np.mean(abs(exact(x)) ** 2)) if x.size else 0.0,
    )
    for results in (norm_and_rms(x), jax.jit(norm_and_rms)(x)):
        for result, value in zip(results, expected, strict=True):
            assert (result.shape, result.dtype, result.weak_type) == ((), dtype, False)
            np.testing.assert_allclose(result, value, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_in_float64(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        for scale in (1e-200, 1.0, 1e200):
            x = values(shape, scale, np.float64)
            expected = scale * np.linalg.norm(np.asarray(x).ravel() / scale)
            np.testing.assert_allclose(norm(x), expected, rtol=1e-14)


def test_norms_of_complex_leaves_are_complex() -> None:
    """So that leaf code can go on computing with them: real with complex arrays would be a promotion."""
    w, direction = values((2, 3), 1.0, np.complex64), values((2, 3), 2.0, np.complex64)
    moved = trust_ratio(w, direction) * direction + rms(w) * w
    assert moved.dtype == jnp.complex64
    np.testing.assert_allclose(norm(trust_ratio(w, direction) * direction), norm(w), rtol=1e-6)


@pytest.mark.optimized
def test_norms_of_large_leaves_of_any_magnitude() -> None:
    """They are scaled only where squares overflow or vanish; one by one, under vmap, and in their gradients."""
    magnitudes = np.array([1e-30, 1e-24, 3e-18, 1e-17, 1e-10, 1.0, 1e15, 1e18, 1e30], np.float32)
    x = values((LARGE,)) * magnitudes[:, None]
    expected = np.linalg.norm(exact(x), axis=1)
    both = jax.jit(jax.value_and_grad(norm))
    results, gradients = jax.vmap(both)(x)
    np.testing.assert_allclose(results, expected, rtol=1e-6)
    np.testing.assert_allclose(gradients, exact(x) / expected[:, None], rtol=1e-5, atol=1e-9)
    for row, one in zip(x, expected, strict=True):
        result, gradient = both(row)
        np.testing.assert_allclose(result, one, rtol=1e-6)
        np.testing.assert_allclose(gradient, exact(row) / one, rtol=1e-5, atol=1e-9)
    for function in (both, jax.vmap(both)):
        result, gradient = function(jnp.zeros((*(1,) * (function is not both), LARGE)))
        assert not np.any(result)
        np.testing.assert_array_equal(gradient, 0)
    mixed = jax.lax.complex(x[-1].at[0].set(1e-30), x[0])
    np.testing.assert_allclose(norm(mixed), np.linalg.norm(exact(mixed)), rtol=1e-6)


@pytest.mark.optimized
@pytest.mark.parametrize("size", [4, LARGE])
def test_gradients_near_the_largest_numbers(size: int) -> None:
    """Twice an element is infinite."""
    x = jnp.full(size, 3e38).at[1:].set(1e37 / math.sqrt(size))
    for function in (jax.grad(norm), jax.jit(jax.grad(norm))):
        np.testing.assert_allclose(function(x)[:2], [1, x[1] / norm(x)], rtol=1e-3)
    many = jax.jit(jax.vmap(jax.grad(norm)))
    np.testing.assert_allclose(many(x[None])[0, 0], 1, rtol=1e-3)


def test_an_eager_norm_is_compiled_once(caplog: pytest.LogCaptureFixture) -> None:
    for scale in (1.0, 1e30):
        x = values((LARGE,), scale)
        norm(x)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            norm(x)
        assert not caplog.records


@pytest.mark.optimized
@pytest.mark.parametrize("size", [2, LARGE - 100, LARGE])
def test_infinities_and_nan_reach_the_norm(size: int) -> None:
    assert norm(jnp.ones(size).at[0].set(jnp.inf)) == jnp.inf
    assert jnp.isnan(norm(jnp.ones(size).at[0].set(jnp.nan)))


@pytest.mark.optimized
def test_the_gradient_of_a_norm() -> None:
    x = jnp.array([3.0, -4.0])
    np.testing.assert_allclose(jax.grad(norm)(x), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(norm)(0 * x), [0, 0])
    for function in (norm, partial(trust_ratio, x)):
        second = jax.grad(jax.grad(lambda scale, f=function: f(scale * x)))(0.0)
        assert second == 0


REDUCTIONS: list[tuple[Any, Any]] = [
    (summed, np.sum),
    (mean, np.mean),
    (largest, np.max),
    (smallest, np.min),
    (std, np.std),
    (norm, lambda x, axis, keepdims: np.sqrt(np.sum(abs(x) ** 2, axis, keepdims=keepdims))),
    (rms, lambda x, axis, keepdims: np.sqrt(np.mean(abs(x) ** 2, axis, keepdims=keepdims))),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "theirs"), REDUCTIONS, ids=lambda f: f.__name__)
def test_reductions(ours: Any, theirs: Any, shape: tuple[int, ...]) -> None:
    """Of all elements, along an axis, or over all but one with length 1; 0 where there are no elements."""
    dtypes = [np.float32] if ours in (largest, smallest) else [np.float32, np.complex64]
    for dtype in dtypes:
        x = values(shape, dtype=dtype)
        n = len(shape)
        axes: list[Any] = [({}, None), *(({"axis": i - n}, i) for i in range(n))]
        axes += [({"over": i - n}, i) for i in range(n)]
        axes += [({"but": i}, tuple(j for j in range(n) if j != i)) for i in range(n)]
        for named, axis in axes:
            result = ours(x, **named)
            keep = bool(named.keys() & {"over", "but"})
            expected = np.zeros(np.sum(exact(x), axis, keepdims=keep).shape)
            expected = theirs(exact(x), axis, keepdims=keep) if x.size else expected
            assert (result.shape, result.dtype) == (np.shape(expected), dtype)
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6)
            if keep:
                assert reduced(shape, **named) == result.shape


def test_an_axis_is_given_once() -> None:
    with pytest.raises(ValueError, match="expected one of axis, over and but, got axis 0"):
        mean(jnp.ones((2, 2)), 0, but=1)
    for named in ({}, {"over": 0, "but": 1}):
        with pytest.raises(ValueError, match="reduced: expected `over` or `but`, got over"):
            reduced((2, 2), **named)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_conditions_count_as_0_and_1(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray([-1.0, 2.0, 3.0], dtype)
        for result, expected in ((summed(x.real > 0), 2), (mean(x.real > 0, over=0)[0], 2 / 3)):
            np.testing.assert_allclose(result, expected, rtol=1e-7)
            assert (result * x).dtype == x.dtype


@pytest.mark.parametrize("options", [(), (0.001, 1e-8), (1.0, 0.0, 0.5), (0.02, 0.3, 1e-6)])
def test_trust_ratio_is_that_of_optax(options: tuple[float, ...]) -> None:
    coefficient, eps, smallest = (*options, *(1.0, 0.0, 0.0)[len(options) :])
    peer = optax.scale_by_trust_ratio(smallest, coefficient, eps)
    for a in (0.0, 0.1, 3.0):
        for b in (0.0, 0.2, 7.0):
            w, direction = values((2, 3), a), values((3, 2), b).T
            expected, _ = peer.update(direction, peer.init(w), w)
            result = trust_ratio(w, direction, *options) * direction
            np.testing.assert_allclose(result, expected, rtol=1e-6)


@given(st.sampled_from(MAGNITUDES), st.sampled_from(MAGNITUDES), st.sampled_from(SHAPES))
@example(1e-30, 1e15, ())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_trusted_direction_is_as_long_as_the_weights(a: float, b: float, shape: Any) -> None:
    with jax.numpy_dtype_promotion("strict"):
        w, direction = values(shape, a), values(shape, b)
        ratio = trust_ratio(w, direction)
        assert jnp.isfinite(ratio)
        if norm(w) == 0 or norm(direction) == 0:
            assert ratio == 1
            return
        moved = norm(ratio * direction)
        assert jnp.isfinite(moved)
        if 1e-37 < a / b < 1e37:  # the ratio is neither subnormal nor infinite
            np.testing.assert_allclose(moved, norm(w), rtol=1e-5, atol=1e-37)


def test_clip() -> None:
    x = jnp.array([-2.0, 0.5, 3.0])
    np.testing.assert_array_equal(clip(x, -1.0, 1), [-1, 0.5, 1])
    np.testing.assert_array_equal(clip(x, x * 0, jnp.float32(0.25)), [0, 0.25, 0.25])
    np.testing.assert_array_equal(clip(x, 2.0, 1.0), [1, 1, 1])
    assert clip(x, 0, 1).dtype == jnp.float32


@given(shapes, st.integers(0, 4))
def test_shapes(shape: tuple[int, ...], smallest: int) -> None:
    assert product(shape) == math.prod(shape)
    axes = two_largest_axes(shape, smallest)
    order = np.argsort(shape)
    if len(shape) < 2 or shape[order[-2]] < smallest:
        assert axes == ()
    else:
        assert sorted(shape[i] for i in axes) == sorted(shape)[-2:]
        if len(set(shape)) == len(shape):
            assert axes == (order[-2], order[-1])
        assert np.zeros(shape).sum(axes[1]).shape == without(shape, axes[1])
    assert two_axes(shape, "largest", smallest) == axes
    assert two_axes(shape, "last", smallest) == tuple(range(len(shape)))[-2:] * (len(shape) > 1)
    assert vectors(shape) == ([(n,) for n in shape] if shape else [()])
    assert matrices(shape) == [(n, n) for n in shape]
    assert matrices(shape, 2) == [(n, n) if n <= 2 else () for n in shape]


def test_two_axes_are_chosen_in_ways_that_there_are() -> None:
    with pytest.raises(ValueError, match="'largest' or 'last', got 'first'"):
        two_axes((2, 3), "first")


def test_without_counts_from_the_end_too() -> None:
    assert without((2, 3, 4), -1) == (2, 3)
    with pytest.raises(IndexError):
        without((2, 3), 2)


@given(shapes.filter(lambda shape: len(shape) >= 2), st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_outer_mean_has_the_means_that_it_is_given(shape: Any, data: Any) -> None:
    first, second = data.draw(st.permutations(range(len(shape))))[:2]

    @jax.jit
    def all_of(x: Any) -> Any:
        row, column = jnp.mean(x, second), jnp.mean(x, first)
        result = outer_mean(row, column, (first, second))
        return result, row, column

    with jax.numpy_dtype_promotion("strict"):
        x = np.asarray(abs(values(shape)) + 0.1)
        result, row, column = map(np.asarray, all_of(x))
    assert (result.shape, result.dtype) == (shape, np.float32)
    assert not np.isnan(result).any()
    if x.size:
        np.testing.assert_allclose(result.mean(second), row, rtol=1e-5)
        np.testing.assert_allclose(result.mean(first), column, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (4, 1, 3), (2, 3, 4), (4, 3, 2)])
def test_outer_mean_is_the_second_moment_of_optax(shape: tuple[int, ...]) -> None:
    g = values(shape)
    peer = optax.scale_by_factored_rms(min_dim_size_to_factor=1, epsilon=1e-30)
    expected, _ = peer.update(g, peer.init(g), g)  # at the first step the moment is the square
    axes = two_largest_axes(shape, 1)
    square = g**2 + 1e-30
    second = outer_mean(jnp.mean(square, axes[1]), jnp.mean(square, axes[0]), axes)
    np.testing.assert_allclose(g / jnp.sqrt(second), expected, rtol=2e-6)


@pytest.mark.optimized
@pytest.mark.parametrize("magnitude", [0.0, 1e-30, 1e15])
def test_outer_mean_of_any_magnitude(magnitude: float) -> None:
    g = values((3, 4), magnitude).at[0].set(0.0)
    square = g**2 + 1e-30
    second = outer_mean(jnp.mean(square, 1), jnp.mean(square, 0), (0, 1))
    assert jnp.isfinite(g / jnp.sqrt(second)).all()
    zero = outer_mean(jnp.zeros(3), jnp.zeros(4), (0, 1))
    np.testing.assert_array_equal(jnp.ones((3, 4)) * 0 / jnp.sqrt(zero), np.zeros((3, 4)))
    # One leaf with elements of 1e15 and of 1e-15: neither product nor share is a float32.
    far = jnp.array([[1e15, 1e15], [1e-15, 1e-15]])
    square = far**2
    np.testing.assert_allclose(
        outer_mean(jnp.mean(square, 1), jnp.mean(square, 0), (0, 1)), square, rtol=1e-6
    )


@given(shapes)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_least_of_largest_bounds_an_array(shape: tuple[int, ...]) -> None:
    """SM3: laid along their axes, the largest elements across each are nowhere smaller than an element."""

    @jax.jit
    def both(x: Any) -> Any:
        mu = [as_vector(largest(x, but=i) if x.ndim else x) for i in range(max(x.ndim, 1))]
        return mu, least([along(v, i, x.ndim) for i, v in enumerate(mu)])

    with jax.numpy_dtype_promotion("strict"):
        x = np.abs(np.asarray(values(shape)))
        mu, bound = jax.tree.map(np.asarray, both(x))
        assert [v.shape for v in mu] == vectors(shape)
        assert bound.shape == x.shape
        assert bound.dtype == jnp.float32
        assert (bound >= x).all()
        if x.ndim < 2:
            np.testing.assert_array_equal(bound, x)
        elif x.size:
            assert bound.max() == x.max()


def test_least_of_nothing() -> None:
    with pytest.raises(ValueError, match="least: expected at least one array"):
        least([])


@pytest.mark.parametrize("axes", [(), (0,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("rows", [3, 3000])
def test_norms_of_slices_of_any_magnitude(rows: int, axes: tuple[int, ...]) -> None:
    """Also beside each other, beside slices of zeros, and with derivatives."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4, 3)) * np.array([1e20, 1e-25, 1.0, 0.0])[:, None]
    x32 = jnp.asarray(x, jnp.float32)
    found = norm(x32, over=axes)
    expected = np.sqrt(np.sum(x**2, axis=axes, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    ordinary = x32[:, 2:3]
    np.testing.assert_allclose(
        norm(ordinary, over=axes),
        np.sqrt(np.sum(x[:, 2:3] ** 2, axis=axes, keepdims=True)),
        rtol=2e-6,
    )
    gradient = jax.grad(lambda x: jnp.sum(norm(x, over=axes)))(x32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(gradient, np.nan_to_num(x / expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e20])
def test_a_trust_ratio_has_a_finite_derivative(scale: float) -> None:
    x = jnp.full(3, scale)
    for argument in (0, 1):
        assert jnp.isfinite(jax.grad(trust_ratio, argument)(x, x)).all()


def test_outer_mean_has_a_finite_derivative() -> None:
    """Adafactor begins with means of 1e-30, whose squares are 0."""
    means = jnp.full(3, 1e-30)
    for argument, expected in enumerate(
        (0.0, 3.0)
    ):  # the sum of the means of columns, times the number of rows
        gradient = jax.grad(lambda *x: jnp.sum(outer_mean(*x, (0, 1))), argument)(means, means)
        np.testing.assert_allclose(gradient, np.full(3, expected), rtol=1e-6, atol=1e-6)
