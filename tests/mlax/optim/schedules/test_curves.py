"""Promises of every schedule: it is a value, it is exact where it says so, and it refuses wrong arguments."""

import copy
import dataclasses
import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from mlax import optim
from mlax.optim import schedules

pytestmark = pytest.mark.one_python

LARGEST = 2**31 - 1
BIG = 2**24 + 1  # the first integer that float32 cannot represent


def halving(step: jax.Array) -> jax.Array:
    """Return a half at step 1: a schedule of the user's own."""
    return 1 / (1 + step)


WARM = optim.warmup_cosine_decay(0.1, 0.7, 3, 10, 0.3)

# Each schedule, and steps at which its value is known exactly.
EXACT: list[tuple[Any, dict[int, float]]] = [
    (optim.constant(0.3), {0: 0.3, LARGEST: 0.3}),
    (optim.cosine_decay(0.7, 10, 0.1), {0: 0.7, 5: 0.4, 10: 0.1, 11: 0.1, LARGEST: 0.1}),
    (optim.cosine_decay(0.7, 1), {0: 0.7, 1: 0.0}),
    (optim.cosine_decay(0.7, LARGEST, 0.1), {0: 0.7, LARGEST: 0.1}),
    (optim.exponential_decay(0.7, 0.5), {0: 0.7, 3: 0.0875, LARGEST: 0.0}),
    (optim.linear_schedule(0.1, 0.7, 3), {0: 0.1, 3: 0.7, 4: 0.7, LARGEST: 0.7}),
    (optim.linear_schedule(0.0, LARGEST, LARGEST), {BIG: BIG, 2**30: 2**30, LARGEST: LARGEST}),
    (optim.step_decay(0.7, 0.5, 10), {0: 0.7, 9: 0.7, 10: 0.35, 19: 0.35, 20: 0.175}),
    (optim.step_decay(0.7, 0.5, BIG), {BIG - 1: 0.7, BIG: 0.35, 2 * BIG - 1: 0.35}),
    (optim.multi_step(0.7, [2, BIG], 0.5), {0: 0.7, 1: 0.7, 2: 0.35, BIG - 1: 0.35, BIG: 0.175}),
    (optim.multi_step(0.7, []), {0: 0.7, LARGEST: 0.7}),
    (
        optim.join_schedules([WARM, optim.cosine_decay(0.9, 5, 0.2), halving], [20, BIG]),
        {0: 0.1, 19: 0.3, 20: 0.9, 25: 0.2, BIG - 1: 0.2, BIG: 1.0, BIG + 1: 0.5},
    ),
    (optim.join_schedules([halving], []), {0: 1.0, 1: 0.5}),
    (optim.polynomial(0.7, 0.1, 2.0, 10, 4), {0: 0.7, 4: 0.7, 9: 0.25, 14: 0.1, LARGEST: 0.1}),
    (optim.piecewise_constant(0.7, {BIG: 0.5, 2: 2.0}), {1: 0.7, 2: 1.4, BIG - 1: 1.4, BIG: 0.7}),
    (optim.piecewise_constant(0.7), {0: 0.7, 9: 0.7}),
    (
        optim.piecewise_interpolate("linear", 0.8, {4: 0.5, 8: 0.0}),
        {0: 0.8, 4: 0.4, 6: 0.2, 8: 0.0, LARGEST: 0.0},
    ),
    (optim.piecewise_interpolate("cosine", 0.8, {4: 0.5, BIG: 0.5}), {0: 0.8, 4: 0.4, BIG: 0.2}),
    (optim.piecewise_interpolate("cosine", 0.8), {0: 0.8, 9: 0.8}),
    (optim.linear_onecycle(20, 0.5), {0: 0.02, 6: 0.5, 17: 0.02, 20: 2e-6, LARGEST: 2e-6}),
    (optim.linear_onecycle(20, 0.5, 0.0, 1.0), {0: 0.5, 20: 2e-6}),
    (optim.cosine_onecycle(20, 0.5), {0: 0.02, 6: 0.5, 20: 2e-6, 21: 2e-6}),
    (optim.cosine_onecycle(20, 0.5, 1.0), {0: 0.02, 20: 2e-6}),
    (optim.warmup_constant(0.1, 0.7, 3), {0: 0.1, 3: 0.7, 4: 0.7, LARGEST: 0.7}),
    (optim.warmup_constant(0.1, 0.7, 0), {0: 0.7, 1: 0.7}),
    (WARM, {0: 0.1, 3: 0.7, 10: 0.3, 11: 0.3, LARGEST: 0.3}),
    (optim.warmup_cosine_decay(0.1, 0.7, 0, 10, 0.3, 0.5), {0: 0.7, 10: 0.3}),
    (optim.warmup_cosine_decay(0.1, 0.0, 2, 10, 0.3), {2: 0.0, 10: 0.3}),
    (optim.warmup_exponential_decay(0.1, 0.7, 3, 5, 0.5, 2), {0: 0.1, 3: 0.7, 5: 0.7}),
    (
        optim.warmup_exponential_decay(0.1, 0.7, 3, 5, 0.5, 2, True, 0.2),
        {0: 0.1, 3: 0.7, 9: 0.7, 10: 0.35, 14: 0.35, 15: 0.2, LARGEST: 0.2},
    ),
    (optim.warmup_exponential_decay(0.1, 0.7, 0, 5, 2.0, end_value=0.9), {0: 0.7, LARGEST: 0.9}),
    (optim.sgdr([WARM, WARM]), {0: 0.1, 3: 0.7, 9: None, 10: 0.1, 13: 0.7, 20: 0.3, LARGEST: 0.3}),
    (optim.cyclic(0.1, 0.7, 4, 2), {0: 0.1, 4: 0.7, 6: 0.1, 10: 0.7, 6 * 10**8: 0.1}),
    (optim.cyclic(0.0, 0.8, 4, None, "triangular2"), {0: 0.0, 4: 0.8, 8: 0.0, 12: 0.4, 20: 0.2}),
    (optim.cyclic(0.0, 0.8, 1, 1, "exp_range", 0.5), {0: 0.0, 1: 0.4, 2: 0.0, 3: 0.1}),
]
ALL = [schedule for schedule, _ in EXACT]


