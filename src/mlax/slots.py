"""The slots of a new state: trees with one entry for each leaf of the weights.

An entry is an array like the leaf; or, where a function of the leaf's shape says so, an array of another shape, a tuple
of arrays, or the empty tuple. Each has the dtype of its leaf, or `slot_dtype`. Nothing that is returned shares memory
with what was given, so that it can be donated.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array

from mlax._entries import EntryShape, Shape, entry_shapes
from mlax._jax import epsilon
from mlax._trees import KeyPath, map_with_path
from mlax._weights import slot_dtype_of
from mlax.hyperparameters import Dtype, Number
from mlax.stepping import initial
from mlax.tree import keystr
from mlax.typing import Weights

__all__ = ["copies", "full", "identities", "zeros"]


def zeros(
    weights: Weights,
    slot_dtype: Dtype | None,
    decay: Number | None = None,
    *,
    squares: bool = False,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    """Return a slot that begins at zero: like the weights, leaf by leaf in shape, dtype and sharding.

    Args:
        weights: Inexact arrays.
        slot_dtype: A real dtype for all leaves instead of their own; its complex counterpart where a leaf is complex.
        decay: What the slot is multiplied by in each step, to warn where its dtype is too narrow for that.
        squares: Whether it holds squares of gradients, to warn where they leave the range of its dtype.
        shape: Says the shapes of each entry, where they are not those of the leaves.
        h: The hyperparameters, for `shape`.
    """
    return full(weights, 0.0, slot_dtype, decay, squares=squares, shape=shape, h=h)


def full(
    weights: Weights,
    value: Number,
    slot_dtype: Dtype | None,
    decay: Number | None = None,
    *,
    squares: bool = False,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    """Return a slot that begins at one number everywhere.

    Args:
        weights: As for `zeros`, and all others too.
        value: The number, or a schedulable hyperparameter; of a schedule its value at step 0.
        slot_dtype: As for `zeros`.
        decay: As for `zeros`.
        squares: As for `zeros`.
        shape: As for `zeros`.
        h: As for `zeros`.
    """
    number = value if isinstance(value, int | float) else initial(value)

    def filled(leaf: Any, size: Shape, dtype: Any) -> Array:
        # Like the leaf, it is sharded like the leaf.
        if size == leaf.shape:
            return jnp.full_like(leaf, number, dtype=dtype)
        return jnp.full(size, number, dtype=dtype)

    return _slot(weights, slot_dtype, filled, decay=decay, squares=squares, shape=shape, h=h)


def copies(weights: Weights, slot_dtype: Dtype | None) -> Weights:
    """Return a slot that begins as a copy of the weights; never the same buffers.

    Args:
        weights: As for `zeros`.
        slot_dtype: As for `zeros`.
    """
    return _slot(weights, slot_dtype, lambda leaf, _, dtype: jnp.array(leaf, dtype, copy=True))


def identities(
    weights: Weights, slot_dtype: Dtype | None, *, shape: EntryShape, h: object = None
) -> Weights:
    """Return a slot of identity matrices.

    Args:
        weights: As for `zeros`.
        slot_dtype: As for `zeros`.
        shape: As for `zeros`; (n, n) each, or (0, 0).
        h: As for `zeros`.
    """

    def identity(_: Any, size: Shape, dtype: Any) -> Array:
        rows, columns = size
        return jnp.eye(rows, columns, dtype=dtype)

    return _slot(weights, slot_dtype, identity, shape=shape, h=h)


def _slot(
    weights: Weights,
    slot_dtype: Dtype | None,
    make: Callable[[Any, Shape, Any], Array],
    *,
    decay: Number | None = None,
    squares: bool = False,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    narrow: dict[Any, KeyPath] = {}

    def entry(path: KeyPath, leaf: Any) -> Any:
        dtype = leaf.dtype if slot_dtype is None else slot_dtype_of(leaf.dtype, slot_dtype)
        shapes = leaf.shape if shape is None else entry_shapes(shape, h, leaf.shape)
        if shapes != []:
            narrow.setdefault(dtype, path)
        if isinstance(shapes, list):
            return tuple(make(leaf, one, dtype) for one in cast("list[Shape]", shapes))
        return make(leaf, shapes, dtype)

    slot: Weights = map_with_path(entry, weights)
    for dtype, path in narrow.items():
        _warn(dtype, path, decay, squares)
    return slot


def _warn(dtype: Any, path: KeyPath, decay: Number | None, squares: bool) -> None:
    """Warn where a slot in a dtype would stall, or leave its range."""
    where = f"a slot in {dtype.name} (for weights{keystr(path)})"
    if isinstance(decay, float) and 1 - decay < epsilon(dtype) / 4:
        message = (
            f"{where} never decays at {decay} a step: each change is rounded away. "
            "Give slot_dtype=jnp.float32, or a smaller decay."
        )
    elif squares and dtype == jnp.float16:
        message = (
            f"{where} holds squares of gradients: those of gradients below 2e-4 become 0, which makes their updates "
            "huge, and those above 256 are cut off. Give slot_dtype=jnp.float32, or use bfloat16."
        )
    else:
        return
    warnings.warn(message, UserWarning, stacklevel=_outside())


def _outside() -> int:
    """Return the stack level of the first caller outside this library, JAX, and the modules of optimizers.

    A module of an optimizer, generated or not, is known by its State. Where a script is one itself, it is the caller.
    """
    nearest, level, frame = 0, 0, inspect.currentframe()
    while frame:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("mlax", "jax"):
            nearest = nearest or level
            state = frame.f_globals.get("State")
            if "hyperparameters" not in getattr(state, "_fields", ()):
                return level
        level, frame = level + 1, frame.f_back
    return nearest
