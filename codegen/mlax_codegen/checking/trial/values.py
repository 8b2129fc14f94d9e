"""What a run knows of a value: an interval, a shape, or how many items a list has.

A shape names the lengths of its axes, which are not known: (n0, n1) is the shape of a leaf with two
axes, (n0, n0) that of a matrix for its first axis. Arrays whose names agree go together, however
long the axes are.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

from mlax_codegen.checking.trial.intervals import SIZE, Interval, hull

__all__ = [
    "ANY_ARRAY",
    "AXIS",
    "SCALAR",
    "Array",
    "Arrays",
    "Dims",
    "Shapes",
    "Sizes",
    "Value",
    "agree",
    "as_dims",
    "broadcast",
    "count",
    "dims_of",
    "dims_text",
    "join",
    "least",
    "legend",
    "limited",
    "name_of",
    "of_axis",
    "shape_of",
]

Dims: TypeAlias = tuple[str | None, ...] | None
"""The name of each axis's length: "n0" is that of the leaf's first axis, "1" is 1.

An axis is None if nothing is known of its length. The whole is None if not even the number of axes
is known.
"""


@dataclass(frozen=True)
class Array:
    """An array that is computed while a step runs."""

    dims: Dims


@dataclass(frozen=True)
class Sizes:
    """A tuple of integers: a shape, or numbers of axes.

    Attributes:
        items: What each integer may be; None if that is not known one by one.
        lengths: How many integers there may be.
        any: What any one of them may be.
    """

    items: tuple[Interval, ...] | None
    lengths: frozenset[int]
    any: Interval

    @classmethod
    def of(cls, items: Iterable[Interval]) -> "Sizes":
        """Return a tuple with given items."""
        known = tuple(items)
        return cls(known, frozenset([len(known)]), reduce(hull, known) if known else SIZE)


@dataclass(frozen=True)
class Shapes:
    """A list of shapes, one for each axis; `item` is each of them."""

    lengths: frozenset[int]
    item: Dims


@dataclass(frozen=True)
class Arrays:
    """A list of arrays, one for each axis; `item` is the shape of each."""

    lengths: frozenset[int]
    item: Dims


Value: TypeAlias = Interval | Array | Sizes | Shapes | Arrays | bool | None
"""A value; True or False for a static condition that is decided; None if nothing is known."""

SCALAR = Array(())
ANY_ARRAY = Array(None)
AXIS = "n"
"""The length of the axis that a comprehension is at."""
_LIMIT = " if <= "


def count(number: int, one: str, more: str) -> str:
    """Return how many there are of something, in words: "no axes", "1 axis"."""
    return f"{number or 'no'} {one if number == 1 else more}"


def dims_of(value: Value) -> Dims:
    """Return the axes of a value: none for a number, unknown for a list."""
    match value:
        case Array(dims):
            return dims
        case Interval():
            return ()
        case _:
            return None


def as_dims(shape: Value) -> Dims:
    """Return the axes of an array that has some shape."""
    if not isinstance(shape, Sizes):
        return None
    if shape.items is None:
        return (None,) * next(iter(shape.lengths)) if len(shape.lengths) == 1 else None
    return tuple(map(name_of, shape.items))


def name_of(size: Interval) -> str | None:
    """Return the name of a length, or the number that it is."""
    return f"{size.low:g}" if size.is_one else size.name


def least(*lengths: str | None) -> str | None:
    """Return the name of the smallest of some lengths: "min(n1, rank)"."""
    known = [length for length in lengths if length is not None and _LIMIT not in length]
    if len(known) < len(lengths):
        return None
    parts = {
        part for length in known for part in length.removeprefix("min(").rstrip(")").split(", ")
    }
    return f"min({', '.join(sorted(parts))})" if len(parts) > 1 else parts.pop()


def dims_text(dims: Dims) -> str:
    """Return a shape as messages show it: "(n0, ?)"."""
    lengths = [_length_text(length) for length in dims or ()]
    return f"({', '.join(lengths)})"


def legend(*shapes: Dims) -> str:
    """Return what a name of a length in some shapes stands for; "" if there are no names."""
    lengths = [length for dims in shapes for length in dims or () if length is not None]
    names = dict.fromkeys(length.partition(_LIMIT)[0] for length in lengths)
    numbered = re.findall(rf"\b{AXIS}\d+\b", " ".join(names))
    found = [f"{name} is the length of axis {name[1:]}" for name in numbered[:1]]
    found += [f"{AXIS} that of each axis in turn"] if AXIS in names and found else []
    found += [f"{AXIS} is the length of each axis in turn"] if AXIS in names and not found else []
    return " and ".join(found)


def _length_text(length: str | None) -> str:
    name, limit, longest = (length or "?").partition(_LIMIT)
    return f"{name} if {name} <= {longest} else 0" if limit else name


def broadcast(first: Dims, second: Dims) -> tuple[Dims, bool]:
    """Return the axes of an operation on two arrays, and whether the arrays go together."""
    if first is None or second is None:
        return None, True
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    start = len(longer) - len(shorter)
    together = list(longer)
    for index, other in enumerate(shorter, start):
        one = together[index]
        if one in {"1", least("1", other)} or (one is None and other not in {"1", None}):
            together[index] = other
        elif other not in {"1", least("1", one)} and not _alike(one, other):
            return None, False
    return tuple(together), True


def agree(first: Dims, second: Dims) -> bool:
    """Whether two shapes may be the same."""
    if first is None or second is None:
        return True
    return len(first) == len(second) and all(map(_alike, first, second))


def _alike(one: str | None, other: str | None) -> bool:
    """Whether two lengths may be the same."""
    return None in {one, other} or one == other


def limited(axis: str | None, longest: str) -> str:
    """Return the size of an axis's matrix, which is a scalar if the axis is longer than `longest`."""
    return f"{axis or '?'}{_LIMIT}{longest}"


def of_axis(dims: Dims, axis: int) -> Dims:
    """Return the shape of the item for one axis, in a list with an item for each axis."""
    return None if dims is None else tuple(_at(length, axis) for length in dims)


def _at(length: str | None, axis: int) -> str | None:
    name, limit, longest = (length or "").partition(_LIMIT)
    return f"{AXIS}{axis}{limit}{longest}" if name == AXIS else length


def shape_of(value: Value) -> Dims | frozenset[int]:
    """Return the part of a value that `join` would lose if it differed from the other's.

    Intervals are joined without a loss that matters: their hull is an interval.
    """
    match value:
        case Interval() | Array():
            return dims_of(value)
        case Sizes(items=items) if items is not None:
            return as_dims(value)
        case Sizes() | Shapes():
            return value.lengths
        case Arrays():
            return value.item
        case _:
            return None


def join(first: Value, second: Value) -> Value:
    """Return what is known of a value that is one of two."""
    if first == second and type(first) is type(second):
        return first
    match first, second:
        case Interval(), Interval():
            return hull(first, second)
        case ((Interval() | Array()), (Interval() | Array())):
            return Array(_either(dims_of(first), dims_of(second)))
        case Sizes(), Sizes():
            items = None
            if (
                first.items is not None
                and second.items is not None
                and first.lengths == second.lengths
            ):
                items = tuple(map(hull, first.items, second.items))
            return Sizes(items, first.lengths | second.lengths, hull(first.any, second.any))
        case Shapes(), Shapes():
            return Shapes(first.lengths | second.lengths, _either(first.item, second.item))
        case Arrays(), Arrays():
            return Arrays(first.lengths | second.lengths, _either(first.item, second.item))
        case _:
            return None


def _either(first: Dims, second: Dims) -> Dims:
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))
