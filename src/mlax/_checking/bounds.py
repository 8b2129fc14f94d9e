"""Bounds of a number: how they are checked, and how messages spell them."""

import math
from dataclasses import dataclass

__all__ = ["Bounds"]


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bounds of a number; None for no bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def allow(self, value: float) -> bool:
        """Return whether a number is within the bounds. NaN never is; an infinity is only if it equals a bound."""
        return (
            (_is_finite(value) or value in (self.at_least, self.at_most))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def expected(self, value: float) -> str | None:
        """Return what is expected if a number is not allowed; None if it is allowed."""
        if self.allow(value):
            return None
        return str(self) if _is_finite(value) else "a finite number"

    def __str__(self) -> str:
        signs = {">=": self.at_least, ">": self.above, "<=": self.at_most, "<": self.below}
        limits = [
            f"{sign} {limit:g}"
            for sign, limit in signs.items()
            if limit is not None and math.isfinite(limit)
        ]
        return " and ".join(limits)

    @property
    def keywords(self) -> str:
        """The bounds as keyword arguments: `at_least=0, below=1`."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return ", ".join(f"{name}={value:g}" for name, value in given.items())


def _is_finite(value: float) -> bool:
    """Same as `math.isfinite`, but works for integers larger than any float."""
    return isinstance(value, int) or math.isfinite(value)
