"""Inputs for which the textbook formulas overflow, cancel or divide by zero: values and finite derivatives.

Values are compared with NumPy in float64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import optax
import pytest

from mlax import losses
from tests.mlax.losses.compiling import quick

pytestmark = [pytest.mark.one_python, pytest.mark.optimized]

EPS = np.finfo(np.float32).eps


def near(result: Any, exact: Any) -> bool:
    """Return whether float32 results are within 4 ulp of float64 ones."""
    return bool(np.all(np.abs(np.asarray(result, np.float64) - exact) <= 4 * EPS * np.abs(exact)))


def log1p_exp(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def test_cross_entropy_of_large_and_sure_logits() -> None:
    """A probability near 1 keeps its digits, where Optax and MLX return 0; huge logits do not overflow."""
    logits = np.array([[30, 0, 0], [0, 0, 1e4], [3e38, 0, 0], [1e-3, 0, -1e-3]], np.float32)
    label = jnp.zeros(4, jnp.int32)
    result = jax.jit(jax.vmap(losses.cross_entropy))(jnp.asarray(logits), label)
    wide = logits.astype(np.float64)
    ahead = wide[:, 1:] - wide[:, :1]
    behind = np.maximum(ahead.max(1), 0)
    exact = np.where(behind > 1, behind, np.log1p(np.exp(np.minimum(ahead, 1)).sum(1)))
    assert near(result, exact)
    assert result[0] > 0
    assert (
        optax.losses.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), label)[0] == 0
    )
    assert float(mlx.nn.losses.cross_entropy(mx.array(logits), mx.zeros(4, mx.int32))[0]) == 0


def test_impossible_classes() -> None:
    """Logits of -inf count where the target is not 0; the gradients are finite."""
    logits = jnp.array([1.0, -jnp.inf, 2.0])
    for targets in (jnp.array([0.5, 0.0, 0.5]), jnp.array(2)):
        value, gradient = quick(jax.value_and_grad(losses.cross_entropy))(logits, targets)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    assert quick(losses.cross_entropy)(logits, jnp.array(1)) == jnp.inf
    assert np.isnan(optax.losses.softmax_cross_entropy(logits, jnp.array([0.5, 0.0, 0.5])))


def test_nothing_is_included() -> None:
    """Without any class, item or element the loss is 0."""
    x, none = jnp.array([1.0, 2.0]), jnp.zeros(2, bool)
    for function in (losses.cross_entropy, losses.ranking_softmax, losses.kl_divergence):
        value, gradient = quick(jax.value_and_grad(function))(x, jnp.array([0.4, 0.6]), where=none)
        assert value == 0
        assert np.all(gradient == 0)
    assert quick(losses.cross_entropy)(x, jnp.array(0), where=none) == 0
    assert np.all(losses.smooth_labels(x, 0.1, where=none) == 0)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 80.0, 1e6, 1e30])
def test_log_cosh(scale: float) -> None:
    """Small errors keep their digits, where Optax's `log(2)` cancels them; large ones do not overflow."""
    errors = np.linspace(-1, 1, 12, dtype=np.float32) * np.float32(scale)
    value, slope = LOG_COSH(jnp.asarray(errors), jnp.zeros(()))
    wide = np.abs(errors.astype(np.float64))
    small = np.minimum(wide, 1)
    exact = np.where(
        wide < 1,
        np.log1p(2 * np.sinh(small / 2) ** 2),
        wide + np.log1p(np.exp(-2 * wide)) - np.log(2),
    )
    assert near(value, exact)
    assert near(slope, np.tanh(errors.astype(np.float64)))
    if scale == 1e-3:
        assert not near(optax.losses.log_cosh(jnp.asarray(errors)), exact)


def test_binary_cross_entropy_of_large_logits() -> None:
    """No overflow, and no NaN from 0 times infinity."""
    logits = np.array([-1e4, -40, 0, 40, 1e4], np.float32)
    loss = jax.jit(jax.vmap(jax.value_and_grad(losses.binary_cross_entropy), (0, None)))
    for target in (0.0, 1.0):
        value, _ = loss(jnp.asarray(logits), jnp.array(target))
        wide = logits.astype(np.float64)
        assert near(value, log1p_exp(wide if target == 0 else -wide))
    value, slope = loss(jnp.array([jnp.inf, 0, 0, 0, 0]), jnp.array(1.0))
    assert value[0] == 0
    assert slope[1] == -0.5


