"""Schedules: hyperparameters that depend on the number of steps done.

    optimizer = optim.Adam(learning_rate=optim.cosine_decay(1e-3, 1_000))
    optim.cosine_decay(1e-3, 1_000)(500)  # 0.0005

A schedule is a value: frozen, hashable, comparable, printed as it is written, and static to JAX. Called with a step it
returns a scalar in JAX's default float dtype; with an array of steps, an array. Values are exact where a curve begins,
where it ends and where it is joined to the next one, and as good at step 2**31 - 1 as at step 1.

The classes are named as functions are, since a call of one reads as in the libraries where the names come from:

    MLX       cosine_decay, exponential_decay, join_schedules, linear_schedule, step_decay
    PyTorch   multi_step, cyclic
    Optax     the others
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax.hyperparameters import Schedule, Specification, is_schedule
from mlax.optim._arithmetic import joined, path, power, stairs, transition
from mlax.optim._schedule import (
    Boundaries,
    Count,
    Curve,
    Flag,
    Fraction,
    Positive,
    Real,
    RealOrNone,
    Scales,
    Steps,
    StepsOrNone,
    elements,
    one_of,
)

__all__ = [
    "constant",
    "cosine_decay",
    "cosine_onecycle",
    "cyclic",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle",
    "linear_schedule",
    "multi_step",
    "piecewise_constant",
    "piecewise_interpolate",
    "polynomial",
    "sgdr",
    "step_decay",
    "warmup_constant",
    "warmup_cosine_decay",
    "warmup_exponential_decay",
]


class cosine_decay(Curve):
    """From `init` to `end` in `decay_steps` steps, along half a cosine; then `end`.

    `end + (init - end) * (1 + cos(pi * min(step / decay_steps, 1))) / 2`

    Args:
        init: Value at step 0.
        decay_steps: Steps until the end is reached, at least 1.
        end: Value from step `decay_steps` on.
    """

    init: Real
    decay_steps: Steps
    end: Real = 0.0

    def _at(self, n: Array) -> Array:
        return transition(n, self.decay_steps, self.init, self.end, "cosine")


class exponential_decay(Curve):
    """Multiplied by `decay_rate` in each step: `init * decay_rate**step`.

    Args:
        init: Value at step 0.
        decay_rate: Factor of each step, above 0; above 1 the value grows.
    """

    init: Real
    decay_rate: Positive

    def _at(self, n: Array) -> Array:
        return self.init * power(self.decay_rate, n)


def _schedules(value: Any) -> tuple[Schedule, ...]:
    schedules = elements(value)
    if not schedules or not all(map(is_schedule, schedules)):
        raise TypeError("a sequence of at least one schedule (of a number: `constant(number)`)")
    for schedule in schedules:
        try:
            hash(schedule)
        except TypeError:
            raise TypeError(f"made of hashable schedules, which {schedule!r} is not") from None
    return schedules


class join_schedules(Curve):
    """One schedule after the other, each counting its steps from where it begins.

    Args:
        schedules: One or more schedules. Functions of your own are called with steps as an int32 array (float, where
            this is called with a float), never below 0, also in steps that are not theirs.
        boundaries: Increasing steps, one fewer than schedules. At step `boundaries[i]` schedule i + 1 is at its step 0.
    """

    schedules: Annotated[Sequence[Schedule], Specification(_schedules)]
    boundaries: Boundaries

    def __post_init__(self) -> None:
        super().__post_init__()
        expected, got = len(self.schedules) - 1, len(self.boundaries)
        self._require(got == expected, f"boundaries must be {expected} steps, got {got}")

    def _at(self, n: Array) -> Array:
        return joined(n, self.boundaries, self.schedules)


class linear_schedule(Curve):
    """From `init` to `end` in `steps` steps, along a line; then `end`.

    Args:
        init: Value at step 0.
        end: Value from step `steps` on.
        steps: Steps until the end is reached, at least 1.
    """

    init: Real
    end: Real
    steps: Steps

    def _at(self, n: Array) -> Array:
        return transition(n, self.steps, self.init, self.end)


class step_decay(Curve):
    """Multiplied by `decay_rate` every `step_size` steps: `init * decay_rate**(step // step_size)`.

    Args:
        init: Value at step 0.
        decay_rate: Factor, above 0; above 1 the value grows.
        step_size: Steps from one multiplication to the next, at least 1.
    """

    init: Real
    decay_rate: Positive
    step_size: Steps

    def _at(self, n: Array) -> Array:
        return self.init * power(self.decay_rate, lax.stop_gradient(n // self.step_size))


class multi_step(Curve):
    """Multiplied by `gamma` at each milestone.

    Args:
        init: Value before the first milestone.
        milestones: Increasing steps, at least 1. From a milestone on the factor counts.
        gamma: Factor, above 0.
    """

    init: Real
    milestones: Boundaries
    gamma: Positive = 0.1

    def _at(self, n: Array) -> Array:
        heights = [self.init * self.gamma**i for i in range(len(self.milestones) + 1)]
        return stairs(n, self.milestones, heights)


class cyclic(Curve):
    """Up and down between `base_value` and `max_value`, again and again (Smith 2017, https://arxiv.org/abs/1506.01186).

    The height above `base_value` is multiplied by 1 (`"triangular"`), by a half for each cycle that is over
    (`"triangular2"`), or by `gamma**step` (`"exp_range"`).

    Args:
        base_value: Value at step 0 and between two cycles.
        max_value: Value at the top of the first cycle.
        step_size_up: Steps from `base_value` to the top, at least 1.
        step_size_down: Steps from the top to `base_value`; None for as many as up.
        mode: How the top changes: `"triangular"`, `"triangular2"` or `"exp_range"`.
        gamma: Above 0, for `"exp_range"` only.
    """

    base_value: Real
    max_value: Real
    step_size_up: Steps = 2_000
    step_size_down: StepsOrNone = None
    mode: Annotated[
        Literal["triangular", "triangular2", "exp_range"],
        one_of("triangular", "triangular2", "exp_range"),
    ] = "triangular"
    gamma: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            self.gamma == 1 or self.mode == "exp_range",
            f"gamma is for mode 'exp_range', got gamma={self.gamma} and mode={self.mode!r}",
        )
        self._require(self._period < 2**31, f"a cycle must have < 2**31 steps, got {self._period}")

    @property
    def _period(self) -> int:
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


class constant(Curve):
    """The same value at every step.

    Args:
        value: The value.
    """

    value: Real

    def _at(self, n: Array) -> Array:
        return stairs(n, (), (self.value,))


class polynomial(Curve):
    """From `init_value` to `end_value` in `transition_steps` steps, along a power of what is left; then `end_value`.

    `end_value + (init_value - end_value) * (1 - x)**power`, where `x` goes from 0 at step `transition_begin` to 1.

    Args:
        init_value: Value until step `transition_begin`.
        end_value: Value from step `transition_begin + transition_steps` on.
        power: Exponent, above 0: 1 is a line, 2 is steep first.
        transition_steps: Length of the transition, at least 1.
        transition_begin: Step at which it begins.
    """

    init_value: Real
    end_value: Real
    power: Positive
    transition_steps: Steps
    transition_begin: Count = 0

    def _at(self, n: Array) -> Array:
        n = n - self.transition_begin
        return transition(
            n, self.transition_steps, self.init_value, self.end_value, exponent=self.power
        )


def _corners(value: float, scales: Any) -> list[tuple[int, float]]:
    """Return each boundary with the value there, beginning at step 0."""
    factors = accumulate((factor for _, factor in scales), mul, initial=value)
    return list(zip((0, *(step for step, _ in scales)), factors, strict=True))


class piecewise_constant(Curve):
    """Multiplied by a factor at each boundary.

    Args:
        init_value: Value before the first boundary.
        boundaries_and_scales: A dict from steps, at least 1, to factors, at least 0. From that step on the factor
            counts, and all before it. Kept as a sorted tuple of pairs, which may be given as well.
    """

    init_value: Real
    boundaries_and_scales: Scales = ()

    def _at(self, n: Array) -> Array:
        corners = _corners(self.init_value, self.boundaries_and_scales)
        return stairs(n, [step for step, _ in corners[1:]], [value for _, value in corners])


class piecewise_interpolate(Curve):
    """From value to value: at each boundary what the factors until there give, a line or half a cosine in between.

    Args:
        interpolate_type: `"linear"` or `"cosine"`.
        init_value: Value at step 0.
        boundaries_and_scales: A dict from steps, at least 1, to factors, at least 0: each times the value at the
            boundary before is the value at this one. After the last one the value stays. Kept as a sorted tuple of
            pairs, which may be given as well.
    """

    interpolate_type: Annotated[Literal["linear", "cosine"], one_of("linear", "cosine")]
    init_value: Real
    boundaries_and_scales: Scales = ()

    def _at(self, n: Array) -> Array:
        corners = _corners(self.init_value, self.boundaries_and_scales)
        return path(n, corners, self.interpolate_type)


class linear_onecycle(Curve):
    """Up to the peak, down to where it began, and further down, along lines.

    `peak_value / div_factor` at step 0, `peak_value` at step `int(pct_start * transition_steps)`,
    `peak_value / div_factor` again at step `int(pct_final * transition_steps)`, and
    `peak_value / div_factor / final_div_factor` from step `transition_steps` on.
    Smith & Topin 2017, https://arxiv.org/abs/1708.07120.

    Args:
        transition_steps: Length of the whole, at least 1.
        peak_value: The highest value.
        pct_start: Part of the steps on which the value rises, 0 to 1.
        pct_final: Part of the steps after which it is where it began, `pct_start` to 1.
        div_factor: What the peak is divided by to give the first value, above 0.
        final_div_factor: What the first value is divided by to give the last one, above 0.
    """

    transition_steps: Steps
    peak_value: Real
    pct_start: Fraction = 0.3
    pct_final: Fraction = 0.85
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
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
    """Up to the peak and down to the end, each along half a cosine.

    `peak_value / div_factor` at step 0, `peak_value` at step `int(pct_start * transition_steps)`, and
    `peak_value / div_factor / final_div_factor` from step `transition_steps` on.
    Smith & Topin 2017, https://arxiv.org/abs/1708.07120.

    Args:
        transition_steps: Length of the whole, at least 1.
        peak_value: The highest value.
        pct_start: Part of the steps on which the value rises, 0 to 1.
        div_factor: What the peak is divided by to give the first value, above 0.
        final_div_factor: What the first value is divided by to give the last one, above 0.
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


class warmup_constant(Curve):
    """From `init_value` to `peak_value` in `warmup_steps` steps, along a line; then `peak_value`.

    Args:
        init_value: Value at step 0.
        peak_value: Value from step `warmup_steps` on.
        warmup_steps: Length of the warm-up; with 0 there is none, and the value is `peak_value` from the start.
    """

    init_value: Real
    peak_value: Real
    warmup_steps: Count

    def _at(self, n: Array) -> Array:
        return transition(n, self.warmup_steps, self.init_value, self.peak_value)


class warmup_cosine_decay(Curve):
    """A linear warm-up from `init_value` to `peak_value`, then half a cosine down to `end_value`.

    Args:
        init_value: Value at step 0.
        peak_value: Value at step `warmup_steps`.
        warmup_steps: Length of the warm-up; with 0 there is none, and step 0 has `peak_value`.
        decay_steps: Length of the whole, the warm-up included: more than `warmup_steps`.
        end_value: Value from step `decay_steps` on.
        exponent: Power that the cosine, (1 + cos(pi * x)) / 2, is raised to, above 0.
    """

    init_value: Real
    peak_value: Real
    warmup_steps: Count
    decay_steps: Steps
    end_value: Real = 0.0
    exponent: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            self.decay_steps > self.warmup_steps,
            f"decay_steps must be > warmup_steps, which it includes, got {self.decay_steps} and {self.warmup_steps}",
        )

    def _at(self, n: Array) -> Array:
        def warm_up(n: Array) -> Array:
            return transition(n, self.warmup_steps, self.init_value, self.peak_value)

        def decay(n: Array) -> Array:
            steps = self.decay_steps - self.warmup_steps
            return transition(
                n, steps, self.peak_value, self.end_value, "cosine", exponent=self.exponent
            )

        return joined(n, [self.warmup_steps], [warm_up, decay])


