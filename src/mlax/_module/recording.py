"""What `mlax.at` gives to `where` in place of the tree: it records the path to what `where` names.

Attributes, items, slices, loops and `len` work as on the tree, and `isinstance` sees the class of
what is there. Everything else needs a value, and is refused by name; only `is` cannot be.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard, cast

from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from mlax._jax.trees import KeyPath, class_of
from mlax._module.flattening import is_flattened
from mlax._module.parts import parts_of
from mlax.tree import describe, path_text

__all__ = ["Place", "is_place", "path_of", "place_text", "value_at"]


class Place:
    """A place in the tree, while `where` runs. Its own attributes have names that no field has."""

    __slots__ = ("_mlax_path", "_mlax_value")

    def __init__(self, path: KeyPath, value: Any) -> None:
        object.__setattr__(self, "_mlax_path", path)
        object.__setattr__(self, "_mlax_value", value)

    if not TYPE_CHECKING:

        @property
        def __class__(self) -> type:
            return class_of(value_at(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python, JAX and NumPy ask for protocols
            raise AttributeError(name)
        value = value_at(self)
        if isinstance(value, dict) and name in ("keys", "values", "items"):
            return functools.partial(_view, self, cast("dict[Any, object]", value), name)
        parts = parts_of(value)
        if GetAttrKey(name) not in parts:
            raise _no_attribute(self, name, parts)
        return _inner(self, parts, GetAttrKey(name))

    def __getitem__(self, index: Any) -> Any:
        value = value_at(self)
        parts = parts_of(value)
        if isinstance(index, slice) and isinstance(value, (tuple, list)):
            chosen = [_inner(self, parts, key) for key in list(parts)[index]]
            return chosen if isinstance(value, list) else tuple(chosen)
        return _inner(self, parts, _key_of(self, index, parts))

    def __iter__(self) -> Iterator[Any]:
        value = value_at(self)
        if isinstance(value, dict):
            return iter(cast("dict[Any, object]", value))
        if not isinstance(value, (tuple, list)):
            raise _no_items(self, "a loop over", "...")
        parts = parts_of(value)
        return iter([_inner(self, parts, key) for key in parts])

    def __contains__(self, key: Any) -> bool:
        value = value_at(self)
        if isinstance(value, dict):
            return key in cast("dict[Any, object]", value)
        return _refusing("a comparison", _ASK)(self)

    def __len__(self) -> int:
        return len(value_at(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (path_of(self), value_at(self))

    def __repr__(self) -> str:
        return f"<{_text(self)}>"


def is_place(value: object) -> TypeGuard[Place]:
    """Whether a value is a Place. `isinstance` would see the class of what is there."""
    return type(value) is Place


def path_of(place: Any) -> KeyPath:
    """Return the path to a place."""
    path: KeyPath = place._mlax_path
    return path


def value_at(place: Any) -> Any:
    """Return what the tree holds at a place."""
    return place._mlax_value


def place_text(path: KeyPath) -> str:
    """Return a path as messages show it."""
    return path_text(path) or "the tree"


def _inner(place: Place, parts: dict[Any, Any], key: Any) -> Place:
    return Place((*path_of(place), key), parts[key])


def _view(place: Place, value: dict[Any, object], name: str) -> list[Any]:
    """Return what the method `keys`, `values` or `items` of a dict returns."""
    if name == "keys":
        return list(value)
    return [place[key] if name == "values" else (key, place[key]) for key in value]


def _key_of(place: Place, index: Any, parts: dict[Any, Any]) -> Any:
    """Return the key of the part with an index."""
    value = value_at(place)
    if isinstance(value, (tuple, list)):
        if not hasattr(index, "__index__"):
            raise TypeError(f"mlax.at: {_described(place)}: an index is an integer, got {index!r}")
        try:
            return list(parts)[index]
        except IndexError:
            raise IndexError(f"mlax.at: {_described(place)} has no item {index!r}") from None
    keys = [DictKey(index), SequenceKey(index)] if isinstance(index, int) else [DictKey(index)]
    for key in keys:
        if key in parts:
            return key
    if isinstance(value, dict):
        keys = [key.key for key in parts]
        raise KeyError(f"mlax.at: {_described(place)} has no key {index!r}{_hint(index, keys)}")
    raise _no_items(place, "an index into", repr(index))


def _text(place: Place) -> str:
    return place_text(path_of(place))


def _described(place: Place) -> str:
    """Return where a place is, and what is there."""
    value = value_at(place)
    cls = class_of(value)
    what = cls.__name__ if parts_of(value) else describe(value)
    if isinstance(value, (tuple, list, dict)) and not hasattr(cast("object", value), "_fields"):
        what = f"{cls.__name__} of {len(place)}"
    return f"{_text(place)} ({what})"


def _hint(name: Any, names: list[Any]) -> str:
    """Return a suggestion, or all names."""
    close = difflib.get_close_matches(str(name), map(str, names), 1)
    suggestion = f", did you mean {close[0]!r}? It" if close else "; it"
    return f"{suggestion} has {', '.join(map(str, names)) or 'none'}"


def _no_attribute(place: Place, name: str, parts: dict[Any, Any]) -> Exception:
    """Return the error about an attribute that is not a place."""
    value = value_at(place)
    fields = [key.name for key in parts if isinstance(key, GetAttrKey)]
    found: Any = inspect.getattr_static(value, name, None)
    if class_of(found) in (property, functools.cached_property) and parts:
        what, cure = (
            "a property, which is computed",
            f"Name the fields it reads: {', '.join(fields)}",
        )
    elif found is not None:
        what, cure = (
            "not a field",
            "Name the place, and use its value in apply: .apply(lambda value: ...)",
        )
        if callable(found) or isinstance(found, (staticmethod, classmethod)):
            what = "a method, and calls are not recorded"
    elif is_flattened(value) and value._original() is not value:
        what, cure = "not a field: it is packed", "Unpack it first: mlax.at(packed.unpack(), where)"
    else:
        hint = _hint(name, fields) if fields else ""
        return AttributeError(f"mlax.at: {_described(place)} has no field {name!r}{hint}")
    return TypeError(f"mlax.at: {_described(place)}: {name!r} is {what}.\n  {cure}")


def _no_items(place: Place, what: str, index: str) -> TypeError:
    """Return the error about an item that is not a place."""
    value, cure = value_at(place), "Name the whole value."
    if is_flattened(value):
        cure = f"Name a field: {', '.join(value._names) or 'it has none'}"
    elif hasattr(value, "dtype"):
        cure = f"Name the array, and change it in apply: .apply(lambda x: x.at[{index}].set(...))"
    return TypeError(f"mlax.at: {_described(place)}: {what} it is not recorded.\n  {cure}")


_COMPUTE = "Name the place, and compute with its value in apply: .apply(lambda value: ...)"
_ASK = "Decide outside of `where`, with the tree itself."
_BINARY = "add sub mul truediv floordiv mod divmod pow matmul and or xor lshift rshift"
_REFUSED = {
    "a call": (_COMPUTE, "call"),
    "an assignment": ("Use .set(value).", "setattr delattr setitem delitem"),
    "a comparison": (_ASK, "eq ne lt le gt ge"),
    "a truth value": (_ASK, "bool"),
    "a hash": ("Return places in a tuple, a list or a dict.", "hash"),
    "a conversion": (_COMPUTE, "int float complex index array format"),
    "arithmetic": (_COMPUTE, f"neg pos abs invert round {_BINARY} r{_BINARY.replace(' ', ' r')}"),
}


def _refusing(what: str, cure: str) -> Callable[..., NoReturn]:
    def refuse(self: Place, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"mlax.at: {_text(self)}: {what} needs a value, but `where` only names places.\n  {cure}"
        )

    return refuse


for _what, (_cure, _names) in _REFUSED.items():
    for _name in _names.split():
        setattr(Place, f"__{_name}__", _refusing(_what, _cure))
