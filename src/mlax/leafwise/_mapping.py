"""Leaf arithmetic over trees: widened, under strict promotion, rounded once.

This is the one place that decides in which dtype a leaf is computed.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax import is_inexact, is_key, largest_number
from mlax._trees import TreeDef, flatten
from mlax.hyperparameters import refuse_vanishing
from mlax.typing import Weights

__all__ = ["every", "map_leaves", "reduce_leaves"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Leaf: TypeAlias = Callable[..., tuple[Any, ...]]


def map_leaves(
    leaf: Leaf,
    h: object,
    inputs: tuple[Weights, *tuple[Any, ...]],
    slots: tuple[*Ts],
    **scalars: Array | float | None,
) -> tuple[Weights, *Ts]:
    """Call `leaf(h, *inputs, *slots, **scalars)` for each leaf; return the trees of its results.

    A leaf is computed in the widest dtype among its entries, those narrower than float32 counting as float32. Arrays
    are cast to it before, Python numbers are left to follow, and in between nothing is promoted implicitly. Each result
    is rounded once, to the largest number of its dtype where it is finite and beyond.

    Args:
        leaf: Arithmetic of one leaf: returns an update and the new slots, in the order of `slots`. A module-level
            function, no closure: it is traced once for each shape and dtype, and found again by identity.
        h: Static and hashable: the hyperparameters.
        inputs: The gradients, which say what the leaves are, and other trees with an entry for each. None is passed on
            as None.
        slots: Trees with one entry for each leaf, an array or a tree of arrays. None is passed on and comes back.
        **scalars: Arrays of shape () and Python numbers, the same for all leaves. None is passed on as None. Each leaf
            is given a PRNG key of its own, folded from the key and the leaf's position.

    Returns:
        The updates, in the dtypes of the gradients, and the slots, in their own.
    """
    results, treedef = _results(update_leaf, leaf, h, inputs, slots=slots, scalars=scalars)
    updates = treedef.unflatten([update for update, _ in results])
    new_slots = _unflatten(treedef, slots, [new for _, new in results])
    return cast("tuple[Weights, *Ts]", (updates, *new_slots))


def reduce_leaves(
    leaf: Leaf,
    h: object,
    inputs: tuple[Any, ...],
    slots: tuple[*Ts],
    **scalars: Array | float | None,
) -> tuple[tuple[*Ts], tuple[Array, ...]]:
    """Call `leaf(h, *inputs, *slots, **scalars)` for each leaf; return the new slots, and sums over all leaves.

    What a step does before a reduction across leaves: a global norm, an inner product. Leaves are computed as by
    `map_leaves`, and what is to be summed is summed in the dtype of the leaf's arithmetic.

    Args:
        leaf: Arithmetic of one leaf: returns the new slots, and a tuple of arrays of any shape to be summed. Its return
            annotation, `tuple[tuple[Array, ...], tuple[Array, Array]]`, says how many, for trees without leaves.
        h: As for `map_leaves`.
        inputs: As for `map_leaves`.
        slots: As for `map_leaves`; only those that are written.
        **scalars: As for `map_leaves`.

    Returns:
        The slots, and the sums over all elements of all leaves: in JAX's default float dtype, shape (); of complex
        numbers the real part.
    """
    results, treedef = _results(reduce_leaf, leaf, h, inputs, slots=slots, scalars=scalars)
    dtype = jnp.result_type(float)
    columns = zip(*(sums for sums, _ in results), strict=True)
    totals = tuple(
        functools.reduce(lax.add, [one.astype(dtype) for one in column]) for column in columns
    )
    if not results:
        totals = tuple(jnp.zeros((), dtype) for _ in range(_count_of_totals(leaf)))
    new_slots = tuple(_unflatten(treedef, slots, [new for _, new in results]))
    return cast("tuple[*Ts]", new_slots), totals


def _results(
    function: Any,
    leaf: Leaf,
    h: object,
    inputs: tuple[Any, ...],
    *,
    slots: Any,
    scalars: dict[str, Any],
) -> tuple[list[tuple[Any, list[Any]]], TreeDef]:
    """Return what the leaves give, each its first result and its new slots, and the structure that they stand in."""
    treedef: Any
    gradients, treedef = flatten(inputs[0])
    columns: list[list[Any]] = [
        [None] * len(gradients) if tree is None else treedef.flatten_up_to(tree)
        for tree in (*inputs, *slots)
    ]
    keys = any(_is_key(scalar) for scalar in scalars.values())
    results: list[Any]
    with jax.named_scope(leaf.__module__.rpartition(".")[2]):
        results = [
            function(
                leaf, h, len(inputs), entries, (scalars, np.uint32(position) if keys else None)
            )
            for position, entries in enumerate(zip(*columns, strict=True))
        ]
    return results, treedef


def _unflatten(treedef: TreeDef, slots: Any, results: list[list[Any]]) -> list[Any]:
    return [
        None if slot is None else treedef.unflatten([result[i] for result in results])
        for i, slot in enumerate(slots)
    ]


# One jitted function for all optimizers, with everything that is not an array static: under an outer `jit` each
# distinct leaf is traced once, and called eagerly it is compiled once. A closure would be compiled in each eager step.
# The position of a leaf is an array too: it is what leaves with a random key differ in.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def update_leaf(
    leaf: Leaf, h: object, inputs: int, entries: Any, shared: Any
) -> tuple[Array, list[Any]]:
    results = _computed(leaf, h, entries, shared)
    slots = entries[inputs:]
    if len(results) != 1 + len(slots):
        raise ValueError(
            f"{_name(leaf)}: expected an update and {len(slots)} slots, got {len(results)} results"
        )
    return _round(entries[0], results[0]), _rounded(leaf, slots, results[1:])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def reduce_leaf(
    leaf: Leaf, h: object, inputs: int, entries: Any, shared: Any
) -> tuple[list[Array], list[Any]]:
    results = _computed(leaf, h, entries, shared)
    slots = entries[inputs:]
    if len(results) != 2 or not all(isinstance(result, tuple) for result in results):
        raise ValueError(f"{_name(leaf)}: expected a tuple of slots and a tuple of what to sum")
    if len(results[0]) != len(slots):
        raise ValueError(f"{_name(leaf)}: expected {len(slots)} slots, got {len(results[0])}")
    return [jnp.sum(jnp.real(x)) for x in results[1]], _rounded(leaf, slots, results[0])


def _computed(leaf: Leaf, h: object, entries: Any, shared: Any) -> tuple[Any, ...]:
    scalars, position = shared
    with jax.numpy_dtype_promotion("standard"):  # the widest one is asked for, nothing is promoted
        dtype = jnp.result_type(
            *{_compute_dtype(x.dtype) for x in jax.tree.leaves(entries) if _is_inexact(x)}
        )
    refuse_vanishing(h, dtype)
    with jax.numpy_dtype_promotion("strict"):
        if position is not None:
            scalars = {
                name: jax.random.fold_in(scalar, position) if _is_key(scalar) else scalar
                for name, scalar in scalars.items()
            }
        wide_entries, wide_scalars = jax.tree.map(
            functools.partial(_widen, dtype=dtype), (entries, scalars)
        )
        return leaf(h, *wide_entries, **wide_scalars)


def _compute_dtype(dtype: Any) -> Any:
    # Not as JAX promotes: it knows no common dtype of float8 and others. Complex dtypes are wider.
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def _is_inexact(x: Any) -> bool:
    return is_inexact(jnp.result_type(x))


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and is_key(x.dtype)


def _widen(x: Any, dtype: Any) -> Any:
    # What is not inexact is no value to compute with: an index, or a random key. Weakly typed is a Python number.
    if not _is_inexact(x) or getattr(jax.typeof(x), "weak_type", False):
        return x
    return jnp.asarray(x).astype(dtype)


def _rounded(leaf: Leaf, slots: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Return new entries of slots in the form of the old ones: dtypes, and tuples where a comprehension made a list."""
    rounded: list[Any] = []
    for old, new in zip(slots, results, strict=True):
        leaves, structure = flatten(old)
        entry: Any = tuple(cast("Sequence[Any]", new)) if isinstance(new, list) else new
        new_leaves, new_structure = flatten(entry)
        if old is None:
            rounded.append(None)
            continue
        if structure != new_structure:
            raise ValueError(
                f"{_name(leaf)}: a slot with {len(leaves)} arrays for a leaf of this shape got "
                f"{len(new_leaves)} ({new_structure} for {structure})"
            )
        rounded.append(structure.unflatten(map(_round, leaves, new_leaves)))
    return rounded


