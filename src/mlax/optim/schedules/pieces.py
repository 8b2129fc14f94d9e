"""Schedules made of pieces: of other schedules, or of values between boundaries."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Annotated, Any, Literal

from jaxtyping import Array

from mlax.optim.schedules._arithmetic import joined, path, stairs
from mlax.optim.schedules._curve import (
    Boundaries,
    Curve,
    Real,
    Scales,
    elements,
)
from mlax.optimizer._hyperparameters import Schedule, is_schedule
from mlax.optimizer._specified import Specification

__all__ = ["join_schedules", "piecewise_constant", "piecewise_interpolate"]


def _schedules(value: Any) -> tuple[Schedule, ...]:
    schedules = elements(value)
    if not schedules or not all(map(is_schedule, schedules)):
        raise TypeError("a list of schedules (for a number: `constant(number)`)")
    for schedule in schedules:
        try:
            hash(schedule)
        except TypeError:
            raise TypeError(f"made of hashable schedules, which {schedule!r} is not") from None
    return schedules


class join_schedules(Curve):
    """Runs one schedule after the other. Each counts its steps from where it begins.

    Args:
        schedules: One or more schedules. Your own functions get the step as an int32 array (float
            if this schedule is called with a float). It is never below 0. They are called in all
            steps, including those of other schedules.
        boundaries: Increasing steps, one fewer than schedules. At step `boundaries[i]`, schedule i
            + 1 is at its step 0.
    """

    schedules: Annotated[Sequence[Schedule], Specification(_schedules)]
    boundaries: Boundaries

    def __post_init__(self) -> None:
        super().__post_init__()
        expected, got = len(self.schedules) - 1, len(self.boundaries)
        self.require(got == expected, f"boundaries must be {expected} steps, got {got}")

    def _at(self, n: Array) -> Array:
        return joined(n, self.boundaries, self.schedules)


def _corners(value: float, scales: Any) -> list[tuple[float, float]]:
    """Return each boundary with its value, beginning with step 0."""
    factors = accumulate((factor for _, factor in scales), mul, initial=value)
    return list(zip((0, *(step for step, _ in scales)), factors, strict=True))


class piecewise_constant(Curve):
    """Multiplies the value by a factor at each boundary.

    Args:
        init_value: Value before the first boundary.
        boundaries_and_scales: A dict from steps, at least 1, to factors, at least 0. From its step
            on, a factor applies in addition to all earlier ones. It is stored as a sorted tuple of
            pairs, and may be given as one.
    """

    init_value: Real
    boundaries_and_scales: Scales = ()

    def _at(self, n: Array) -> Array:
        corners = _corners(self.init_value, self.boundaries_and_scales)
        return stairs(n, [step for step, _ in corners[1:]], [value for _, value in corners])


class piecewise_interpolate(Curve):
    """Interpolates between values at boundaries, along lines or half cosines.

    Args:
        interpolate_type: `"linear"` or `"cosine"`.
        init_value: Value at step 0.
        boundaries_and_scales: A dict from steps, at least 1, to factors, at least 0. The value at a
            boundary is its factor times the value at the boundary before. After the last boundary
            the value stays. It is stored as a sorted tuple of pairs, and may be given as one.
    """

    interpolate_type: Literal["linear", "cosine"]
    init_value: Real
    boundaries_and_scales: Scales = ()

    def _at(self, n: Array) -> Array:
        corners = _corners(self.init_value, self.boundaries_and_scales)
        return path(n, corners, self.interpolate_type)
