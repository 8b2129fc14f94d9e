"""Schedules against MLX and Optax, over random arguments and steps, values and derivatives.

The references compute in float64: in float32 they lose up to all digits where a curve comes near to 0, and for counts
beyond 2**24. Bounds of the error, in units of the last place of the value in float32:

    4   where the value is at least half of the largest that it is made from, so that the formula cancels nothing,
        and counts are up to 2**24, so that float32 holds them
    8   elsewhere: a cosine near to its zero is a square of what was rounded, a polynomial a higher power
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers as mlx
import mlx.optimizers.schedulers as mlx_schedules
import numpy as np
import optax
import pytest

from mlax import optim

pytestmark = pytest.mark.one_python

N = 256  # one shape for all: every operation is compiled once
LARGEST = 2**31 - 1


class Draw:
    """Random arguments."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def value(self) -> float:
        """Return a value as learning rates are; now and then 0."""
        return 0.0 if self.rng.random() < 0.15 else math.exp(self.rng.uniform(-9, 1))

    def steps(self, largest: int = LARGEST) -> int:
        """Return a number of steps, small ones as likely as large ones."""
        return int(math.exp(self.rng.uniform(0, math.log(largest))))

    def rate(self, steps: int) -> float:
        """Return a factor that in so many steps gives something between 1e-20 and 1."""
        return math.exp(-self.rng.uniform(0, 46) / steps)

    def boundaries(self, count: int, largest: int) -> list[int]:
        """Return increasing steps."""
        return np.cumsum(self.rng.integers(1, largest // count + 2, count)).tolist()


@dataclass
class Case:
    """One schedule and what it is compared with: a range of steps, and numbers that it is made from."""

    ours: Any
    reference: Callable[[Any], Any]
    steps: int
    largest: float
    smooth: bool = True


def cosine_decay(d: Draw) -> Case:
    init, end, steps = d.value(), d.value(), d.steps()
    ours = optim.cosine_decay(init, steps, end)
    return Case(ours, mlx.cosine_decay(init, steps, end), steps, max(init, end))


def exponential_decay(d: Draw) -> Case:
    init, steps = d.value(), d.steps()
    rate = d.rate(steps)
    ours = optim.exponential_decay(init, rate)
    return Case(ours, mlx.exponential_decay(init, rate), steps, 0)


def linear_schedule(d: Draw) -> Case:
    init, end, steps = d.value(), d.value(), d.steps()
    ours = optim.linear_schedule(init, end, steps)
    return Case(ours, mlx.linear_schedule(init, end, steps), steps, max(init, end))


def step_decay(d: Draw) -> Case:
    init, size = d.value(), d.steps(10**6)
    rate = d.rate(40)
    ours = optim.step_decay(init, rate, size)
    return Case(ours, mlx.step_decay(init, rate, size), 40 * size, 0, smooth=False)


def join_schedules(d: Draw) -> Case:
    init, peak, steps = d.value(), d.value(), d.steps(10**8)
    ours = optim.join_schedules(
        [
            optim.linear_schedule(init, peak, steps),
            optim.cosine_decay(peak, 2 * steps),
            optim.exponential_decay(peak, 0.5 ** (1 / steps)),
        ],
        [steps, 4 * steps],
    )
    theirs = mlx.join_schedules(
        [
            mlx.linear_schedule(init, peak, steps),
            mlx.cosine_decay(peak, 2 * steps),
            mlx.exponential_decay(peak, 0.5 ** (1 / steps)),
        ],
        [steps, 4 * steps],
    )
    return Case(ours, theirs, 6 * steps, max(init, peak))


def constant(d: Draw) -> Case:
    value = d.value()
    return Case(optim.constant(value), lambda n: optax.constant_schedule(value)(n) + 0 * n, 9, 0)


def polynomial(d: Draw) -> Case:
    init, end, power = d.value(), d.value(), d.rng.uniform(0.5, 3)
    steps, begin = d.steps(10**9), d.steps(10**9)
    ours = optim.polynomial(init, end, power, steps, begin)
    theirs = optax.polynomial_schedule(init, end, power, steps, begin)
    return Case(ours, theirs, begin + steps, max(init, end))


def scales(d: Draw) -> tuple[dict[int, float], int]:
    largest = d.steps(10**9) + 10
    return {b: d.rng.uniform(0, 2) for b in d.boundaries(6, largest)}, largest


def piecewise_constant(d: Draw) -> Case:
    value, (at, largest) = d.value(), scales(d)
    theirs = optax.piecewise_constant_schedule(value, at)
    return Case(optim.piecewise_constant(value, at), theirs, 2 * largest, 0, smooth=False)


def piecewise_interpolate(d: Draw) -> Case:
    value, (at, largest) = d.value(), scales(d)
    shape: Any = d.rng.choice(["linear", "cosine"])
    theirs = optax.piecewise_interpolate_schedule(shape, value, at)
    ours = optim.piecewise_interpolate(str(shape), value, at)
    return Case(ours, theirs, largest, 64 * value)


def onecycle(d: Draw) -> tuple[int, float, dict[str, float]]:
    start = d.rng.uniform(0, 0.5)
    factors = {"div_factor": d.rng.uniform(1, 30), "final_div_factor": d.rng.uniform(0.5, 1e4)}
    return 19 + d.steps(10**9), d.value(), {"pct_start": start, **factors}


def linear_onecycle(d: Draw) -> Case:
    steps, peak, options = onecycle(d)
    options["pct_final"] = d.rng.uniform(options["pct_start"] + 0.1, 1)
    ours = optim.linear_onecycle(steps, peak, **options)
    return Case(ours, optax.linear_onecycle_schedule(steps, peak, **options), steps, peak)


def cosine_onecycle(d: Draw) -> Case:
    steps, peak, options = onecycle(d)
    ours = optim.cosine_onecycle(steps, peak, **options)
    return Case(ours, optax.cosine_onecycle_schedule(steps, peak, **options), steps, peak)


def warmup_constant(d: Draw) -> Case:
    init, peak, steps = d.value(), d.value(), d.steps()
    ours = optim.warmup_constant(init, peak, steps)
    return Case(ours, optax.warmup_constant_schedule(init, peak, steps), steps, max(init, peak))


def cycle(d: Draw) -> dict[str, Any]:
    warmup = d.steps(10**8) - 1
    return {
        "init_value": d.value(),
        "peak_value": d.value() + 1e-4,
        "warmup_steps": warmup,
        "decay_steps": warmup + d.steps(10**8),
        "end_value": d.value(),
        "exponent": d.rng.choice([1.0, d.rng.uniform(0.5, 3)]),
    }


def largest(cycle: dict[str, Any]) -> float:
    return max(cycle["init_value"], cycle["peak_value"], cycle["end_value"])


def warmup_cosine_decay(d: Draw) -> Case:
    given = cycle(d)
    theirs = optax.warmup_cosine_decay_schedule(**given)
    ours = optim.warmup_cosine_decay(**given)
    return Case(ours, theirs, given["decay_steps"], largest(given))


def warmup_exponential_decay(d: Draw) -> Case:
    warmup, steps, begin = d.steps(10**8) - 1, d.steps(10**7), d.steps(10**7) - 1
    rate = d.rate(12) ** d.rng.choice([-1, 1])
    peak = d.value()
    staircase = bool(d.rng.random() < 0.5)
    end = d.rng.choice([None, peak * rate**2])
    given: Any = (d.value(), peak, warmup, steps, rate, begin, staircase, end)
    theirs = optax.warmup_exponential_decay_schedule(*given)
    ours = optim.warmup_exponential_decay(*given)
    return Case(ours, theirs, warmup + begin + 4 * steps, max(given[0], peak), not staircase)


def sgdr(d: Draw) -> Case:
    cycles = [cycle(d) for _ in range(3)]
    ours = optim.sgdr([optim.warmup_cosine_decay(**each) for each in cycles])
    steps = sum(each["decay_steps"] for each in cycles)
    return Case(ours, optax.sgdr_schedule(cycles), steps, max(map(largest, cycles)))


CASES: dict[Any, int] = {
    **dict.fromkeys((cosine_decay, exponential_decay, join_schedules, linear_schedule), 12),
    **dict.fromkeys((step_decay, polynomial, warmup_constant, constant), 8),
    **dict.fromkeys((piecewise_constant, piecewise_interpolate, linear_onecycle), 8),
    **dict.fromkeys((cosine_onecycle, warmup_exponential_decay, warmup_cosine_decay, sgdr), 8),
}


OF_MLX = {cosine_decay, exponential_decay, join_schedules, linear_schedule, step_decay}


def in_float64(reference: Callable[[Any], Any], steps: Any, derivative: bool = False) -> Any:
    """Return the values of a reference at steps, or its derivatives.

    MLX's cosine of a float64 is one of a float32, so that MLX's formulas are computed by JAX.
    """
    with jax.enable_x64(True), mock.patch.object(mlx_schedules, "mx", jnp):
        one_by_one = jax.jit(jax.vmap(jax.grad(reference))) if derivative else jax.vmap(reference)
        return np.asarray(one_by_one(jnp.asarray(steps, jnp.float64)))


def ulps(ours: Any, exact: Any, cancelled: float) -> Any:
    """Return how far float32 values are from exact ones, in units of their last place.

    Args:
        ours: Values in float32.
        exact: Values in float64.
        cancelled: What the exact ones may be wrong by.
    """
    spacing = np.spacing(np.maximum(np.abs(exact), 1e-35).astype(np.float32)).astype(np.float64)
    difference = np.abs(np.asarray(ours, np.float64) - exact)
    return np.maximum(difference - cancelled, 0) / spacing


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_values(case: Any) -> None:
    for seed in range(CASES[case]):
        drawn = case(Draw(seed))
        last = min(drawn.steps + 9, LARGEST)
        inside = np.random.default_rng(seed).integers(0, last + 1, N - 20)
        steps = np.concatenate([inside, np.arange(10), last - np.arange(10)])
        values = drawn.ours(jnp.asarray(steps, jnp.int32))
        exact = in_float64(drawn.reference, steps)
        error = ulps(values, exact, 1e-15 * drawn.largest)
        stable = (exact >= drawn.largest / 2) & (drawn.steps <= 2**24)
        bound = np.where(stable, 4, 8)
        worst = np.argmax(error / bound)
        assert error[worst] <= bound[worst], (
            f"{drawn.ours} at {steps[worst]}: {values[worst]} and {exact[worst]}"
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_derivatives(case: Any) -> None:
    """With respect to a float step: between two integers, where no schedule has a corner."""
    for seed in range(2):
        drawn = case(Draw(seed))
        last = min(drawn.steps, 2**22)
        steps = np.random.default_rng(seed).integers(0, last + 1, N) + 0.5
        ours = jax.jit(jax.vmap(jax.grad(drawn.ours)))(jnp.asarray(steps, jnp.float32))
        if not drawn.smooth:
            assert not np.any(ours)
            continue
        exact = in_float64(drawn.reference, steps, derivative=True)
        # The two ends' shares are opposite in sign: where the ends are close, digits cancel.
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize(
    "case", [case for case in CASES if case in OF_MLX], ids=lambda c: c.__name__
)
def test_mlx_itself(case: Any) -> None:
    """MLX with its own arithmetic, where few steps leave float32 enough digits."""
    drawn = case(Draw(3))
    steps = np.arange(min(drawn.steps, 1000))
    theirs = np.asarray(drawn.reference(mx.array(steps)))
    np.testing.assert_allclose(drawn.ours(steps), theirs, rtol=1e-4, atol=1e-6 * drawn.largest)
