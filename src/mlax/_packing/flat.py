"""Many small arrays in one flat array: `join` and `split`, linear, each the transpose of the other.

They work like `lax.concatenate` and `lax.split` under `jit`, `grad`, `jvp`, `vmap` and `shard_map`.
The difference is how long they take to compile on CPU. XLA fuses a concatenation with everything
that produces its operands, and a slice with everything that reads it. Each such fusion has
different offsets, so that none is compiled once and used again: 1,000 slices take 14 to 30 s to
compile, and one concatenation fused with 1,000 producers takes 45 s. An optimization barrier does
not help: on CPU, XLA removes it before it fuses.

So here a slice reads its offset from memory, and all slices of one shape are one kernel. The
concatenation is inside a `cond`, and XLA does not fuse across that. Both branches compute the same
thing: if XLA ever notices, compilation takes longer and nothing else changes. docs/packing.md has
the figures.

They are primitives, because JAX's other ways to give a function a transpose lack a rule:
`linear_call` one for `vmap`, `custom_vjp` one for `jvp`. Arrays sharded over Explicit axes of a
mesh are joined and split with JAX's own functions, because no single element of such an array can
be sliced out.
"""

import functools
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from mlax._jax.tracing import cond, is_tracer

__all__ = ["Shapes", "join", "split"]

Shapes: TypeAlias = tuple[tuple[int, ...], ...]

# Type checkers do not know their types.
_ad: Any = ad
_batching: Any = batching
_mlir: Any = mlir


def split(flat: Array, shapes: Shapes) -> list[Array]:
    """Return the arrays stored one after the other in a flat array.

    Args:
        flat: Shape (*batch, n), where n is the total number of elements.
        shapes: The shapes of the arrays.

    Returns:
        Arrays of shape (*batch, *shape).
    """
    flat = _gathered(flat, 1)
    if is_tracer(flat):
        return list(_split.bind(flat, shapes=shapes))
    # Outside `jit`: a slice is compiled once for each shape, with the offset as an argument.
    return [
        _piece(flat, np.int32(offset), shape)
        for offset, shape in zip(_offsets(shapes), shapes, strict=True)
    ]


def join(pieces: Sequence[Array], shapes: Shapes) -> Array:
    """Return arrays one after the other in a flat array: the inverse of `split`.

    Args:
        pieces: At least one array; of shapes (*batch, *shape), all of one dtype.
        shapes: The shapes of the arrays.

    Returns:
        An array of shape (*batch, n).
    """
    pieces = [_gathered(piece, len(shape)) for piece, shape in zip(pieces, shapes, strict=True)]
    function: Any = _join.bind if any(map(is_tracer, pieces)) else _jitted_join
    joined: Array = function(*pieces, shapes=shapes)
    return joined


def _sharding(array: Any) -> Any:
    """Return how an array is sharded over the Explicit axes of a mesh, according to its type."""
    return jax.typeof(array).sharding


def _gathered(array: Array, ndim: int) -> Array:
    """Return an array whose last `ndim` axes are not sharded over Explicit axes of a mesh.

    A flat array's size may be divisible by the number of devices when those of its pieces are not.
    The transpose shards the gradient again.
    """
    sharding = _sharding(array)
    spec = tuple(sharding.spec)
    batch = len(spec) - ndim
    if not any(spec[batch:]):
        return array
    gathered: Array = jax.sharding.reshard(
        array, NamedSharding(sharding.mesh, PartitionSpec(*spec[:batch]))
    )
    return gathered


def _sizes(shapes: Shapes) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def _offsets(shapes: Shapes) -> list[int]:
    return [0, *accumulate(_sizes(shapes))][:-1]


