"""Lists and dicts of States that cannot be changed in place. Modules store their lists and dicts as these.

They are subclasses, so `isinstance` and annotations hold, and they compare and print like the
originals. Each is a PyTree node of its own, with the keys and the order that JAX uses for the
original, and stays frozen in every transformation. Slices, sums and copies are plain.
"""

import copy
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import jax
from jax.tree_util import DictKey, SequenceKey

from mlax._jax.trees import class_of, flatten
from mlax._module.exporting import register_node, register_plain
from mlax._module.hidden import hidden_in
from mlax._module.printing import with_article
from mlax._module.state import State
from mlax._module.written import read, written
from mlax.tree import describe

__all__ = [
    "FrozenDefaultDict",
    "FrozenDict",
    "FrozenList",
    "FrozenOrderedDict",
    "frozen",
    "with_items",
]


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    is_list = isinstance(self, list)
    name, new = ("list", "[*old, new]") if is_list else ("dict", "{**old, key: new}")
    raise TypeError(
        f"this {name} is part of a module and cannot be changed in place.\n"
        f"  Make a new {name} and a changed copy of the module: module.replace(field={new})"
    )


class FrozenList(list[Any]):
    """A list that cannot be changed in place."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __new__(cls, items=()):
            new = list.__new__(cls)
            list.extend(new, items)
            return new

        __init__ = object.__init__  # does nothing, as in tuples: it may be called again
        append = extend = insert = pop = remove = clear = sort = reverse = _refuse
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenList, (list(self),)


class FrozenDict(dict[Any, Any]):
    """A dict that cannot be changed in place."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __new__(cls, items=()):
            new = dict.__new__(cls)
            dict.update(new, items)
            return new

        __init__ = object.__init__
        setdefault = update = pop = popitem = clear = _refuse
        __setitem__ = __delitem__ = __ior__ = _refuse

    def __copy__(self) -> dict[Any, Any]:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)


