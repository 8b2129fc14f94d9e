"""The slots of a new state: trees with one entry for each leaf of the weights.

An entry is an array like the leaf; or, where a function of the leaf's shape says so, an array of another shape, a tuple
of arrays, or the empty tuple. Each has the dtype of its leaf, or `slot_dtype`. Nothing that is returned shares memory
with what was given, so that it can be donated.
"""

from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array

from mlax._entries import EntryShape, Shape, entry_shapes
from mlax._trees import map_leaves
from mlax._weights import slot_dtype_of
from mlax.hyperparameters import Dtype, Number
from mlax.stepping import initial
from mlax.typing import Weights

__all__ = ["copies", "full", "identities", "zeros"]


def zeros(
    weights: Weights,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    """Return a slot that begins at zero: like the weights, leaf by leaf in shape, dtype and sharding.

    Args:
        weights: Inexact arrays.
        slot_dtype: A real dtype for all leaves instead of their own; its complex counterpart where a leaf is complex.
        shape: Says the shapes of each entry, where they are not those of the leaves.
        h: The hyperparameters, for `shape`.
    """
    return full(weights, 0.0, slot_dtype, shape=shape, h=h)


def full(
    weights: Weights,
    value: Number,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    """Return a slot that begins at one number everywhere.

    Args:
        weights: As for `zeros`, and all others too.
        value: The number, or a schedulable hyperparameter; of a schedule its value at step 0.
        slot_dtype: As for `zeros`.
        shape: As for `zeros`.
        h: As for `zeros`.
    """
    number = value if isinstance(value, int | float) else initial(value)

    def filled(leaf: Any, size: Shape, dtype: Any) -> Array:
        # Like the leaf, it is sharded like the leaf.
        if size == leaf.shape:
            return jnp.full_like(leaf, number, dtype=dtype)
        return jnp.full(size, number, dtype=dtype)

    return _slot(weights, slot_dtype, filled, shape=shape, h=h)


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
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    def entry(leaf: Any) -> Any:
        dtype = leaf.dtype if slot_dtype is None else slot_dtype_of(leaf.dtype, slot_dtype)
        shapes = leaf.shape if shape is None else entry_shapes(shape, h, leaf.shape)
        if isinstance(shapes, list):
            return tuple(make(leaf, one, dtype) for one in cast("list[Shape]", shapes))
        return make(leaf, shapes, dtype)

    slot: Weights = map_leaves(entry, weights)
    return slot
