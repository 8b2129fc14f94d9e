"""Where arrays lie on a mesh of devices, and how others come to lie there too.

With Explicit axes, the type of an array says how it is sharded, in a trace too, and JAX refuses operations whose
result could be sharded in several ways. With Auto axes, XLA decides. A trace knows nothing of it; all it can say is
that an array is to be sharded as another, or, under `jax.set_mesh`, that an array is to be whole on each device.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import leaves, map_leaves

__all__ = [
    "alike",
    "gathered",
    "known_sharding",
    "lying_with",
    "may_be_sharded",
    "may_lie_on_mesh",
    "on_auto_axes",
    "spec_of",
    "with_type_of",
]


def known_sharding(array: Any) -> NamedSharding | None:
    """Return how an array is sharded, as far as that is known.

    Args:
        array: An array, a tracer, or a `jax.ShapeDtypeStruct`.

    Returns:
        None if the array is not on a mesh, or if its sharding is not known while tracing.
    """
    found: Any
    if is_tracer(array):
        found = jax.typeof(array).sharding
        return found if any(found.spec) else None
    found = getattr(array, "sharding", None)
    return found if isinstance(found, NamedSharding) else None


def spec_of(sharding: NamedSharding, ndim: int) -> tuple[Any, ...]:
    """Return the entry of a sharding for each of `ndim` axes."""
    return (*sharding.spec, *[None] * ndim)[:ndim]


def may_be_sharded(array: Any) -> bool:
    """Return whether an array may be sharded in a way that is not known: while tracing, on Auto axes."""
    if not is_tracer(array) or jax.device_count() == 1:
        return False
    meshes = jax.typeof(array).sharding.mesh, jax.sharding.get_abstract_mesh()
    types = {kind for mesh in meshes for kind in mesh.axis_types}
    return AxisType.Manual not in types and types != {AxisType.Explicit}


def may_lie_on_mesh(array: Any) -> bool:
    """Return whether several devices have parts of an array, as far as that is known, or may have them."""
    return known_sharding(array) is not None or may_be_sharded(array)


def alike(leaf: Array, array: Array) -> Array:
    """Return an array such that XLA shards it as it does a leaf of the same shape, on Auto axes.

    It sees a choice between both, each element by itself, and not that the leaf is never chosen.
    (`jax.experimental.shard_alike` would do for one leaf; it ties all arrays of a shape together.)
    """
    never = lax.optimization_barrier(jnp.bool_(False))
    return lax.select(never, lax.convert_element_type(leaf, array.dtype), array)


def with_type_of(old: Any, new: Array) -> Array:
    """Return `new` with the sharding of `old` on Explicit axes, which is part of its type."""
    wanted, found = (jax.typeof(x).sharding for x in (old, new))
    if wanted == found or wanted.mesh.empty:
        return new
    result: Array = jax.sharding.reshard(new, wanted)
    return result


def lying_with(old: Any, new: Array) -> Array:
    """Return `new` where `old` lies, an array of the same shape.

    On Auto axes, only matrices are told so: what is computed from a whole one would be left whole. All else is computed
    element by element, and XLA leaves it where it was.
    """
    new = with_type_of(old, new)
    return alike(old, new) if new.ndim > 1 and may_be_sharded(new) else new


def on_auto_axes(function: Callable[..., Any], like: Any, *arguments: Any) -> Any:
    """Return `function(*arguments)`, in which XLA decides where arrays lie, on Explicit axes too.

    Args:
        function: Of arrays.
        like: An array or a tree of arrays: the results are sharded as these are.
        *arguments: Arrays and trees of arrays.
    """
    if not any(any(jax.typeof(leaf).sharding.spec) for leaf in leaves((like, arguments))):
        return function(*arguments)
    places = map_leaves(lambda leaf: jax.typeof(leaf).sharding, like)
    there: Callable[..., Any] = cast("Any", jax.sharding).auto_axes(function, out_sharding=places)
    return there(*arguments)


def gathered(x: Array, first: int = 0) -> Array:
    """Return an array of which each device has all elements, or all along its axes from `first` on.

    On Auto axes, this takes effect under `jax.set_mesh`; otherwise XLA decides.
    """
    sharding: Any = jax.typeof(x).sharding
    spec = spec_of(sharding, x.ndim)
    if any(spec[first:]):
        mine = NamedSharding(
            sharding.mesh, PartitionSpec(*spec[:first], *[None] * (x.ndim - first))
        )
        x = jax.sharding.reshard(x, mine)
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Auto in mesh.axis_types:
        before = [PartitionSpec.UNCONSTRAINED] * first
        x = lax.with_sharding_constraint(x, PartitionSpec(*before, *[None] * (x.ndim - first)))
    return x
