"""No generated optimizer produces NaN or an infinity from zero, tiny or large gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import optim
from mlax.experimental import optim as experimental
from mlax.optimizer import apply_updates
from mlax.optimizer._specified import specifications
from tests.mlax.generated_optimizers import (
    MODULES,
    analysis,
    every_case,
    every_optimizer,
    init,
    is_elementwise,
    is_key,
    optimizer_class,
    step,
)
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

SHAPES = [(), (0,), (3,), (2, 3), (2, 1, 3), (2, 1, 2, 1)]
FEW = [(), (2, 3)]
ONE = [(13,)]  # all there is to see of an elementwise optimizer


class Numbers(NamedTuple):
    """Leaves, and what a large gradient of them is."""

    leaves: tuple[tuple[Any, list[tuple[int, ...]]], ...]
    large: float
    slot_dtype: Any = None

    def weights(self, name: str) -> Any:
        """Return weights of all shapes that make a difference to an optimizer."""
        leaves = [(dtype, ONE if is_elementwise(name) else shapes) for dtype, shapes in self.leaves]
        return [jnp.ones(shape, dtype) for dtype, shapes in leaves for shape in shapes]


NUMBERS = {
    "float32 and bfloat16": Numbers(((jnp.float32, SHAPES), (jnp.bfloat16, FEW)), 1e15),
    "float16": Numbers(((jnp.float16, FEW),), 1e2),
    "float16 with float32 slots": Numbers(((jnp.float16, FEW),), 1e4, jnp.float32),
}
STEPS = 40
LEAST = 1e-31  # about the least that is accepted of what has to be positive
LARGE, TINY = "large", 1e-30  # in float16 tiny is nothing

# Magnitudes of the gradients of a few steps, which are repeated.
SEQUENCES: dict[str, list[Any]] = {
    "zero": [0.0],
    "large": [LARGE],
    "tiny": [TINY],
    "small": [5e-3],
    "tiny, then large": [TINY] * 20 + [LARGE] * 20,
    "large, then tiny": [LARGE] * 20 + [TINY] * 20,
    "large, then zero": [LARGE] + [0.0] * 39,
    "large and zero": [LARGE, 0.0],
    "large and tiny": [LARGE, TINY],
    "small and large": [5e-3, LARGE],
    "one and zero": [1.0, 0.0],
    "small and zero": [5e-3, 0.0],
    "less and less": [10.0**-i for i in range(40)],
    "more and more": [10.0 ** (i - 37) for i in range(40)],
}


def magnitudes(sequence: str, large: float) -> Any:
    values = [large if x == LARGE else x for x in SEQUENCES[sequence]]
    return np.array((values * STEPS)[:STEPS], np.float32)


def failures(name: str, options: dict[str, Any], numbers: Numbers) -> dict[str, str]:
    """Return for each sequence that does not stay finite which arrays do not, and when."""
    weights = numbers.weights(name)
    # Elements of many magnitudes: 1, 0.08 and 0.0003 of six; 0 in the middle of three; all of them, of thirteen.
    directions = [
        (np.linspace(-1, 1, w.size) ** 5).reshape(w.shape).astype(w.dtype) for w in weights
    ]

    def body(carry: Any, magnitude: Any) -> Any:
        weights, state = carry
        gradients = [d * magnitude.astype(d.dtype) for d in directions]
        updates, state = step(name, gradients, state, weights)
        weights = apply_updates(updates, weights)
        everything = {"updates": updates, "state": state, "weights": weights}
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(everything) if not is_key(x)]
        return (weights, state), jnp.array(finite)

    state = init(name, weights, slot_dtype=numbers.slot_dtype, **options)
    paths = [
        jax.tree_util.keystr(path)
        for path, x in jax.tree_util.tree_leaves_with_path(
            {"updates": weights, "state": state, "weights": weights}
        )
        if not is_key(x)
    ]
    run = jax.jit(
        lambda magnitudes: jax.lax.scan(body, (weights, state), magnitudes)[1],
        compiler_options=QUICKLY,
    )
    found: dict[str, str] = {}
    for sequence in SEQUENCES:
        finite = np.asarray(run(magnitudes(sequence, numbers.large)))
        if not finite.all():
            at = int(np.argmin(finite.all(axis=1)))
            where = [p for p, fine in zip(paths, finite[at], strict=True) if not fine]
            found[sequence] = f"not finite in step {at + 1}: {', '.join(where)}"
    return found


# Weights that leave the range of float16 in these sequences, by finite updates; all else stays finite there too.
VANISHED = "the square, of which 1 - b2 is stored, is 0 in float16, and its root is divided by in the next step"
DIVERGING: dict[tuple[str, str], tuple[set[str], str]] = {
    ("acprop", "float16"): (
        {"small", "one and zero", "small and zero", "less and less", "more and more"},
        VANISHED,
    ),
    ("adahessian", "float16"): ({"one and zero", "small and zero", "less and less"}, VANISHED),
    ("muon", "float16"): ({"small and zero"}, VANISHED),
    ("prodigy", "float16"): (
        {"large and zero", "large and tiny", "small and large", "one and zero"},
        f"gradients count times 1e-6: {VANISHED}",
    ),
    ("schedule_free_sgd", "float16 with float32 slots"): (
        {sequence for sequence, values in SEQUENCES.items() if LARGE in values}
        - {"large, then zero"},
        "its learning rate is 1, and the sum of the gradients is more than float16 holds",
    ),
}


@every_optimizer
@pytest.mark.parametrize("numbers", NUMBERS)
def test_all_numbers_stay_finite(name: str, numbers: str) -> None:
    found = failures(name, {}, NUMBERS[numbers])
    expected, _ = DIVERGING.get((name, numbers), (set(), ""))
    assert set(found) == expected, found
    assert not [where for where in found.values() if "updates" in where or "state" in where]


@pytest.mark.parametrize(("name", "numbers"), DIVERGING)
def test_why_weights_diverge(name: str, numbers: str) -> None:
    """If squares underflow, `init` warns, and float32 slots help. Otherwise float32 weights get as large."""
    weights = jnp.ones((), jnp.float16)
    if numbers == "float16":
        with pytest.warns(UserWarning, match="add nothing, .* huge or infinite"):
            MODULES[name].init(weights)
        assert failures(name, {}, NUMBERS[numbers]._replace(slot_dtype=jnp.float32)) == {}
    else:
        wide, gradients = jnp.float32(1.0), jnp.float32(NUMBERS[numbers].large)
        state = init(name, wide)
        one_step = jax.jit(lambda state, w: step(name, gradients, state, w))
        for _ in range(STEPS):
            updates, state = one_step(state, wide)
            wide = wide + updates
        assert abs(wide) > jnp.finfo(jnp.float16).max


# With one positive number another has to be in its bounds.
BESIDE: dict[tuple[str, str], dict[str, float]] = {
    ("prodigy", "eps"): {"estim_lr0": 1.0},
    ("prodigy", "estim_lr0"): {"eps": 1.0},
    ("rprop", "max_step_size"): {"min_step_size": LEAST},
}
POSITIVE = [
    (name, field)
    for name, module in MODULES.items()
    for field, spec in specifications(optimizer_class(module)).items()
    if spec.positive
]


@pytest.mark.parametrize(("name", "field"), POSITIVE, ids=str)
def test_the_least_positive_number_does_not_round_away(name: str, field: str) -> None:
    """Numbers that are accepted can be divided by; numbers that would become 0 are refused."""
    beside = BESIDE.get((name, field), {})
    for value in (9e-32, 1e-38, 1e-300):
        with pytest.raises(
            ValueError, match=f"{field} must be >= 9.9e-32 for float32 leaves, .* got"
        ):
            MODULES[name].init(jnp.ones(2), **beside, **{field: value})
    found = failures(name, {**beside, field: LEAST}, Numbers(((jnp.float32, [(3,)]),), 1.0))
    assert found == {}


def test_float64_leaves_may_have_smaller_numbers() -> None:
    with jax.enable_x64(True):
        h = optim.Adam(eps=1e-300)
        weights = jnp.ones(2)
        zeros = jnp.zeros_like(weights)
        updates, _ = h.step(zeros, h.init(weights), weights)
        assert updates.dtype == jnp.float64
        assert not updates.any()
        narrow = weights.astype(jnp.float32)
        with pytest.raises(
            ValueError, match=r"Adam: eps must be >= 9.9e-32 for float32 leaves, .*1e-300"
        ):
            h.step(narrow, h.init(narrow), narrow)
        with pytest.raises(ValueError, match=r"Adam: eps must be >= 1.9e-301 for float64 leaves"):
            optim.Adam(eps=1e-308)
        large = optim.Adam(eps=1e39)
        assert large.step(weights, large.init(weights), weights)[0].dtype == jnp.float64
        with pytest.raises(ValueError, match=r"eps must be at most 3.4e\+38 .*float32, got 1e\+39"):
            large.step(narrow, large.init(narrow), narrow)
    with pytest.raises(ValueError, match=r"Prodigy: eps \* estim_lr0 must be >= 1e-31"):
        experimental.Prodigy(eps=1e-26)


@every_case
def test_all_numbers_stay_finite_with_options(name: str, options: dict[str, Any]) -> None:
    if options:
        assert failures(name, options, Numbers(((jnp.float32, FEW),), 1e15)) == {}


# Steps that float32 cannot do as float64 does, beside those with slots that hold squares.
_ROOT = "a magnitude is the root of a square, since `abs` has no complex form"
NOT_AS_IN_FLOAT64 = {
    **{(name, x): _ROOT for name in ("adamax", "adamaxw") for x in (1e25, 1e-25)},
    ("dog", 1e25): "the state holds the sum of the squared norms, as Optax's does",
    ("noisy_sgd", 1e-25): "the noise of float32 and that of float64 are different numbers",
}


def two_updates(name: str, dtype: Any, magnitude: float) -> list[Any]:
    weights: Any = [jnp.array([[0.25, -0.5, 1.0]], dtype), jnp.array([0.75, -1.5], dtype)]
    weights = weights[:1] if is_elementwise(name) else weights
    directions = [[w.sum() + w for w in weights], weights]
    state, found = init(name, weights), list[Any]()
    with jax.disable_jit():
        for direction in directions:
            gradients = [d * jnp.asarray(magnitude, dtype) for d in direction]
            updates, state = step(name, gradients, state, weights)
            weights = apply_updates(updates, weights)
            found += updates
    return found


@every_optimizer
def test_gradients_whose_squares_leave_the_range_step_as_in_float64(name: str) -> None:
    magnitudes = {1e-25} if analysis(name).squares else {1e25, 1e-25}
    for magnitude in magnitudes - {x for other, x in NOT_AS_IN_FLOAT64 if other == name}:
        with jax.enable_x64(True):
            updates = two_updates(name, jnp.float32, magnitude)
            exact = two_updates(name, jnp.float64, magnitude)
        for x, y in zip(updates, exact, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3 * np.abs(y).max())


@pytest.mark.parametrize("name", [name for name in MODULES if analysis(name).squares])
def test_updates_are_finite_where_squares_overflow(name: str) -> None:
    """Most are 0 then: something divided by an infinite root."""
    options = {"min_dim_size_to_factor": 1} if name == "adafactor" else {}
    weights = [jnp.array([[0.25, -0.5, 1.0]]), jnp.array([0.75, -1.5])]
    state = init(name, weights, **options)
    with jax.disable_jit():
        for _ in range(3):
            gradients = [1e25 * jnp.cos(3 * w) for w in weights]
            updates, state = step(name, gradients, state, weights)
            weights = apply_updates(updates, weights)
            assert all(jnp.isfinite(x).all() for x in updates)


@pytest.mark.parametrize(("name", "largest"), [("shampoo", 3e38), ("soap", 3e38), ("came", 1e38)])
def test_only_the_direction_of_gradients_counts(name: str, largest: float) -> None:
    """Also where their squares, or their norm, overflow. Means of directions are not those of gradients."""
    start = jnp.ones((2, 2))
    found: list[Any] = []
    for size in (1e12, largest):
        weights, state = start, init(name, start)
        with jax.disable_jit():
            for row in ([1.0, -1.0], [1.0, 0.5]):
                gradients = size * jnp.array([row, [-1.0, 0.25]])
                updates, state = step(name, gradients, state, weights)
                weights = weights + updates
        found.append(weights - start)
    assert jnp.all(found[0] != 0)
    np.testing.assert_allclose(*found, rtol=0, atol=0.03 * jnp.max(jnp.abs(found[0])))


def test_dog_takes_weights_whose_squares_overflow() -> None:
    weights, gradients = jnp.full(4, 1e25), jnp.full(4, 2.0)
    updates, _ = step("dog", gradients, init("dog", weights), weights)
    np.testing.assert_allclose(updates, -1e-6 * 2e25 / 4 * gradients, rtol=1e-5)
