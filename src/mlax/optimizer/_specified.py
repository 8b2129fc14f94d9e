"""Frozen dataclasses whose annotations determine which values their fields accept: optimizers and schedules.

    bias_correction: bool = True
    layout: Literal["in_out", "out_in"] = "in_out"
    b1: Annotated[float, number(at_least=0, below=1)] = 0.9

For flags and choices, the type is enough. Everything else has a `Specification` in its annotation.
"""

import functools
import types
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)
from weakref import WeakKeyDictionary

import jax
import numpy as np

from mlax._checking.names import refuse_unknown
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._module.exporting import register_static
from mlax.tree import describe

__all__ = [
    "Specification",
    "Specified",
    "is_array",
    "is_plain",
    "normalised",
    "shown",
    "specifications",
]


@dataclass(frozen=True)
class Specification:
    """Which values a field accepts, and how it stores them.

    Attributes:
        normalise: Returns the value in the form in which the field stores it, or raises an error
            that says what is expected.
        schedulable: Whether arrays and schedules are accepted.
        optional: Whether None is accepted, according to the annotation.
        positive: Whether the field is a number above 0, which leaves may be divided by.
        normalise_array: `normalise` for arrays, where the annotation has them beside numbers.
        arrays: Whether it has, as `Float` does and `float` does not.
        each: Whether the field is a tuple of such values, as `tuple[float, ...]` is.
        labels: The values of a hyperparameter that may differ between leaves; () for any other.
        spelling: How to write the specification, for messages and signatures.
    """

    normalise: Callable[[Any], Any]
    schedulable: bool = False
    optional: bool = False
    positive: bool = False
    normalise_array: Callable[[Any], Any] | None = None
    arrays: bool = False
    each: bool = False
    labels: tuple[str | bool, ...] = ()
    spelling: str = field(default="Specification(...)", compare=False)

    def __repr__(self) -> str:
        return self.spelling

    def normalise_for(self, value: object) -> Callable[[Any], Any]:
        """Return the function that normalises a value of this type."""
        if self.arrays and self.normalise_array is not None and is_array(value):
            return self.normalise_array
        return self.normalise


_found: MutableMapping[type, Mapping[str, Specification]] = WeakKeyDictionary()


def specifications(cls: type) -> Mapping[str, Specification]:
    """Return the specifications of a dataclass's fields; a field that accepts anything has none.

    Annotations are resolved when this is first called, so that they may be strings.
    """
    if cls not in _found:
        hints = get_type_hints(cls, include_extras=True)
        said = {each.name: _specification(hints[each.name]) for each in fields(cast("Any", cls))}
        _found[cls] = {name: spec for name, spec in said.items() if spec is not None}
    return _found[cls]


def _specification(hint: Any) -> Specification | None:
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        spec = next((one for one in metadata if isinstance(one, Specification)), None)
        if spec and get_origin(inner) is tuple:
            return replace(spec, each=True)
        return _for_type(spec, get_args(inner)) if spec else None
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        spec = _specification(members[0]) if len(members) == 1 else None
        return replace(spec, optional=True) if spec else None
    if hint is bool:
        return Specification(_flag)
    if get_origin(hint) is Literal and all(isinstance(one, str | None) for one in get_args(hint)):
        return _choice(get_args(hint))
    return None


def _for_type(spec: Specification, members: tuple[Any, ...]) -> Specification:
    """Return a specification for a union of types; of a type alone, `members` is empty."""
    arrays = spec.normalise_array is not None and len({*members} - {type(None)}) > 1
    return replace(spec, optional=type(None) in members, arrays=arrays)


def normalised(place: str, value: Any, spec: Specification) -> Any:
    """Return a value in its normal form.

    Args:
        place: What it is, for the message: `sam: rho`.
        value: Any value.
        spec: What it may be.

    Raises:
        TypeError: It has the wrong type. The message says what is expected.
        ValueError: It is out of bounds.
    """
    return _normal(place, spec.normalise_for(value), value)


