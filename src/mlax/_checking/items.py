"""The items of tuples, lists and dicts, side by side with what their annotations say of each."""

import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from mlax._checking.hints import hints_of_fields, is_unpacked, substituted, with_self
from mlax._jax.trees import class_of

__all__ = ["is_empty_tuple", "is_typed_dict", "items_beside", "says_items", "wrong_keys"]

_HOLDERS: Any = (tuple, list, dict)


def items_beside(value: Any, annotation: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the items of a tuple, list, dict or NamedTuple, each with its own annotation.

    Args:
        value: Any value.
        annotation: `tuple[A, B]`, `tuple[A, ...]`, `tuple[A, *tuple[B, ...]]`, `list[A]`, `Sequence[A]`,
            `dict[str, A]`, a NamedTuple or a TypedDict.

    Returns:
        For each item: how it is reached from the value, such as `.m` or `['w']`; the item; and its
        annotation. None if the annotation does not describe items, or does not fit the value.
    """
    cls, arguments = get_origin(annotation) or annotation, get_args(annotation)
    kind = class_of(value)
    if not isinstance(cls, type) or getattr(cls, "_is_protocol", False):
        return None
    if is_typed_dict(cls):
        hints, given = _fields_of(cls, annotation)
        if not issubclass(kind, dict):
            return None
        return [
            (f"[{key!r}]", value[key], substituted(_without_qualifiers(hint), given))
            for key, hint in hints.items()
            if key in value
        ]
    if not issubclass(kind, _HOLDERS) or not issubclass(kind, cls):
        return None
    if hasattr(cls, "_fields"):
        hints, given = _fields_of(cls, annotation)
        return [
            (f".{name}", getattr(value, name), substituted(hints.get(name, Any), given))
            for name in kind._fields
        ]
    if is_empty_tuple(annotation):
        return None if value else []
    if not arguments or not says_items(cls):
        return None
    if cls is tuple:
        of_items = _of_tuple(arguments, len(value))
        if of_items is None:
            return None
        return [(f"[{i}]", *both) for i, both in enumerate(zip(value, of_items, strict=True))]
    if issubclass(kind, tuple | list):
        return [(f"[{i}]", item, arguments[0]) for i, item in enumerate(value)]
    if issubclass(kind, dict) and len(arguments) == 2:
        return [(f"[{key!r}]", item, arguments[-1]) for key, item in value.items()]
    return None


def _fields_of(cls: Any, annotation: Any) -> tuple[Mapping[str, Any], Mapping[Any, Any]]:
    """Return the annotations of a class, and what its type variables and `Self` stand for.

    Args:
        cls: The class.
        annotation: The class, with arguments if it is generic.
    """
    given = dict(zip(getattr(cls, "__parameters__", ()), get_args(annotation), strict=False))
    hints = hints_of_fields(cls)
    return {name: with_self(hint, annotation) for name, hint in hints.items()}, given


def says_items(cls: type) -> bool:
    """Whether the arguments of a generic class describe its items. Those of a class of one's own may not."""
    return cls.__module__ in ("builtins", "collections", "collections.abc")


def is_empty_tuple(annotation: Any) -> bool:
    """Whether this is `tuple[()]`, which has no arguments, as `tuple` has none."""
    return get_origin(annotation) is tuple and getattr(annotation, "__args__", None) == ()


def _of_tuple(arguments: tuple[Any, ...], length: int) -> list[Any] | None:
    """Return the annotations of the items of a tuple with this many; None if it must not have as many.

    Args:
        arguments: Those of `tuple[...]`.
        length: The number of items.
    """
    spread = _spread(arguments)
    several = [i for i, one in enumerate(spread) if isinstance(one, _Several)]
    if not several:
        return spread if len(spread) == length else None
    place, more = several[0], length - len(spread) + 1
    return (
        None if more < 0 else [*spread[:place], *[spread[place].each] * more, *spread[place + 1 :]]
    )


class _Several:
    """Stands for any number of items of a tuple, with the annotation of each."""

    def __init__(self, each: Any) -> None:
        self.each = each


def _spread(arguments: tuple[Any, ...]) -> list[Any]:
    """Return the arguments of `tuple[...]` with tuples that are unpacked there in their place."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [_Several(arguments[0])]
    found: list[Any] = []
    for argument in arguments:
        if not is_unpacked(argument):
            found.append(argument)
            continue
        inside = get_args(argument)
        if get_origin(argument) is not tuple:  # Unpack[...]
            inside = get_args(inside[0]) if get_origin(inside[0]) is tuple else (Any, ...)
        found += _spread(inside)
    return found


def is_typed_dict(cls: Any) -> bool:
    """Whether a class is a TypedDict, that of `typing` or of typing_extensions."""
    return isinstance(cls, type) and hasattr(cls, "__required_keys__") and dict in cls.__mro__


_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")


def _qualifiers(hint: Any) -> list[str]:
    """Return the names of what says more about a key of a TypedDict than the type of its item."""
    found: list[str] = []
    while (name := getattr(get_origin(hint), "_name", None)) in _QUALIFIERS:
        found.append(name)
        hint = get_args(hint)[0]
    return found


def _without_qualifiers(hint: Any) -> Any:
    for _ in _qualifiers(hint):
        hint = get_args(hint)[0]
    return hint


def wrong_keys(value: Mapping[Any, Any], cls: Any) -> str:
    """Return what is wrong with the keys of a dict that should be a TypedDict, as a sentence; "" if nothing is."""
    hints = hints_of_fields(cls)
    for key, hint in hints.items():
        said = _qualifiers(hint)  # in annotations that are strings, Python does not see these
        optional = "NotRequired" in said or (
            key not in cls.__required_keys__ and "Required" not in said
        )
        if key not in value and not optional:
            return f"The key {key!r} is missing."
    others = [key for key in value if key not in hints]
    if others and not _may_have_more(cls):
        return f"It has no key {others[0]!r}: its keys are {', '.join(map(repr, hints)) or 'none'}."
    return ""


def _may_have_more(cls: Any) -> bool:
    """Whether a TypedDict says that there may be other keys: `extra_items=int`."""
    extra = getattr(cls, "__extra_items__", None)
    return extra not in (None, typing.Never) and not repr(extra).endswith("NoExtraItems")