def test_binary_cross_entropy_of_probabilities() -> None:
    """The logarithm of 0 is -100 with derivative 0 (MLX's is NaN); small probabilities keep their digits."""
    p = np.array([0, 1e-6, 0.3, 1 - 1e-6, 1], np.float32)

    def probability_loss(p: Any, t: Any) -> Any:
        return losses.binary_cross_entropy(p, t, with_logits=False)

    wide = p.astype(np.float64)
    with np.errstate(divide="ignore"):
        logs = {1.0: np.maximum(np.log(wide), -100), 0.0: np.maximum(np.log1p(-wide), -100)}
    loss = jax.jit(jax.vmap(jax.value_and_grad(probability_loss), (0, None)))
    for target, log in logs.items():
        value, slope = loss(jnp.asarray(p), jnp.array(target))
        assert near(value, -log)
        assert np.isfinite(slope).all()
    impossible = jnp.array([jnp.nan, -0.5, 1.5, -0.5, 1.5])
    assert np.isnan(loss(impossible, jnp.array(0.5))[0]).all()
    gradient = mx.grad(
        lambda x: mlx.nn.losses.binary_cross_entropy(x, mx.ones(1), with_logits=False)
    )(mx.array([0.0]))
    assert not np.isfinite(np.array(gradient)).all()


def test_divergences_of_zeros() -> None:
    """A target of 0 adds nothing, also where the prediction is impossible; the gradients are finite."""
    log_p, t = jnp.array([-jnp.inf, -1.0, -0.5]), jnp.array([0.0, 0.4, 0.6])
    positive = np.asarray(t[1:], np.float64)
    exact = np.sum(positive * (np.log(positive) - np.asarray(log_p[1:], np.float64)))
    for function, targets in (
        (losses.kl_divergence, t),
        (losses.kl_divergence_with_log_targets, jnp.log(t)),
    ):
        value, gradients = quick(jax.value_and_grad(function, argnums=(0, 1)))(log_p, targets)
        assert abs(value - exact) < 4 * EPS
        assert np.isfinite(gradients[0]).all()
    finite = jnp.array([-2.0, -1.0, -0.5])
    assert np.isfinite(quick(jax.grad(losses.kl_divergence, argnums=1))(finite, t)).all()
    assert not np.isfinite(jax.grad(optax.losses.kl_divergence, argnums=1)(finite, t)).all()


SIMILARITY = jax.jit(partial(losses.cosine_similarity, epsilon=0.0))
LOG_COSH = jax.jit(jax.vmap(jax.value_and_grad(losses.log_cosh), (0, None)))


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e-20, 1.0, 1e20, 3e38])
def test_cosine_of_any_size(size: float) -> None:
    """Squares neither overflow nor underflow, where those of Optax and MLX do."""
    a, b = np.array([3, 4, 0], np.float32) / 5, np.array([1, 1, 1], np.float32)
    exact = (a.astype(float) @ b) / np.sqrt((a.astype(float) @ a) * 3)
    result = SIMILARITY(jnp.asarray(a * np.float32(size)), jnp.asarray(b))
    assert near(result, exact)
    theirs = optax.losses.cosine_similarity(jnp.asarray(a * np.float32(size)), jnp.asarray(b))
    assert near(theirs, exact) == (size == 1.0)


