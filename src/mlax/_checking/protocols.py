"""Whether values have what protocols ask for, by name: the types of members are left to type checkers."""

import functools
import inspect
from typing import Any, Protocol

from mlax._jax.trees import class_of

__all__ = ["has_members"]


def has_members(value: Any, protocol: type) -> bool:
    """Whether a value has all attributes that a protocol asks for."""
    return all(_has(value, name) for name in _members(protocol))


class _NoMembers(Protocol):
    """What every protocol has."""


@functools.cache
def _members(protocol: type) -> list[str]:
    """Return the names of the attributes that a protocol asks for."""
    found: dict[str, None] = {}
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False):
            members = {**inspect.get_annotations(base), **vars(base)}
            for name, member in members.items():
                is_own = name not in vars(_NoMembers) and not name.startswith(("_abc_", "_is_"))
                if is_own and (not name.startswith("__") or inspect.isfunction(member)):
                    found[name] = None
    return list(found)


def _has(value: Any, name: str) -> bool:
    """Whether a value has an attribute. Python looks for `__call__` and its like in the class only."""
    for base in class_of(value).__mro__:  # not in the class of the class, which has `__call__`
        if name in vars(base):
            return vars(base)[name] is not None or not name.startswith("__")
    return hasattr(value, name)  # last, because this may compute it
