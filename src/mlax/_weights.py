"""The annotations of the dtype rule: `Weights`, `Scalar`, `Count`.

jaxtyping ties the structure of trees to a name, and the shapes of arrays, but not their dtypes; and annotating each leaf
costs as much as tracing an optimizer. So a whole tree is turned into a node without leaves that carries structure,
shapes and dtypes as its own structure, and jaxtyping ties that.
"""

import functools
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree

from mlax.tree import describe, keystr

__all__ = ["Count", "Scalar", "Signature", "Weights", "refused_leaves", "ties"]

Scalar: TypeAlias = Float[Array, ""]
"""A floating-point array without axes; JAX's default float dtype where mlax makes it."""

Count: TypeAlias = Int32[Array, ""]
"""A 32-bit integer without axes."""


@jax.tree_util.register_pytree_node_class
class Signature:
    """Structure, shapes and dtypes of a tree, as a tree without leaves."""

    __slots__ = ("leaves", "treedef")

    def __init__(self, treedef: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> None:
        self.treedef = treedef
        self.leaves = leaves

    @classmethod
    def of(cls, tree: object) -> "Signature | None":
        """Return the signature of a tree of inexact arrays; None of any other tree."""
        leaves, treedef = jax.tree.flatten(tree)
        try:
            arrays = tuple([(leaf.shape, leaf.dtype) for leaf in leaves])
        except AttributeError:
            return None
        # Every tree of every checked call passes here: what depends on a leaf's type or dtype only is asked once for each.
        types = set(map(type, leaves))
        if not all(map(_is_array_type, types)):
            return None
        canonical = any(issubclass(t, np.ndarray | np.generic) for t in types)
        if not all(_is_inexact(dtype, canonical) for dtype in {dtype for _, dtype in arrays}):
            return None
        return cls(treedef, arrays)

    def with_dtype(self, dtype: Any) -> "Signature":
        """Return the signature of slots in another real dtype; complex leaves have its complex counterpart."""
        return Signature(
            self.treedef,
            tuple((shape, slot_dtype_of(leaf_dtype, dtype)) for shape, leaf_dtype in self.leaves),
        )

    def as_tree(self) -> object:
        """Return the tree again, with a `jax.ShapeDtypeStruct` for each leaf."""
        return jax.tree.unflatten(self.treedef, [jax.ShapeDtypeStruct(*x) for x in self.leaves])

    def tree_flatten(self) -> tuple[tuple[()], tuple[Any, Any]]:
        return (), (self.treedef, self.leaves)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, Any], _: object) -> "Signature":
        return cls(*aux)


def slot_dtype_of(leaf_dtype: Any, slot_dtype: Any) -> Any:
    """Return the dtype of a slot: `slot_dtype`, or its complex counterpart where the leaf is complex."""
    if jnp.issubdtype(leaf_dtype, jnp.complexfloating):
        return np.dtype(np.complex128 if np.dtype(slot_dtype) == np.float64 else np.complex64)
    return np.dtype(slot_dtype)


def ties(name: str, signature: Signature) -> bool:
    """Bind a signature to a name of jaxtyping's current context; False if another one is bound to it."""
    return isinstance(signature, PyTree[Any, name])


@functools.cache
def _is_array_type(leaf_type: type) -> bool:
    # Tracers are arrays by an instance check of their own, which is slow; what else has shape and dtype is no array.
    return issubclass(leaf_type, jax.Array | jax.core.Tracer | np.ndarray | np.generic)


def _is_inexact(dtype: Any, canonical: bool) -> bool:
    # NumPy's float64 is float32 to JAX unless x64 is on: letting it through would be a silent conversion.
    return jnp.issubdtype(dtype, jnp.inexact) and (
        not canonical or jax.dtypes.canonicalize_dtype(dtype) == dtype
    )


def refused_leaves(name: str, tree: object) -> list[str]:
    """Return a line with path and cure for each leaf that is not an inexact array."""
    lines: list[str] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(leaf, "dtype", None)
        if not _is_array_type(type(leaf)) or dtype is None:
            if isinstance(leaf, bool | int | float | complex):
                cure = "make it an array: jnp.asarray(..., dtype=...)"
            else:
                cure = "not an array; leave it out, or put None in its place"
        elif not jnp.issubdtype(dtype, jnp.inexact):
            cure = "not differentiable; leave it out, or put None in its place"
        elif isinstance(leaf, np.ndarray | np.generic) and not _is_inexact(dtype, True):
            short = jax.dtypes.canonicalize_dtype(dtype)
            cure = (
                f"NumPy's, which JAX makes {short}; say so: .astype('{short}'), or jax.enable_x64"
            )
        else:
            continue
        lines.append(f"{name}{keystr(path)}: {describe(leaf)} ({cure})")
    return lines


class _WeightsMeta(type):
    def __instancecheck__(cls, tree: object) -> bool:
        signature = Signature.of(tree)
        return signature is not None and ties("Weights", signature)


class _Weights(metaclass=_WeightsMeta):
    """Inexact arrays. Within one checked call all such trees have one structure, and leaf by leaf one shape and dtype."""


if TYPE_CHECKING:
    Weights = TypeVar("Weights")
else:
    # A bound would be inferred by checkers; at run time it is what typeguard looks at.
    Weights = TypeVar("Weights", bound=_Weights)


def as_weights(tree: object) -> bool:
    """Check a tree as an argument annotated `Weights` is checked, in jaxtyping's current context."""
    return isinstance(tree, cast("type", _Weights))
