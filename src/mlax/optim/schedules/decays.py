"""Schedules that decay, and a constant."""

from jax import lax
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import power, stairs, transition
from mlax.optim.schedules._curve import (
    Boundaries,
    Count,
    Curve,
    Positive,
    Real,
    Steps,
)

__all__ = [
    "constant",
    "cosine_decay",
    "exponential_decay",
    "linear_schedule",
    "multi_step",
    "polynomial",
    "step_decay",
]


class cosine_decay(Curve):
    """Decays from `init` to `end` along half a cosine, in `decay_steps` steps, then stays.

    `end + (init - end) * (1 + cos(pi * min(step / decay_steps, 1))) / 2`

    Args:
        init: Value at step 0.
        decay_steps: Number of steps until `end` is reached, at least 1.
        end: Value from step `decay_steps` on.
    """

    init: Real
    decay_steps: Steps
    end: Real = 0.0

    def _at(self, n: Array) -> Array:
        return transition(n, self.decay_steps, self.init, self.end, "cosine")


class exponential_decay(Curve):
    """Multiplies the value by `decay_rate` in each step: `init * decay_rate**step`.

    Args:
        init: Value at step 0.
        decay_rate: Factor per step, above 0. If it is above 1, the value grows.
    """

    init: Real
    decay_rate: Positive

    def _at(self, n: Array) -> Array:
        return self.init * power(self.decay_rate, n)


class linear_schedule(Curve):
    """Goes from `init` to `end` along a straight line, in `steps` steps, then stays.

    Args:
        init: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps until `end` is reached, at least 1.
    """

    init: Real
    end: Real
    steps: Steps

    def _at(self, n: Array) -> Array:
        return transition(n, self.steps, self.init, self.end)


class step_decay(Curve):
    """Multiplies the value by `decay_rate` every `step_size` steps: `init * decay_rate**(step // step_size)`.

    Args:
        init: Value at step 0.
        decay_rate: Factor, above 0. If it is above 1, the value grows.
        step_size: Number of steps from one multiplication to the next, at least 1.
    """

    init: Real
    decay_rate: Positive
    step_size: Steps

    def _at(self, n: Array) -> Array:
        return self.init * power(self.decay_rate, lax.stop_gradient(n // self.step_size))


class multi_step(Curve):
    """Multiplies the value by `gamma` at each milestone.

    Args:
        init: Value before the first milestone.
        milestones: Increasing steps, at least 1. The factor applies from that step on.
        gamma: Factor, above 0.
    """

    init: Real
    milestones: Boundaries
    gamma: Positive = 0.1

    def _at(self, n: Array) -> Array:
        heights = [self.init * self.gamma**i for i in range(len(self.milestones) + 1)]
        return stairs(n, self.milestones, heights)


class constant(Curve):
    """The same value at every step.

    Args:
        value: The value.
    """

    value: Real

    def _at(self, n: Array) -> Array:
        return stairs(n, (), (self.value,))


class polynomial(Curve):
    """Goes from `init_value` to `end_value` in `transition_steps` steps, along a power of the fraction left,
    then stays.

    `end_value + (init_value - end_value) * (1 - x)**power`, where `x` goes from 0 at step
    `transition_begin` to 1.

    Args:
        init_value: Value until step `transition_begin`.
        end_value: Value from step `transition_begin + transition_steps` on.
        power: Exponent, above 0: 1 is a line, 2 is steep at first.
        transition_steps: Number of steps of the transition, at least 1.
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
