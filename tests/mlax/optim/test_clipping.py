"""Clipping against MLX, Optax and NumPy."""

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers as mlx_optimizers
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlax import LeafMismatchError, optim

pytestmark = pytest.mark.one_python

SHAPES = [(), (4,), (3, 4), (2, 1), (2, 3, 4), (2, 3, 4, 5), (0, 3)]


def tree(seed: int, scale: float = 1.0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(scale * rng.normal(size=shape), jnp.float32) for shape in SHAPES]


def assert_close(ours: Any, theirs: Any) -> None:
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-30)


@settings(max_examples=12)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(1.0, 0.0), (1.0, 1e-3), (1.0, 5.0), (1.0, 100.0), (1e-7, 1e-7)]),
)
def test_clip_grad_norm_is_mlx(seed: int, sizes: tuple[float, float]) -> None:
    """Small ones too, where the 1e-6 added to the norm shows."""
    scale, max_norm = sizes
    gradients = tree(seed, scale)
    clipped, length = optim.clip_grad_norm(gradients, max_norm)
    mlx_clipped, mlx_length = mlx_optimizers.clip_grad_norm(
        {str(i): mx.array(np.asarray(g)) for i, g in enumerate(gradients)}, max_norm
    )
    assert_close(clipped, [np.array(mlx_clipped[str(i)]) for i in range(len(gradients))])
    assert_close(length, np.array(mlx_length))
    assert_close(optim.global_norm(gradients), optax.tree.norm(gradients))


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1e-3, 0.5, 2.0]))
def test_clip_grad_value_and_adaptive_are_optax(seed: int, limit: float) -> None:
    gradients, weights = tree(seed), tree(seed + 1, 0.1)
    theirs, _ = optax.clip(limit).update(gradients, optax.EmptyState())
    assert_close(optim.clip_grad_value(gradients, limit), theirs)
    theirs, _ = optax.adaptive_grad_clip(limit).update(gradients, optax.EmptyState(), weights)
    assert_close(optim.clip_grad_adaptive(gradients, weights, limit), theirs)


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 100.0])
def test_clip_grad_leaf_norm(max_norm: float) -> None:
    """Each leaf as `clip_grad_norm` clips it alone."""
    gradients = tree(0)
    alone = [optim.clip_grad_norm([g], max_norm)[0][0] for g in gradients]
    assert_close(optim.clip_grad_leaf_norm(gradients, max_norm), alone)


def test_norms_neither_overflow_nor_vanish() -> None:
    """The squares of 1e30 and 1e-30 do not fit into float32, that of 256 not into float16."""
    for size in (1e30, 1e-30):
        norm = optim.global_norm([jnp.full(4, size), jnp.full((3, 4), size)])
        np.testing.assert_allclose(norm, 4 * size, rtol=1e-6)
    clipped, norm = optim.clip_grad_norm([jnp.full(4, 1e30)], 1.0)
    np.testing.assert_allclose(clipped[0], 0.5, rtol=1e-6)
    half = jnp.full(4, 256.0, jnp.float16)
    clipped, norm = optim.clip_grad_norm([half, half.astype(jnp.bfloat16)], 1.0)
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, 512 * 2**0.5, rtol=1e-6)
    assert [g.dtype for g in clipped] == [jnp.float16, jnp.bfloat16]


@pytest.mark.optimized
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_global_norm_takes_no_memory(dtype: Any) -> None:
    """Magnitudes and widened leaves are not written to memory; that took twelve times as long.

    The memory that remains is for one leaf at a time, which is scaled if its squares underflow.
    jaxlib 0.10.1 keeps a scaled copy of each leaf in float32.
    """
    leaves = [jnp.ones((2**6, 2**8), dtype) for _ in range(16)]
    compiled = jax.jit(optim.global_norm).lower(leaves).compile()
    at_most = 4 * leaves[0].nbytes
    if importlib.metadata.version("jaxlib") == "0.10.1":
        at_most = len(leaves) * 4 * leaves[0].size + 4096
    assert compiled.memory_analysis().temp_size_in_bytes < at_most


@pytest.mark.parametrize("size", [3e38, 1e-37])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_in_float64_norms_of_float32_do_not_overflow(dtype: Any, size: float) -> None:
    """However the elements are divided into leaves."""
    with jax.enable_x64(True):
        x = jnp.full(2**15, size, dtype)
        expected = np.linalg.norm(np.asarray(x).astype(np.complex128))
        for leaves in ([x], list(x.reshape(2**3, -1)), list(x[:16])):
            share = sum(leaf.size for leaf in leaves) / x.size
            length = optim.global_norm(leaves)
            np.testing.assert_allclose(length, expected * share**0.5, rtol=1e-12)


@pytest.mark.parametrize("size", [1e20, 1e-25])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (200, 100)])
def test_adaptive_clipping_of_any_magnitude(shape: tuple[int, ...], size: float) -> None:
    """Of one unit beside others of usual size."""
    g = jnp.ones(shape).at[..., 0].set(size)
    w = jnp.ones(shape).at[..., 0].set(min(size, 1.0))
    clipped = optim.clip_grad_adaptive(g, w, 0.25, eps=1e-30)
    expected = np.full(shape, 0.25)
    if len(shape) > 1:
        expected[:, 0] *= min(size, 1.0)
        np.testing.assert_allclose(clipped, expected, rtol=1e-5)
    else:
        expected = (
            0.25 * np.linalg.norm(np.asarray(w, float)) / np.linalg.norm(np.asarray(g, float))
        )
        np.testing.assert_allclose(clipped, expected * np.asarray(g, float), rtol=1e-5)


