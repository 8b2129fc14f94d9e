"""What a run knows of a value: an interval, a shape, or how many items a list has.

A shape names the lengths of its axes, which are not known: (n0, n1) is the shape of a leaf with two
axes, (n0, n0) that of a matrix for its first axis. Arrays whose names agree go together, however
long the axes are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

from mlax_codegen.checking.trial.intervals import SIZE, Interval, exactly, hull, within_bounds
from mlax_codegen.checking.trial.sums import shifted
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.mistakes import either_of

__all__ = [
    "ANY_ARRAY",
    "ANY_SHAPE",
    "SCALAR",
    "Array",
    "Dims",
    "List",
    "Value",
    "agree",
    "as_dims",
    "broadcast",
    "count",
    "dims_of",
    "dims_text",
    "given",
    "is_of_arrays",
    "join",
    "least",
    "legend",
    "limited",
    "listed",
    "name_of",
    "number_of",
    "pairs_of",
    "part_of",
    "same_length",
    "shape_of",
    "sizes_of",
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
class List:
    """A tuple or list: of numbers, such as a shape or a hyperparameter, of shapes, or of arrays.

    Attributes:
        items: What each item is; None if that is not known one by one.
        lengths: How many items there may be.
        any: What any one of them may be. It also says what kind of list an empty one is.
        name: What says how many there are, if a hyperparameter does: "n", "len(betas)".
    """

    items: "tuple[Value, ...] | None"
    lengths: frozenset[int]
    any: "Value"
    name: str | None = None

    @classmethod
    def of(cls, items: "Iterable[Value]", empty: "Value" = SIZE) -> "List":
        """Return a list with given items; if there are none, it is one of such as `empty`."""
        known = tuple(items)
        return cls(known, frozenset([len(known)]), reduce(join, known) if known else empty)


Value: TypeAlias = Interval | Array | List | bool | None
"""A value; True or False for a static condition that is decided; None if nothing is known."""

SCALAR = Array(())
ANY_ARRAY = Array(None)
_LONGEST = 64  # a list of numbers is not supposed to be longer
ANY_SHAPE = List(None, frozenset(range(_LONGEST + 1)), SIZE)


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


def is_of_arrays(value: Value) -> bool:
    """Whether a value is a list of arrays."""
    return isinstance(value, List) and isinstance(value.any, Array)


def pairs_of(first: Value, second: Value) -> list[tuple[Dims, Dims]]:
    """Return the shapes of two arrays, or those of two lists of arrays, in pairs."""
    pairs = [(first, second)]
    if isinstance(first, List) and isinstance(second, List):
        pairs = [*zip(first.items or (), second.items or (), strict=False)]
        pairs = pairs or [(first.any, second.any)]
    return [(dims_of(one), dims_of(other)) for one, other in pairs]


def part_of(items: List, lower: int | None, upper: int | None) -> List:
    """Return the part of a list from one index to another."""
    part = slice(lower, upper)
    if items.items is not None:
        return List.of(items.items[part], items.any)
    lengths = {n: len(range(n)[part]) for n in items.lengths}
    fewer = {length - n for n, length in lengths.items()}
    name = shifted(items.name, fewer.pop()) if len(fewer) == 1 else None
    return replace(items, lengths=frozenset(lengths.values()), name=name)


def listed(items: Sequence[Value]) -> List | None:
    """Return a list of some items; None if it is not known of one of them what it is."""
    kinds = {type(item) for item in items}
    return List.of(items) if kinds <= {Interval, Array} or kinds == {List} else None


def together(first: List, second: List) -> List:
    """Return a list of the items of two lists."""
    either = join(first.any, second.any)
    if first.items is not None and second.items is not None:
        return List.of((*first.items, *second.items), either)
    named, other = (second, first) if first.name is None else (first, second)
    known = other.name is None and len(other.lengths) == 1
    name = shifted(named.name, min(other.lengths)) if known else None
    lengths = frozenset(a + b for a in first.lengths for b in second.lengths)
    return List(None, lengths, either, name)


def given(h: Hyperparameter) -> Value:
    """Return what is known of a hyperparameter that is a number or a list of numbers."""
    interval = within_bounds(h)
    if h.kind != "list":
        return interval
    return List(None, frozenset(range(1, _LONGEST + 1)), interval, f"len({h.name})")


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
    if not isinstance(shape, List):
        return None
    if shape.items is None:
        return (None,) * next(iter(shape.lengths)) if len(shape.lengths) == 1 else None
    return tuple(map(name_of, shape.items))


def sizes_of(dims: Dims) -> List | None:
    """Return the shape of an array as a tuple of numbers."""
    if dims is None:
        return None
    return List.of(exactly(1) if name == "1" else SIZE._replace(name=name) for name in dims)


def name_of(size: Value) -> str | None:
    """Return the name of a length, or the number that it is."""
    if not isinstance(size, Interval):
        return None
    return f"{size.low:g}" if size.is_one else size.name


def least(*lengths: str | None) -> str | None:
    """Return the name of the smallest of some lengths: "min(n1, rank)"."""
    known = [length for length in lengths if length is not None and " if " not in length]
    if len(known) < len(lengths):
        return None
    parts = {
        part for length in known for part in length.removeprefix("min(").rstrip(")").split(", ")
    }
    return f"min({', '.join(sorted(parts))})" if len(parts) > 1 else parts.pop()


def dims_text(dims: Dims) -> str:
    """Return a shape as messages show it: "(n0, ?)"."""
    return f"({', '.join(length or '?' for length in dims or ())})"


def legend(*shapes: Dims) -> str:
    """Return what a name of a length in some shapes stands for; "" if there are no names."""
    name = re.search(r"\bn\d+\b", " ".join(map(dims_text, shapes)))
    return f"{name[0]} is the length of axis {name[0][1:]}" if name else ""


def broadcast(first: Dims, second: Dims) -> tuple[Dims, bool]:
    """Return the axes of an operation on two arrays, and whether the arrays go together."""
    if first is None or second is None:
        return None, True
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    start = len(longer) - len(shorter)
    together = list(longer)
    for index, other in enumerate(shorter, start):
        one = together[index]
        if one == other:
            continue
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


def limited(axis: str | None, longest: str) -> str | None:
    """Return the size of an axis's matrix, which is a scalar if the axis is longer than `longest`."""
    return axis and f"{axis} if {axis} <= {longest} else 0"


def shape_of(value: Value) -> List | Dims:
    """Return the part of a value that `join` would lose if it differed from the other's.

    Intervals are joined without a loss that matters: their hull is an interval.
    """
    return value if isinstance(value, List) else dims_of(value)


def join(first: Value, second: Value) -> Value:
    """Return what is known of a value that is one of two."""
    match first, second:
        case _ if first == second and type(first) is type(second):
            return first
        case Interval(), Interval():
            return hull(first, second)
        case ((Interval() | Array()), (Interval() | Array())):
            return Array(_either(dims_of(first), dims_of(second)))
        case List(), List():
            lengths = first.lengths | second.lengths
            items = None
            if first.items is not None and second.items is not None and len(lengths) == 1:
                items = tuple(map(join, first.items, second.items))
            name = first.name if first.name == second.name else None
            return List(items, lengths, join(first.any, second.any), name)
        case _:
            return None


def _either(first: Dims, second: Dims) -> Dims:
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))