def named(cases: list[Any]) -> Any:
    """Parametrise over schedules; their reprs are too long for names."""
    ids = [f"{type(case).__name__}-{i}" for i, case in enumerate(ALL)]
    return pytest.mark.parametrize("case", cases, ids=ids if len(cases) == len(ids) else None)


def test_every_schedule_is_tested() -> None:
    assert {type(schedule).__name__ for schedule in ALL} == set(schedules.__all__)
    assert set(schedules.__all__) <= set(optim.__all__)


@named(EXACT)
def test_values_at_boundaries_are_exact(case: Any) -> None:
    """Each is the stated number, rounded once; steps are given in all the ways there are."""
    schedule, values = case
    steps = [step for step, value in values.items() if value is not None]
    exact = np.asarray([values[step] for step in steps], np.float32)
    tree = jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))
    np.testing.assert_array_equal(tree, exact)
    one = schedule(steps[-1])
    assert (one.shape, one.dtype, one.weak_type) == ((), jnp.float32, False)
    assert one == exact[-1]
    for given_as in (np.int64, np.uint32, jnp.int32, jnp.uint32):
        np.testing.assert_array_equal(schedule(given_as(steps[-1])), exact[-1])
    assert (
        schedule(-1) == schedule(np.int64(-(2**62))) == schedule(jnp.int32(-(2**31))) == schedule(0)
    )


@named(ALL)
def test_schedules_are_values(case: Any) -> None:
    again = case if "<function" in repr(case) else eval(repr(case), vars(schedules))
    for same in (
        again,
        copy.deepcopy(case),
        pickle.loads(pickle.dumps(case)),
        dataclasses.replace(case),
    ):
        assert same == case
        assert hash(same) == hash(case)
        assert repr(same) == repr(case)
    assert sum(case == other for other in ALL) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(case, dataclasses.fields(case)[0].name, 1)
    assert jax.tree.leaves(case) == []
    assert jax.jit(lambda schedule: schedule(0))(case) == case(0)  # static to JAX