class FrozenDefaultDict(defaultdict[Any, Any]):
    """A defaultdict that cannot be changed in place, nor by reading a key that it does not have."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __new__(cls, default_factory=None, items=()):
            new = defaultdict.__new__(cls)
            defaultdict.__init__(new, default_factory, items)
            return new

        __init__ = object.__init__
        setdefault = update = pop = popitem = clear = _refuse
        __setitem__ = __delitem__ = __ior__ = __setattr__ = __delattr__ = _refuse

        def copy(self):
            return defaultdict(self.default_factory, self)

        __copy__ = copy

    def __missing__(self, key: Any, /) -> NoReturn:
        raise KeyError(key)

    def __or__(self, other: Any) -> Any:
        return defaultdict(self.default_factory, self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __repr__(self) -> str:
        return repr(defaultdict(self.default_factory, self))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDefaultDict, (self.default_factory, dict(self))


class FrozenOrderedDict(OrderedDict[Any, Any]):
    """An OrderedDict that cannot be changed in place."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __new__(cls, items=()):
            new = OrderedDict.__new__(cls)
            for key, value in dict(items).items():  # the __init__ of OrderedDict calls __setitem__
                OrderedDict.__setitem__(new, key, value)
            return new

        __init__ = object.__init__
        setdefault = update = pop = popitem = clear = move_to_end = _refuse
        __setitem__ = __delitem__ = __ior__ = __setattr__ = __delattr__ = _refuse

        def copy(self):
            return OrderedDict(self)

        __copy__ = copy

    def __or__(self, other: Any) -> Any:
        return OrderedDict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __repr__(self) -> str:
        return repr(OrderedDict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenOrderedDict, (list(self.items()),)


def _register_dict(
    cls: type,
    split: Callable[[Any], tuple[Any, tuple[Any, ...]]],
    make: Callable[[Any, Iterable[tuple[Any, Any]]], Any],
) -> None:
    """Register a kind of dict as a PyTree node.

    Args:
        cls: The class.
        split: From a dict to its default factory, or None, and its keys in the order of children.
        make: From the default factory and pairs of key and child to a dict.
    """

    def flatten_with_keys(node: Any) -> tuple[Any, Any]:
        aux_data = split(node)
        return [(DictKey(key), node[key]) for key in aux_data[1]], aux_data

    def flatten(node: Any) -> tuple[Any, Any]:
        aux_data = split(node)
        return [node[key] for key in aux_data[1]], aux_data

    def unflatten(aux_data: Any, children: Any) -> Any:
        factory, keys = aux_data
        return make(factory, zip(keys, children, strict=True))

    def write(aux_data: Any) -> Any:
        return [written(part, cls.__name__) for part in aux_data]

    def read_aux_data(text: Any) -> Any:
        return tuple(read(part, cls.__name__) for part in text)

    _pytree.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    register_node(cls, write=write, read=read_aux_data, unflatten=unflatten)


def _items_of_list(node: Any) -> tuple[Any, None]:
    return [(SequenceKey(i), item) for i, item in enumerate(node)], None


def _of_list(node: Any) -> tuple[Any, None]:
    return node, None


def _list_of_items(_: None, children: Any) -> FrozenList:
    new = list.__new__(FrozenList)  # not a call of the class, which takes longer
    list.extend(new, children)
    return new


_pytree: Any = jax.tree_util
_pytree.register_pytree_with_keys(FrozenList, _items_of_list, _list_of_items, _of_list)
register_plain(FrozenList, _list_of_items)
_register_dict(
    FrozenDict,
    lambda node: (None, tuple(sorted(node))),
    lambda _, items: FrozenDict(items),
)
_register_dict(
    FrozenDefaultDict,
    lambda node: (node.default_factory, tuple(sorted(node))),
    FrozenDefaultDict,
)
_register_dict(
    FrozenOrderedDict,
    lambda node: (None, tuple(node)),
    lambda _, items: FrozenOrderedDict(items),
)

_FREEZE: dict[type, Callable[[Any], Any]] = {
    list: FrozenList,
    dict: FrozenDict,
    OrderedDict: FrozenOrderedDict,
    defaultdict: lambda node: FrozenDefaultDict(node.default_factory, node),
}
_FROZEN = (FrozenList, FrozenDict, FrozenDefaultDict, FrozenOrderedDict)
_is: Callable[[object, object], bool] = operator.is_


def frozen(name: str, states: Any) -> Any:
    """Return a tree of States in which no list or dict can be changed in place.

    Args:
        name: What the tree is called in messages.
        states: A State or None, or containers of these.

    Returns:
        The same object if it can be shared: a State, or frozen lists and dicts and tuples of these.
        Other containers are copied.

    Raises:
        TypeError: A container is a list or dict of another class, or an array hides in the factory of a
            defaultdict.
    """
    if states is None or isinstance(states, State):
        return states
    children, treedef = flatten(states, is_leaf=lambda node: node is not states)
    inside = [frozen(name, child) for child in children]
    kind = class_of(states)
    is_frozen = issubclass(kind, tuple) or kind in _FROZEN
    if is_frozen and all(map(_is, inside, children)):
        return states
    if issubclass(kind, (list, dict)) and kind not in (*_FREEZE, *_FROZEN):
        raise TypeError(
            f"{name} holds States in {with_article(kind.__name__)}, which can be changed in place.\n"
            f"  Use a tuple, list or dict, or a Module of your own."
        )
    made = treedef.unflatten(inside)
    if kind is defaultdict and (hidden := hidden_in(made.default_factory)) is not None:
        raise TypeError(
            f"{name} is a defaultdict, and its factory leads to {describe(hidden.value)}, which JAX does not see "
            f"there: {hidden.holder} holds it.\n"
            f"  Use a dict: a module never adds a key."
        )
    return _FREEZE[kind](made) if kind in _FREEZE else made


def with_items(node: Any, items: Mapping[Any, Any]) -> Any:
    """Return a copy of a list or dict with some items replaced. It is frozen if the original is."""
    new = copy.copy(node)  # of a frozen one: plain
    for key, item in items.items():
        new[key] = item
    return new if class_of(new) is class_of(node) else _FREEZE[class_of(new)](new)
