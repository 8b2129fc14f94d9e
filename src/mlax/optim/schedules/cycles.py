"""Schedules that rise and fall, once or repeatedly."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

from jax import lax
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import joined, path, power
from mlax.optim.schedules._curve import (
    Curve,
    Fraction,
    Positive,
    Real,
    Steps,
    StepsOrNone,
    elements,
)
from mlax.optim.schedules.warmups import warmup_cosine_decay
from mlax.optimizer._specified import Specification

__all__ = ["cosine_onecycle", "cyclic", "linear_onecycle", "sgdr"]


class cyclic(Curve):
    """Goes up and down between `base_value` and `max_value` repeatedly.

    The height above `base_value` is multiplied by 1 (`"triangular"`), by 1/2 for each completed
    cycle (`"triangular2"`), or by `gamma**step` (`"exp_range"`). Smith 2017,
    https://arxiv.org/abs/1506.01186.

    Args:
        base_value: Value at step 0 and between two cycles.
        max_value: Value at the top of the first cycle.
        step_size_up: Number of steps from `base_value` to the top, at least 1.
        step_size_down: Number of steps from the top to `base_value`; None for as many as up.
        mode: How the top changes: `"triangular"`, `"triangular2"` or `"exp_range"`.
        gamma: Factor per step, above 0; only for `"exp_range"`.
    """

    base_value: Real
    max_value: Real
    step_size_up: Steps = 2_000
    step_size_down: StepsOrNone = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            self.gamma == 1 or self.mode == "exp_range",
            f"gamma is for mode 'exp_range', got gamma={self.gamma} and mode={self.mode!r}",
        )
        self.require(self._period < 2**31, f"a cycle must have < 2**31 steps, got {self._period}")

    @property
    def _period(self) -> float:
        return self.step_size_up + (self.step_size_down or self.step_size_up)

    def _at(self, n: Array) -> Array:
        cycle = lax.stop_gradient(n // self._period)
        corners = ((0, 0.0), (self.step_size_up, 1.0), (self._period, 0.0))
        height = path(n - cycle * self._period, corners)
        if self.mode == "triangular2":
            height *= power(0.5, cycle)
        elif self.mode == "exp_range":
            height *= power(self.gamma, n)
        return self.base_value * (1 - height) + self.max_value * height


class linear_onecycle(Curve):
    """Goes up to the peak, back down to its first value, then further down, along straight lines.

    The value is `peak_value / div_factor` at step 0, `peak_value` at step
    `int(pct_start * transition_steps)`, `peak_value / div_factor` again at step
    `int(pct_final * transition_steps)`, and `peak_value / div_factor / final_div_factor` from step
    `transition_steps` on. Smith & Topin 2017, https://arxiv.org/abs/1708.07120.

    Args:
        transition_steps: Total number of steps, at least 1.
        peak_value: The highest value.
        pct_start: Fraction of the steps in which the value rises, 0 to 1.
        pct_final: Fraction of the steps after which it is back at its first value, `pct_start` to
            1.
        div_factor: The first value is the peak divided by this, above 0.
        final_div_factor: The last value is the first divided by this, above 0.
    """

    transition_steps: Steps
    peak_value: Real
    pct_start: Fraction = 0.3
    pct_final: Fraction = 0.85
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            self.pct_start <= self.pct_final,
            f"pct_final must be >= pct_start, got {self.pct_final} and {self.pct_start}",
        )

    def _at(self, n: Array) -> Array:
        start = self.peak_value / self.div_factor
        corners = (
            (0, start),
            (int(self.pct_start * self.transition_steps), self.peak_value),
            (int(self.pct_final * self.transition_steps), start),
            (self.transition_steps, start / self.final_div_factor),
        )
        return path(n, corners)


class cosine_onecycle(Curve):
    """Goes up to the peak and down to the end, each along half a cosine.

    The value is `peak_value / div_factor` at step 0, `peak_value` at step
    `int(pct_start * transition_steps)`, and `peak_value / div_factor / final_div_factor` from step
    `transition_steps` on. Smith & Topin 2017, https://arxiv.org/abs/1708.07120.

    Args:
        transition_steps: Total number of steps, at least 1.
        peak_value: The highest value.
        pct_start: Fraction of the steps in which the value rises, 0 to 1.
        div_factor: The first value is the peak divided by this, above 0.
        final_div_factor: The last value is the first divided by this, above 0.
    """

    transition_steps: Steps
    peak_value: Real
    pct_start: Fraction = 0.3
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4

    def _at(self, n: Array) -> Array:
        start = self.peak_value / self.div_factor
        corners = (
            (0, start),
            (int(self.pct_start * self.transition_steps), self.peak_value),
            (self.transition_steps, start / self.final_div_factor),
        )
        return path(n, corners, "cosine")


def _cycles(value: Any) -> tuple[warmup_cosine_decay, ...]:
    cycles = elements(value)
    if not cycles or not all(isinstance(cycle, warmup_cosine_decay) for cycle in cycles):
        raise TypeError("a list of at least one warmup_cosine_decay")
    return cycles


class sgdr(Curve):
    """Cosine decay with warm restarts (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).

    Args:
        cycles: One `warmup_cosine_decay` for each cycle. A cycle lasts its `decay_steps` steps.
            After the last one, its `end_value` stays.
    """

    cycles: Annotated[Sequence[warmup_cosine_decay], Specification(_cycles)]

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self._ends[-1]
        self.require(steps < 2**31, f"all cycles must have < 2**31 steps, got {steps}")

    @property
    def _ends(self) -> list[float]:
        return list(accumulate(cycle.decay_steps for cycle in self.cycles))

    def _at(self, n: Array) -> Array:
        return joined(n, self._ends[:-1], self.cycles)