@pytest.mark.parametrize(
    "case", {type(each): each for each in ALL}.values(), ids=lambda each: type(each).__name__
)
def test_float64_scan_and_strict_promotion(case: Any) -> None:
    """Under x64 values have 16 digits; a loop over steps compiles once; nothing is promoted implicitly."""
    with jax.numpy_dtype_promotion("strict"):
        _, narrow = lax.scan(lambda n, _: (n + 1, case(n)), jnp.int32(0), None, length=24)
    assert narrow.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = jax.jit(case)(np.append(np.arange(24), 2**40))
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(narrow, wide[:24], rtol=1e-6, atol=1e-9)
    assert np.isfinite(wide[24])


@pytest.mark.parametrize(
    "case", [optim.cosine_decay(0.7, 10), WARM, optim.polynomial(1, 0, 0.5, 3)]
)
def test_derivatives_are_finite_everywhere(case: Any) -> None:
    """At the ends as well, and 0 where nothing changes any more."""
    slopes = jax.jit(jax.vmap(jax.grad(case)))(jnp.arange(-1.0, 13))
    assert np.isfinite(slopes).all()
    assert slopes[0] == slopes[-1] == slopes[-2] == 0


@given(st.integers(1, LARGEST), st.integers(0, LARGEST), st.floats(1e-6, 2), st.floats(1e-6, 2))
def test_curves_stay_between_their_ends(steps: int, step: int, a: float, b: float) -> None:
    """To the last digit, and the way there and the way back are mirror images."""
    low, high = sorted((np.float32(a), np.float32(b)))
    for there, back in (
        (optim.linear_schedule(a, b, steps), optim.linear_schedule(b, a, steps)),
        (optim.cosine_decay(a, steps, b), optim.cosine_decay(b, steps, a)),
    ):
        value = there(step)
        assert low * (1 - 3e-7) <= value <= high * (1 + 3e-7)
        if step <= steps:
            np.testing.assert_allclose(value, back(steps - step), rtol=1e-6)


@pytest.mark.parametrize("steps", [BIG, 2**30 + 1, LARGEST])
def test_neighbouring_large_steps_are_told_apart(steps: int) -> None:
    """With two steps left there is twice as much left as with one; a decay for each step counts all of them."""
    line = optim.linear_schedule(1.0, 0.0, steps)
    np.testing.assert_allclose(line(steps - 2) / line(steps - 1), 2, rtol=1e-6)
    curve = optim.polynomial(1.0, 0.0, 2.0, steps - 1, 1)
    np.testing.assert_allclose(curve(steps - 2) / curve(steps - 1), 4, rtol=1e-6)
    rate = 1 - 1e-9  # 1 in float32
    decay = optim.exponential_decay(1.0, rate)
    np.testing.assert_allclose(decay(steps), rate**steps, rtol=3e-7)
    rate = math.exp(
        -46 / steps
    )  # to 1e-20: the exponent's rounding would be 46 times that of the value
    decay = optim.exponential_decay(1.0, rate)
    np.testing.assert_allclose(decay(steps), rate**steps, rtol=5e-7)
    assert line(jnp.uint32(2**32 - 1)) == 0


def test_joined_schedules_return_default_floats() -> None:
    """Results may have any real dtype, and may be NumPy or Python numbers."""
    functions = [lambda step: 1, lambda step: np.float64(2), lambda step: jnp.bfloat16(3)]
    joined = optim.join_schedules(functions, [1, 2])
    values = [joined(step) for step in range(3)]
    assert values == [1, 2, 3]
    assert {value.dtype for value in values} == {jnp.dtype(jnp.float32)}


def test_joined_functions_are_not_called_with_steps_below_0() -> None:
    """Each counts from its own beginning, and gets step 0 before that."""
    seen = list[int]()

    def watch(step: jax.Array) -> float:
        seen.append(int(step))
        return 1.0

    optim.join_schedules([watch, watch, watch], [5, 10])(7)
    assert seen == [7, 2, 0]


