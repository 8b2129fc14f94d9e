"""What a run knows of a value: an interval, a shape, or how many items a list has.

A shape names the lengths of its axes, which are not known: (n0, n1) is the shape of a leaf with two
axes, (n0, n0) that of a matrix for its first axis. Arrays whose names agree go together, however
long the axes are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias, cast

from mlax_codegen.checking.trial.intervals import SIZE, Interval, hull, within_bounds
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.mistakes import either_of

__all__ = [
    "ANY_ARRAY",
    "SCALAR",
    "Array",
    "Arrays",
    "Dims",
    "List",
    "Shapes",
    "Sizes",
    "Value",
    "agree",
    "as_dims",
    "broadcast",
    "count",
    "dims_of",
    "dims_text",
    "given",
    "index_of",
    "join",
    "least",
    "legend",
    "limited",
    "listed",
    "name_of",
    "number_of",
    "part_of",
    "same_length",
    "shape_of",
    "together",
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
    """A tuple of numbers: a shape, numbers of axes, or a hyperparameter.

    Attributes:
        items: What each number may be; None if that is not known one by one.
        lengths: How many numbers there may be.
        any: What any one of them may be.
        name: What says how many there are, if a hyperparameter does: "n", "len(betas)".
    """

    items: tuple[Interval, ...] | None
    lengths: frozenset[int]
    any: Interval
    name: str | None = None

    @classmethod
    def of(cls, items: Iterable[Interval]) -> "Sizes":
        """Return a tuple with given items."""
        known = tuple(items)
        return cls(known, frozenset([len(known)]), reduce(hull, known) if known else SIZE)


@dataclass(frozen=True)
class Shapes:
    """A list of shapes, with the same attributes."""

    items: tuple[Dims, ...] | None
    lengths: frozenset[int]
    any: Dims
    name: str | None = None

    @classmethod
    def of(cls, items: Iterable[Dims]) -> "Shapes":
        """Return a list with given items."""
        known = tuple(items)
        return cls(known, frozenset([len(known)]), reduce(_either, known) if known else None)


@dataclass(frozen=True)
class Arrays(Shapes):
    """A list of arrays: their shapes."""


Value: TypeAlias = Interval | Array | Sizes | Shapes | bool | None
"""A value; True or False for a static condition that is decided; None if nothing is known."""

List: TypeAlias = Sizes | Shapes

SCALAR = Array(())
ANY_ARRAY = Array(None)
_LIMIT = " if <= "
_LONGEST = 64  # a list of numbers is not supposed to be longer


def count(number: int, one: str, more: str) -> str:
    """Return how many there are of something, in words: "no axes", "1 axis"."""
    return f"{number or 'no'} {one if number == 1 else more}"


def number_of(items: List) -> str:
    """Return how many items a list has, in words."""
    fewest, *others = sorted(items.lengths)
    few = either_of([fewest, *others]) if len(others) < 3 else f"{fewest} to {others[-1]}"
    return items.name or few


def same_length(first: List, second: List) -> bool:
    """Whether a list has as many items as another, as far as that is known."""
    if first.name is None and second.name is None:
        return first.lengths <= second.lengths
    return first.name == second.name


def index_of(name: str) -> str:
    """Return the name of a number that is an index of a list, by the name of the number of its items."""
    return f"< {name}"


def part_of(items: List, lower: int | None, upper: int | None) -> List:
    """Return the part of a list from one index to another."""
    part = slice(lower, upper)
    if items.items is not None:
        return _of(items, items.items[part])
    lengths = {n: len(range(n)[part]) for n in items.lengths}
    fewer = {length - n for n, length in lengths.items()}
    return _resized(items, frozenset(lengths.values()), fewer.pop() if len(fewer) == 1 else None)


def _resized(items: List, lengths: frozenset[int], more: int | None) -> List:
    """Return a list with another number of items: so many more, if that is known."""
    name = items.name
    if name is not None and more is not None:
        base, sign, number = name.rpartition(" + " if " + " in name else " - ")
        more += int(f"{sign.strip()}{number}") if base else 0
        base = base or name
        name = f"{base} {'+' if more > 0 else '-'} {abs(more)}" if more else base
    return replace(items, items=None, lengths=lengths, name=None if more is None else name)


def listed(items: Sequence[Value]) -> List | None:
    """Return a list of some items; None if it is not known of one of them what it is."""
    numbers = [item for item in items if isinstance(item, Interval)]
    sizes = [item for item in items if isinstance(item, Sizes)]
    if len(numbers) == len(items):
        return Sizes.of(numbers)
    if len(sizes) == len(items):
        return Shapes.of(map(as_dims, sizes))
    if all(isinstance(item, Interval | Array) for item in items):
        return Arrays.of(map(dims_of, items))
    return None


def together(parts: Sequence[List]) -> List:
    """Return a list of the items of other lists. Beside arrays, numbers count as arrays."""
    if any(isinstance(part, Arrays) for part in parts):
        parts = [_as_arrays(part) if isinstance(part, Sizes) else part for part in parts]
    return reduce(_followed_by, parts)


def _as_arrays(numbers: Sizes) -> Arrays:
    items = None if numbers.items is None else tuple[Dims, ...](() for _ in numbers.items)
    return Arrays(items, numbers.lengths, (), numbers.name)


def _of(like: List, items: object) -> List:
    """Return a list of the same kind with these items."""
    kind: Any = type(like)
    return cast("List", kind.of(items))


def _followed_by(first: List, second: List) -> List:
    either = _one_of(first, second)
    if either is None:
        return first
    if first.items is not None and second.items is not None:
        return _of(either, (*first.items, *second.items))
    named, other = (second, first) if first.name is None else (first, second)
    more = None if other.name or len(other.lengths) > 1 else min(other.lengths)
    lengths = frozenset(a + b for a in first.lengths for b in second.lengths)
    return _resized(replace(either, name=named.name), lengths, more)


def given(h: Hyperparameter) -> Value:
    """Return what is known of a hyperparameter that is a number or a list of numbers."""
    interval = within_bounds(h)
    if h.kind != "list":
        return interval
    return Sizes(None, frozenset(range(1, _LONGEST + 1)), interval, f"len({h.name})")


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
    numbered = re.findall(r"\bn\d+\b", " ".join(names))
    return "".join(f"{name} is the length of axis {name[1:]}" for name in numbered[:1])


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


def shape_of(value: Value) -> Dims | tuple[Dims, ...] | frozenset[int]:
    """Return the part of a value that `join` would lose if it differed from the other's.

    Intervals are joined without a loss that matters: their hull is an interval.
    """
    match value:
        case Interval() | Array():
            return dims_of(value)
        case Sizes(items=items) if items is not None:
            return as_dims(value)
        case Arrays():
            return value.any if value.items is None else value.items
        case Sizes() | Shapes():
            return value.lengths
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
        case ((Sizes() | Shapes()), (Sizes() | Shapes())):
            return _one_of(first, second)
        case _:
            return None


def _one_of(first: List, second: List) -> List | None:
    lengths = first.lengths | second.lengths
    name = first.name if first.name == second.name else None
    numbers = sizes = None
    if isinstance(first, Sizes) and isinstance(second, Sizes):
        if first.items is not None and second.items is not None and len(lengths) == 1:
            numbers = tuple(map(hull, first.items, second.items))
        return Sizes(numbers, lengths, hull(first.any, second.any), name)
    if isinstance(first, Sizes) or isinstance(second, Sizes) or type(first) is not type(second):
        return None
    if first.items is not None and second.items is not None and len(lengths) == 1:
        sizes = tuple(map(_either, first.items, second.items))
    return type(first)(sizes, lengths, _either(first.any, second.any), name)


def _either(first: Dims, second: Dims) -> Dims:
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))
