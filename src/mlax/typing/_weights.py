"""The annotations of the dtype rule: `Weights`, `Scalar`, `Count`.

jaxtyping ties structures of trees and shapes of arrays to names, but not their dtypes; and annotating each leaf costs
as much as tracing an optimizer. So a whole tree is turned into a node without leaves that carries structure, shapes and
dtypes as its own structure, and jaxtyping ties that.
"""

import functools
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jaxtyping import Array, Float, Int32

from mlax._jax.dtypes import canonical, is_inexact
from mlax._jax.tracing import Tracer
from mlax._jax.trees import KeyPath, flatten, flatten_with_path
from mlax._module.nodes import State
from mlax.tree import describe, keystr

__all__ = ["Count", "Scalar", "Signature", "Weights", "refused_leaves", "ties"]

Scalar: TypeAlias = Float[Array, ""]
"""A floating-point array without axes; in a state it has JAX's default float dtype."""

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
        leaves, treedef = flatten(tree)
        try:
            arrays = tuple([(leaf.shape, leaf.dtype) for leaf in leaves])
        except AttributeError:
            return None
        # Every tree of every checked call passes here: what depends on a leaf's type or dtype only is asked once.
        types: set[Any] = set(map(type, leaves))
        if not all(map(_is_array_type, types)):
            return None
        numpy = any(map(_is_numpy_type, types))
        if not all(_is_accepted(dtype, numpy) for dtype in {dtype for _, dtype in arrays}):
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
    return isinstance(signature, cast("Any", jaxtyping).PyTree[Any, name])


@functools.cache
def _is_array_type(leaf_type: type[Any]) -> bool:
    # Tracers are arrays by an instance check of their own, which is slow; what else has shape and dtype is no array.
    return issubclass(leaf_type, jax.Array | Tracer | np.ndarray | np.generic)


def _is_numpy_type(leaf_type: type) -> bool:
    return issubclass(leaf_type, np.ndarray | np.generic)


def _is_accepted(dtype: Any, numpy: bool) -> bool:
    # NumPy's float64 is float32 to JAX unless x64 is on: letting it through would be a silent conversion.
    return is_inexact(dtype) and (not numpy or canonical(dtype) == dtype)


def refused_leaves(name: str, tree: object, optimizer: str | None = None) -> list[str]:
    """Return a line with path and cure for each leaf that is not an inexact array.

    Args:
        name: What the tree is called in the lines.
        tree: The tree.
        optimizer: The class whose `init` selects the parameters of a model.
    """
    lines: list[str] = []
    models = _paths_of_models(tree)
    for path, leaf in flatten_with_path(tree)[0]:
        leaf_type = cast("Any", type(cast("object", leaf)))
        dtype = getattr(leaf, "dtype", None)
        if not _is_array_type(leaf_type) or dtype is None:
            if issubclass(leaf_type, jax.ShapeDtypeStruct):
                cure = "a ShapeDtypeStruct, not an array; use jax.eval_shape for the whole step"
            elif issubclass(leaf_type, int | float | complex):
                cure = "make it an array: jnp.asarray(..., dtype=...)"
            else:
                cure = "not an array; leave it out, or put None in its place"
        elif not is_inexact(dtype):
            cure = "not differentiable; leave it out, or put None in its place"
            if any(path[: len(model)] == model for model in models):
                cure = "not differentiable; give the parameters only: model.filter()"
                if optimizer is not None:
                    cure += f", or {optimizer}().init(model)"
        elif _is_numpy_type(leaf_type) and not _is_accepted(dtype, True):
            short = canonical(dtype)
            cure = (
                f"NumPy's, which JAX makes {short}; say so: .astype('{short}'), or jax.enable_x64"
            )
        else:
            continue
        lines.append(f"{name}{keystr(path)}: {describe(leaf)} ({cure})")
    return lines


def _paths_of_models(tree: object) -> list[KeyPath]:
    found = flatten_with_path(tree, is_leaf=lambda node: isinstance(node, State))[0]
    return [path for path, node in found if isinstance(node, State)]


class _WeightsMeta(type):
    def __instancecheck__(cls, tree: object) -> bool:
        signature = Signature.of(tree)
        return signature is not None and ties("Weights", signature)


class _Weights(metaclass=_WeightsMeta):
    """Inexact arrays. Within one checked call all trees have one structure, and leaf by leaf one shape and dtype."""


if TYPE_CHECKING:
    Weights = TypeVar("Weights")
else:
    # A bound would be inferred by checkers; at run time it is what typeguard looks at.
    Weights = TypeVar("Weights", bound=_Weights)


def as_weights(tree: object) -> bool:
    """Check a tree as an argument annotated `Weights` is checked, in jaxtyping's current context."""
    return isinstance(tree, cast("type", _Weights))
