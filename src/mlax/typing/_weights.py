"""The annotations of the dtype rule: `Weights`, `Scalar`, `Count`.

jaxtyping binds names to the structure of a tree and to the shape of an array, but not to dtypes.
And annotating every leaf makes tracing an optimizer step 1.8 to 2.4 times slower. So each tree is
turned into a `Signature`: a tree without leaves, whose own structure contains the structure, the
shapes and the dtypes. jaxtyping binds a name to that. It costs 2 to 9 % of the tracing time, and
nothing in a compiled step.
"""

import functools
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jaxtyping import Array, Float, Int32

from mlax._int8 import Int8, Range, dtype_of, is_int8
from mlax._jax.dtypes import canonical, is_inexact
from mlax._jax.tracing import Tracer
from mlax._jax.trees import KeyPath, flatten, flatten_with_path, map_with_path
from mlax._module.nodes import State
from mlax.tree import describe, keystr

__all__ = [
    "Count",
    "NonNegative",
    "Real",
    "Scalar",
    "Signature",
    "Weights",
    "as_arrays",
    "fault",
    "faults",
    "refused_leaves",
    "ties",
]

Scalar: TypeAlias = Float[Array, ""]
"""A floating-point array without axes; in a state it has JAX's default float dtype."""

Real: TypeAlias = (
    float
    | np.floating[Any]
    | np.integer[Any]
    | jaxtyping.Real[Array, ""]
    | jaxtyping.Real[np.ndarray, ""]
)
"""A number that is not stored as it is given, such as the loss: a Python or NumPy number, or a real array without
axes.
"""

Count: TypeAlias = Int32[Array, ""]
"""A 32-bit integer without axes."""


class NonNegative:
    """Marks the annotation of a slot in which no number is ever negative: `v: Annotated[Weights, NonNegative]`. In
    eight bits, such a slot has another dtype.
    """

    __module__ = "mlax.typing"


@jax.tree_util.register_pytree_node_class
class Signature:
    """The structure, shapes and dtypes of a tree, as a tree without leaves."""

    __slots__ = ("leaves", "treedef")

    def __init__(self, treedef: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> None:
        self.treedef = treedef
        self.leaves = leaves

    @classmethod
    def of(cls, tree: object) -> "Signature | None":
        """Return the signature of a tree of inexact arrays; None for any other tree."""
        leaves, treedef = flatten(tree)
        try:
            arrays = tuple([(leaf.shape, leaf.dtype) for leaf in leaves])
        except AttributeError:
            return None
        # This runs for every tree of every checked call, so types and dtypes are looked at once each, not
        # once for each leaf.
        types: set[Any] = set(map(type, leaves))
        if not all(map(_is_array_type, types)):
            return None
        numpy = any(map(_is_numpy_type, types))
        if not all(_is_accepted(dtype, numpy) for dtype in {dtype for _, dtype in arrays}):
            return None
        return cls(treedef, arrays)

    @classmethod
    def of_slots(cls, tree: object, like: "Signature", int8: Range | None) -> "Signature | None":
        """Return the signature of a tree with an `Int8` in place of some leaves, which counts as a leaf of `like`
        if it has the shape of that and holds such numbers.
        """
        entries, treedef = flatten(tree, is_int8)
        if int8 is None or not any(map(is_int8, entries)) or treedef != like.treedef:
            return cls.of(tree)
        right = [shape for shape, _ in like.leaves]
        if not all(
            entry.shape == shape and fault(entry, int8) is None
            for entry, shape in zip(entries, right, strict=True)
            if is_int8(entry)
        ):
            return None
        others = cls.of([entry for entry in entries if not is_int8(entry)])
        if others is None:
            return None
        rest = iter(others.leaves)
        leaves = (
            leaf if is_int8(entry) else next(rest)
            for entry, leaf in zip(entries, like.leaves, strict=True)
        )
        return cls(treedef, (*leaves,))

    def with_dtype(self, dtype: Any) -> "Signature":
        """Return the signature of slots in another real dtype; slots of complex leaves get its complex
        counterpart. In int8, it is that of the leaves: see `of_slots`.
        """
        return Signature(
            self.treedef,
            tuple((shape, slot_dtype_of(leaf_dtype, dtype)) for shape, leaf_dtype in self.leaves),
        )

    def as_tree(self) -> object:
        """Return the tree, with a `jax.ShapeDtypeStruct` in place of each leaf."""
        return jax.tree.unflatten(self.treedef, [jax.ShapeDtypeStruct(*x) for x in self.leaves])

    def tree_flatten(self) -> tuple[tuple[()], tuple[Any, Any]]:
        return (), (self.treedef, self.leaves)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, Any], _: object) -> "Signature":
        return cls(*aux)


