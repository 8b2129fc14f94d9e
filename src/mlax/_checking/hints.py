"""Annotations at run time: resolved, and walked side by side with the values that they describe."""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from mlax._jax.trees import class_of

__all__ = ["are_final", "hints_of", "hints_of_fields", "items_beside"]


class _Hints(NamedTuple):
    """Annotations; and names in them that were not found, with the namespaces where they may be defined later."""

    found: dict[str, Any]
    missing: list[tuple[str, Mapping[str, Any]]]

    def resolve(
        self, annotations: Mapping[str, Any], namespace: dict[str, Any], names: dict[str, Any]
    ) -> None:
        """Add annotations. Strings are evaluated; those that cannot be evaluated become `Any`."""
        for name, annotation in annotations.items():
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                hint = typing.get_type_hints(alone, namespace, names, include_extras=True)[name]
            except NameError as error:  # a class defined later, or imported under TYPE_CHECKING
                self.missing.append((error.name or "", namespace))
                hint = Any
            except Exception:  # evaluating a string may raise anything
                hint = Any
            self.found[name] = hint


_hints: dict[object, _Hints] = {}


def _known(thing: object) -> _Hints | None:
    """Return the annotations found earlier, unless a missing name has been defined since."""
    hints = _hints.get(thing)
    if hints is None:
        return None
    if hints.missing and any(name in namespace for name, namespace in hints.missing):
        return None
    return hints


def are_final(thing: object) -> bool:
    """Whether the annotations of a class or function, which were looked up before, cannot change any more."""
    hints = _hints.get(thing)
    return hints is not None and not hints.missing


def hints_of_fields(cls: type) -> Mapping[str, Any]:
    """Return the annotations of a class and its bases, with `Any` for those that cannot be resolved at run time."""
    hints = _known(cls)
    if hints is None:
        hints = _hints[cls] = _Hints({}, [])
        for base in reversed(cls.__mro__):
            namespace = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
            parameters = {item.__name__: item for item in getattr(base, "__type_params__", ())}
            names = {**parameters, **vars(base), base.__name__: base}
            hints.resolve(inspect.get_annotations(base), namespace, names)
    return hints.found


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations of a function, with `Any` for those that cannot be resolved at run time."""
    hints = _known(function)
    if hints is None:
        hints = _hints[function] = _Hints({}, [])
        plain = inspect.unwrap(function)
        namespace: dict[str, Any] = getattr(plain, "__globals__", {})
        parameters = {item.__name__: item for item in getattr(plain, "__type_params__", ())}
        hints.resolve(inspect.get_annotations(plain), namespace, parameters)
    return hints.found


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
    if not isinstance(cls, type) or not issubclass(kind, cls):
        return None
    if hasattr(cls, "_fields"):
        hints = hints_of_fields(cls)
        given = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        return [
            (f".{name}", getattr(value, name), _substituted(hints.get(name, Any), given))
            for name in kind._fields
        ]
    if not arguments:
        return None
    if cls is tuple and arguments[-1] is not Ellipsis:
        if len(arguments) != len(value):
            return None
        return [(f"[{i}]", *both) for i, both in enumerate(zip(value, arguments, strict=True))]
    if issubclass(kind, tuple | list):
        return [(f"[{i}]", item, arguments[0]) for i, item in enumerate(value)]
    if issubclass(kind, dict):
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
