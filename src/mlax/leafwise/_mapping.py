"""Leaf arithmetic over trees: leaves are widened, computed under strict promotion, and rounded once.

This is the only place that decides which dtype a leaf is computed in. `_rounding` decides how
results are rounded.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._checking.spelling import qualname
from mlax._int8 import decoded, encoded, is_int8
from mlax._jax.dtypes import compute_dtype, epsilon, is_inexact, is_key
from mlax._jax.placement import lying_with, with_type_of
from mlax._jax.tracing import cond
from mlax._jax.trees import TreeDef, flatten
from mlax.leafwise._norms import (
    largest,
    norm,
    root_of,
    scaled_norm,
    smallest,
    sum_of_squares,
    summed,
)
from mlax.leafwise._rounding import Output, Rounding, is_narrower, next_key, random_bits, rounded
from mlax.leafwise._weights_first import in_turn, sums_first, weights_first
from mlax.typing import Weights
from mlax.typing._entries import per_leaf

__all__ = [
    "Totals",
    "count_all",
    "every",
    "handed_on",
    "map_leaves",
    "reduce_leaves",
    "total_max",
    "total_mean",
    "total_min",
    "total_norm",
    "totals",
    "unless",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Leaf: TypeAlias = Callable[..., tuple[Any, ...]]

Totals: TypeAlias = Mapping[str, Array]
"""Values to be summed over all leaves, or their sums, by name."""

_UPDATES = Output()
_TO_NEAREST = Rounding()


# The part of one leaf in a total that is not a sum; `_joined` makes the total from the parts of all leaves.


class _Norm(NamedTuple):
    value: Array  # any shape; of a leaf, its sum of squares, or its norm


class _Mean(NamedTuple):
    total: Array
    size: Array


class _Largest(NamedTuple):
    value: Array  # shape (1,), or (0,) if the leaf has no elements


class _Smallest(NamedTuple):
    value: Array  # likewise


class _Handed(NamedTuple):
    value: Array  # in the dtype that the leaf is computed in


def handed_on(x: Array | float) -> Any:
    """Return a value for `totals` that is an array for each leaf, to be given to a leaf function that follows.

    The tree has the structure of the gradients. Nothing in it is rounded.

    Args:
        x: Any shape.
    """
    return _Handed(jnp.asarray(x))


def total_norm(x: Array) -> Any:
    """Return a value for `totals` that stands for the Euclidean norm of all elements of all leaves.

    It is right where the sum of squares overflows or underflows.

    Args:
        x: Any shape.
    """
    return _Norm(x)


def total_mean(x: Array) -> Any:
    """Return a value for `totals` that stands for the mean of all elements of all leaves; 0 without elements.

    Args:
        x: Any shape. A condition counts as 0 and 1.
    """
    return _Mean(jnp.real(summed(x)), jnp.asarray(float(x.size)))


def total_max(x: Array) -> Any:
    """Return a value for `totals` that stands for the largest element of all leaves; 0 without elements.

    Args:
        x: Any shape; of complex numbers, the real part.
    """
    return _Largest(_extreme(jnp.max, x))


def total_min(x: Array) -> Any:
    """Return a value for `totals` that stands for the smallest element of all leaves; otherwise as `total_max`."""
    return _Smallest(_extreme(jnp.min, x))


def _extreme(function: Callable[..., Array], x: Array) -> Array:
    return function(jnp.real(x), keepdims=True).reshape(1) if x.size else x.real.reshape(0)


def count_all(tree: object) -> Array:
    """Return the number of elements of all leaves, known when the step is traced.

    Returns:
        Shape (), in JAX's default float dtype: integers of 32 bits do not suffice for large models.
    """
    return jnp.asarray(float(sum(x.size for x in flatten(tree)[0])))


def totals(**values: Array) -> Totals:
    """Return named values for `reduce_leaves` to sum over all elements of this leaf and over all leaves.

    Args:
        **values: Arrays of any shape, in which a condition counts as 0 and 1; or what `total_norm`, `total_mean`,
            `total_max` and `total_min` return, for a norm, a mean or an extreme instead of a sum.
    """
    return values


def map_leaves(
    leaf: Leaf,
    h: object,
    /,
    inputs: tuple[Weights, *tuple[Any, ...]],
    slots: tuple[*Ts],
    output: Output = _UPDATES,
    **scalars: Array | float | None,
) -> tuple[Weights, *Ts]:
    """Call `leaf(h, *inputs, *slots, **scalars)` for each leaf and return the trees of its results.

    A leaf is computed in the widest dtype among its entries; dtypes narrower than float32 count as
    float32. Arrays are cast to it first, Python numbers adapt, and nothing is promoted implicitly.
    Each result is rounded once. A finite result too large for its dtype becomes the dtype's largest
    number.

    Args:
        leaf: Arithmetic of one leaf. It returns an update and the new slots, in the order of
            `slots`. It must be a module-level function, not a closure: it is traced once for each
            shape and dtype, and recognised by identity.
        h: The hyperparameters, static and hashable but for arrays that are its leaves, which `leaf`
            sees as it does scalars. If it has a method `check_dtype`, this is called with each
            dtype that leaves are computed in; if it has a method `per_leaf`, that returns the
            hyperparameters of each leaf.
        inputs: The gradients, which determine the leaves, and other trees with an entry for each
            leaf. If one is None, `leaf` gets None.
        slots: Trees with one entry for each leaf, an array or a tree of arrays. If one is None,
            `leaf` gets None, and None is returned.
        output: Whether the first result is an update or a new weight, and how results are rounded.
        **scalars: Arrays of shape () and Python numbers, the same for all leaves. If one is None,
            `leaf` gets None. If one is a PRNG key, each leaf gets its own, folded from the key and
            the leaf's position in the tree, where None counts as a position.

    Returns:
        The updates or new weights, in the dtypes of the gradients, and the slots, in their own
        dtypes.
    """
    results, treedef = _results(
        update_leaf, leaf, h, inputs, slots=slots, output=output, scalars=scalars
    )
    updates = treedef.unflatten([update for update, _ in results])
    new_slots = _unflatten(treedef, slots, [new for _, new in results])
    return cast("tuple[Weights, *Ts]", (updates, *new_slots))


def reduce_leaves(
    leaf: Leaf,
    h: object,
    /,
    inputs: tuple[Any, ...],
    slots: tuple[*Ts],
    rounding: Rounding = _TO_NEAREST,
    **scalars: Array | float | None,
) -> tuple[tuple[*Ts], Totals]:
    """Call `leaf(h, *inputs, *slots, **scalars)` for each leaf and return the new slots, and sums over all
    leaves.

    Used for the part of a step before a reduction across leaves, such as a global norm or an inner
    product. Leaves are computed as in `map_leaves`, and sums over a leaf in the same dtype.

    Args:
        leaf: Arithmetic of one leaf. It returns the new slots, and `totals` of arrays of any shape.
        h: As in `map_leaves`.
        inputs: As in `map_leaves`.
        slots: As in `map_leaves`, but only those that change.
        rounding: How new slots are rounded.
        **scalars: As in `map_leaves`.

    Returns:
        The slots, and the sums, norms, means or extremes over all elements of all leaves, by name:
        shape (), in JAX's default float dtype; of complex numbers, only the real part. Without leaves every sum is 0.
    """

    def reduced(function: Any) -> tuple[list[tuple[Any, list[Any]]], TreeDef]:
        output = Output(rounding=rounding)
        return _results(function, leaf, h, inputs, slots=slots, output=output, scalars=scalars)

    def norm_of_norms(name: str) -> Array:
        return norm(jnp.stack([part[name].value for part, _ in reduced(norms_of_leaf)[0]]))

    results, treedef = reduced(reduce_leaf)
    new_slots = tuple(_unflatten(treedef, slots, [new for _, new in results]))
    sums: Totals = defaultdict(_zero)  # without leaves, the names are unknown
    if results:
        parts = [part for part, _ in results]
        size = sum(x.size for x in flatten(inputs[0])[0])
        sums = {
            name: root_of(
                functools.reduce(lax.add, [part[name].value for part in parts]),
                size,
                functools.partial(norm_of_norms, name),
            )
            if isinstance(parts[0][name], _Norm)
            else _joined([part[name] for part in parts], treedef)
            for name in parts[0]
        }
    return cast("tuple[*Ts]", new_slots), sums


def _joined(parts: list[Any], treedef: TreeDef) -> Any:
    """Return the total of the parts of all leaves, or the tree of what is handed on."""
    match parts[0]:
        case _Handed():
            return treedef.unflatten([part.value for part in parts])
        case _Mean():
            size = functools.reduce(lax.add, [part.size for part in parts])
            total: Array = functools.reduce(lax.add, [part.total for part in parts])
            return total / jnp.maximum(size, 1.0)
        case _Largest():
            return largest(jnp.concatenate([part.value for part in parts]))
        case _Smallest():
            return smallest(jnp.concatenate([part.value for part in parts]))
        case _:
            plain: Array = functools.reduce(lax.add, parts)
            return plain


def _zero() -> Array:
    return jnp.zeros((), jnp.result_type(float))


def _results(
    function: Any,
    leaf: Leaf,
    h: object,
    /,
    inputs: tuple[Any, ...],
    *,
    slots: Any,
    output: Output,
    scalars: dict[str, Any],
) -> tuple[list[tuple[Any, list[Any]]], TreeDef]:
    """Return for each leaf its first result and its new slots; and the structure of the tree."""
    if not hasattr(leaf, "__qualname__"):
        raise TypeError(f"{leaf!r}: expected a module-level function, which has a name")
    treedef: Any
    gradients, treedef = flatten(inputs[0])
    columns: list[list[Any]] = [
        treedef.flatten_up_to(tree) if gradients and tree is not None else [None] * len(gradients)
        for tree in (*inputs, *slots)
    ]
    # The weights are only needed to add updates to them, or to round stochastically.
    stochastic = output.rounding.is_stochastic
    read = output.applied or (stochastic and output.weights is not None)
    weights = treedef.flatten_up_to(output.weights) if read else [None] * len(gradients)
    key = output.rounding.key(qualname(leaf).rpartition(".")[2])
    positions: list[Any] = [None] * len(gradients)
    if key is not None or any(_is_key(scalar) for scalar in scalars.values()):
        # Positions are arrays, so that leaves that differ only in their position are traced once.
        places = flatten(inputs[0], is_leaf=_is_none)[0]
        positions = [np.uint32(i) for i, place in enumerate(places) if place is not None]
    owners = per_leaf(h, len(gradients))
    fixed = {id(own): _fixed(own) for own in owners}
    results: list[Any] = []
    form = _Form(output.applied, output.rounding.only_int8)
    before = np.uint32(0)
    large: list[Any] = []
    large_before: dict[object, Array] = {}
    with jax.named_scope(leaf.__module__.rpartition(".")[2]):
        for position, weight, own, *entries in zip(
            positions, weights, owners, *columns, strict=True
        ):
            last = None
            structure, arrays = fixed[id(own)]
            if key is not None:
                last, before = (key, position - before), position
            entries[0] = in_turn(entries[0], large, large_before)
            first, new_slots, key, temporaries = function(
                leaf,
                structure,
                len(inputs),
                form,
                weight,
                entries,
                (scalars, position, last, arrays),
            )
            large = [*filter(is_int8, new_slots)]
            large = large or (jax.tree.leaves(first) if temporaries.large else [])
            results.append((first, new_slots))
    return results, treedef


def _fixed(h: object) -> tuple[object, list[Any]]:
    """Return what of the hyperparameters is static, and the arrays in them. With arrays, it is their structure."""
    arrays, structure = flatten(h)
    if arrays and all(isinstance(x, jax.Array | np.ndarray) for x in arrays):
        return structure, arrays
    return h, []


def _is_none(x: Any) -> bool:
    return x is None


def _unflatten(treedef: TreeDef, slots: Any, results: list[list[Any]]) -> list[Any]:
    return [
        None if slot is None else treedef.unflatten([result[i] for result in results])
        for i, slot in enumerate(slots)
    ]


class _Form(NamedTuple):
    """The static part of an `Output`."""

    applied: bool
    only_int8: bool


@jax.tree_util.register_static
class _Temporaries(NamedTuple):
    """Whether new weights need large temporary arrays; known when the leaf is traced."""

    large: bool


# One jitted function for all optimizers; everything that is not an array is static. Under an outer `jit` each
# distinct leaf is traced once: for Adam and 1,000 leaves, tracing takes 138 ms instead of 769. Outside `jit` it is
# compiled once; a closure would be compiled again in each step.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def update_leaf(
    leaf: Leaf, h: object, inputs: int, form: _Form, weight: Any, entries: Any, shared: Any
) -> tuple[Array, list[Any], Array | None, _Temporaries]:
    given, slots = entries[:inputs], entries[inputs:]

    def computed(slots: list[Any]) -> tuple[Array, list[Any], Array | None]:
        results = _computed(leaf, h, given + slots, shared)
        if len(results) != 1 + len(slots):
            raise ValueError(
                f"{_name(leaf)}: expected an update and {len(slots)} slots, got {len(results)} results"
            )
        bits = _Bits(shared, form.only_int8)
        update = _like(given[0], results[0])
        moved = _moved(update, weight, form.applied, given[0].dtype, bits)
        return moved, _rounded(leaf, slots, results[1:], bits), bits.key

    # Only for new weights: an update must stay visible to XLA, so that it can be fused with what follows.
    results, large = weights_first(computed, slots) if form.applied else (computed(slots), False)
    moved, new, key = results
    moved = with_type_of(given[0] if weight is None else weight, moved)
    return moved, _placed(slots, new), key, _Temporaries(large)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def reduce_leaf(
    leaf: Leaf, h: object, inputs: int, form: _Form, _weight: Any, entries: Any, shared: Any
) -> tuple[dict[str, Any], list[Any], Array | None, _Temporaries]:
    return _reduced(leaf, h, inputs, form, entries, shared, sum_of_squares)


# If squares overflow or underflow. One branch for all leaves, which computes what it needs from the leaves: anything
# computed before would be written to memory to be passed in.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def norms_of_leaf(
    leaf: Leaf, h: object, inputs: int, form: _Form, _weight: Any, entries: Any, shared: Any
) -> tuple[dict[str, Any], list[Any], Array | None, _Temporaries]:
    norms, new, key, _ = _reduced(leaf, h, inputs, form, entries, shared, scaled_norm)
    return norms, new, key, _Temporaries(large=True)


def _reduced(
    leaf: Leaf,
    h: object,
    inputs: int,
    form: _Form,
    entries: Any,
    shared: Any,
    of_norm: Callable[[Array], Array],
) -> tuple[dict[str, Any], list[Any], Array | None, _Temporaries]:
    """Return sums and new slots of one leaf.

    Args:
        leaf: As in `reduce_leaves`.
        h: Likewise.
        inputs: The number of entries that are not slots.
        form: The static part of the output.
        entries: Of the leaf.
        shared: What all leaves have in common.
        of_norm: From an array, magnitudes in the default float dtype, to the leaf's part of `total_norm`.
    """
    default = jnp.result_type(float)

    def part(x: Any) -> Any:
        match x:
            case _Handed():
                return x
            case _Norm():
                return _Norm(of_norm(jnp.abs(x.value).astype(default)))
            case tuple():
                return jax.tree.map(stored, x)
            case _:
                return stored(summed(jnp.real(x)))

    def stored(x: Array) -> Array:
        return x.astype(default)

    def computed(slots: list[Any]) -> tuple[dict[str, Any], list[Any], Array | None]:
        results = _computed(leaf, h, entries[:inputs] + slots, shared)
        if list(map(type, results)) != [tuple, dict]:
            raise ValueError(f"{_name(leaf)}: expected a tuple of slots, and totals(...)")
        if len(results[0]) != len(slots):
            raise ValueError(f"{_name(leaf)}: expected {len(slots)} slots, got {len(results[0])}")
        bits = _Bits(shared, form.only_int8)
        sums = {name: part(x) for name, x in results[1].items()}
        return sums, _rounded(leaf, slots, results[0], bits), bits.key

    slots = entries[inputs:]
    sums, new, key = sums_first(computed, slots)
    return sums, _placed(slots, new), key, _Temporaries(large=False)


def _placed(slots: list[Any], new: list[Any]) -> list[Any]:
    """Return new slots that lie where the old ones do."""
    result: list[Any] = jax.tree.map(lying_with, slots, new)
    return result


def _computed(leaf: Leaf, h: object, entries: Any, shared: Any) -> tuple[Any, ...]:
    scalars, position, _, arrays = shared
    # Only to find the widest dtype; nothing is promoted.
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(
            *{compute_dtype(x.dtype) for x in jax.tree.leaves(entries) if _is_inexact(x)}
        )
    widen = functools.partial(_widen, dtype=dtype)
    if arrays:
        h = cast("TreeDef", h).unflatten(map(widen, arrays))
    check_dtype = getattr(h, "check_dtype", None)
    if check_dtype is not None:
        check_dtype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        if position is not None:
            scalars = {
                name: jax.random.fold_in(scalar, position) if _is_key(scalar) else scalar
                for name, scalar in scalars.items()
            }
        wide_entries, wide_scalars = jax.tree.map(widen, (entries, scalars), is_leaf=is_int8)
        with _python_numbers_as(dtype):
            return leaf(h, *wide_entries, **wide_scalars)


def _is_inexact(x: Any) -> bool:
    return is_inexact(jnp.result_type(x))


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and is_key(x.dtype)


def _python_numbers_as(dtype: Any) -> AbstractContextManager[Any]:
    """Return a context in which Python numbers have the precision of a dtype.

    Under `jax_enable_x64` they have that of float64. Beside an array they adapt, but the sum of
    `where(g > 0, 1.0, 0.0)` does not.
    """
    is_double = epsilon(dtype) < epsilon(np.float32)
    return nullcontext() if is_double else jax.enable_x64(False)


def _widen(x: Any, dtype: Any) -> Any:
    if is_int8(x):
        return decoded(x).astype(dtype)
    # Anything that is not inexact, such as an index or a PRNG key, is not computed with.
    return jnp.asarray(x).astype(dtype) if _is_inexact(x) else x


class _Bits:
    """Provides each result of a leaf with its own random bits; with None if results are rounded to nearest."""

    def __init__(self, shared: Any, only_int8: bool) -> None:
        last = shared[2]
        self.key: Array | None = None if last is None else next_key(*last)
        self.only_int8 = only_int8
        self.count = 0

    def store(self, x: Array, dtype: Any) -> Array:
        """Return the next result in the dtype that it is stored in."""
        self.count += 1
        stochastic = not self.only_int8 and is_narrower(dtype, x.dtype)
        return rounded(x, dtype, self._bits(x) if stochastic else None)

    def store_like(self, x: Array, old: Any) -> Any:
        """Return the next result stored like an old one, an array or an `Int8`."""
        if not is_int8(old):
            return self.store(x, old.dtype)
        self.count += 1
        return encoded(x, old, self._bits(x))

    def _bits(self, x: Array) -> Array | None:
        return None if self.key is None else random_bits(self.key, self.count, x.shape)


def _moved(update: Array, weight: Any, applied: bool, dtype: Any, bits: _Bits) -> Array:
    """Return the update in the dtype that it is stored in, or the weight with the update added."""
    if weight is None:
        return bits.store(update, dtype)
    wide = jnp.asarray(weight)
    if (wide.dtype, wide.shape) != (dtype, update.shape):
        # Even with checks off, nothing is promoted or broadcast.
        raise TypeError(
            f"weights of dtype {wide.dtype} and shape {wide.shape} cannot take a step of dtype "
            f"{dtype} and shape {update.shape}"
        )
    if jnp.iscomplexobj(wide) and not jnp.iscomplexobj(update):
        update = update.astype(wide.dtype)
    wide = wide.astype(update.dtype)
    new = bits.store(wide + update, dtype)
    if applied:
        return new
    if is_narrower(dtype, update.dtype):
        update = new.astype(update.dtype) - wide
    return rounded(update, dtype)


def _rounded(leaf: Leaf, slots: Sequence[Any], results: Sequence[Any], bits: _Bits) -> list[Any]:
    """Return new entries of slots with the dtypes and structure of the old ones; lists from comprehensions
    become tuples.
    """
    stored: list[Any] = []
    for old, new in zip(slots, results, strict=True):
        leaves, structure = flatten(old, is_int8)
        entry: Any = tuple(cast("Sequence[Any]", new)) if isinstance(new, list) else new
        new_leaves, new_structure = flatten(entry)
        if old is None:
            stored.append(None)
            continue
        if structure != new_structure:
            raise ValueError(
                f"{_name(leaf)}: a slot with {len(leaves)} arrays for a leaf of this shape got "
                f"{len(new_leaves)} ({new_structure} for {structure})"
            )
        pairs = zip(leaves, new_leaves, strict=True)
        stored.append(structure.unflatten(bits.store_like(_like(x, y), x) for x, y in pairs))
    return stored


def _like(old: Any, result: Any) -> Array:
    """Return a result for an old entry, not yet rounded: it must have the same shape, and becomes real if the
    entry is.
    """
    new = jnp.asarray(result)
    if new.shape != old.shape:
        raise ValueError(f"a leaf of shape {old.shape} became one of shape {new.shape}")
    if jnp.iscomplexobj(new) and not jnp.issubdtype(old.dtype, jnp.complexfloating):
        new = new.real
    return new


def _name(leaf: Leaf) -> str:
    return f"{leaf.__module__}.{qualname(leaf)}"


def unless(test: Array, new: T, old: T) -> T:
    """Return a new value, or the old one where a test holds. Both are computed.

    Args:
        test: Boolean, shape ().
        new: An array or a tree of arrays.
        old: The same structure and shapes. Its dtypes are those of the result.
    """
    leaves, treedef = flatten(old)
    pairs = zip(leaves, flatten(new)[0], strict=True)
    # A new value may be real where the old one is complex, and the other way round if it is to be stored as real.
    chosen = (
        jnp.where(test, x, y if _is_key(y) else _like(x, y).astype(x.dtype)) for x, y in pairs
    )
    result: T = treedef.unflatten(map(with_type_of, leaves, chosen))
    return result


def every(interval: int, cycle: Array, new: Callable[[], T], old: T, first: int = 1) -> T:
    """Return a new value in step `first` and every `interval` steps after it; otherwise the old one.

    Args:
        interval: Static, positive.
        cycle: Number of steps done before this one, or its remainder by a multiple of `interval`:
            int32, shape ().
        new: Computes the new value. Not called in other steps, except under `vmap` over `step`.
        old: An array or a tree of arrays. `new` returns the same structure, shapes and dtypes.
        first: Static, from 1 to `interval`.
    """
    if interval == 1:
        return new()
    leaves, treedef = flatten(old)

    def computed() -> T:
        # A comprehension makes a list, and a slot is a tuple.
        result: T = treedef.unflatten(map(with_type_of, leaves, flatten(new())[0]))
        return result

    return cond(cycle % interval == first - 1, computed, lambda: old)