CLIPS: dict[str, Any] = {
    "norm": lambda g: optim.clip_grad_norm(g, 0.5)[0],
    "leaf_norm": lambda g: optim.clip_grad_leaf_norm(g, 0.5),
    "value": lambda g: optim.clip_grad_value(g, 0.5),
    "adaptive": lambda g: optim.clip_grad_adaptive(g, jnp.ones_like(g), 0.5),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64"])
def test_what_has_too_large_a_norm_is_clipped(name: str, dtype: str) -> None:
    """Whether the norm overflows, or its reciprocal underflows in the dtype of the gradients."""
    for x64 in (dtype == "float64", True):
        with jax.enable_x64(x64):
            clip = jax.jit(CLIPS[name])
            g = jnp.asarray([500.0, -500.0, 0.0, 500.0], dtype)
            for exponent in (119, 1015) if dtype == "float64" else (90, 110, 119):
                np.testing.assert_allclose(clip(g * 2.0**exponent), clip(g), rtol=1e-6)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_clipping_can_be_differentiated_at_zero(name: str, dtype: str) -> None:
    """Nothing is clipped there. Also where only a column is zero, and where gradients are tiny."""
    for g in (jnp.zeros((2, 3)), jnp.full((2, 3), 1e-25), jnp.ones((2, 3)).at[:, 0].set(0.0)):
        g = g.astype(dtype)  # noqa: PLW2901
        gradient = jax.grad(lambda g: jnp.sum(CLIPS[name](g).real))(g)
        assert jnp.isfinite(gradient).all()
        if not g[0, 1].real > 0.1:
            np.testing.assert_allclose(gradient, np.ones((2, 3)), rtol=1e-6)


def test_nothing_to_clip() -> None:
    """Empty trees have norm 0; gradients of zero stay zero, and their derivative is finite."""
    assert optim.clip_grad_norm({}, 1.0) == ({}, 0.0)
    zeros = [jnp.zeros(3), jnp.zeros((2, 3))]
    for clip in (
        lambda g: optim.clip_grad_norm(g, 1.0)[0],
        lambda g: optim.clip_grad_leaf_norm(g, 1.0),
        lambda g: optim.clip_grad_value(g, 1.0),
    ):
        assert_close(clip(zeros), zeros)
        (derivative,) = jax.grad(lambda x, clip=clip: clip([x])[0].sum())(zeros[0])[None]
        assert jnp.isfinite(derivative).all()


def test_complex_gradients_keep_their_direction() -> None:
    g = [jnp.array([3 + 4j, 0.3 + 0.4j, 0], jnp.complex64)]
    np.testing.assert_allclose(
        optim.clip_grad_value(g, 1.0)[0], [0.6 + 0.8j, 0.3 + 0.4j, 0], rtol=1e-6
    )
    clipped, norm = optim.clip_grad_norm(g, 1.0)
    np.testing.assert_allclose(norm, np.linalg.norm(np.asarray(g[0])), rtol=1e-6)
    assert clipped[0].dtype == jnp.complex64


def test_limits_may_be_arrays() -> None:
    """Traced ones too: a limit can be a schedule's value, without another trace."""
    g = tree(0)
    jitted = jax.jit(optim.clip_grad_norm)
    for limit in (0.5, 2.0):
        assert_close(jitted(g, jnp.asarray(limit)), optim.clip_grad_norm(g, limit))
    assert jitted._cache_size() == 1


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        (lambda g: optim.clip_grad_norm(g, -1.0), ValueError, "max_norm must be >= 0, got -1.0"),
        (
            lambda g: optim.clip_grad_norm(g, jnp.nan),
            ValueError,
            "max_norm must be a finite number, got nan",
        ),
        (lambda g: optim.clip_grad_value(g, -1.0), ValueError, "max_value must be >= 0"),
        (lambda g: optim.clip_grad_leaf_norm(g, jnp.array(-1.0)), ValueError, "max_norm must be"),
        (lambda g: optim.clip_grad_adaptive(g, g, -1.0), ValueError, "clipping must be >= 0"),
        (lambda g: optim.clip_grad_adaptive(g, g, eps=0.0), ValueError, "eps must be > 0, got 0.0"),
        (
            lambda g: optim.clip_grad_adaptive(g, g[:2]),
            LeafMismatchError,
            "optim.clip_grad_adaptive: leaves",
        ),
        (lambda g: optim.clip_grad_norm(g, "1"), TypeError, "clip_grad_norm: max_norm must be"),
        (lambda g: optim.clip_grad_norm([1, 2], 1.0), LeafMismatchError, "gradients[0]: 1 (int)"),
    ],
)
def test_mistakes_are_named(clip: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        clip(tree(0))
    assert message in str(caught.value)