def test_optimizers_take_them() -> None:
    """The first step has the value of step 0; schedules that are equal make equal optimizers and states."""
    schedule = optim.linear_schedule(0.5, 0.0, 2)
    optimizer = optim.SGD(learning_rate=schedule)
    assert optimizer == optim.SGD(learning_rate=optim.linear_schedule(0.5, 0, 2))
    weights = jnp.zeros(2)
    state = optimizer.init(weights)
    step = jax.jit(optimizer.step)
    sizes = []
    for _ in range(4):
        updates, state = step(jnp.ones(2), state, weights)
        sizes.append(float(-updates[0]))
    assert sizes == [0.5, 0.25, 0.0, 0.0]
    assert step._cache_size() == 1
    with pytest.raises(TypeError, match="learning_rate must be"):
        optim.SGD(learning_rate=optim.cosine_decay)  # type: ignore[arg-type]  # not called


REFUSED: dict[str, Any] = {
    "cosine_decay: decay_steps must be >= 1, got 0": lambda: optim.cosine_decay(1e-3, 0),
    "cosine_decay: decay_steps must be an integer, got 1000.5": lambda: optim.cosine_decay(
        1, 1000.5
    ),
    "cosine_decay: decay_steps must be an integer, got True": lambda: optim.cosine_decay(1, True),
    "linear_schedule: steps must be an integer of 32 bits, got 2147483648": (
        lambda: optim.linear_schedule(0, 1, 2**31)
    ),
    "cosine_decay: init must be a finite number, got nan": (
        lambda: optim.cosine_decay(float("nan"), 9)
    ),
    "cosine_decay: end must be a number, got 'x' (str)": lambda: optim.cosine_decay(1, 9, "x"),  # type: ignore[arg-type]
    "cosine_decay: init must be a number, got None": lambda: optim.cosine_decay(None, 9),  # type: ignore[arg-type]
    "constant: value must be a number, got 1.0 (float32[]); use a Python number: a schedule must be hashable": (
        lambda: optim.constant(jnp.float32(1))
    ),
    "exponential_decay: decay_rate must be > 0, got 0": lambda: optim.exponential_decay(1, 0),
    "step_decay: step_size must be >= 1, got -3": lambda: optim.step_decay(1, 0.5, -3),
    "join_schedules: boundaries must be 1 steps, got 0": (
        lambda: optim.join_schedules([halving, halving], [])
    ),
    "join_schedules: boundaries must be increasing integers >= 1, got [5, 5] (list)": (
        lambda: optim.join_schedules([halving] * 3, [5, 5])
    ),
    "join_schedules: schedules must be a list of schedules (for a number: `constant(number)`), got [1": (
        lambda: optim.join_schedules([1.0], [])  # type: ignore[list-item]
    ),
    "join_schedules: schedules must be a list of schedules (for a number: `constant(number)`), got []": (
        lambda: optim.join_schedules([], [])
    ),
    "multi_step: milestones must be increasing integers >= 1, got [0] (list)": (
        lambda: optim.multi_step(1, [0])
    ),
    "multi_step: milestones must be increasing integers >= 1, got 5": (
        lambda: optim.multi_step(1, 5)  # type: ignore[arg-type]
    ),
    "piecewise_constant: boundaries_and_scales must be a dict from steps >= 1 to factors >= 0, got {5: -1} (dict)": (
        lambda: optim.piecewise_constant(1, {5: -1})
    ),
    "piecewise_constant: boundaries_and_scales must be a dict from steps >= 1 to factors >= 0, got ((5, 1), (5, 2))": (
        lambda: optim.piecewise_constant(1, ((5, 1), (5, 2)))
    ),
    "piecewise_constant: boundaries_and_scales must be a dict from steps >= 1 to factors >= 0, got 3": (
        lambda: optim.piecewise_constant(1, 3)  # type: ignore[arg-type]
    ),
    "piecewise_interpolate: interpolate_type must be one of 'linear', 'cosine', got 'cubic' (str)": (
        lambda: optim.piecewise_interpolate("cubic", 1)  # type: ignore[arg-type]
    ),
    "polynomial: power must be > 0, got 0": lambda: optim.polynomial(1, 0, 0, 5),
    "polynomial: transition_begin must be >= 0, got -1": lambda: optim.polynomial(1, 0, 1, 5, -1),
    "linear_onecycle: pct_start must be >= 0 and <= 1, got 30": (
        lambda: optim.linear_onecycle(9, 1, 30)
    ),
    "linear_onecycle: pct_final must be >= pct_start, got 0.2 and 0.3": (
        lambda: optim.linear_onecycle(9, 1, pct_final=0.2)
    ),
    "cosine_onecycle: div_factor must be > 0, got 0": (
        lambda: optim.cosine_onecycle(9, 1, div_factor=0)
    ),
    "warmup_constant: warmup_steps must be >= 0, got -1": lambda: optim.warmup_constant(0, 1, -1),
    "warmup_cosine_decay: decay_steps includes the warm-up and must be > warmup_steps, got 5 and 5": (
        lambda: optim.warmup_cosine_decay(0, 1, 5, 5)
    ),
    "warmup_exponential_decay: end_value must be a finite number, got inf": (
        lambda: optim.warmup_exponential_decay(0, 1, 5, 5, 0.5, end_value=float("inf"))
    ),
    "warmup_exponential_decay: staircase must be True or False, got 1": (
        lambda: optim.warmup_exponential_decay(0, 1, 5, 5, 0.5, 0, 1)  # type: ignore[arg-type]
    ),
    "sgdr: cycles must be a list of at least one warmup_cosine_decay, got [{}] (list)": (
        lambda: optim.sgdr([{}])  # type: ignore[list-item]
    ),
    "sgdr: all cycles must have < 2**31 steps, got 2147483648": (
        lambda: optim.sgdr([optim.warmup_cosine_decay(0, 1, 5, 2**30)] * 2)
    ),
    "cyclic: a cycle must have < 2**31 steps, got 2147483648": lambda: optim.cyclic(0, 1, 2**30),
    "cyclic: gamma is for mode 'exp_range', got gamma=0.5 and mode='triangular'": (
        lambda: optim.cyclic(0, 1, gamma=0.5)
    ),
    "constant: step must be at most 2147483647, got 2147483648": lambda: optim.constant(1)(2**31),
    f"constant: step must be at most 2147483647, got {2**70}": lambda: optim.constant(1)(2**70),
    "constant: step must be at most 2147483647, got 4294967296": (
        lambda: optim.constant(1)(np.asarray([0, 2**32]))
    ),
    "constant: step must be an integer (or a float), got True (bool)": (
        lambda: optim.constant(1)(True)
    ),
    "constant: step must be an integer (or a float), got complex64[]": (
        lambda: optim.constant(1)(jnp.complex64(1))
    ),
    "constant: step must be an integer (or a float), got object[2]": (
        lambda: optim.constant(1)(np.asarray([1, None]))
    ),
    "constant: step must be an integer (or a float), got None": lambda: optim.constant(1)(None),  # type: ignore[arg-type]
    "a schedule must return a real scalar, got None from <function nothing": (
        lambda: optim.join_schedules([nothing], [])(0)
    ),
    "a schedule must return a real scalar, got float32[3] from": (
        lambda: optim.join_schedules([lambda step: jnp.ones(3)], [])(0)
    ),
    "join_schedules: schedules must be made of hashable schedules, which Unhashable() is not": (
        lambda: optim.join_schedules([Unhashable()], [])
    ),
}


