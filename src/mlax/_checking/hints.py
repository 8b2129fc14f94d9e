"""Annotations at run time: resolved, and walked side by side with the values that they describe."""

import inspect
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Self, TypeVar, cast, get_args, get_origin

import jax
import jaxtyping

from mlax._checking.spelling import spelled
from mlax._jax.trees import class_of

__all__ = [
    "are_final",
    "hints_of",
    "hints_of_fields",
    "items_beside",
    "unaliased",
    "warn_unresolved",
    "with_self",
    "written",
]


class _Unresolved(NamedTuple):
    """An annotation that cannot be evaluated.

    Attributes:
        owner: The class or function that has it.
        name: The field or parameter, or "return".
        text: The annotation as it is written.
        error: Why it cannot be evaluated.
        namespace: Where a name that is missing may be defined later.
    """

    owner: Any
    name: str
    text: str
    error: Exception
    namespace: Mapping[str, Any]

    @property
    def missing(self) -> str:
        return (self.error.name if isinstance(self.error, NameError) else None) or ""

    def warning(self, where: str) -> str:
        which = "the result" if self.name == "return" else self.name
        if self.missing:
            reason = f"there is no {self.missing} at run time"
            cure = (
                f"Import {self.missing} outside of `if TYPE_CHECKING`, or define it at the top level of "
                f"{getattr(self.owner, '__module__', 'the file')}."
            )
        else:
            reason = f"{type(self.error).__name__}: {self.error}"
            cure = "Correct the annotation, or annotate with Any."
        return (
            f"{where}: the annotation of {which}, {self.text!r}, cannot be resolved, so {which} is not checked "
            f"({reason}).\n  {cure}"
        )


class _Hints(NamedTuple):
    """Annotations, and those that could not be evaluated."""

    found: dict[str, Any]
    unresolved: list[_Unresolved]

    def resolve(self, owner: Any, namespace: dict[str, Any], names: dict[str, Any]) -> None:
        """Add the annotations of a class or function. Strings are evaluated; if that fails, they become `Any`."""
        for name, annotation in inspect.get_annotations(owner).items():
            self.unresolved[:] = [one for one in self.unresolved if one.name != name]
            alone = type("_", (), {"__annotations__": {name: annotation}})
            try:
                hints = typing.get_type_hints(alone, namespace, names, include_extras=True)
                self.found[name] = _changed(unaliased(hints[name]), _with_array)
            except Exception as error:  # evaluating a string may raise anything
                text = annotation if isinstance(annotation, str) else spelled(annotation)
                self.unresolved.append(
                    _Unresolved(owner, name, text, error.with_traceback(None), namespace)
                )
                self.found[name] = Any


_hints: dict[object, _Hints] = {}
_warned: set[tuple[object, str]] = set()


def _known(thing: object) -> _Hints | None:
    """Return the annotations found earlier, unless a missing name has been defined since."""
    hints = _hints.get(thing)
    if hints is None:
        return None
    if hints.unresolved and any(one.missing in one.namespace for one in hints.unresolved):
        return None
    return hints


def are_final(thing: object) -> bool:
    """Whether the annotations of a class or function, which were looked up before, cannot change any more."""
    hints = _hints.get(thing)
    return hints is not None and not any(one.missing for one in hints.unresolved)


def hints_of_fields(cls: type) -> Mapping[str, Any]:
    """Return the annotations of a class and its bases, with `Any` for those that cannot be resolved at run time.

    It is the same object until a name that was missing is defined.
    """
    hints = _known(cls)
    if hints is None:
        hints = _Hints({}, [])
        for base in reversed(cls.__mro__):
            namespace = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
            hints.resolve(base, namespace, {**vars(base), **_names_in(base)})
        _hints[cls] = hints  # only when it is whole: other threads read it
    return hints.found


def _names_in(cls: type) -> dict[str, Any]:
    """Return what annotations in the body of a class may name besides globals: its type parameters and itself."""
    parameters = {item.__name__: item for item in getattr(cls, "__type_params__", ())}
    return {**parameters, cls.__name__: cls}


def hints_of(function: Callable[..., Any], cls: type = object) -> Mapping[str, Any]:
    """Return the annotations of a function, with `Any` for those that cannot be resolved at run time.

    Args:
        function: The function.
        cls: The class whose method it is. Its annotations may name the class, even if it is local.
    """
    hints = _known(function)
    if hints is None:
        hints = _Hints({}, [])
        plain = inspect.unwrap(function)
        namespace: dict[str, Any] = getattr(plain, "__globals__", {})
        names: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            names |= _names_in(base)
        names |= {item.__name__: item for item in getattr(plain, "__type_params__", ())}
        hints.resolve(plain, namespace, names)
        _hints[function] = hints
    return hints.found


