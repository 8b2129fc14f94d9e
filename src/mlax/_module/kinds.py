"""Whether the values of a module's fields are of the kinds that its annotations name.

The data of nodes are checked elsewhere, in `annotations`. Here a value is only refused if its
class, or that of an item, cannot be what the annotation says. The rest is left to type checkers: the
signature of a callable, the types of a protocol's members, the arguments of a generic class, and
annotations that are not understood.
"""

import collections.abc
import inspect
import numbers
import types
import typing
from collections.abc import Collection, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    Self,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import jax
import jax.numpy as jnp
import numpy as np

from mlax._checking.hints import bounds_of, hints_of_fields, unaliased, warn_unresolved
from mlax._checking.items import is_empty_tuple, is_typed_dict, items_beside, says_items, wrong_keys
from mlax._checking.protocols import has_members
from mlax._checking.spelling import spelled
from mlax._jax.trees import class_of
from mlax._module.branches import Container, is_container
from mlax._module.flattening import Flattened, is_flattened
from mlax._module.nodes import ENode
from mlax.tree import are_namesakes, describe

__all__ = [
    "NUMBERS",
    "UNIONS",
    "AnnotationMismatchError",
    "check_kinds",
    "form_of",
    "is_scalar_type",
]


class AnnotationMismatchError(TypeError):
    """A value does not match its annotation. The message names both, and what else was checked with them."""

    __module__ = "mlax"


class _Misfit(NamedTuple):
    """A value that is not of the kind that its annotation names.

    Attributes:
        place: Where it is in the value that was checked: `['a'][0]`, or "" for all of it.
        value: The value.
        annotation: Its annotation.
    """

    place: str
    value: Any
    annotation: Any


class _Field(NamedTuple):
    """What is known about a field of a class.

    Attributes:
        name: The name of the field.
        annotation: Its annotation.
        owner: The class that declares it, which `Self` stands for.
        sure: Classes whose direct instances fit, without a closer look.
        may_be_none: Whether its default is None, whatever the annotation says.
    """

    name: str
    annotation: Any
    owner: type
    sure: frozenset[type]
    may_be_none: bool


def check_kinds(module: Any, names: Collection[str] | None = None) -> None:
    """Check the kinds of the values of a module's fields.

    Args:
        module: The module.
        names: The fields to check. Default: all.

    Raises:
        AnnotationMismatchError: A value is not of the kind that its annotation names.
    """
    for name, annotation, owner, sure, may_be_none in _fields(class_of(module)):
        if names is not None and name not in names:
            continue
        value = getattr(module, name)
        if type(value) in sure or (value is None and may_be_none):
            continue
        wrong = _misfit(value, annotation, owner)
        if wrong is not None:
            raise AnnotationMismatchError(
                f"{type(module).__name__}.{name}{wrong.place} must be {spelled(wrong.annotation)}, "
                f"got {describe(wrong.value)}{_cure(wrong)}"
            )


_known: dict[type, tuple[Mapping[str, Any], list[_Field]]] = {}


def _fields(cls: Any) -> list[_Field]:
    """Return the fields of a class whose values are checked. Warn about annotations that cannot be resolved."""
    hints = hints_of_fields(cls)
    known = _known.get(cls)
    if known is None or known[0] is not hints:  # a name that was missing has been defined
        warn_unresolved(cls, cls.__name__, cls._names)
        fields = [_field(cls, name, hints[name]) for name in cls._names if hints[name] is not Any]
        known = _known[cls] = (hints, fields)
    return known[1]


def _field(cls: Any, name: str, annotation: Any) -> _Field:
    owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
    may_be_none = cls.__dataclass_fields__[name].default is None
    return _Field(name, annotation, owner, form_of(annotation).sure, may_be_none)


UNIONS = (typing.Union, types.UnionType)
_CONTAINERS = (tuple, list, dict, frozenset, Container)

# Python's numeric tower, which checkers know, and NumPy's scalars, which behave the same.
NUMBERS: dict[Any, Any] = {
    bool: (bool, np.bool_),
    int: numbers.Integral,
    float: numbers.Real,
    complex: numbers.Complex,
}
_SCALAR_TYPE = class_of(jnp.float32)  # jnp.float32 is a class, but not that of a value


class Form(NamedTuple):
    """An annotation, taken apart.

    Attributes:
        hint: What it says about a value, without aliases and metadata.
        origin: The generic class or special form that has arguments, or None.
        arguments: Its arguments.
        sure: Classes whose direct instances fit, without a closer look.
    """

    hint: Any
    origin: Any
    arguments: tuple[Any, ...]
    sure: frozenset[type]