def nothing(step: jax.Array) -> Any:
    """Return no value."""


@dataclasses.dataclass
class Unhashable:
    """A schedule that is neither frozen nor hashable."""

    def __call__(self, step: jax.Array) -> float:
        return 1.0


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        REFUSED[message]()
    assert str(caught.value).startswith(message)


def test_where_optax_differs() -> None:
    """Edges at which a definition of Optax's is not followed; docs/schedules.md lists them."""
    import optax

    assert optax.warmup_constant_schedule(0.0, 1.0, 0)(5) == 0.0
    assert optim.warmup_constant(0.0, 1.0, 0)(5) == 1.0
    assert optax.warmup_cosine_decay_schedule(1.0, 0.0, 2, 4, 0.5)(4) == 0.0
    assert optim.warmup_cosine_decay(1.0, 0.0, 2, 4, 0.5)(4) == 0.5
    # Two corners on one step: Optax forgets that it has been at the peak.
    assert optax.linear_onecycle_schedule(2, 1.0, 0.3, 0.4, 10.0)(0) < 0.02
    assert optim.linear_onecycle(2, 1.0, 0.3, 0.4, 10.0)(0) == np.float32(0.1)
    assert optax.cosine_decay_schedule(1.0, 4)(-2) < 0.6
    assert optim.cosine_decay(1.0, 4)(-2) == 1.0