ZERO = jnp.zeros(3)
ONES = jnp.ones(3)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (losses.cosine_similarity, (ZERO, ONES)),
        (losses.cosine_distance, (ZERO, ZERO)),
        (losses.triplet_margin, (ONES, ONES, ONES)),
        (lambda *x: losses.triplet_margin(*x, p=1.5), (ONES, ONES, ZERO)),
        (lambda x: losses.nt_xent(x, jnp.array([0, 0, 1])), (jnp.zeros((3, 2)),)),
        (lambda x: losses.nt_xent(x, jnp.array([0, 0, 0])), (jnp.ones((3, 2)),)),
        (lambda x: losses.nt_xent(x, jnp.array([0, 1, 2])), (jnp.ones((3, 2)),)),
        (lambda x: losses.ctc(x, jnp.array([1, 1, 2, 2])), (jnp.ones((3, 3)),)),
        (losses.gaussian_nll, (ONES, ONES, ZERO)),
        (losses.huber, (1e30 * ONES, ZERO)),
        (losses.triplet_margin, (1e30 * ONES, ZERO, ONES)),
        (lambda x: losses.sigmoid_focal(x, ONES, gamma=0.5), (1e4 * ONES,)),
        (lambda x: losses.sigmoid_focal(x, ZERO, gamma=0.0), (1e4 * ONES,)),
        (lambda x: losses.poly_cross_entropy(x, jnp.array(1)), (jnp.array([1e5, -1e5, 0]),)),
        (lambda x: losses.multiclass_sparsemax(x, jnp.array(1)), (jnp.array([1e5, -1e5, 0]),)),
    ],
)
def test_values_and_gradients_are_finite(function: Callable[..., Any], inputs: Any) -> None:
    """At zero vectors, equal vectors, missing pairs, labels that do not fit and huge errors."""
    arguments = tuple(range(len(inputs)))
    value, gradients = quick(jax.value_and_grad(function, argnums=arguments))(*inputs)
    assert np.isfinite(value)
    for gradient in gradients:
        assert np.isfinite(gradient).all()


def test_ties_share_the_gradient_of_softmax() -> None:
    """If several logits are the largest, the gradient is still softmax minus target."""
    gradient = quick(jax.grad(losses.cross_entropy))(jnp.zeros(4), jnp.array(0))
    np.testing.assert_array_equal(gradient, [-0.75, 0.25, 0.25, 0.25])


def test_ctc_of_labels_that_do_not_fit() -> None:
    """The loss is about minus `log_epsilon`: a large number instead of infinity."""
    ctc = quick(partial(losses.ctc, log_epsilon=-1e3))
    value = ctc(jnp.zeros((3, 3)), jnp.array([1, 1, 2, 2]))
    assert 1e3 < value < 1.1e3


def test_ctc_is_the_sum_over_all_alignments() -> None:
    """Beside the definition: every path that reads as the labels, in float64."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 3)).astype(np.float32)
    p = np.exp(logits.astype(float))
    p /= p.sum(1, keepdims=True)
    labels, total = [1, 2, 2], 0.0
    for path in np.ndindex(*(3,) * 5):
        merged = [c for i, c in enumerate(path) if c != 0 and (i == 0 or c != path[i - 1])]
        if merged == labels:
            total += float(np.prod(p[np.arange(5), path]))
    result = quick(losses.ctc)(jnp.asarray(logits), jnp.asarray(labels))
    assert abs(result + np.log(total)) < 16 * EPS


@pytest.mark.parametrize(
    "name",
    [
        "squared_error",
        "huber",
        "log_cosh",
        "binary_cross_entropy",
        "cross_entropy",
        "cosine_similarity",
        "multiclass_sparsemax",
    ],
)
def test_second_derivatives(name: str) -> None:
    """They are those of the definition, by differences of first derivatives in float64."""
    with jax.enable_x64(True):
        x = jnp.array([0.3, -0.2, 0.1])
        target = jnp.array(1) if name == "multiclass_sparsemax" else jnp.array([0.2, 0.5, 0.3])
        gradient = jax.grad(getattr(losses, name))
        step = 1e-6 * jnp.eye(3)
        after, before = quick(jax.vmap(gradient, (0, None)))(
            jnp.concatenate([x + step, x - step]), target
        ).reshape(2, 3, 3)
        differences = (after - before) / 2e-6
        hessian = quick(jax.jacobian(gradient))(x, target)
        assert np.abs(hessian).max() > 0.01
        np.testing.assert_allclose(hessian, differences, atol=1e-8)


def test_derivative_of_no_error() -> None:
    """It is 0 if the distance is 0, as in MLX; with `jnp.abs` it would be 1."""

    def total(x: Any) -> Any:
        return (
            losses.triplet_margin(ONES, x["distance"], ONES, p=1)
            + losses.absolute_error(x["absolute"], ONES)
            + losses.log_cosh(x["log_cosh"], ONES)
            + losses.huber(x["huber"], ONES)
        )

    ones = dict.fromkeys(("distance", "absolute", "log_cosh", "huber"), ONES)
    for name, gradient in quick(jax.grad(total))(ones).items():
        np.testing.assert_array_equal(gradient, 0, name)
