"""States and arrays inside static values, where JAX does not see them.

JAX would not differentiate, move or cast such an array, and a jitted function would keep the one it
was traced with. So static values are searched for them, nearest first: whatever the garbage
collector knows that an object refers to, such as the cells of a closure, defaults, attributes, items
and the results in a cache. Module globals, classes that can be imported, and what belongs to JAX
are not searched.
"""

import contextvars
import functools
import gc
import itertools
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Optional, TypeAlias, cast

import jax
import numpy as np

from mlax._jax.trees import class_of
from mlax._module.printing import with_article
from mlax._module.state import State
from mlax._module.unset import Unset

__all__ = ["ARRAYS", "Hidden", "Ref", "attributes_of", "hidden_in"]

Ref: Any = cast("Any", jax).Ref
ARRAYS: tuple[type, ...] = (jax.Array, np.ndarray, Ref)
"""The classes of arrays, mutable ones included."""

# The search ends after this many objects: a static value may be a tokenizer, or a logger, which refers to
# everything.
_MOST = 2_000

# Nothing hides in these, or it is not searched: a traceback refers to all frames of a call, a registry of PyTrees to
# all classes that are registered.
_PLAIN: set[type] = {
    *(str, bytes, bool, int, float, complex, type(None), type(...)),
    *(types.ModuleType, types.CodeType, types.TracebackType),
    class_of(cast("Any", jax.tree_util).default_registry),
}
_CACHE = class_of(functools.lru_cache(class_of))


class Hidden(NamedTuple):
    """A State or an array in a static value.

    Attributes:
        value: The State or the array.
        holder: What refers to it, for messages: `a dict in the variable 'table' of loss_fn`.
    """

    value: Any
    holder: str


class _Reference(NamedTuple):
    """An object, and what refers to it.

    Attributes:
        value: The object.
        name: Where the holder has it, if that can be said: `the variable 'model'`.
        holder: How the holder was found; None for the static value itself.
        of_jax: Whether the holder is part of JAX or NumPy, which keep constants as NumPy arrays.
    """

    value: Any
    name: str | None = None
    holder: Optional["_Reference"] = None
    of_jax: bool = False


_Named: TypeAlias = tuple[Any, str | None]


class _Kind(NamedTuple):
    """What is done with objects of a class.

    Attributes:
        search: Yields what an object refers to, and by what name; None if that is not searched.
        is_found: Whether objects of the class are States or arrays.
        of_jax: Whether the class is part of JAX or NumPy.
        is_built_in: Whether the class is a container of Python, which may be part of anything.
    """

    search: Callable[[Any], Iterator[_Named]] | None
    is_found: bool = False
    of_jax: bool = False
    is_built_in: bool = False


_kinds: dict[type, _Kind] = dict.fromkeys(_PLAIN, _Kind(None))


def hidden_in(value: object) -> Hidden | None:
    """Return the State or array nearest to a static value that it refers to, or None.

    The search ends after 2,000 objects.
    """
    if _refers_to_globals_only(value) or not _is_searched(value):
        return None
    waiting = deque([_Reference(value)])
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        reference = waiting.popleft()
        one = reference.value
        if id(one) in seen:
            continue
        kind = _kind_of(one)
        if kind.is_found:
            if reference.of_jax and class_of(one) is np.ndarray:
                continue
            return Hidden(one, _said(reference))
        seen.add(id(one))
        if kind.search is None or _is_public(one):
            continue
        of_jax = kind.of_jax or (reference.of_jax and kind.is_built_in)
        if class_of(one) is types.FunctionType:
            of_jax = _is_of_jax(one.__globals__.get("__name__"))
        for item, name in itertools.islice(kind.search(one), _MOST):
            if _is_searched(item):
                waiting.append(_Reference(item, name, reference, of_jax))
    return None


def _is_searched(one: Any) -> bool:
    kind = _kind_of(one)
    if kind.search is _of_class:  # classes that can be imported are as good as globals
        return not _is_importable(one) and not issubclass(one, State)
    if class_of(one) is dict and "__builtins__" in one:  # the globals of a module
        return False
    return kind.is_found or kind.search is not None


def _kind_of(one: Any) -> _Kind:
    cls = class_of(one)
    kind = _kinds.get(cls)
    if kind is None:
        module = cls.__module__
        is_found = isinstance(one, (State, Unset, *ARRAYS))
        is_built_in = module in ("builtins", "collections")
        kind = _Kind(_search_of(one), is_found, _is_of_jax(module), is_built_in)
        if _is_importable(cls):  # or the class would never be freed
            _kinds[cls] = kind
    return kind


