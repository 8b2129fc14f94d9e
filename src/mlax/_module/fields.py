"""The fields of a Module: how to describe them, which are children, and which defaults are refused."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast, get_origin, overload

import jax
import numpy as np

from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import UnsortableError, class_of, leaves, leaves_with_path
from mlax._module.branches import INode
from mlax._module.contracts import CONVERTER
from mlax._module.hidden import ARRAYS
from mlax._module.nodes import State, is_state_or_unset
from mlax._module.printing import shorten, with_article
from mlax._module.static import StaticError
from mlax.tree import describe, keystr

__all__ = [
    "field",
    "is_child",
    "is_class_variable",
    "is_to_copy",
    "refuse_attributes",
    "refuse_default",
]

S = TypeVar("S")
T = TypeVar("T")


@overload
def field(
    *,
    converter: Callable[[S], T],
    default: S,
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> T: ...
@overload
def field(
    *,
    converter: Callable[[S], T],
    default_factory: Callable[[], S],
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> T: ...
@overload
def field(
    *,
    converter: Callable[[S], T],
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> T: ...
@overload
def field(
    *,
    default: T,
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> T: ...
@overload
def field(
    *,
    default_factory: Callable[[], T],
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> T: ...
@overload
def field(
    *,
    init: bool = ...,
    repr: bool = ...,
    kw_only: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> Any: ...
@trimmed
def field(  # noqa: D417 - what the overloads take
    *, converter: Callable[[Any], Any] | None = None, **options: Any
) -> Any:
    """Describe a field of a Module, as `dataclasses.field` does.

    Args:
        converter: Function that is applied to each value given to the field: to arguments of the
            generated `__init__` and to defaults, when `__init__` or `__post_init__` assigns the
            field, and by `replace`. Its results must be valid arguments, too. That of an `InitVar`
            is applied to what `__post_init__` gets.
        default: Value of the field where none is given.
        default_factory: Function that makes it; for lists and dicts of States, or States of one's own.
        init: Whether `__init__` takes it. If not, `__post_init__` assigns it.
        repr: Whether `repr` shows it.
        kw_only: Whether `__init__` takes it by keyword only.
        metadata: Data of your own, for `dataclasses.fields(module)`.
    """
    if "static" in options:
        raise TypeError(
            "mlax.field does not take static.\n"
            "  Leave it out: a field is static if its value holds no Parameter, Variable or Module."
        )
    if converter is not None:
        if not callable(converter):
            raise TypeError(f"mlax.field: converter must be a function, got {describe(converter)}")
        options["metadata"] = {**(options.get("metadata") or {}), CONVERTER: converter}
    return dataclasses.field(**options)


def is_child(value: Any) -> bool:
    """Whether a field with this value is a child: it holds States and None, and nothing else."""
    if value is None or isinstance(value, State):
        return True
    cls = class_of(value)
    if not issubclass(cls, (tuple, list, dict)):
        return False
    try:
        found = leaves_with_path(value, is_leaf=_is_no_container)
    except UnsortableError as error:
        why, _, cure = str(error).partition("; ")
        raise StaticError(why, f"{cure.capitalize()}.") from None
    if not found:
        return not _is_nested_tuple(value)
    others = [(path, leaf) for path, leaf in found if not _is_none_or_state(leaf)]
    if not others:
        return True
    path, other = others[0]
    if any(isinstance(leaf, State) for _, leaf in found):
        raise StaticError(
            f"it holds States, but {keystr(path)} is {describe(other)}",
            "Wrap arrays in a Parameter or a Variable; move anything else to another field.",
        )
    if isinstance(other, (jax.Array, np.ndarray)) and not issubclass(cls, tuple):
        raise StaticError(
            f"a {cls.__name__} of arrays is not hashable and does not say whether the arrays are trained",
            f"Wrap each, or the whole {cls.__name__}, in a Parameter (trained) or a Variable (not trained).",
        )
    return False


def _is_no_container(node: object) -> bool:
    return not isinstance(node, (tuple, list, dict))


def _is_none_or_state(value: object) -> bool:
    return value is None or isinstance(value, State)


def _is_nested_tuple(value: Any) -> bool:
    return issubclass(class_of(value), tuple) and all(map(_is_nested_tuple, value))


def is_class_variable(annotation: object) -> bool:
    """Whether an annotation is a `ClassVar`. It may be a string."""
    if isinstance(annotation, str):
        return re.match(r"(\w+\.)*ClassVar\b", annotation) is not None
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def refuse_default(cls: type, name: str, declared: Any) -> None:
    """Raise an error for a default that all instances would share. The message is for users new to this."""
    is_field = class_of(declared) is dataclasses.Field and CONVERTER not in declared.metadata
    default: object = declared.default if is_field else declared
    if isinstance(default, ARRAYS):
        raise TypeError(
            f"{cls.__name__}.{name} = {describe(default)}: a field cannot hold a bare array.\n"
            f"  Wrap it in a Parameter (trained) or a Variable (not trained)."
        )
    if isinstance(default, (list, dict, set)):
        kind = class_of(cast("object", default)).__name__
        raise TypeError(
            f"{cls.__name__}.{name}: all instances would share the default {kind}.\n"
            f"  Use mlax.field(default_factory=lambda: ...)."
        )


def refuse_attributes(cls: Any, base: type) -> None:
    """Raise an error for attributes of a class of modules that hide something of the model, and are no fields.

    Args:
        cls: The class, after it has become a dataclass.
        base: The class itself, or one of its bases that is not a Module.
    """
    declared = inspect.get_annotations(base)
    fields = cls.__dataclass_fields__.items()
    names = {name for name, each in fields if not is_class_variable(each.type)}
    if "__check_init__" in vars(base):
        raise TypeError(f"{base.__name__}.__check_init__ would not run.\n  Name it __check__.")
    for name, value in vars(base).items():
        if isinstance(value, functools.cached_property):
            raise TypeError(
                f"{cls.__name__}.{name}: a cached_property would write into a module, which is frozen, and under "
                f"jit it would keep a tracer.\n"
                f"  Make it a property, or compute it in the constructor and store it in a Variable."
            )
        is_field = name in cls.__dataclass_fields__ and (base is not cls or name in declared)
        if is_field or is_class_variable(declared.get(name)):
            continue
        found = _of_the_model(value)
        if found is not None:
            raise TypeError(
                f"{cls.__name__}.{name} is {_said(value, found)}, but not a field, because {base.__name__} does not "
                f"declare it as one: JAX would not see it, and it would not be trained or saved.\n"
                f"  Declare it in the body of {cls.__name__}: {_declaration(name, value, found)}"
            )
        if base is cls and name in names and not isinstance(value, property):
            raise TypeError(
                f"{cls.__name__}.{name} = {shorten(value)} does not set the default of the field {name}, because "
                f"{cls.__name__} does not declare it: constructors would not use it.\n"
                f"  Declare it in the body of {cls.__name__}, `{name}: {class_of(value).__name__} = ...`, or rename it."
            )


def _of_the_model(value: Any) -> Any:
    """Return the first State or array in a value and in tuples, lists and dicts in it; None if there is none."""
    if isinstance(value, ARRAYS) or is_state_or_unset(value):
        return value
    kind = class_of(value)
    if not issubclass(kind, (tuple, list, dict)):
        return None
    inside: Any = value.values() if issubclass(kind, dict) else value
    return next((one for one in map(_of_the_model, inside) if one is not None), None)


def _said(value: Any, found: Any) -> str:
    what = describe(found) if isinstance(found, ARRAYS) else with_article(class_of(found).__name__)
    return what if value is found else f"{with_article(class_of(value).__name__)} with {what}"


def _declaration(name: str, value: Any, found: Any) -> str:
    if isinstance(found, ARRAYS):
        return (
            f"`{name}: Parameter = ...` if it is trained, `{name}: Variable = ...` if not, or, if it is a constant "
            f"that does not belong to the model, `{name}: ClassVar = ...`."
        )
    kind = class_of(value).__name__
    if isinstance(value, (list, dict)):
        return f"`{name}: {kind} = mlax.field(default_factory=lambda: ...)`."
    return f"`{name}: {kind} = ...`."


def is_to_copy(default: object) -> bool:
    """Whether each module gets a copy of a default. Modules could share it, but not two places of one model."""
    if not isinstance(default, (State, tuple)):
        return False
    inside: list[object] = leaves(default, is_leaf=lambda node: isinstance(node, State))
    return any(isinstance(one, INode) or (isinstance(one, State) and leaves(one)) for one in inside)
