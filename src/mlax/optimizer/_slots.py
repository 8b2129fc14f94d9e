"""The slots of a new state: trees with one entry for each leaf of the weights.

An entry is an array like the leaf. If a function of the leaf's shape is given, it is an array of
another shape, a tuple of arrays, or the empty tuple. It has the dtype of the leaf, or `slot_dtype`.
Results share no memory with the arguments, so that both can be donated.

On a mesh of devices, an axis of an entry that is an axis of the leaf is sharded as that is, and all others are whole on
each device. Which axes these are is seen in the function itself: it is called with lengths that know their axis.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from mlax._int8 import Int8, Range, decoded, dtype_of, encoded, is_int8, scales_shape
from mlax._jax.dtypes import compute_dtype, is_complex, is_inexact
from mlax._jax.placement import (
    alike,
    known_sharding,
    may_be_sharded,
    may_lie_on_mesh,
    spec_of,
    with_type_of,
)
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of, leaves, map_leaves
from mlax.optimizer._hyperparameters import Dtype, Number
from mlax.optimizer._stepping import initial
from mlax.tree import describe, flatten_given, keystr
from mlax.typing import Weights
from mlax.typing._entries import EntryShape, Shape, entry_shapes, per_leaf
from mlax.typing._weights import fault, slot_dtype_of

__all__ = ["copies", "full", "identities", "normals", "slot_values", "zeros"]


def zeros(
    weights: Weights,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
    int8: Range | None = None,
) -> Weights:
    """Return a slot of zeros, with the shape, dtype and sharding of the weights, leaf by leaf.

    Args:
        weights: Inexact arrays.
        slot_dtype: A real dtype for all leaves in place of their own. Complex leaves get its
            complex counterpart. int8: the dtype of the leaves, except for entries in eight
            bits.
        shape: Returns the shape, or shapes, of an entry, if it is not that of the leaf.
        h: The hyperparameters, for `shape`.
        int8: For the dtype int8: which numbers entries of the leaf's shape hold, which are then `Int8`,
            unless they are complex or take too much memory for scales. None: no entry is. A slot of
            nonnegative numbers is annotated so: `Annotated[Weights, NonNegative]`.
    """
    return full(weights, 0.0, slot_dtype, shape=shape, h=h, int8=int8)


def full(
    weights: Weights,
    value: Number,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
    int8: Range | None = None,
) -> Weights:
    """Return a slot filled with one number.

    `value` is the number, or a schedulable hyperparameter; for a schedule, its value at step 0. The
    other arguments are those of `zeros`.
    """
    number = value if isinstance(value, int | float) else initial(value)
    array = _filled_with(number)
    if int8 is None or slot_dtype != jnp.int8:
        return _slot(weights, slot_dtype, array, shape=shape, h=h)

    one = Int8(jnp.zeros(1, dtype_of(int8)), jnp.zeros(1, np.float32))
    one = encoded(jnp.full(1, number, np.float32), one)
    values, scales = _filled_with(one.values[0]), _filled_with(one.scales[0])

    def entry(leaf: Any, size: Shape, dtype: Any, axes: Axes) -> Any:
        of_scales = None
        if size == leaf.shape and not is_complex(dtype):
            of_scales = scales_shape(size)
        if of_scales is None:
            return array(leaf, size, dtype, axes)
        return Int8(
            values(leaf, size, dtype_of(int8), axes),
            scales(leaf, of_scales, np.float32, axes and axes[: len(of_scales)]),
        )

    return _slot(weights, slot_dtype, entry, shape=shape, h=h)


def _filled_with(number: Any) -> "Make":
    """Return a function that makes arrays filled with a number."""

    def filled(leaf: Any, size: Shape, dtype: Any, axes: Axes) -> Array:
        like = _is_like(leaf, size, axes)
        if like and (is_tracer(leaf) or getattr(leaf, "committed", False)):
            return jnp.full_like(leaf, number, dtype=dtype)
        sharding = None if is_tracer(leaf) else _sharding(leaf, size, axes)
        if sharding is not None:
            return jnp.full(size, number, dtype, device=sharding)
        return _full(number, size, dtype)

    return _placed(filled)


def _filled(number: Any, size: Shape, dtype: Any) -> Array:
    return jnp.full(size, number, dtype=dtype)


# Compiled, because a call outside `jit` then takes a tenth of the time.
_full: Callable[[Any, Shape, Any], Array] = jax.jit(_filled, static_argnums=(1, 2))


def slot_values(slot: Weights) -> Weights:
    """Return a slot with the numbers of every `Int8` in it, as arrays of float32.

        optim.slot_values(state.m)

    Args:
        slot: A slot of a state, or any tree. Other leaves that are narrower than float32 are
            widened to it; those that are not floating-point do not change.

    Raises:
        TypeError: A leaf is not an array, the scales of an `Int8` do not fit its values, or the keys of
            a dict cannot be sorted.
    """

    def values(path: KeyPath, leaf: Any) -> Any:
        if is_int8(leaf):
            if reason := fault(leaf):
                raise TypeError(f"slot_values: slot{keystr(path)}: {reason}")
            return decoded(leaf)
        dtype: Any = getattr(leaf, "dtype", None)
        if dtype is None:
            raise TypeError(
                f"slot_values: slot{keystr(path)} must be an array, got {describe(leaf)}"
            )
        return leaf.astype(compute_dtype(dtype)) if is_inexact(dtype) else leaf

    found, treedef = flatten_given("slot_values: slot", slot, is_int8)
    tree: Weights = treedef.unflatten(values(path, leaf) for path, leaf in found)
    return tree


def copies(weights: Weights, slot_dtype: Dtype | None) -> Weights:
    """Return a slot that is a copy of the weights, in separate buffers.

    The arguments are those of `zeros`.
    """
    return _slot(weights, slot_dtype, lambda leaf, _, dtype, __: jnp.array(leaf, dtype, copy=True))


def identities(
    weights: Weights, slot_dtype: Dtype | None, *, shape: EntryShape, h: object = None
) -> Weights:
    """Return a slot of identity matrices.

    The arguments are those of `zeros`. Each shape must be (n, n), or () for an axis without a
    matrix.
    """

    def identity(leaf: Any, size: Shape, dtype: Any, axes: Axes) -> Array:
        sharding = None if is_tracer(leaf) else _sharding(leaf, size, axes)
        if sharding is not None:
            eye: Any = np.eye(*size, dtype=dtype) if size else np.ones((), dtype)
            return jax.make_array_from_callback(size, sharding, lambda index: eye[index])
        return jnp.eye(size[0], dtype=dtype) if size else jnp.ones(size, dtype)

    return _slot(weights, slot_dtype, _placed(identity), shape=shape, h=h)


def normals(
    weights: Weights,
    key: Array,
    deviation: Number,
    slot_dtype: Dtype | None,
    *,
    shape: EntryShape | None = None,
    h: object = None,
    int8: Range | None = None,
    number: int = 0,
) -> Weights:
    """Return a slot of independent normal numbers with mean 0.

    Complex numbers have the same variance as real ones, half of it in each part.

    Args:
        weights: Inexact arrays.
        key: A PRNG key of shape (), as it is in a new state. Steps draw other numbers from it.
        deviation: Standard deviation: a number, or an array of shape ().
        slot_dtype: As in `zeros`. Numbers are drawn at least in float32, and rounded.
        shape: As in `zeros`.
        h: As in `zeros`.
        int8: As in `zeros`.
        number: Slots with the same key and different numbers hold different noise.
    """
    zero = zeros(weights, slot_dtype, shape=shape, h=h, int8=int8)
    entries = jax.tree.leaves(zero, is_leaf=is_int8)
    key = jax.random.fold_in(key, 2**32 - 1 - number)  # not the number of any step

    def drawn(place: int, entry: Any) -> Any:
        start = decoded(entry) if is_int8(entry) else entry
        dtype = compute_dtype(start.dtype)
        numbers = jax.random.normal(jax.random.fold_in(key, place), start.shape, dtype)
        numbers = (initial(deviation) * numbers).astype(start.dtype)
        found = start + with_type_of(start, numbers)  # sharded as the zeros are
        found = alike(start, found) if may_be_sharded(start) else found
        return encoded(found, entry) if is_int8(entry) else found

    made = iter([drawn(i, entry) for i, entry in enumerate(entries)])
    slot: Weights = map_leaves(lambda _: next(made), zero, is_int8)
    return slot


Axes: TypeAlias = tuple[int | None, ...] | None
"""For each axis of an array of an entry, the axis of the leaf that it is; None for none. None if the leaf is certainly
not on a mesh of several devices."""

Make: TypeAlias = Callable[[Any, Shape, Any, Axes], Array]
"""Makes an array of an entry, given the leaf, and the shape, dtype and axes of the array."""


def _placed(make: Make) -> Make:
    """Return a function that, while it is traced, places arrays as the leaf is, and makes only one for each type
    of leaf, shape and dtype, and returns it again.

    This is only for arrays that do not depend on a leaf's values. While tracing, an array is a
    value, and `jit` gives it a buffer of its own for each place in the result. Outside `jit`, a new
    array is made for each leaf.
    """
    made: dict[Any, Array] = {}

    def placed(leaf: Any, size: Shape, dtype: Any, axes: Axes) -> Array:
        form = (jax.typeof(leaf), size, dtype, axes)
        array = made.get(form)
        if array is None:
            array = make(leaf, size, dtype, axes)
            if not is_tracer(array):
                return array
            sharding = _sharding(leaf, size, axes) if is_tracer(leaf) else None
            if sharding is not None:
                array = jax.sharding.reshard(array, sharding)
            if axes is not None and leaf.size and may_be_sharded(leaf):
                return alike(_outline(leaf, size, axes), array)  # the next leaf may lie elsewhere
            made[form] = array
        return array

    return placed


def _sharding(leaf: Any, size: Shape, axes: Axes) -> NamedSharding | None:
    """Return how an array of an entry is to be sharded; None if the leaf is not on a mesh, as far as that is known."""
    sharding = known_sharding(leaf)
    if sharding is None or axes is None:
        return None
    spec = spec_of(sharding, leaf.ndim)
    mine = [
        None if axis is None else _dividing(length, spec[axis], sharding.mesh)
        for length, axis in zip(size, axes, strict=True)
    ]
    return NamedSharding(sharding.mesh, PartitionSpec(*mine))


def _dividing(length: int, entry: Any, mesh: Any) -> Any:
    """Return an entry of a `PartitionSpec`, without the last axes of the mesh in it if a length cannot be divided by
    all.
    """
    names: list[Any] = [*entry] if class_of(entry) is tuple else [entry]
    while length % math.prod(mesh.shape.get(name, 1) for name in names):
        names.pop()
    return (*names,) if len(names) > 1 else next(iter(names), None)


def _is_like(leaf: Any, size: Shape, axes: Axes) -> bool:
    return size == leaf.shape and (axes is None or axes == tuple(range(leaf.ndim)))


def _outline(leaf: Any, size: Shape, axes: tuple[int | None, ...]) -> Any:
    """Return an array of the given shape that is sharded as a leaf is along the axes that they share.

    Its values are not used, so that nothing is computed.
    """
    if _is_like(leaf, size, axes):
        return leaf
    first = len(size) - 1
    if size and axes == (*range(len(size)),) and size[:first] == leaf.shape[:first]:
        block, rest = divmod(math.prod(leaf.shape[first:]), size[first])
        if not rest:  # as the scales of an `Int8`
            return lax.index_in_dim(leaf.reshape(*size, block), 0, len(size), keepdims=False)
    shared = {
        axis: i for i, axis in enumerate(axes) if axis is not None and leaf.shape[axis] == size[i]
    }
    for axis in reversed(range(leaf.ndim)):
        if axis not in shared:
            leaf = lax.index_in_dim(leaf, 0, axis, keepdims=False)
    places = [shared[axis] for axis in sorted(shared)]
    leaf = lax.transpose(leaf, sorted(range(leaf.ndim), key=places.__getitem__))
    return lax.broadcast_in_dim(leaf, size, sorted(places))


class _Length(int):
    """The length of an axis of a leaf, which knows the axis."""

    axis: int

    @classmethod
    def of(cls, axis: int, length: int) -> "_Length":
        made = cls(length)
        made.axis = axis
        return made


def _axes(shape: Sequence[int]) -> tuple[int | None, ...]:
    """Return the axes that lengths know. An axis in two places, as in a matrix for an axis, is none."""
    known = [length.axis if isinstance(length, _Length) else None for length in shape]
    count = Counter(known)
    return tuple(axis if count[axis] == 1 else None for axis in known)


def _slot(
    weights: Weights,
    slot_dtype: Dtype | None,
    make: Make,
    *,
    shape: EntryShape | None = None,
    h: object = None,
) -> Weights:
    def entry(leaf: Any, h: object) -> Any:
        dtype = leaf.dtype if slot_dtype is None else slot_dtype_of(leaf.dtype, slot_dtype)
        on_mesh = may_lie_on_mesh(leaf)
        lengths: Shape = leaf.shape
        if on_mesh:
            lengths = tuple(_Length.of(axis, length) for axis, length in enumerate(lengths))
        shapes: Any = lengths if shape is None else entry_shapes(shape, h, lengths)

        def made(one: Shape) -> Array:
            if on_mesh:
                return make(leaf, tuple(map(int, one)), dtype, _axes(one))
            return make(leaf, one, dtype, None)

        if isinstance(shapes, list):
            return tuple(map(made, cast("list[Shape]", shapes)))
        return made(shapes)

    owners = iter(per_leaf(h, len(leaves(weights))))
    slot: Weights = map_leaves(lambda leaf: entry(leaf, next(owners)), weights)
    return slot