def written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of which jaxtyping made an empty copy to check calls; another function as it is.

    The copy has the module and the qualified name of the original, but not its globals.
    """
    module = sys.modules.get(function.__module__)
    if module is None or getattr(function, "__globals__", None) is vars(module):
        return function
    found: Any = module
    for name in function.__qualname__.split("."):  # nothing is called <locals>
        found = inspect.getattr_static(found, name, None)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    if not inspect.isfunction(found):
        return function
    original = inspect.unwrap(found)
    named, given = (list(inspect.signature(one).parameters) for one in (original, function))
    return original if [name for name in given if name in named] == named else function


def warn_unresolved(thing: Any, where: str, names: Collection[str] | None = None) -> None:
    """Warn about annotations that cannot be resolved, once about each.

    Args:
        thing: A class or function. Its annotations have been asked for.
        where: What to call it in the warning.
        names: The fields or parameters that would be checked. Default: all.
    """
    for one in _hints[thing].unresolved:
        key = (one.owner, one.name)
        if key not in _warned and (names is None or one.name in names):
            _warned.add(key)
            warnings.warn(one.warning(where), UserWarning, stacklevel=_outside())


def _outside() -> int:
    """Return the stack level of the first caller outside this library and those that it calls."""
    level, frame = 0, inspect.currentframe()
    while frame:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("mlax", "jax", "jaxtyping"):
            return level
        level, frame = level + 1, frame.f_back
    return level


def unaliased(hint: Any) -> Any:
    """Return what an annotation stands for: the value of a type alias, and the type in `Final[...]`.

    Raises:
        NameError: The alias names something that is not defined.
    """
    while True:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is typing.Final:
            hint = arguments[0]
        elif _is_alias(hint):
            hint = hint.__value__
        elif _is_alias(origin):  # a generic one, with arguments
            hint = _substituted(
                origin.__value__, dict(zip(origin.__type_params__, arguments, strict=False))
            )
        else:
            return hint


def with_self(hint: Any, cls: Any) -> Any:
    """Return an annotation with a class in place of `Self`. Without `Self` in it, it is the same object."""
    return _changed(hint, lambda one: cls if one is Self else one)


def _changed(hint: Any, change: Callable[[Any], Any]) -> Any:
    """Return an annotation with its parts changed by a function; if it changes none, the same object."""
    new = change(hint)
    if new is not hint:
        return new
    if class_of(hint) is list:  # the parameters of a Callable
        return [_changed(one, change) for one in hint]
    origin, arguments = get_origin(hint), get_args(hint)
    replaced = tuple([_changed(one, change) for one in arguments])
    if replaced == arguments:
        return hint
    if origin in (typing.Union, types.UnionType):
        return typing.Union[replaced]  # noqa: UP007
    if origin is typing.Annotated:
        return typing.Annotated[replaced]
    try:
        return origin[replaced]
    except TypeError:  # an origin that does not take these arguments
        return Any


def _with_array(hint: Any) -> Any:
    """Return part of an annotation with `jax.Array` in place of a copy of it.

    JAX's class cannot be found by its name. So cloudpickle takes it by value, and a class that was
    loaded names a copy, of which no array is an instance.
    """
    if not isinstance(hint, type) or hint is jax.Array:
        return hint
    if (hint.__module__, hint.__qualname__) == (jax.Array.__module__, jax.Array.__qualname__):
        return jax.Array
    array: Any = hint
    if hasattr(hint, "dim_str"):
        array_type = _changed(array.array_type, _with_array)
        return hint if array_type is array.array_type else array.dtype[array_type, array.dim_str]
    if hasattr(hint, "leaftype"):
        leaf = _changed(array.leaftype, _with_array)
        if leaf is not array.leaftype:
            arguments = leaf if array.structure is None else (leaf, array.structure)
            return cast("Any", jaxtyping).PyTree[arguments]
    return hint


def _is_alias(hint: Any) -> bool:
    """Whether this was made by `type X = ...` or TypeAliasType, that of Python 3.12 or of typing_extensions."""
    return type(hint).__name__ == "TypeAliasType"


_HOLDERS: Any = (tuple, list, dict)


def items_beside(value: Any, annotation: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the items of a tuple, list, dict or NamedTuple, each with its own annotation.

    Args:
        value: Any value.
        annotation: `tuple[A, B]`, `tuple[A, ...]`, `list[A]`, `Sequence[A]`, `dict[str, A]`, or a
            NamedTuple.

    Returns:
        For each item: how it is reached from the value, such as `.m` or `['w']`; the item; and its
        annotation. None if the annotation does not describe items, or does not fit the value.
    """
    cls, arguments = get_origin(annotation) or annotation, get_args(annotation)
    kind = class_of(value)
    if not isinstance(cls, type) or getattr(cls, "_is_protocol", False):
        return None
    if not issubclass(kind, _HOLDERS) or not issubclass(kind, cls):
        return None
    if hasattr(cls, "_fields"):
        hints = hints_of_fields(cls)
        given = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        return [
            (f".{name}", getattr(value, name), _substituted(hints.get(name, Any), given))
            for name in kind._fields
        ]
    if not arguments or cls.__module__ not in ("builtins", "collections", "collections.abc"):
        return None  # a generic class of one's own says nothing about its items
    if cls is tuple and arguments[-1] is not Ellipsis:
        if len(arguments) != len(value):
            return None
        return [(f"[{i}]", *both) for i, both in enumerate(zip(value, arguments, strict=True))]
    if issubclass(kind, tuple | list):
        return [(f"[{i}]", item, arguments[0]) for i, item in enumerate(value)]
    if issubclass(kind, dict) and len(arguments) == 2:
        return [(f"[{key!r}]", item, arguments[-1]) for key, item in value.items()]
    return None


def _substituted(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Replace the type variables in an annotation by the arguments of the generic class."""
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not any(parameter in given for parameter in parameters):
        return hint
    return hint[tuple(given.get(parameter, parameter) for parameter in parameters)]
