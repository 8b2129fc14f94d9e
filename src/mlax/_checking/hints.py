"""Annotations at run time, resolved."""

import functools
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, ForwardRef, NamedTuple, Self, TypeVar, Unpack, cast, get_args, get_origin

import jax
import jaxtyping

from mlax._checking.spelling import qualname, spelled
from mlax._jax.trees import class_of

__all__ = [
    "Recursive",
    "are_final",
    "bounds_of",
    "hints_of",
    "hints_of_fields",
    "is_unpacked",
    "of_all",
    "substituted",
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
            where: Mapping[str, Any] = namespace
            try:
                hint = _evaluated(annotation, namespace, names)
                for variable in _variables_in(hint):
                    where = _namespace_of(variable)
                    bounds_of(variable)
                self.found[name] = hint
            except Exception as error:  # evaluating a string may raise anything
                text = annotation if isinstance(annotation, str) else spelled(annotation)
                self.unresolved.append(
                    _Unresolved(owner, name, text, error.with_traceback(None), where)
                )
                self.found[name] = Any


def _evaluated(annotation: Any, namespace: dict[str, Any], names: dict[str, Any]) -> Any:
    """Return an annotation without strings and aliases.

    Args:
        annotation: The annotation, or a string.
        namespace: The globals of what has it.
        names: What it may name besides these.
    """
    alone = type("_", (), {"__annotations__": {"it": annotation}})
    hint = typing.get_type_hints(alone, namespace, names, include_extras=True)["it"]

    def change(part: Any) -> Any:
        if isinstance(part, ForwardRef):  # an alias that names itself
            return Recursive(part.__forward_arg__, namespace, names)
        return _with_array(part)

    return _changed(unaliased(hint), change)


class Recursive:
    """An alias inside itself, as in `Tree = int | tuple["Tree", ...]`. It is evaluated when it is needed."""

    def __init__(self, text: str, namespace: dict[str, Any], names: dict[str, Any]) -> None:
        self.__name__ = text
        self._namespaces = namespace, names
        self._key = (text, id(namespace), id(names))

    @functools.cached_property
    def __value__(self) -> Any:
        return _evaluated(self.__name__, *self._namespaces)

    def __call__(self) -> None:
        """Do nothing: `typing` takes what can be called for a type."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recursive) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _variables_in(hint: Any) -> list[TypeVar]:
    """Return the type variables in an annotation, each of which may have a bound."""
    if isinstance(hint, TypeVar):
        return [hint]
    if isinstance(hint, type):  # a generic class without arguments
        return []
    return [one for one in getattr(hint, "__parameters__", ()) if isinstance(one, TypeVar)]


def _namespace_of(variable: TypeVar) -> dict[str, Any]:
    """Return the globals of the module that defines a type variable."""
    return vars(sys.modules[variable.__module__]) if variable.__module__ in sys.modules else {}


@functools.cache
def bounds_of(variable: TypeVar) -> list[Any]:
    """Return the annotations of which a type variable stands for one: its constraints, its bound, or `Any`.

    Raises:
        NameError: One names something that is not defined.
    """
    given: Any = variable.__constraints__ or (variable.__bound__,)
    return [
        Any
        if one is None
        else _evaluated(one, _namespace_of(variable), {})
        if isinstance(one, str | ForwardRef)
        else one
        for one in given
    ]


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
    for name in qualname(function).split("."):  # nothing is called <locals>
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
            hint = substituted(
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
    if isinstance(hint, type):
        if hasattr(hint, "dim_str") or hasattr(hint, "leaftype"):
            return _changed_by_jaxtyping(hint, change)
        if get_origin(hint) is None:
            return hint
    arguments = get_args(hint)
    replaced = tuple([_changed(one, change) for one in arguments])
    if replaced == arguments:
        return hint
    origin: Any = get_origin(hint)
    if origin is types.UnionType:
        origin = typing.Union
    try:
        new = origin[replaced[0] if len(replaced) == 1 else replaced]
    except TypeError:  # an origin that does not take these arguments
        return Any
    is_starred = origin is not Unpack and is_unpacked(hint)
    return cast("Any", Unpack)[new] if is_starred else new


def _changed_by_jaxtyping(hint: Any, change: Callable[[Any], Any]) -> Any:
    """Return a type that jaxtyping made, of arrays or of trees, changed as by `_changed`."""
    if hasattr(hint, "dim_str"):
        array_type = _changed(hint.array_type, change)
        return hint if array_type is hint.array_type else hint.dtype[array_type, hint.dim_str]
    leaf = _changed(hint.leaftype, change)
    if leaf is hint.leaftype:
        return hint
    arguments = leaf if hint.structure is None else (leaf, hint.structure)
    return cast("Any", jaxtyping).PyTree[arguments]


def _with_array(hint: Any) -> Any:
    """Return part of an annotation with `jax.Array` in place of a copy of it.

    JAX's class cannot be found by its name. So cloudpickle takes it by value, and a class that was
    loaded names a copy, of which no array is an instance.
    """
    if not isinstance(hint, type) or hint is jax.Array:
        return hint
    is_copy = (hint.__module__, hint.__qualname__) == (jax.Array.__module__, jax.Array.__qualname__)
    return jax.Array if is_copy else hint


def _is_alias(hint: Any) -> bool:
    """Whether this was made by `type X = ...` or TypeAliasType, that of Python 3.12 or of typing_extensions."""
    return isinstance(hint, Recursive) or type(hint).__name__ == "TypeAliasType"


def is_unpacked(argument: Any) -> bool:
    """Whether an argument of a generic class stands for several: `*tuple[int, ...]`, `Unpack[Ts]`."""
    return get_origin(argument) is Unpack or getattr(argument, "__unpacked__", False)


def of_all(parameter: inspect.Parameter, hint: Any) -> Any:
    """Return the annotation of all that a parameter takes: of the tuple for `*args`, of the dict for `**kwargs`.

    Args:
        parameter: The parameter.
        hint: Its annotation, which may be `*tuple[int, str]` or `Unpack[...]` of a TypedDict.
    """
    inside = get_args(hint)[0] if get_origin(hint) is Unpack else hint
    if parameter.kind is parameter.VAR_POSITIONAL:
        if is_unpacked(hint):  # a tuple, or a TypeVarTuple
            items: Any = get_args(inside) if get_origin(inside) is tuple else hint
            return types.GenericAlias(tuple, items)
        return types.GenericAlias(tuple, (hint, ...))
    if parameter.kind is parameter.VAR_KEYWORD:
        return inside if is_unpacked(hint) else types.GenericAlias(dict, (str, hint))
    return hint


def substituted(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Replace the type variables in an annotation by the arguments of the generic class."""
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not any(parameter in given for parameter in parameters):
        return hint
    return hint[tuple(given.get(parameter, parameter) for parameter in parameters)]