def _round(old: Any, result: Any) -> Array:
    new = jnp.asarray(result)
    if new.shape != old.shape:
        raise ValueError(f"a leaf of shape {old.shape} became one of shape {new.shape}")
    if jnp.iscomplexobj(new) and not jnp.issubdtype(old.dtype, jnp.complexfloating):
        new = new.real
    if old.dtype.itemsize < 4 and old.dtype != jnp.bfloat16:
        # Squares of gradients of 256 are too large for float16: an infinity in a slot would stay there.
        largest = largest_number(old.dtype)
        new = jnp.where(jnp.isfinite(new), jnp.clip(new, -largest, largest), new)
    return new.astype(old.dtype)


def _name(leaf: Leaf) -> str:
    return f"{leaf.__module__}.{leaf.__qualname__}"


def _count_of_totals(leaf: Leaf) -> int:
    """Return how many sums a leaf function says that it returns."""
    annotation = inspect.get_annotations(leaf, eval_str=True).get("return")
    parts = get_args(annotation)
    if len(parts) != 2 or Ellipsis in get_args(parts[1]):
        raise ValueError(
            f"{_name(leaf)}: no leaves to sum over, and no return annotation that says how many sums there are"
        )
    return len(get_args(parts[1]))


def every(interval: int, step: Array, new: Callable[[], T], old: T) -> T:
    """Return something new at the first step and each `interval` steps after it; in between, the old.

    Args:
        interval: Static, positive.
        step: Number of steps done before this one: int32, shape ().
        new: Computes it; does not run in between, except under `vmap` over `step`.
        old: An array or a tree of arrays; `new` gives the same structure, shapes and dtypes.
    """
    if interval == 1:
        return new()
    _, treedef = flatten(old)

    def computed() -> T:
        # A comprehension makes a list, and a slot is a tuple.
        result: T = treedef.unflatten(flatten(new())[0])
        return result

    return cast("T", lax.cond(step % interval == 0, computed, lambda: old))