def _is_importable(cls: type) -> bool:
    """Whether a class is found under its name, unlike one that a function makes, with `class` or with `type(...)`."""
    if cls in _importable:
        return True
    if "<locals>" in cls.__qualname__:
        return False
    module = cls.__module__
    # Some classes written in C have no name. Those of `__main__` may come from cloudpickle, without being there.
    if cls.__flags__ & _IS_OF_PYTHON and module != "__main__" and not _is_of_jax(module):
        found: Any = sys.modules.get(module)
        for name in cls.__qualname__.split("."):
            found = getattr(found, name, None)
        if not isinstance(found, type):
            return False
    _importable.add(cls)
    return True


_IS_OF_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_importable: set[type] = set()


def _search_of(one: Any) -> Callable[[Any], Iterator[_Named]]:
    if isinstance(one, types.FunctionType):
        return _of_function
    if isinstance(one, type):
        return _of_class
    if isinstance(one, weakref.ReferenceType):
        return _of_reference
    if isinstance(one, contextvars.ContextVar):
        return _of_context_variable
    if class_of(one).__module__.startswith("jaxlib"):
        return _of_jaxlib
    return _of_object


def _refers_to_globals_only(one: object) -> bool:
    return isinstance(one, types.FunctionType) and not (
        one.__closure__ or one.__defaults__ or one.__kwdefaults__ or one.__dict__
    )


def _of_function(function: types.FunctionType) -> Iterator[_Named]:
    """Yield what a function refers to, except for its globals."""
    names = function.__code__.co_freevars
    for variable, cell in zip(names, function.__closure__ or (), strict=True):
        for content in gc.get_referents(cell):  # none if the variable is not assigned yet
            yield content, f"the variable {variable!r}"
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield value, "a default"
    yield from _attributes(function.__dict__)


def _of_class(cls: type) -> Iterator[_Named]:
    yield from _attributes(vars(cls))
    for base in cls.__bases__:
        yield base, None


def _of_reference(reference: Any) -> Iterator[_Named]:
    yield weakref.ReferenceType.__call__(reference), None
    yield from _of_object(reference)


def _of_context_variable(variable: contextvars.ContextVar[Any]) -> Iterator[_Named]:
    yield variable.get(None), None
    yield from _of_object(variable)


def _of_jaxlib(one: Any) -> Iterator[_Named]:
    """Yield the function that an object of jaxlib wraps. Its caches are those of the whole process."""
    yield getattr(one, "__wrapped__", None), None


def _of_object(one: Any) -> Iterator[_Named]:
    """Yield the attributes of an object, then all else that the garbage collector knows it refers to."""
    for name, value in attributes_of(one):
        yield value, _name_of_attribute(name)
    attributes = getattr(one, "__dict__", None)
    for item in gc.get_referents(one):
        if item is not attributes and class_of(item) not in _PLAIN:
            yield item, None


def attributes_of(one: Any) -> list[tuple[str, Any]]:
    """Return the names and values of an object's attributes, including those in slots."""
    attributes: Any = getattr(one, "__dict__", None)
    found = list(attributes.items()) if attributes else []
    slots = _slots(class_of(one))
    return [*found, *((name, getattr(one, name, None)) for name in slots)] if slots else found


def _attributes(attributes: Mapping[str, Any]) -> Iterator[_Named]:
    for name, value in list(attributes.items()):
        yield value, _name_of_attribute(name)


def _name_of_attribute(name: str) -> str | None:
    return None if name == "__wrapped__" else f"the attribute {name!r}"


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


def _is_public(value: object) -> bool:
    """Whether this is a function of JAX or NumPy itself, such as `jax.nn.relu`, not one that wraps a user's."""
    module = getattr(value, "__module__", None)
    if not _is_of_jax(module):
        return False
    name = getattr(value, "__name__", None)
    return isinstance(name, str) and getattr(sys.modules.get(str(module)), name, None) is value


def _said(reference: _Reference) -> str:
    """Return what refers to an object: `the variable 'x' of f`, or `a dict in the attribute 'y' of a Config`."""
    holder = reference.holder
    if holder is None:
        return "it"
    if reference.name is not None:
        return f"{reference.name} of {_name(holder.value)}"
    named: _Reference | None = holder
    while named is not None and named.name is None:
        named = named.holder
    return _name(holder.value) + ("" if named is None else f" in {_said(named)}")


def _name(one: Any) -> str:
    if isinstance(one, (types.FunctionType, type)):
        return one.__qualname__
    if isinstance(one, types.MethodType):
        return f"the method {one.__func__.__qualname__}"
    if isinstance(one, (types.BuiltinMethodType, types.MethodWrapperType)):
        return f"the method {one.__name__}"
    if isinstance(one, _CACHE):
        return f"the cache of {getattr(one, '__qualname__', 'a function')}"
    if isinstance(one, weakref.ReferenceType):
        return "a weak reference"
    return with_article(class_of(one).__name__)
