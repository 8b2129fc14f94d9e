"""Schedules with a linear warm-up."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import joined, power, transition
from mlax.optim.schedules._curve import (
    Count,
    Curve,
    Positive,
    Real,
    RealOrNone,
    Steps,
)

__all__ = ["warmup_constant", "warmup_cosine_decay", "warmup_exponential_decay"]


class warmup_constant(Curve):
    """Goes from `init_value` to `peak_value` along a straight line, in `warmup_steps` steps, then stays.

    Args:
        init_value: Value at step 0.
        peak_value: Value from step `warmup_steps` on.
        warmup_steps: Number of warm-up steps. If it is 0, the value is `peak_value` from the start.
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
        warmup_steps: Number of warm-up steps. If it is 0, the value at step 0 is `peak_value`.
        decay_steps: Total number of steps including the warm-up: more than `warmup_steps`.
        end_value: Value from step `decay_steps` on.
        exponent: The cosine, (1 + cos(pi * x)) / 2, is raised to this power, above 0.
    """

    init_value: Real
    peak_value: Real
    warmup_steps: Count
    decay_steps: Steps
    end_value: Real = 0.0
    exponent: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            self.decay_steps > self.warmup_steps,
            "decay_steps includes the warm-up and must be > warmup_steps, "
            f"got {self.decay_steps} and {self.warmup_steps}",
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
        warmup_steps: Number of warm-up steps. If it is 0, the value at step 0 is `peak_value`.
        transition_steps: Number of steps in which the value is multiplied by `decay_rate` once, at
            least 1.
        decay_rate: Factor, above 0. If it is above 1, the value grows.
        transition_begin: Number of steps between the warm-up and the decay.
        staircase: Whether to multiply once every `transition_steps` steps instead of a little in
            each.
        end_value: Lower bound for the value after the warm-up; upper bound if `decay_rate` >= 1.
            None for no bound.
    """

    init_value: Real
    peak_value: Real
    warmup_steps: Count
    transition_steps: Steps
    decay_rate: Positive
    transition_begin: Count = 0
    staircase: bool = False
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
