"""Interval arithmetic for static numbers: hyperparameters, sizes, and what is computed from them.

Generated code computes with them in Python before JAX sees them. There 1 / 0 is an exception and
(-8) ** 0.5 a complex number, and an integer grows until JAX cannot take it as an int32. Bounds that
allow this are refused in the spec, not when a user sets the hyperparameter.
"""

import math
from typing import NamedTuple

from mlax_codegen.checking.trial.sums import shifted
from mlax_codegen.reading.hyperparameters import Hyperparameter

__all__ = [
    "SIZE",
    "TOO_LARGE",
    "Interval",
    "arithmetic",
    "exactly",
    "gap",
    "hull",
    "negative",
    "within_bounds",
    "wrong_root",
]

_LARGEST = 2**31 - 1
_LARGEST_FLOAT32 = 3.4e38
_CLOSEST = 1e-7  # how near a float32 comes to a bound that is excluded, relative to the bound
_SMALLEST = 1e-38  # how near it comes to 0

TOO_LARGE = "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds"
_NO_FLOAT = "this power may overflow a float; give tighter bounds"
_ROOT = "this is a root of a number that may be negative; exclude that with bounds, abs or max"
_ROOT_OF_NEGATIVE = "this is a root of a negative number; change its sign or use abs"
_INVERSE = (
    "this is a negative power of a number that may be 0; exclude that with bounds or max(1, ...)"
)


class Interval(NamedTuple):
    """A number from `low` to `high`; lengths of axes with the same `name` are equal."""

    low: float
    high: float
    whole: bool
    name: str | None = None

    @property
    def is_one(self) -> bool:
        """Whether it is a single number."""
        return self.low == self.high

    def within(self, low: float, high: float) -> "Interval | None":
        """Return the part of it within limits; None if there is none."""
        low, high = max(self.low, low), min(self.high, high)
        return None if low > high else Interval(low, high, self.whole, self.name)


SIZE = Interval(0, _LARGEST, whole=True)
_ANY = Interval(-math.inf, math.inf, whole=False)


def exactly(value: float) -> Interval:
    """Return the interval of a single number."""
    return Interval(value, value, isinstance(value, int))


def negative(number: Interval) -> Interval:
    """Return the interval of a number with the other sign."""
    return Interval(-number.high, -number.low, number.whole)


def hull(first: Interval, second: Interval) -> Interval:
    """Return the smallest interval that contains two."""
    name = first.name if first.name == second.name else None
    whole = first.whole and second.whole
    return Interval(min(first.low, second.low), max(first.high, second.high), whole, name)


def gap(limit: Interval, *, whole: bool) -> float:
    """Return how far a number is at least from a limit that it does not reach."""
    nearest = 0 if limit.low <= 0 <= limit.high else min(map(abs, limit[:2]))
    return 1 if whole else max(_SMALLEST, nearest * _CLOSEST)


def within_bounds(h: Hyperparameter) -> Interval:
    """Return the range of a hyperparameter: its bounds, within those of an int32 or a float32."""
    whole = h.kind == "integer"
    largest = _LARGEST if whole else _LARGEST_FLOAT32
    bounds = h.bounds
    low = -largest if bounds.lower is None else float(bounds.lower)
    high = largest if bounds.upper is None else float(bounds.upper)
    if not bounds.lower_included:
        low += gap(exactly(low), whole=whole)
    if not bounds.upper_included:
        high -= gap(exactly(high), whole=whole)
    return Interval(low, high, whole, h.name)


def arithmetic(operator: str, a: Interval, b: Interval) -> tuple[Interval, str | None]:
    """Return the interval of a result, and a warning, or None. A divisor must not be 0."""
    match operator:
        case "+":
            name = shifted(a.name, int(b.low)) if b.is_one and b.whole else None
            return _limited(Interval(a.low + b.low, a.high + b.high, a.whole and b.whole, name))
        case "-":
            return arithmetic("+", a, negative(b))
        case "*":
            return _limited(_corners(a, b, whole=a.whole and b.whole))
        case "%":
            low, high = (0.0, b.high) if b.low > 0 else (b.low, 0.0)
            return Interval(low, high, a.whole and b.whole), None
        case "//":
            found, wrong = arithmetic("/", a, b)
            rounded = [math.floor(x) if math.isfinite(x) else x for x in found[:2]]
            return Interval(rounded[0], rounded[1], a.whole and b.whole), wrong
        case "/":
            inverse = Interval(1 / b.high, 1 / b.low, whole=False)
            return _limited(_corners(a, inverse, whole=False))
        case _:
            return _power(a, b)


def wrong_root(a: Interval) -> str:
    """Return the complaint about a root of a number that is or may be negative."""
    return _ROOT_OF_NEGATIVE if a.high < 0 else _ROOT


def _corners(a: Interval, b: Interval, *, whole: bool) -> Interval:
    products = [0.0 if 0 in {x, y} else x * y for x in a[:2] for y in b[:2]]
    return Interval(min(products), max(products), whole)


def _limited(found: Interval) -> tuple[Interval, str | None]:
    if math.isnan(found.low) or math.isnan(found.high):
        return _ANY, None
    if found.whole and max(-found.low, found.high) > _LARGEST:
        low, high = (min(max(x, -_LARGEST), _LARGEST) for x in found[:2])
        return Interval(low, high, whole=True, name=found.name), TOO_LARGE
    return found, None


def _power(a: Interval, b: Interval) -> tuple[Interval, str | None]:
    whole = a.whole and b.whole and b.low >= 0
    if a.low < 0 and not b.whole:
        return _ANY, wrong_root(a)
    if b.low < 0 and a.low <= 0 <= a.high:
        return _ANY, _INVERSE
    bases = [abs(a.low), abs(a.high)] if a.low < 0 else [a.low, a.high]
    if a.low < 0 < a.high:
        bases.append(0.0)
    try:
        powers = [float(x) ** y for x in bases for y in (b.low, b.high) if x or y >= 0]
    except OverflowError:
        return (
            (Interval(-_LARGEST, _LARGEST, whole=True), TOO_LARGE) if whole else (_ANY, _NO_FLOAT)
        )
    low, high = min(powers), max(powers)
    return _limited(Interval(-high if a.low < 0 else low, high, whole))