def slot_dtype_of(leaf_dtype: Any, slot_dtype: Any) -> Any:
    """Return the dtype of a slot: `slot_dtype`, or its complex counterpart if the leaf is complex. For int8: that
    of the leaf, which an `Int8` stands for.
    """
    if slot_dtype == np.int8:
        return leaf_dtype
    if jnp.issubdtype(leaf_dtype, jnp.complexfloating):
        return np.dtype(np.complex128 if np.dtype(slot_dtype) == np.float64 else np.complex64)
    return np.dtype(slot_dtype)


def as_arrays(tree: object, expected: object) -> object:
    """Return a tree of slots with an array in place of each `Int8`: the one expected there if it has the shape of
    that, else one of int8.

    Args:
        tree: The slots.
        expected: A tree of `jax.ShapeDtypeStruct`.
    """
    right = dict(flatten_with_path(expected)[0])

    def array(path: KeyPath, entry: Any) -> Any:
        if not is_int8(entry):
            return entry
        leaf = right.get(path)
        if leaf is not None and entry.shape == leaf.shape:
            return leaf
        return jax.ShapeDtypeStruct(entry.shape, entry.dtype)

    return map_with_path(array, tree, is_int8)


def fault(array: Int8, numbers: Range | None = None) -> str | None:
    """Return why an `Int8` does not hold such numbers, or any numbers, as the end of a sentence that begins with its
    place; None if it does.
    """
    if numbers is not None and array.dtype != dtype_of(numbers):
        return f"{describe(array)}, but its numbers are {numbers}, which is {dtype_of(numbers)}"
    if not array.is_whole:
        return f"scales {describe(array.scales)} do not fit values {describe(array)}"
    return None


def faults(name: str, tree: object, int8: Range) -> list[str]:
    """Return a line for each `Int8` that does not hold such numbers, whatever its shape."""
    found = flatten_with_path(tree, is_int8)[0]
    reasons = [(path, fault(x, int8)) for path, x in found if is_int8(x)]
    return [f"{name}{keystr(path)}: {reason}" for path, reason in reasons if reason]


def ties(name: str, signature: Signature) -> bool:
    """Bind a signature to a name in jaxtyping's current context; return False if another is already bound to it."""
    return isinstance(signature, cast("Any", jaxtyping).PyTree[Any, name])


@functools.cache
def _is_array_type(leaf_type: type[Any]) -> bool:
    # `isinstance(tracer, jax.Array)` is true, but slow, and `issubclass` needs Tracer in the union. Having
    # a shape and a dtype is not enough: a ShapeDtypeStruct has them too.
    return issubclass(leaf_type, jax.Array | Tracer | np.ndarray | np.generic)


def _is_numpy_type(leaf_type: type) -> bool:
    return issubclass(leaf_type, np.ndarray | np.generic)


def _is_accepted(dtype: Any, numpy: bool) -> bool:
    # Without x64, JAX makes NumPy's float64 float32: accepting it would be a silent conversion.
    return is_inexact(dtype) and (not numpy or canonical(dtype) == dtype)


def refused_leaves(name: str, tree: object, optimizer: str | None = None) -> list[str]:
    """Return a line with path and cure for each leaf that is not an inexact array.

    Args:
        name: What to call the tree in the lines.
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
                cure = "not differentiable; pass only the parameters: model.filter()"
                if optimizer is not None:
                    cure += f", or {optimizer}().init(model)"
        elif _is_numpy_type(leaf_type) and not _is_accepted(dtype, True):
            short = canonical(dtype)
            cure = f"a NumPy array, which JAX would make {short}; use .astype('{short}'), or jax.enable_x64"
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
    """A tree of inexact arrays. Within one checked call, all trees have the same structure, shapes and dtypes."""


if TYPE_CHECKING:
    Weights = TypeVar("Weights")
else:
    # Only at run time: typeguard checks values against the bound. Type checkers would infer the bound.
    Weights = TypeVar("Weights", bound=_Weights)
    Weights.__module__ = "mlax.typing"  # where pickles look for it


def as_weights(tree: object) -> bool:
    """Return whether a tree passes the check of an argument annotated `Weights`, in jaxtyping's current context."""
    return isinstance(tree, cast("type", _Weights))
