"""What a trial knows of a value: the range of a number, the shape of an array, how many a list has."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

from mlax_codegen.checking.trial.ranges import SIZE, Range, hull

__all__ = [
    "ARRAY",
    "AXIS",
    "NUMBER",
    "Arrays",
    "Dims",
    "Shaped",
    "Shapes",
    "Sizes",
    "Thing",
    "agree",
    "broadcast",
    "count",
    "dims_of",
    "form",
    "joined",
    "limited",
    "of_axis",
]

Dims: TypeAlias = tuple[str | None, ...] | None
"""Lengths of axes by name ("n0" is that of a leaf's first, "1" is 1); None where one, or how many, is not followed."""


@dataclass(frozen=True)
class Shaped:
    """An array."""

    dims: Dims


@dataclass(frozen=True)
class Sizes:
    """A tuple of integers: each where there is one possible length, else how many there may be and what they may be."""

    items: tuple[Range, ...] | None
    lengths: frozenset[int]
    any: Range

    @classmethod
    def of(cls, items: Iterable[Range]) -> "Sizes":
        """Return a tuple of which all is known."""
        known = tuple(items)
        return cls(known, frozenset([len(known)]), reduce(hull, known) if known else SIZE)


@dataclass(frozen=True)
class Shapes:
    """A list of shapes, one for each axis."""

    lengths: frozenset[int]
    item: Dims


@dataclass(frozen=True)
class Arrays:
    """A list of arrays."""

    lengths: frozenset[int]
    item: Dims


Thing: TypeAlias = Range | Shaped | Sizes | Shapes | Arrays | bool | None
"""A value; a condition is True or False where that is known, None is what is not followed."""

NUMBER = Shaped(())
ARRAY = Shaped(None)
AXIS = "n"
"""Length of some axis of the leaf, in a comprehension."""


def count(number: int, one: str, more: str) -> str:
    """Return how many there are of something, in words."""
    return f"{number or 'no'} {one if number == 1 else more}"


def dims_of(shape: Thing) -> Dims:
    """Return the axes of an array of some shape."""
    if not isinstance(shape, Sizes):
        return None
    if shape.items is None:
        return (None,) * next(iter(shape.lengths)) if len(shape.lengths) == 1 else None
    return tuple(_length(size) for size in shape.items)


def _length(size: Range) -> str | None:
    return f"{size.low:g}" if size.is_one else size.name


def broadcast(first: Dims, second: Dims) -> tuple[Dims, bool]:
    """Return the axes of what two arrays make, and whether they go together."""
    if first is None or second is None:
        return None, True
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    start = len(longer) - len(shorter)
    together = list(longer)
    for index, other in enumerate(shorter, start):
        one = together[index]
        if one == "1" or (one is None and other not in {"1", None}):
            together[index] = other
        elif other != "1" and not _alike(one, other):
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
    """Return the length of an axis where it is short enough to have a matrix, else 0."""
    return f"{axis or '?'} if <= {longest}"


def of_axis(dims: Dims, axis: int) -> Dims:
    """Return the shape of what belongs to one axis, of a list with something for each."""
    return None if dims is None else tuple(_at(length, axis) for length in dims)


def _at(length: str | None, axis: int) -> str | None:
    first, *rest = (length or "").split(" ", 1)
    return " ".join([f"{AXIS}{axis}", *rest]) if first == AXIS else length


def form(thing: Thing) -> Dims | frozenset[int]:
    """Return what must be the same of two values for one of them to be followed; None of what has no shape."""
    match thing:
        case Range() | Shaped():
            return _dims(thing)
        case Sizes() | Shapes():
            return thing.lengths
        case Arrays():
            return thing.item
        case _:
            return None


def joined(first: Thing, second: Thing) -> Thing:
    """Return what is known of a value that is one of two."""
    if first == second and type(first) is type(second):
        return first
    match first, second:
        case Range(), Range():
            return hull(first, second)
        case ((Range() | Shaped()), (Range() | Shaped())):
            return Shaped(_either(_dims(first), _dims(second)))
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


def _dims(thing: Range | Shaped) -> Dims:
    return thing.dims if isinstance(thing, Shaped) else ()


def _either(first: Dims, second: Dims) -> Dims:
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))