def _normal(place: str, normalise: Callable[[Any], Any], value: Any) -> Any:
    try:
        return normalise(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{place} must be {error}, got {shown(value)}") from None


@dataclass_transform(frozen_default=True)
class Specified:
    """Base class of classes whose annotations determine which values their fields accept.

    A subclass becomes a frozen dataclass that is static to JAX. Its fields are checked when an
    instance is made.
    """

    @trimmed
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True)(cls)
        setattr(cls, "__init__", trimmed(_naming_unknown(cls)))  # noqa: B010
        cls._register()

    @classmethod
    def _register(cls) -> None:
        """Tell JAX what an instance is in a tree."""
        jax.tree_util.register_static(cls)
        register_static(cls)

    def __post_init__(self) -> None:
        """Bring every field into its normal form. Raise an error if it does not accept its value."""
        for name, spec in specifications(type(self)).items():
            value = getattr(self, name)
            if value is None and spec.optional:
                continue
            normalise = spec.normalise_for(value)
            if spec.each:
                items = self._normal(name, name, _items, value)
                places = (f"{name}[{place}]" for place in range(len(items)))
                normal: Any = tuple(
                    self._normal(name, place, normalise, item)
                    for place, item in zip(places, items, strict=True)
                )
            else:
                normal = self._normal(name, name, normalise, value)
            object.__setattr__(self, name, normal)

    def _normal(self, name: str, place: str, normalise: Callable[[Any], Any], value: Any) -> Any:
        """Return the normal form of a field, or of an item of it, which messages call by its place."""
        try:
            return _normal(f"{type(self).__name__}: {place}", normalise, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}{self._hint(name, value)}") from None

    def _hint(self, name: str, value: object) -> str:
        """Return a text to append to the error message about a value."""
        return ""

    def require(self, test: bool | Callable[[], Any], message: str) -> None:
        """Raise ValueError with a message about the fields unless `test` holds.

        A test of fields that may be arrays is a function. It holds if it depends on a traced array,
        whose value is not known.
        """
        try:
            with jax.ensure_compile_time_eval():
                holds = bool(test()) if callable(test) else test
        except jax.errors.ConcretizationTypeError:
            return
        if not holds:
            raise ValueError(f"{type(self).__name__}: {message}")


def _naming_unknown(cls: Any) -> Callable[..., None]:
    """Return the constructor of a class; of an unknown argument its error says what it may be called here."""
    init: Callable[..., None] = cls.__init__
    names = [one.name for one in fields(cls)]

    @functools.wraps(init)
    def __init__(self: object, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        refuse_unknown(cls.__name__, kwargs, names)
        init(self, *args, **kwargs)

    return __init__


def shown(value: object) -> str:
    """Return the value of a field as shown in messages."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, np.dtype):
        return value.name
    if getattr(value, "shape", None) == () and not is_tracer(value):
        return f"{value} ({describe(value)})"
    return describe(value)


def _items(value: Any) -> tuple[Any, ...]:
    """Return the items of a list, tuple or array of NumPy with one axis."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = cast("Any", value).tolist()
    if not isinstance(value, list | tuple) or not value:
        raise TypeError("a list of one or more numbers")
    return tuple(cast("Any", value))


def _flag(value: Any) -> bool:
    plain = value.item() if is_plain(value) else value
    if not isinstance(plain, bool):
        raise TypeError("True or False")
    return plain


def _choice(choices: tuple[str | None, ...]) -> Specification:
    def normalise(value: Any) -> str | None:
        if not isinstance(value, str | None) or value not in choices:
            raise ValueError("one of " + ", ".join(map(repr, choices)))
        return value

    return Specification(normalise)


def is_array(value: object) -> bool:
    """Return whether a value is an array other than NumPy's form of a Python number."""
    return not is_plain(value) and isinstance(value, jax.Array | np.ndarray)


def is_plain(value: object) -> bool:
    """Return whether a value is NumPy's form of a Python number."""
    return isinstance(value, np.generic | np.ndarray) and cast("Any", value).shape == ()
