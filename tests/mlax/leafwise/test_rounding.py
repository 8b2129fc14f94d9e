"""How results are rounded when they are stored: stochastically on request, and only once if added to weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import optim
from mlax.leafwise import _rounding

pytestmark = [pytest.mark.one_python, pytest.mark.optimized]

rounded = jax.jit(_rounding.rounded, static_argnums=1)  # as it is part of a user's program

# Dtypes without a sign or without zero are left out: they are not suitable for weights.
NARROW = [
    "bfloat16",
    "float16",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3fn",
    "float8_e4m3b11fnuz",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
]

# Of all magnitudes that float32 has, with the numbers of the narrow dtypes between them.
random = np.random.default_rng(0)
NUMBERS = np.concatenate(
    [
        (random.normal(size=4000) * 10.0 ** random.uniform(-37, 38, 4000)).astype(np.float32),
        (random.normal(size=4000) * 10.0 ** random.uniform(-6, 6, 4000)).astype(np.float32),
        np.float32([0, -0.0, 1, -1.5, 65504, 65519, 65520, -448, 449, 480, 3.4e38, -3.4e38]),
    ]
)
# Below its normal numbers XLA computes with zeros on CPU.
NUMBERS = NUMBERS[(NUMBERS == 0) | (np.abs(NUMBERS) >= np.finfo(np.float32).smallest_normal)]
BITS = random.integers(0, 2**32, NUMBERS.shape, np.uint32)


def neighbours(x: Any, dtype: Any) -> tuple[Any, Any]:
    """Return of each number's magnitude the nearest numbers of a dtype below it and above it, in float64."""
    form = jnp.finfo(dtype)
    magnitude = np.minimum(np.abs(x.astype(np.float64)), float(form.max))
    exponent = np.floor(np.log2(np.maximum(magnitude, float(form.smallest_normal))))
    unit = 2.0 ** (exponent - form.nmant)
    return np.floor(magnitude / unit) * unit, np.ceil(magnitude / unit) * unit


@pytest.mark.parametrize("dtype", NARROW)
def test_up_or_down_as_the_bits_say(dtype: str) -> None:
    """The magnitude is rounded up with a probability equal to its fractional distance."""
    narrow = jnp.dtype(dtype)
    result = np.asarray(rounded(jnp.asarray(NUMBERS), narrow, jnp.asarray(BITS)))
    below, above = neighbours(NUMBERS, narrow)
    part = (np.minimum(np.abs(NUMBERS.astype(np.float64)), above) - below) / np.where(
        above > below, above - below, 1
    )
    added = 2.0**16 * (1 - part) <= (BITS >> 16)
    compared = 2.0**24 * part > (BITS >> 8)
    up = added if dtype == "bfloat16" else compared
    expected = np.copysign(np.where(up, above, below), NUMBERS).astype(np.float32)
    np.testing.assert_array_equal(result, expected.astype(narrow))
    if "fnuz" not in dtype:
        np.testing.assert_array_equal(np.signbit(result.astype(np.float32)), np.signbit(NUMBERS))


@pytest.mark.parametrize("dtype", NARROW)
def test_what_a_dtype_has_stays(dtype: str) -> None:
    """All its numbers, infinities and NaN, whatever the bits are; as NumPy's bfloat16 and others convert them."""
    narrow = jnp.dtype(dtype)
    if narrow.itemsize == 1:
        every = np.arange(256, dtype=np.uint8).view(narrow)
    else:
        every = np.arange(2**16, dtype=np.uint16).view(narrow)
    wide = every.astype(np.float32)
    normal = (np.abs(wide) >= np.finfo(np.float32).smallest_normal) | (wide == 0)
    every, wide = every[normal | np.isnan(wide)], wide[normal | np.isnan(wide)]
    for word in (0, 2**32 - 1):
        bits = jnp.full(wide.shape, word, jnp.uint32)
        result = np.asarray(rounded(jnp.asarray(wide), narrow, bits))
        np.testing.assert_array_equal(result.astype(np.float32), every.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_from_float64(dtype: str) -> None:
    """If leaves are computed in float64, float32 slots are narrow too: only the two neighbours occur, with the
    right mean.
    """
    form = jnp.finfo(dtype)
    with jax.enable_x64(True):
        for below in (1.0, 3 * float(form.smallest_normal)):
            unit = below * float(form.eps) / (1 if below == 1 else 1.5)
            x = jnp.full(BITS.shape, -below - unit / 3, jnp.float64)
            result = np.asarray(rounded(x, jnp.dtype(dtype), jnp.asarray(BITS)), np.float64)
            steps = (-result - below) / unit
            assert set(steps) == {0, 1}
            assert steps.mean() == pytest.approx(1 / 3, abs=0.02)


def test_an_update_that_is_added_later_ends_there_or_next_to_it() -> None:
    # The figures of docs/half_precision.md: of 20,000 numbers 3 % are 600, +- 25.
    numbers = np.random.default_rng(1)
    weights = numbers.normal(size=20_000)

    def differing(updates: Any) -> float:
        """Return which part of the weights is another after `step` and `apply_updates` than after `update`."""
        optimizer = optim.SGD(1.0, stochastic_rounding=True)
        before = {"w": jnp.asarray(weights, jnp.bfloat16)}
        gradients, state = {"w": jnp.asarray(updates, jnp.bfloat16)}, optimizer.init(before)
        once, _ = optimizer.apply_gradients(gradients, state, before)
        later = optim.apply_updates(optimizer.step(gradients, state, before)[0], before)
        one, other = (
            np.asarray(jax.lax.bitcast_convert_type(tree["w"], jnp.int16)).astype(int)
            for tree in (once, later)
        )
        assert np.abs(one - other).max() <= 1
        return float((one != other).mean())

    def times(low: float, high: float) -> Any:
        size = np.exp(numbers.uniform(np.log(low), np.log(high), weights.size))
        return weights * size * numbers.choice([-1, 1], weights.size)

    assert differing(times(0.01, 1)) == 0
    assert abs(differing(numbers.normal(size=weights.size)) - 0.034) < 0.006
    assert abs(differing(times(2, 4)) - 0.125) < 0.01
