"""Functions of JAX that type checkers know too little about, with the types they have."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = [
    "Path",
    "Tracer",
    "canonical",
    "epsilon",
    "flatten",
    "flatten_with_path",
    "is_inexact",
    "is_tracer",
]

Path: TypeAlias = tuple[Any, ...]
"""Keys from the root of a tree to one of its leaves."""


def flatten(tree: object) -> tuple[list[Any], Any]:
    """Return the leaves and the structure of a tree."""
    leaves, treedef = cast("Any", jax.tree.flatten)(tree)
    return leaves, treedef


def flatten_with_path(
    tree: object, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[tuple[Path, Any]], Any]:
    """Return the leaves of a tree with their paths, and its structure."""
    leaves, treedef = cast("Any", jax.tree_util.tree_flatten_with_path)(tree, is_leaf=is_leaf)
    return leaves, treedef


def is_tracer(leaf: object) -> bool:
    """Return whether a leaf stands for an array that is not there yet."""
    return isinstance(leaf, Tracer)


def is_inexact(dtype: object) -> bool:
    """Return whether a dtype is floating-point or complex, the narrow ones that NumPy does not know included."""
    return jnp.issubdtype(cast("Any", dtype), jnp.inexact)


def canonical(dtype: object) -> np.dtype[Any]:
    """Return the dtype that JAX uses for a NumPy dtype: without x64, float32 for float64."""
    result: np.dtype[Any] = cast("Any", jax.dtypes.canonicalize_dtype)(dtype)
    return result


def epsilon(dtype: object) -> float:
    """Return the distance from 1 to the next number of a floating-point or complex dtype."""
    return float(cast("Any", jnp.finfo)(dtype).eps)
