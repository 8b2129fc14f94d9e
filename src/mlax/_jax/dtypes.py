"""Dtypes: what kind they are, which dtype to compute them in, and their limits."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "canonical",
    "compute_dtype",
    "epsilon",
    "is_complex",
    "is_inexact",
    "is_key",
    "largest_number",
    "promotion_is_strict",
    "smallest_number",
    "smallest_subnormal",
]


def is_complex(dtype: object) -> bool:
    """Return whether a dtype is complex."""
    return jnp.issubdtype(cast("Any", dtype), jnp.complexfloating)


def is_inexact(dtype: object) -> bool:
    """Return whether a dtype is floating-point or complex, including narrow dtypes unknown to NumPy."""
    return jnp.issubdtype(cast("Any", dtype), jnp.inexact)


def is_key(dtype: object) -> bool:
    """Return whether a dtype is one of PRNG keys."""
    return jnp.issubdtype(cast("Any", dtype), jax.dtypes.prng_key)


def canonical(dtype: object) -> np.dtype[Any]:
    """Return the dtype that JAX uses in place of a NumPy dtype: without x64, float32 for float64."""
    result: np.dtype[Any] = cast("Any", jax.dtypes.canonicalize_dtype)(dtype)
    return result


def compute_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype to compute a floating-point or complex dtype in: float32 if it is narrower."""
    # JAX's promotion cannot be used: it has no common dtype for float8 and others. Complex dtypes
    # are all wider than float32.
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def epsilon(dtype: object) -> float:
    """Return the distance from 1 to the next number of a floating-point or complex dtype."""
    return float(cast("Any", jnp.finfo)(dtype).eps)


def largest_number(dtype: object) -> float:
    """Return the largest finite number of a floating-point or complex dtype."""
    return float(cast("Any", jnp.finfo)(dtype).max)


def smallest_number(dtype: object) -> float:
    """Return the smallest positive normal number of a floating-point or complex dtype."""
    return float(cast("Any", jnp.finfo)(dtype).smallest_normal)


def smallest_subnormal(dtype: object) -> float:
    """Return the smallest positive number of a floating-point or complex dtype."""
    return float(cast("Any", jnp.finfo)(dtype).smallest_subnormal)


def promotion_is_strict() -> bool:
    """Return whether JAX refuses to promote arrays of different dtypes."""
    promotion: str = cast("Any", jax.config).jax_numpy_dtype_promotion
    return promotion == "strict"
