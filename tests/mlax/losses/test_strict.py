"""The strict losses: as NumPy in float64, and infinite or NaN if the result is undefined."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax.experimental import losses
from tests.mlax.losses.compiling import quick

pytestmark = pytest.mark.one_python

P = np.array([0.2, 0.5, 0.3], np.float32)
T = np.array([0.6, 0.1, 0.3], np.float32)


def kl(p: Any, q: Any) -> Any:
    return np.sum(p * np.log(p / q))


DEFINITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "absolute_error": lambda p, t: np.mean(abs(p - t)),
    "absolute_percentage_error": lambda p, t: 100 * np.mean(abs((p - t) / t)),
    "binary_crossentropy": lambda p, t: np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p)),
    "categorical_crossentropy": lambda p, t: -np.sum(t * np.log(p)),
    "cosine_distance": lambda p, t: 1 - p @ t / np.linalg.norm(p) / np.linalg.norm(t),
    "cosine_similarity": lambda p, t: p @ t / np.linalg.norm(p) / np.linalg.norm(t),
    "jensen_shannon_divergence": lambda p, t: (kl(p, (p + t) / 2) + kl(t, (p + t) / 2)) / 2,
    "kl_divergence": lambda p, t: kl(t, p),
    "poisson": lambda p, t: np.mean(p - t * np.log(p)),
    "squared_error": lambda p, t: np.mean((p - t) ** 2),
    "squared_logarithmic_error": lambda p, t: np.mean((np.log(1 + p) - np.log(1 + t)) ** 2),
}


def test_every_loss_has_its_definition_here() -> None:
    """But for the one that takes a label."""
    assert {*DEFINITIONS, "sparse_categorical_crossentropy"} == set(losses.__all__)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definition(name: str) -> None:
    """Value and gradient, to 4 ulp of the terms, which are up to 1 here; of percentages, up to 400."""
    function = jax.value_and_grad(getattr(losses, name))
    value, gradient = quick(function)(jnp.asarray(P), jnp.asarray(T))
    p, t = P.astype(float), T.astype(float)
    size = 512 if "percentage" in name else 4 if "divergence" in name or "entropy" in name else 1
    tolerance = 4 * size * np.finfo(np.float32).eps
    assert abs(value - DEFINITIONS[name](p, t)) < tolerance
    step = 1e-6 * np.eye(3)
    differences = [(DEFINITIONS[name](p + d, t) - DEFINITIONS[name](p - d, t)) / 2e-6 for d in step]
    np.testing.assert_allclose(gradient, differences, atol=tolerance + 1e-8 * size)


def test_label() -> None:
    """The log of one probability; infinite where that is 0."""
    assert losses.sparse_categorical_crossentropy(jnp.asarray(P), jnp.array(1)) == -jnp.log(0.5)
    assert losses.sparse_categorical_crossentropy(jnp.array([0.0, 1.0]), jnp.array(0)) == jnp.inf


def test_nothing_is_clipped() -> None:
    """If mathematics has no result, neither has the loss."""
    zero, half, certain = jnp.zeros(2), jnp.full(2, 0.5), jnp.array([0.0, 1.0])
    for name in (
        "categorical_crossentropy",
        "binary_crossentropy",
        "kl_divergence",
        "jensen_shannon_divergence",
        "cosine_similarity",
        "cosine_distance",
    ):
        assert np.isnan(getattr(losses, name)(zero if "cosine" in name else certain, certain)), name
    assert losses.categorical_crossentropy(certain, half) == jnp.inf
    assert losses.absolute_percentage_error(half, zero) == jnp.inf
    assert np.isnan(losses.squared_logarithmic_error(-2 * half - 1, half))
    assert np.isnan(losses.poisson(zero, zero))
