"""The slots of a new state: trees with one entry for each leaf of the weights.

An entry is an array like the leaf. If a function of the leaf's shape is given, it is an array of
another shape, a tuple of arrays, or the empty tuple. It has the dtype of the leaf, or `slot_dtype`.
Results share no memory with the arguments, so that both can be donated.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import map_leaves
from mlax.optimizer._hyperparameters import Dtype, Number
from mlax.optimizer._stepping import initial
from mlax.typing import Weights
from mlax.typing._entries import EntryShape, Shape, entry_shapes
from mlax.typing._weights import slot_dtype_of

__all__ = ["copies", "full", "identities", "zeros"]


def zeros(
    weights: Weights,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    """Return a slot of zeros, with the shape, dtype and sharding of the weights, leaf by leaf.

    Args:
        weights: Inexact arrays.
        slot_dtype: A real dtype for all leaves in place of their own. Complex leaves get its
            complex counterpart.
        shape: Returns the shape, or shapes, of an entry, if it is not that of the leaf.
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
    """Return a slot filled with one number.

    `value` is the number, or a schedulable hyperparameter; for a schedule, its value at step 0. The
    other arguments are those of `zeros`.
    """
    number = value if isinstance(value, int | float) else initial(value)

    def filled(leaf: Any, size: Shape, dtype: Any) -> Array:
        # `full_like` gives a slot of the leaf's shape the leaf's sharding.
        if size != leaf.shape:
            return _full(number, size, dtype)
        if is_tracer(leaf) or getattr(leaf, "committed", False):
            return jnp.full_like(leaf, number, dtype=dtype)
        return _full(number, size, dtype)

    return _slot(weights, slot_dtype, _once(filled), shape=shape, h=h)


def _filled(number: Any, size: Shape, dtype: Any) -> Array:
    return jnp.full(size, number, dtype=dtype)


# Compiled, because a call outside `jit` then takes a tenth of the time.
_full: Callable[[Any, Shape, Any], Array] = jax.jit(_filled, static_argnums=(1, 2))


def copies(weights: Weights, slot_dtype: Dtype | None) -> Weights:
    """Return a slot that is a copy of the weights, in separate buffers.

    The arguments are those of `zeros`.
    """
    return _slot(weights, slot_dtype, lambda leaf, _, dtype: jnp.array(leaf, dtype, copy=True))


def identities(
    weights: Weights, slot_dtype: Dtype | None, *, shape: EntryShape, h: object = None
) -> Weights:
    """Return a slot of identity matrices.

    The arguments are those of `zeros`. Each shape must be (n, n), or () for an axis without a
    matrix.
    """

    def identity(_: Any, size: Shape, dtype: Any) -> Array:
        return jnp.eye(size[0], dtype=dtype) if size else jnp.ones(size, dtype)

    return _slot(weights, slot_dtype, _once(identity), shape=shape, h=h)


Make: TypeAlias = Callable[[Any, Shape, Any], Array]
"""Makes an array of an entry, given the leaf, and the shape and dtype of the array."""


def _once(make: Make) -> Make:
    """Return a function that, while it is traced, makes only one array for each shape and dtype, and returns it
    again.

    This is only for arrays that do not depend on a leaf's values. While tracing, an array is a
    value, and `jit` gives it a buffer of its own for each place in the result. Outside `jit`, a new
    array is made for each leaf.
    """
    made: dict[Any, Array] = {}

    def made_once(leaf: Any, size: Shape, dtype: Any) -> Array:
        form = (jax.typeof(leaf), size, dtype)
        array = made.get(form)
        if array is None:
            array = make(leaf, size, dtype)
            if is_tracer(array):
                made[form] = array
        return array

    return made_once


def _slot(
    weights: Weights,
    slot_dtype: Dtype | None,
    make: Make,
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