_forms: dict[Any, Form] = {}  # by class and annotation, as jnp.float32 == np.float32


def form_of(annotation: Any) -> Form:
    """Return the form of an annotation. It is found once and kept: this runs for each item of each value."""
    key = class_of(annotation), annotation
    try:
        return _forms[key]
    except (KeyError, TypeError):  # not seen before, or not hashable
        hint = _stripped(annotation)
    form = Form(hint, get_origin(hint), get_args(hint), _sure(hint))
    if hint is not Any and isinstance(annotation, collections.abc.Hashable):
        _forms[key] = form
    return form


def _sure(hint: Any) -> frozenset[type]:
    """Return classes whose direct instances fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        return frozenset[type]().union(*(form_of(arm).sure for arm in arguments))
    cls = hint if origin is None else origin
    if cls is collections.abc.Callable:
        return frozenset({types.FunctionType})
    if not isinstance(cls, type) or hasattr(cls, "_fields"):
        return frozenset()
    if is_empty_tuple(hint) or (arguments and issubclass(cls, (*_CONTAINERS, type))):
        return frozenset()
    return frozenset({cls, int} if cls in (float, complex) else {cls})


def _misfit(value: Any, annotation: Any, owner: type) -> _Misfit | None:
    """Return what does not fit in a value; None if everything may fit."""
    hint, origin, arguments, sure = form_of(annotation)
    if type(value) in sure:
        return None
    whole = _Misfit("", value, annotation)
    if origin in UNIONS:
        found = [_misfit(value, arm, owner) for arm in arguments]
        if None in found:
            return None
        inside = [wrong for wrong in found if wrong is not None and wrong.place]
        return inside[0] if len(inside) == 1 else whole
    if origin is Literal:
        fits = any(type(value) is type(one) and value == one for one in arguments)
        return None if fits else whole
    if isinstance(hint, TypeVar):
        try:
            bounds = bounds_of(hint)
        except Exception:  # inside an alias, where it was not evaluated before
            return None
        return None if any(_misfit(value, one, owner) is None for one in bounds) else whole
    if hint is typing.Never or hint is typing.NoReturn:
        return whole
    if origin is type:
        return None if _is_subclass(value, arguments[0], owner) else whole
    cls = owner if hint is Self else hint if origin is None else origin
    if cls is collections.abc.Callable:
        return None if callable(value) else whole
    if not isinstance(cls, type):
        return None
    if not _is_instance(value, cls, owner):
        return whole
    return _misfit_inside(value, hint, owner)


def _misfit_inside(value: Any, hint: Any, owner: type) -> _Misfit | None:
    """Return what does not fit among the items of a value whose own class fits."""
    _, origin, arguments, _ = form_of(hint)
    kind = class_of(value)
    cls = hint if origin is None else origin
    if is_typed_dict(cls):
        if wrong_keys(value, cls):
            return _Misfit("", value, hint)
    elif is_empty_tuple(hint):
        return _Misfit("", value, hint) if value else None
    elif not arguments and not hasattr(kind, "_fields"):
        return None
    if is_container(value):
        wrong = _misfit(value.states, arguments[0], owner)
        return wrong and wrong._replace(place=f".states{wrong.place}")
    keys: Any = ()  # what is in it besides items
    if arguments and says_items(cls):
        if issubclass(kind, (frozenset, dict)):
            keys = value
        elif issubclass(kind, (str, bytes, range)):
            keys = value[:1]  # all have one type
    if any(_misfit(key, arguments[0], owner) is not None for key in keys):
        return _Misfit("", value, hint)
    if (
        issubclass(kind, (tuple, list))
        and origin in (tuple, list)
        and (origin is list or arguments[1:] == (...,))
    ):
        sure = form_of(arguments[0]).sure
        if all(type(item) in sure for item in value):
            return None  # the usual case, in a tenth of the time
    items = items_beside(value, hint)
    if items is None and arguments and origin is tuple:  # of another length
        return _Misfit("", value, hint)
    for place, item, item_hint in items or ():
        wrong = _misfit(item, item_hint, owner)
        if wrong is not None:
            return wrong._replace(place=place + wrong.place)
    return None


def _stripped(annotation: Any) -> Any:
    """Return what an annotation says about a value, without aliases, metadata and NewTypes."""
    while True:
        try:
            annotation = unaliased(annotation)
        except Exception:  # an alias is evaluated when it is used, and may raise anything
            return Any
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif annotation is LiteralString:
            annotation = str
        else:
            return annotation


def _is_instance(value: Any, cls: Any, owner: type) -> bool:
    """Whether a value may be an instance of a class, as checkers understand it."""
    if cls is Any or cls is object or (value is None and issubclass(cls, ENode)):
        return True
    if hasattr(cls, "dim_str"):  # an array in jaxtyping's words
        return _misfit(value, cls.array_type, owner) is None
    if cls.__module__.startswith("jaxtyping") or class_of(cls) is _SCALAR_TYPE:
        return True
    if cls in NUMBERS:
        is_symbolic = hasattr(value, "__jax_array__")  # a dimension of a function to export
        return isinstance(value, NUMBERS[cls]) or is_symbolic
    if cls is np.dtype:
        return isinstance(value, np.dtype) or _is_subclass(value, np.generic, owner)
    if cls is jax.Array and isinstance(value, jax.ShapeDtypeStruct):
        return True
    if is_typed_dict(cls):
        return isinstance(value, dict)
    try:
        if getattr(cls, "_is_protocol", False):
            return has_members(value, cls)
        if isinstance(value, cls):
            return True
    except Exception:  # classes may define what an instance is, and attributes may be computed
        return True
    original = _original(value)
    return original is not value and isinstance(original, cls)


def _original(value: Any) -> Any:
    """Return the model that a module stands for; any other value as it is."""
    return value._original() if is_flattened(value) else value


def _is_subclass(value: Any, bound: Any, owner: type) -> bool:
    """Whether a value may be a class as `type[bound]` describes it."""
    bound = _stripped(bound)
    if get_origin(bound) in UNIONS:
        return any(_is_subclass(value, arm, owner) for arm in get_args(bound))
    bound = owner if bound is Self else get_origin(bound) or bound
    cls = get_origin(value) or value
    if not isinstance(cls, type):
        return False
    if is_scalar_type(cls) and is_scalar_type(bound):
        return jnp.issubdtype(cast("Any", cls), bound)
    if bound is Any or not isinstance(bound, type) or class_of(cls) is _SCALAR_TYPE:
        return True
    try:
        return issubclass(cls, bound)
    except Exception:  # a protocol, or a class that defines what a subclass is
        return True


def is_scalar_type(cls: Any) -> bool:
    """Whether this is a type of NumPy's scalars, or one of JAX's names for them."""
    return class_of(cls) is _SCALAR_TYPE or (isinstance(cls, type) and issubclass(cls, np.generic))


def _kinds(annotation: Any) -> list[Any]:
    """Return the classes that an annotation names, without their arguments."""
    hint = _stripped(annotation)
    arms: Any = get_args(hint) if get_origin(hint) in UNIONS else (hint,)
    forms = [form_of(getattr(arm, "array_type", arm)) for arm in arms]
    return [form.hint if form.origin is None else form.origin for form in forms]


def redefined(value: object, annotation: Any) -> str:
    """Return what to do if the annotation names a class that was defined again after the value was made, else ""."""
    for kind in _kinds(annotation):
        if isinstance(kind, type) and any(
            are_namesakes(kind, base) for base in type(value).__mro__
        ):
            return (
                f"{kind.__name__} was defined again after this object was made, as when a cell of a notebook is run "
                "again: make the object again."
            )
    return ""


def _cure(wrong: _Misfit) -> str:
    """Return the end of a message: what to do, if it is known."""
    value, kind, hint = wrong.value, class_of(wrong.value), _stripped(wrong.annotation)
    kinds = _kinds(hint)

    def holds(cls: type) -> bool:
        return any(isinstance(kind, type) and issubclass(kind, cls) for kind in kinds)

    for one in kinds:
        if is_typed_dict(one) and issubclass(kind, dict) and (problem := wrong_keys(value, one)):
            return f".\n  {problem}"
    if value is None:
        return f".\n  Annotate it with `{spelled(hint)} | None` if it may be None."
    if again := redefined(value, hint):
        return f".\n  {again}"
    if issubclass(kind, list) and holds(tuple):
        return ".\n  Pass a tuple."
    if issubclass(kind, tuple) and holds(list):
        return ".\n  Pass a list, or annotate it with tuple[...]."
    if issubclass(kind, bool) and not value and holds(ENode) and class_of(None) in kinds:
        return ".\n  Pass None for none."
    if callable(wrong.value) and not issubclass(kind, Flattened) and holds(ENode):
        return ".\n  If it is an initializer, give it to a node: Parameter(init=...)."
    if issubclass(kind, numbers.Number) and (holds(ENode) or holds(jax.Array)):
        return ".\n  Wrap it in a Parameter (trained) or a Variable (not trained)."
    if issubclass(kind, float) and value.is_integer() and holds(int):
        return f".\n  Pass {int(value)}."
    if issubclass(kind, Flattened) and holds(Flattened):
        return ".\n  If it may hold other modules, annotate it with a common base class, or with Module."
    return ""
