"""Which values a static field of a Module may have, and when two of them are the same.

Static fields are aux data, and JAX caches traces by them. So they must be hashable, must not hold
arrays, and must differ whenever the traces could. Python's equality is too coarse for that (1 ==
1.0 == True, 0.0 == -0.0). So values are compared by their `tag`, in which each value comes with its
type.
"""

import dataclasses
import enum
import functools
import types
from collections.abc import Hashable, Iterable
from typing import Any, cast

import jax
import numpy as np
from jax.tree_util import all_leaves

from mlax._jax.trees import class_of, leaves
from mlax._module.hidden import ARRAYS, Ref, attributes_of, hidden_in
from mlax._module.printing import with_article
from mlax._module.state import State
from mlax._module.unset import UNSET, Unset
from mlax.tree import describe

__all__ = ["StaticError", "tag"]

_PLAIN = frozenset({str, int, bool, bytes, type(None)})  # nothing can be hidden in these
# These are compared by identity.
_FUNCTIONS = {types.FunctionType, class_of(jax.jit(class_of)), jax.custom_jvp, jax.custom_vjp}
_ATOMS = _PLAIN | _FUNCTIONS | {type}


_WITHOUT_ATTRIBUTES = (str, bytes, int, float, complex, tuple, frozenset, functools.partial)


class StaticError(TypeError):
    """A value cannot be static. The message says what is wrong with it; `cure` says what to do."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


def tag(value: Any) -> Hashable:
    """Return a hashable value that represents a static value in comparisons.

    Raises:
        StaticError: The value is unhashable, or it is or contains an array or a State.
    """
    cls = class_of(value)
    if cls in _PLAIN:
        return cls, value
    found = _tag(value)
    _refuse_hidden(value)
    return found


def _refuse_hidden(value: object) -> None:
    hidden = hidden_in(value)
    if hidden is None:
        return
    if isinstance(hidden.value, Ref):
        problem = f"{hidden.holder} holds {describe(hidden.value)} in a Ref, which changes in place"
        raise StaticError(problem, _REF_CURE)
    is_array = isinstance(hidden.value, ARRAYS)
    what = describe(hidden.value) if is_array else with_article(class_of(hidden.value).__name__)
    raise StaticError(
        f"{hidden.holder} holds {what}, which JAX does not see there",
        "Give it a field of its own (an array in a Parameter or a Variable) and pass it as an argument.",
    )


def _tag(value: Any) -> Hashable:
    cls = class_of(value)
    if cls in _ATOMS:
        return cls, value
    tagged = _tag_without_attributes(value)
    if not isinstance(value, _WITHOUT_ATTRIBUTES) or isinstance(value, enum.Enum):
        return tagged
    # The equality of these, which come from Python, ignores the attributes of an object of a subclass.
    attributes = sorted((name, one) for name, one in attributes_of(value))
    return (tagged, *map(_tag_of_attribute, attributes)) if attributes else tagged


def _tag_of_attribute(attribute: tuple[str, Any]) -> Hashable:
    name, value = attribute
    try:
        return name, _tag(value)
    except StaticError:
        return name, _Same(value)


class _Same:
    """Stands for an attribute that is not hashable, such as `__annotations__`: equal only to itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _tag_without_attributes(value: Any) -> Hashable:
    cls = class_of(value)
    if isinstance(value, (*ARRAYS, State, Unset)):
        raise _misplaced(value)
    parts = _parts(value)
    if parts is not None:
        return cls, *map(_tag, parts)
    if cls is frozenset:
        return cls, frozenset(map(_tag, value))
    if isinstance(value, np.generic):
        return cls, cast("Any", value).dtype, value.tobytes()
    if isinstance(value, float):
        return cls, value.hex()
    if isinstance(value, complex):
        return cls, value.real.hex(), value.imag.hex()
    params = getattr(cls, "__dataclass_params__", None)
    if not all_leaves([value]):  # a PyTree of another library, or the user's
        _refuse_arrays(value, leaves(value))
    elif params is not None:
        _refuse_arrays(
            value, [getattr(value, field.name, None) for field in dataclasses.fields(cls)]
        )
    _refuse_unhashable(value)
    if params is not None and params.eq:
        compared = [field.name for field in dataclasses.fields(cls) if field.compare]
        own = () if _is_generated(cls.__eq__) else (value,)
        return cls, *own, *(_tag(getattr(value, name)) for name in compared)
    return cls, value


def _parts(value: Any) -> Iterable[Any] | None:
    """Return the parts of a value whose own equality is too coarse, too fine, or by identity."""
    kind = class_of(value)
    if issubclass(kind, tuple):
        return tuple(value)
    if kind in (slice, range):
        return value.start, value.stop, value.step
    if issubclass(kind, functools.partial):
        return value.func, value.args, tuple(sorted(value.keywords.items()))
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, (types.BuiltinMethodType, types.MethodWrapperType)):
        return value.__name__, value.__self__
    return None


def _is_generated(function: Any) -> bool:
    """Whether `dataclasses` generated a method. The code of a user's method comes from a file."""
    return getattr(getattr(function, "__code__", None), "co_filename", "") == "<string>"


def _refuse_arrays(value: Any, inside: Iterable[Any]) -> None:
    for item in inside:
        if isinstance(item, (*ARRAYS, State)):
            kind = "a State" if isinstance(item, State) else "an array"
            raise StaticError(
                f"{with_article(type(value).__name__)} contains {kind}, {describe(item)}",
                "A static value cannot contain arrays or States: give them fields of their own (an array in a "
                "Parameter or a Variable).",
            )


def _misplaced(value: Any) -> StaticError:
    if isinstance(value, State):
        return StaticError(
            f"{with_article(type(value).__name__)} is hidden in a static value",
            "Give it a field of its own: States are children of the tree.",
        )
    if value is UNSET:
        return StaticError(
            "UNSET is the data of a node, not a value by itself",
            "Use Parameter() or Variable() for a node that set_up will make.",
        )
    if isinstance(value, Ref):
        return StaticError(f"{describe(value)} is in a Ref, which changes in place", _REF_CURE)
    return StaticError(
        f"{describe(value)} is an array",
        "Wrap it in a Parameter (trained) or a Variable (not trained).",
    )


_REF_CURE = (
    "Keep the array in a Variable, and return a changed copy of the module: self.replace(...)."
)
_CURES: dict[type, str] = {
    list: "Use a tuple.",
    dict: "Use a tuple of pairs, or a frozen dataclass.",
    set: "Use a frozenset.",
}


def _refuse_unhashable(value: Any) -> None:
    try:
        hash(value)
    except (TypeError, ValueError):  # a memoryview raises a ValueError
        _refuse_hidden(value)  # more likely to be the cause
        cures = [_CURES[base] for base in type(value).__mro__ if base in _CURES]
        raise StaticError(
            f"a static field must be hashable, and {with_article(type(value).__name__)} is not",
            *(cures or ["Use a hashable value, such as a frozen dataclass of hashable fields."]),
        ) from None
