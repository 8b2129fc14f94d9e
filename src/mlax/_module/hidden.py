"""States and arrays inside static values, where JAX does not see them.

JAX would not differentiate, move or cast such an array, and a jitted function would keep the one it
was traced with. So static values are searched for them: closures, defaults and wrapped functions,
bound methods, partials, containers, generators, and attributes of objects. Module globals and
classes are not searched.
"""

import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import numpy as np

from mlax._jax.trees import class_of
from mlax._module.state import State
from mlax._module.unset import Unset

__all__ = ["ARRAYS", "Hidden", "hidden_in"]

ARRAYS: tuple[type, ...] = (jax.Array, np.ndarray, cast("Any", jax).Ref)
"""The classes of arrays, mutable ones included."""

# The search ends after this many objects: a static value may be a tokenizer, or a logger, which refers to
# everything.
_MOST = 2_000

_PLAIN = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.CodeType)


class Hidden(NamedTuple):
    """A State or an array in a static value.

    Attributes:
        value: The State or the array.
        holder: The object that refers to it, for messages: `the variable 'model' of loss_fn`.
    """

    value: Any
    holder: str


class _Reference(NamedTuple):
    """An object, and what refers to it.

    Attributes:
        value: The object.
        holder: What refers to it.
        of_jax: Whether the holder is part of JAX or NumPy, which keep constants as NumPy arrays.
    """

    value: Any
    holder: str
    of_jax: bool = False


def hidden_in(value: object) -> Hidden | None:
    """Return a State or an array that a static value refers to, at any depth; None if there is none."""
    if _refers_to_globals_only(value) or _belongs_to_jax(value):
        return None
    waiting = [_Reference(value, "it")]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        one, holder, of_jax = waiting.pop()
        search = _searches.get(class_of(one)) or _search_of(one)
        if search is _plain or id(one) in seen:
            continue
        if search is _found and not (of_jax and class_of(one) is np.ndarray):
            return Hidden(one, holder)
        seen.add(id(one))
        waiting += search(one)
    return None


_Search: TypeAlias = Callable[[Any], Iterable[_Reference]]
_searches: dict[type, _Search] = {}


def _search_of(one: Any) -> _Search:
    """Return a function that yields what an object of this class refers to, as far as it is to be searched."""
    search = _searches[type(one)] = _new_search(one)
    return search


def _new_search(one: Any) -> _Search:
    if isinstance(one, _PLAIN):
        return _plain
    if isinstance(one, (State, Unset, *ARRAYS)):
        return _found
    if isinstance(one, types.FunctionType):
        return _of_function
    if isinstance(one, types.MethodType):
        return _of_method
    if isinstance(one, (types.BuiltinMethodType, types.MethodWrapperType)):
        return _of_builtin
    if isinstance(one, functools.partial):
        return _of_partial
    if isinstance(one, (tuple, list, set, frozenset)):
        return _of_items
    if isinstance(one, dict):
        return _of_dict
    if isinstance(one, types.GeneratorType):
        return _of_generator
    if hasattr(one, "__dict__") or _slots(class_of(one)):
        return _of_attributes
    return _of_referents


def _plain(_: Any) -> tuple[_Reference, ...]:
    return ()


def _found(_: Any) -> tuple[_Reference, ...]:
    return ()


def _of_method(method: types.MethodType) -> Iterator[_Reference]:
    holder = f"the method {method.__func__.__qualname__}"
    yield _Reference(method.__self__, holder)
    yield _Reference(method.__func__, holder)


def _of_builtin(method: types.BuiltinMethodType) -> Iterator[_Reference]:
    yield _Reference(method.__self__, f"the method {method.__name__}")


def _of_partial(partial: Any) -> Iterator[_Reference]:
    values: tuple[Any, ...] = (partial.func, *partial.args, *partial.keywords.values())
    yield from (_Reference(value, "a partial") for value in values)
    yield from _of_attributes(partial)


def _of_items(items: Any) -> Iterator[_Reference]:
    for item in items:
        if not isinstance(item, _PLAIN):
            yield _Reference(item, f"a {class_of(items).__name__}")
    if hasattr(items, "__dict__"):
        yield from _of_attributes(items)


def _of_dict(items: dict[Any, Any]) -> Iterator[_Reference]:
    yield from (_Reference(item, "a dict") for item in items.values())


def _of_generator(generator: Any) -> Iterator[_Reference]:
    frame = generator.gi_frame
    variables: dict[str, Any] = {} if frame is None else frame.f_locals
    yield from (_Reference(item, "a generator") for item in variables.values())


def _of_referents(one: Any) -> Iterator[_Reference]:
    """Yield what an object implemented in C refers to, such as an iterator: only the garbage collector knows."""
    of_jax = _is_of_jax(class_of(one).__module__)
    for item in gc.get_referents(one):
        yield _Reference(item, f"a {type(one).__name__}", of_jax)


def _refers_to_globals_only(one: object) -> bool:
    return isinstance(one, types.FunctionType) and not (
        one.__closure__ or one.__defaults__ or one.__kwdefaults__ or one.__dict__
    )


def _of_function(function: types.FunctionType) -> Iterable[_Reference]:
    return () if _refers_to_globals_only(function) else _beside_globals(function)


def _beside_globals(function: types.FunctionType) -> Iterator[_Reference]:
    name, of_jax = function.__qualname__, _is_of_jax(function.__globals__.get("__name__", ""))
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for variable, cell in cells:
        try:
            content: Any = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        yield _Reference(content, f"the variable {variable!r} of {name}", of_jax)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield from (_Reference(value, f"a default of {name}", of_jax) for value in defaults)
    for key, value in vars(function).items():
        holder = name if key == "__wrapped__" else f"the attribute {key!r} of {name}"
        yield _Reference(value, holder, of_jax)


def _of_attributes(one: Any) -> Iterator[_Reference]:
    """Yield the values of an object's attributes, including those in slots."""
    cls = class_of(one)
    of_jax = _is_of_jax(cls.__module__)
    values: dict[str, Any] = dict(getattr(one, "__dict__", {}))
    values |= {name: getattr(one, name, None) for name in _slots(cls)}
    for name, value in values.items():
        private = of_jax and name.startswith("_") and not name.startswith("__")
        if not private and not isinstance(value, _PLAIN):
            yield _Reference(value, f"the attribute {name!r} of a {cls.__name__}", of_jax)


@functools.cache
def _slots(cls: type) -> list[str]:
    """Return the names of a class's slots, if it is written in Python."""
    return [
        name
        for base in cls.__mro__
        if "__slots__" in base.__dict__
        for name, value in base.__dict__.items()
        if isinstance(value, types.MemberDescriptorType)
    ]


def _is_of_jax(module: object) -> bool:
    return str(module).partition(".")[0] in ("jax", "jaxlib", "numpy")


def _belongs_to_jax(value: object) -> bool:
    """Whether this is a function of JAX or NumPy itself, such as `jax.nn.relu`, not one that wraps a user's."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__name__", None)
    if not _is_of_jax(module) or not isinstance(name, str):
        return False
    return getattr(sys.modules.get(str(module)), name, None) is value
