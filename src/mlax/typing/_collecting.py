"""Finding the trees in the arguments or the result of a call: values and annotations are walked side by side."""

import types
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from mlax._checking.items import is_typed_dict, items_beside, wrong_keys
from mlax._checking.spelling import spelled
from mlax._checking.values import check_value
from mlax._int8 import Range
from mlax._jax.trees import class_of
from mlax.tree import describe
from mlax.typing._entries import Entries
from mlax.typing._weights import NonNegative, Scalar, Weights

__all__ = ["Found", "Tree", "collect"]


class Tree(NamedTuple):
    """A tree annotated `Weights`, somewhere in an argument or the result."""

    argument: str
    name: str
    tree: Any
    slots_of: Any = None  # the hyperparameters of the state, if it is a slot of one
    shape: Any = None  # for `Entries`: the function that returns their shapes
    optional: bool = False  # whether the annotation also allows None
    nonnegative: bool = False  # whether it is a slot without negative numbers

    @property
    def slot_dtype(self) -> Any:
        return getattr(self.slots_of, "slot_dtype", None)

    @property
    def int8(self) -> Range | None:
        """Which numbers are held in eight bits; None if there are none."""
        if self.slot_dtype != np.int8:
            return None
        return "nonnegative" if self.nonnegative else "signed"


@dataclass
class Found:
    """The trees and arrays in the arguments, or in the result, of one call."""

    trees: list[Tree] = field(default_factory=list[Tree])
    entries: list[Tree] = field(default_factory=list[Tree])
    arrays: list[tuple[str, Any, Any]] = field(default_factory=list[tuple[str, Any, Any]])


def collect(label: str, at: Tree, hint: Any, found: Found) -> None:
    """Find the trees in a value, and check everything else in it immediately.

    Args:
        label: Name of the function that is called, for messages.
        at: The value and its name.
        hint: Its annotation.
        found: The trees are added to this.

    Raises:
        TypeError: Something that is not a tree does not match its annotation.
    """
    if hint is Weights:
        found.trees.append(at)
        return
    origin, args = get_origin(hint), get_args(hint)
    if hint is Entries:
        return
    if origin is Annotated and args[0] in (Entries, Weights):
        at = at._replace(nonnegative=NonNegative in args)
        if args[0] is Weights:
            found.trees.append(at)
        else:
            found.entries.append(at._replace(shape=args[1]))
        return
    if origin is Union or origin is types.UnionType:
        options = [arg for arg in args if arg is not type(None)]
        if at.tree is None and len(options) < len(args):
            return
        if len(options) == 1:
            collect(label, at._replace(optional=True), options[0], found)
            return
    if is_typed_dict(origin or hint):
        _check_keys(label, at, hint)
    items = items_beside(at.tree, hint)
    if items is None:
        _check(label, at, hint, found)
        return
    is_state = hasattr(origin or hint, "_fields")
    slots_of = getattr(at.tree, "hyperparameters", None) if is_state else at.slots_of
    for suffix, item, item_hint in items:
        collect(label, Tree(at.argument, at.name + suffix, item, slots_of), item_hint, found)


def _check_keys(label: str, at: Tree, hint: Any) -> None:
    """Raise an error for a dict whose keys are not those of a TypedDict."""
    is_dict = issubclass(class_of(at.tree), dict)
    if is_dict and (problem := wrong_keys(at.tree, get_origin(hint) or hint)):
        given = f"{_hint_name(hint)}, got {describe(at.tree)}"
        raise TypeError(f"{label}: {at.name} must be {given}.\n  {problem}")


def _check(label: str, at: Tree, hint: Any, found: Found) -> None:
    from typeguard import TypeCheckError

    try:
        check_value(at.tree, hint)
    except TypeCheckError:
        tied = "".join(
            f", where {name} is {describe(value)} as {spelled(other)}"
            for name, value, other in found.arrays
            if getattr(hint, "dim_str", "")
        )
        or_none = " | None" if at.optional else ""
        raise TypeError(
            f"{label}: {at.name} must be {_hint_name(hint)}{or_none}, got "
            f"{_given(at.tree, hint)}{tied}"
        ) from None
    if hint is Scalar and at.slots_of is not None:
        default = jnp.result_type(float)
        if at.tree.dtype != default:
            raise TypeError(
                f"{label}: {at.name} must have JAX's default float dtype, {default.name}, "
                f"got {describe(at.tree)}"
            )
    if getattr(hint, "dim_str", ""):
        found.arrays.append((at.name, at.tree, hint))


def _hint_name(hint: Any) -> str:
    """Return an annotation as people write it. A NamedTuple gets its module's name: several are called State."""
    cls = get_origin(hint) or hint
    if hasattr(cls, "_fields"):
        return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    return spelled(hint)


def _given(value: object, hint: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        options = get_args(hint) or (hint,)
        wants_jax = any(getattr(option, "array_type", None) is jax.Array for option in options)
        cure = _CURE if wants_jax else ""
        return f"a NumPy {kind} {describe(cast('Any', value))}{cure}"
    if isinstance(value, int | float) and _is_fine(jnp.asarray(value), hint):
        return describe(value) + _CURE
    if hasattr(value, "_fields"):
        return _hint_name(type(value))
    return describe(value)


_CURE = " (make it a JAX array: jnp.asarray)"


def _is_fine(value: object, hint: Any) -> bool:
    from typeguard import TypeCheckError

    try:
        check_value(value, hint)
    except TypeCheckError:
        return False
    return True