class warmup_exponential_decay(Curve):
    """A linear warm-up from `init_value` to `peak_value`, then exponential decay.

    Args:
        init_value: Value at step 0.
        peak_value: Value at step `warmup_steps`.
        warmup_steps: Length of the warm-up; with 0 there is none, and step 0 has `peak_value`.
        transition_steps: Steps in which the value is multiplied by `decay_rate` once, at least 1.
        decay_rate: Factor, above 0; above 1 the value grows.
        transition_begin: Steps after the warm-up until the decay begins.
        staircase: Whether to multiply once every `transition_steps` steps, instead of a little in each.
        end_value: What the value falls to and not below after the warm-up (with `decay_rate` >= 1: rises to and not
            above); None for no such bound.
    """

    init_value: Real
    peak_value: Real
    warmup_steps: Count
    transition_steps: Steps
    decay_rate: Positive
    transition_begin: Count = 0
    staircase: Flag = False
    end_value: RealOrNone = None

    def _at(self, n: Array) -> Array:
        def warm_up(n: Array) -> Array:
            return transition(n, self.warmup_steps, self.init_value, self.peak_value)

        def decay(n: Array) -> Array:
            n = jnp.maximum(n - self.transition_begin, 0)
            if self.staircase:
                n = lax.stop_gradient(n // self.transition_steps)
                factor = power(self.decay_rate, n)
            else:
                factor = power(self.decay_rate ** (1 / self.transition_steps), n)
            value = self.peak_value * factor
            if self.end_value is None:
                return value
            bound = jnp.maximum if self.decay_rate < 1 else jnp.minimum
            return bound(value, self.end_value)

        return joined(n, [self.warmup_steps], [warm_up, decay])


def _cycles(value: Any) -> tuple[warmup_cosine_decay, ...]:
    cycles = elements(value)
    if not cycles or not all(isinstance(cycle, warmup_cosine_decay) for cycle in cycles):
        raise TypeError("a sequence of at least one warmup_cosine_decay")
    return cycles


class sgdr(Curve):
    """Cosine decay with warm restarts (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).

    Args:
        cycles: One `warmup_cosine_decay` for each cycle, which lasts its `decay_steps` steps. After the last one its
            `end_value` stays.
    """

    cycles: Annotated[Sequence[warmup_cosine_decay], Specification(_cycles)]

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self._ends[-1]
        self._require(steps < 2**31, f"all cycles must have < 2**31 steps, got {steps}")

    @property
    def _ends(self) -> list[int]:
        return list(accumulate(cycle.decay_steps for cycle in self.cycles))

    def _at(self, n: Array) -> Array:
        return joined(n, self._ends[:-1], self.cycles)