def _batch(piece: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(piece.shape[: piece.ndim - len(shape)])


@functools.partial(jax.jit, static_argnums=2)
def _piece(flat: Array, offset: Any, shape: tuple[int, ...]) -> Array:
    piece = lax.dynamic_slice_in_dim(flat, offset, math.prod(shape), axis=-1)
    return lax.reshape(piece, (*flat.shape[:-1], *shape))


def _plain_split(flat: Array, *, shapes: Shapes) -> list[Array]:
    pieces: Any = lax.split(flat, _sizes(shapes), axis=flat.ndim - 1)
    batch = flat.shape[:-1]
    return [lax.reshape(p, (*batch, *s)) for p, s in zip(pieces, shapes, strict=True)]


def _plain_join(*pieces: Array, shapes: Shapes) -> Array:
    flat = [
        lax.reshape(piece, (*_batch(piece, shape), math.prod(shape)))
        for piece, shape in zip(pieces, shapes, strict=True)
    ]
    return lax.concatenate(flat, flat[0].ndim - 1)


_jitted_join: Any = jax.jit(_plain_join, static_argnames="shapes")


def _split_on_cpu(flat: Array, *, shapes: Shapes) -> list[Array]:
    if not flat.size or any(_sharding(flat).spec) or flat.shape[-1] > np.iinfo(np.int32).max:
        return _plain_split(flat, shapes=shapes)

    def offsets() -> list[Array]:
        return [jnp.int32(offset) for offset in _offsets(shapes)]

    batch = flat.shape[:-1]
    start = [0] * len(batch)
    return [
        lax.reshape(
            lax.dynamic_slice(
                flat,
                [*start, offset],
                (*batch, math.prod(shape)),
                allow_negative_indices=False,
            ),
            (*batch, *shape),
        )
        for offset, shape in zip(cond(_unknown(flat), offsets, offsets), shapes, strict=True)
    ]


def _join_on_cpu(*pieces: Array, shapes: Shapes) -> Array:
    known = next((piece for piece in pieces if piece.size), None)
    if known is None or any(_sharding(known).spec):
        return _plain_join(*pieces, shapes=shapes)

    def joined() -> Array:
        return _plain_join(*pieces, shapes=shapes)

    return cond(_unknown(known), joined, joined)


def _unknown(array: Array) -> Array:
    """Return a condition that XLA cannot evaluate at compile time: whether the first element is positive."""
    first = lax.reshape(lax.slice(array, [0] * array.ndim, [1] * array.ndim), ())
    return first.astype(bool) if first.dtype == bool else jnp.real(first) > 0


def _split_avals(flat: Any, *, shapes: Shapes) -> list[Any]:
    return _avals(_plain_split, (flat,), shapes)


def _join_aval(*pieces: Any, shapes: Shapes) -> Any:
    return _avals(_plain_join, pieces, shapes)[0]


def _avals(function: Any, arguments: tuple[Any, ...], shapes: Shapes) -> list[Any]:
    """Return the abstract values that the plain form returns: shape, dtype, sharding and varying mesh axes."""
    traced: Any = jax.make_jaxpr(functools.partial(function, shapes=shapes))(*arguments)
    return list(traced.out_avals)


def _transposed_split(cotangents: Sequence[Any], _: Any, *, shapes: Shapes) -> list[Any]:
    if all(isinstance(cotangent, _ad.Zero) for cotangent in cotangents):
        return [None]
    return [_join.bind(*map(_ad.instantiate_zeros, cotangents), shapes=shapes)]


def _transposed_join(cotangent: Any, *pieces: Any, shapes: Shapes) -> list[Any]:
    if isinstance(cotangent, _ad.Zero):
        return [None] * len(pieces)
    cotangents = _split.bind(cotangent, shapes=shapes)
    return [
        one if _ad.is_undefined_primal(piece) else None
        for one, piece in zip(cotangents, pieces, strict=True)
    ]


def _batched_split(arguments: Any, axes: Any, *, shapes: Shapes) -> tuple[list[Array], list[int]]:
    (flat,), (axis,) = arguments, axes
    pieces = _split.bind(jnp.moveaxis(flat, axis, 0), shapes=shapes)
    return pieces, [0] * len(pieces)


def _batched_join(arguments: Any, axes: Any, *, shapes: Shapes) -> tuple[Array, int]:
    size, spec = next(
        (x.shape[axis], _sharding(x).spec[axis])
        for x, axis in zip(arguments, axes, strict=True)
        if axis is not None
    )

    def batched(x: Array) -> Array:
        sharding = _sharding(x)
        expected = NamedSharding(sharding.mesh, PartitionSpec(spec, *sharding.spec))
        return lax.broadcast(x, (size,), out_sharding=expected)

    pieces = [
        batched(x) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arguments, axes, strict=True)
    ]
    return _join.bind(*pieces, shapes=shapes), 0


_split: Any = Primitive("mlax_split")
_split.multiple_results = True
_split.def_impl(split)
_split.def_abstract_eval(_split_avals)
_ad.deflinear2(_split, _transposed_split)
_batching.primitive_batchers[_split] = _batched_split
_mlir.register_lowering(_split, _mlir.lower_fun(_plain_split, multiple_results=True))
_mlir.register_lowering(
    _split, _mlir.lower_fun(_split_on_cpu, multiple_results=True), platform="cpu"
)

_join: Any = Primitive("mlax_join")
_join.def_impl(_jitted_join)
_join.def_abstract_eval(_join_aval)
_ad.deflinear2(_join, _transposed_join)
_batching.primitive_batchers[_join] = _batched_join
_mlir.register_lowering(_join, _mlir.lower_fun(_plain_join, multiple_results=False))
_mlir.register_lowering(
    _join, _mlir.lower_fun(_join_on_cpu, multiple_results=False), platform="cpu"
)
