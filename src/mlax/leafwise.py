"""Leaf arithmetic over trees: widened, under strict promotion, rounded once.

Generated optimizers write what happens to one leaf as plain arithmetic, without casts. `map_leaves` is the one place
that decides in which dtype it is done.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVarTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax import is_inexact
from mlax._trees import flatten
from mlax.typing import Weights

__all__ = ["abs2", "map_leaves"]

Ts = TypeVarTuple("Ts")


def map_leaves(
    leaf: Callable[..., tuple[Any, ...]],
    h: object,
    inputs: tuple[Weights, *tuple[Weights | None, ...]],
    slots: tuple[*Ts],
    **scalars: Array | float | None,
) -> tuple[Weights, *Ts]:
    """Call `leaf(h, *inputs, *slots, **scalars)` for each leaf; return the trees of its results.

    A leaf is computed in the widest dtype among it and its slots, float16 and bfloat16 counting as float32. Arrays are
    cast to it before, Python numbers are left to follow, and in between nothing is promoted implicitly. Each result is
    rounded once.

    Args:
        leaf: Arithmetic of one leaf: returns an update and the new slots, in the order of `slots`. A module-level
            function, no closure: it is traced once for each shape and dtype, and found again by identity.
        h: Static and hashable: the hyperparameters.
        inputs: The gradients, which say what the leaves are, and other trees like them. None is passed on as None.
        slots: Trees with one entry for each leaf, an array or a tree of arrays. None is passed on and comes back.
        **scalars: Arrays of shape () and Python numbers, the same for all leaves. None is passed on as None.

    Returns:
        The updates, in the dtypes of the gradients, and the slots, in their own.
    """
    treedef: Any
    gradients, treedef = flatten(inputs[0])
    trees: tuple[Any, ...] = (*inputs, *slots)
    columns: list[list[Any]] = [
        [None] * len(gradients) if tree is None else treedef.flatten_up_to(tree) for tree in trees
    ]
    results: list[tuple[Any, ...]]
    with jax.named_scope(leaf.__module__.rpartition(".")[2]):
        results = [
            update_leaf(leaf, h, len(inputs), entries, scalars)
            for entries in zip(*columns, strict=True)
        ]
    mapped: list[Any] = [treedef.unflatten([result[0] for result in results])]
    for i, slot in enumerate(cast("tuple[Any, ...]", slots), start=1):
        mapped.append(
            None if slot is None else treedef.unflatten([result[i] for result in results])
        )
    return cast("tuple[Weights, *Ts]", tuple(mapped))


# One jitted function for all optimizers, with everything that is not an array static: under an outer `jit` each
# distinct leaf is traced once, and called eagerly it is compiled once. A closure would be compiled in each eager step.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def update_leaf(
    leaf: Callable[..., tuple[Any, ...]],
    h: object,
    inputs: int,
    entries: tuple[Any, ...],
    scalars: dict[str, Any],
) -> tuple[Any, ...]:
    gradient, slots = entries[0], entries[inputs:]
    dtype = jnp.result_type(
        *{_compute_dtype(x.dtype) for x in jax.tree.leaves((gradient, slots)) if _is_inexact(x)}
    )
    with jax.numpy_dtype_promotion("strict"):
        wide_entries, wide_scalars = jax.tree.map(
            functools.partial(_widen, dtype=dtype), (entries, scalars)
        )
        update, *new_slots = leaf(h, *wide_entries, **wide_scalars)
    if len(new_slots) != len(slots):
        raise ValueError(
            f"{leaf.__module__}.{leaf.__qualname__}: expected an update and {len(slots)} slots, "
            f"got {1 + len(new_slots)} results"
        )
    return (
        _round(gradient, update),
        *(
            None if old is None else jax.tree.map(_round, old, new)
            for old, new in zip(slots, new_slots, strict=True)
        ),
    )


def _compute_dtype(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32) if dtype.itemsize < 4 else dtype


def _is_inexact(x: Any) -> bool:
    return is_inexact(jnp.result_type(x))


def _widen(x: Any, dtype: Any) -> Any:
    # What is not inexact is no value to compute with: an index, or a random key. Weakly typed is a Python number.
    if not _is_inexact(x) or getattr(jax.typeof(x), "weak_type", False):
        return x
    return jnp.asarray(x).astype(dtype)


def _round(old: Any, result: Any) -> Array:
    new = jnp.asarray(result)
    if new.shape != old.shape:
        raise ValueError(f"a leaf of shape {old.shape} became one of shape {new.shape}")
    if jnp.iscomplexobj(new) and not jnp.issubdtype(old.dtype, jnp.complexfloating):
        new = new.real
    return new.astype(old.dtype)


def abs2(x: Array) -> Array:
    """Return the squared magnitude of each element, in the dtype of `x`: `x * conj(x)`."""
    return x * jnp.conj(x) if jnp.iscomplexobj(x) else x * x