@pytest.mark.parametrize(
    "curve", [curve for curve, _ in EXACT], ids=lambda curve: type(curve).__name__
)
def test_infinite_and_missing_steps(curve: Any) -> None:
    """Infinity is as good as the largest float, which is after all curves; NaN gives NaN."""
    largest = float(np.finfo(np.float32).max)
    at_infinity, at_largest, at_nothing = curve(np.array([math.inf, largest, math.nan]))
    assert at_infinity == at_largest
    assert math.isfinite(at_infinity)
    assert math.isnan(at_nothing)
    assert math.isnan(jax.grad(curve)(math.nan))


def test_decay_to_zero() -> None:
    """Growth has no bound. The same inside `jit` and with x64."""
    for x64 in (False, True):
        with jax.enable_x64(x64):
            at = jax.jit(optim.exponential_decay(1.0, 0.9))
            assert (at(math.inf), at(-math.inf)) == (0, 1)
            assert optim.exponential_decay(1.0, 1.1)(math.inf) == math.inf
            assert optim.warmup_exponential_decay(0.0, 1.0, 5, 5, 0.5)(math.inf) == 0
            assert optim.step_decay(1.0, 0.5, 3)(math.inf) == 0


DECAY, LINE = optim.cosine_decay(2.0, 8), optim.linear_schedule(1.0, 5.0, 8)


@pytest.mark.parametrize(
    ("combined", "expected", "text"),
    [
        (0.5 * DECAY, lambda a, b: 0.5 * a, f"(0.5 * {DECAY})"),
        (DECAY * LINE, lambda a, b: a * b, f"({DECAY} * {LINE})"),
        (DECAY - LINE / 2, lambda a, b: a - b / 2, f"({DECAY} - ({LINE} / 2.0))"),
        (1 / (LINE + 3), lambda a, b: 1 / (b + 3), f"(1.0 / ({LINE} + 3.0))"),
        (1 - DECAY, lambda a, b: 1 - a, f"(1.0 - {DECAY})"),
        (-DECAY, lambda a, b: -a, f"(-1.0 * {DECAY})"),
        (np.float32(0.5) + DECAY, lambda a, b: 0.5 + a, f"(0.5 + {DECAY})"),
    ],
)
def test_arithmetic(combined: Any, expected: Any, text: str) -> None:
    """A combination is a schedule as others are: a value with a text, for one step or many."""
    steps = jnp.arange(10)
    found = combined(steps)
    np.testing.assert_allclose(found, expected(DECAY(steps), LINE(steps)), rtol=1e-6)
    assert found.dtype == combined(3).dtype == jnp.float32
    assert repr(combined) == text
    assert pickle.loads(pickle.dumps(combined)) == combined != DECAY
    assert optim.SGD(0.1 + combined * 0).init(jnp.ones(1)).learning_rate == jnp.float32(0.1)


def test_operands_that_are_refused() -> None:
    for operand in ("a", jnp.ones(()), [1.0], float("nan")):
        with pytest.raises((TypeError, ValueError), match="Combination: right must be a "):
            DECAY * operand  # type: ignore[operator]
    with pytest.raises(ValueError, match="right must not be 0 in a quotient"):
        DECAY / 0


def test_lengths_may_be_whole_floats() -> None:
    decay = optim.cosine_decay(1.0, 1e4)
    assert decay == optim.cosine_decay(1.0, np.float32(1e4)) == optim.cosine_decay(1.0, 10_000)
    assert type(decay.decay_steps) is int
    assert optim.multi_step(1.0, [1e1, 2e1]) == optim.multi_step(1.0, [10, 20])
    assert optim.piecewise_constant(1.0, {1e1: 0.5}) == optim.piecewise_constant(1.0, {10: 0.5})
