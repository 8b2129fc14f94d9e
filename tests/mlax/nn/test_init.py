"""Initializers: each one that `mlax.nn.init` exports is tested by being exported."""

import copy
import dataclasses
import logging
import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.nn import initializers

from mlax import Module, Parameter, tree_equal
from mlax.nn import init

pytestmark = pytest.mark.one_python

KEY = jax.random.key(3)
NARROW = [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2]
EXPORTED = {name: getattr(init, name) for name in init.__all__ if name != "Initializer"}
CLASSES = {name: value for name, value in EXPORTED.items() if isinstance(value, type)}
# The options to test a class with; for all others the defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "constant": [{"value": 0.3}, {"value": -2}],
    "normal": [{}, {"stddev": 0.0}, {"stddev": 2}],
    "orthogonal": [{}, {"scale": math.sqrt(2)}, {"column_axis": 0}],
    "truncated_normal": [{}, {"stddev": 2, "lower": -1.0, "upper": 3.0}],
    "uniform": [{"low": 0, "high": 0.5}],
    "variance_scaling": [
        {"scale": 0.5, "mode": "fan_out", "distribution": "truncated_normal"},
        {"scale": 3, "mode": "fan_geo_avg", "distribution": "normal"},
        {"scale": 1.0, "mode": "fan_in", "distribution": "normal", "in_axis": (0, 1)},
        {"scale": 1.0, "mode": "fan_in", "distribution": "uniform", "batch_axis": 0},
    ],
}
SHAPE = (3, 4, 6)
ALL: dict[str, Any] = {
    name: value for name, value in EXPORTED.items() if not isinstance(value, type)
} | {
    repr(made): made for name, cls in CLASSES.items() for o in OPTIONS[name] for made in [cls(**o)]
}
RANDOM = {
    name: value for name, value in ALL.items() if not isinstance(value, init.constant)
}  # a constant needs no key

every = pytest.mark.parametrize("value", ALL.values(), ids=ALL)
random = pytest.mark.parametrize("value", RANDOM.values(), ids=RANDOM)


def peer(name: str, value: Any) -> Any:
    """Return JAX's initializer of the same name and options."""
    if isinstance(value, init.uniform):
        return initializers.uniform(value.high)
    if name in ("zeros", "ones"):
        return getattr(initializers, name)
    if name in EXPORTED:
        return getattr(initializers, name)()
    return getattr(initializers, type(value).__name__)(**dataclasses.asdict(value))


def test_every_class_has_options_to_test_it_with():
    assert CLASSES.keys() == OPTIONS.keys()
    assert EXPORTED.keys() >= {"zeros", "ones", "he_normal", "orthogonal"}


@pytest.mark.parametrize("name", ALL)
def test_the_same_values_as_jax(name):
    value = ALL[name]
    for dtype in (jnp.float32, jnp.complex64):
        if dtype is jnp.complex64 and isinstance(value, init.uniform | init.truncated_normal):
            with pytest.raises(
                TypeError, match="makes only floating-point arrays, got dtype complex"
            ):
                value(KEY, SHAPE, dtype)
            continue
        made = value(KEY, SHAPE, dtype)
        assert tree_equal(made, peer(name, value)(KEY, SHAPE, dtype))
        for narrow in NARROW if dtype is jnp.float32 else []:
            assert tree_equal(value(KEY, SHAPE, narrow), made.astype(narrow))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "raw"])
def test_the_same_values_as_jax_for_other_keys(impl):
    key = jax.random.PRNGKey(5) if impl == "raw" else jax.random.key(5, impl=impl)
    for shape in ((200, 7), (2**16, 2)):  # in a vector that fits, and in one that is longer by far
        made = init.he_normal(key, shape, jnp.float32)
        assert tree_equal(made, peer("he_normal", init.he_normal)(key, shape, jnp.float32))
    with jax.threefry_partitionable(False):
        made = init.he_normal(key, (7, 5), jnp.float32)
        assert tree_equal(made, peer("he_normal", init.he_normal)(key, (7, 5), jnp.float32))


def test_shapes_share_a_generator(caplog):
    """To compile it took most of the time in which a model was set up."""
    init.he_normal(KEY, (5, 6), jnp.float32)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        init.lecun_normal(KEY, (19, 3, 2), jnp.float32)
    compiled = [m for m in caplog.messages if m.startswith("Compiling")]
    assert [m.split()[1] for m in compiled] == ["jit(_first)"]


@every
def test_under_transformations(value):
    """Compiled, sums and products may round differently."""
    keys = jax.random.split(KEY, 3)
    stacked = jax.jit(jax.vmap(lambda key: value(key, SHAPE, jnp.float32)))(keys)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(stacked[i], value(key, SHAPE, jnp.float32), atol=1e-5, rtol=1e-5)


@random
def test_float64(value):
    with jax.enable_x64(True):
        made = value(KEY, SHAPE, jnp.float64)
        assert made.dtype == jnp.float64
        assert value(KEY, SHAPE).dtype == jnp.float64
        if value != init.normal(0.0):
            assert not np.array_equal(made, made.astype(jnp.float32))
    with pytest.raises(ValueError, match="JAX makes no float64 arrays unless x64 is enabled"):
        value(KEY, SHAPE, jnp.float64)
    assert value(KEY, SHAPE).dtype == jnp.float32


@every
def test_they_are_values(value):
    copies = [
        copy.copy(value),
        copy.deepcopy(value),
        pickle.loads(pickle.dumps(value)),
        dataclasses.replace(value),
        eval(repr(value), vars(init)),
    ]
    for back in copies:
        assert back == value
        assert hash(back) == hash(value)
        assert repr(back) == repr(value)
        assert jax.tree.structure(Parameter(init=back)) == jax.tree.structure(Parameter(init=value))
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.stddev = 3
    others = [other for other in ALL.values() if other is not value]
    assert value not in others
    for other in others:
        assert jax.tree.structure(Parameter(init=other)) != jax.tree.structure(
            Parameter(init=value)
        )


class Layer(Module):
    """Has an initializer as an option."""

    kernel_init: init.Initializer


@every
def test_they_can_be_static_fields(value):
    model = Layer(value)
    assert jax.tree.leaves(model) == []
    assert " ".join(repr(model).split()).replace("( ", "(").replace(" )", ")") == (
        f"Layer(kernel_init={value!r})"
    )
    assert tree_equal(model, pickle.loads(pickle.dumps(model)))


@random
def test_moments(value):
    """Mean and variance are those that the options promise."""
    shape = (200, 100) if isinstance(value, init.orthogonal) else (20, 100, 300)
    made = np.asarray(value(KEY, shape, jnp.float32), np.float64)
    match value:
        case init.normal(stddev):
            mean, variance = 0.0, stddev**2
        case init.truncated_normal(stddev, lower, upper):
            mean, variance = truncated(lower, upper)
            mean, variance = stddev * mean, stddev**2 * variance
        case init.uniform(low, high):
            mean, variance = (low + high) / 2, (high - low) ** 2 / 12
        case init.orthogonal(scale, axis):
            matrix = made if axis == -1 else made.T
            gram = matrix.T @ matrix if axis == -1 else matrix @ matrix.T
            gram = gram if gram.shape == (100, 100) else made.T @ made
            np.testing.assert_allclose(gram, scale**2 * np.eye(100), atol=1e-5)
            return
        case init.variance_scaling(scale, mode):
            axes = [
                *as_tuple(value.in_axis),
                *as_tuple(value.out_axis),
                *as_tuple(value.batch_axis),
            ]
            field = math.prod(n for i, n in enumerate(shape) if i not in {a % 3 for a in axes})
            fan_in = field * math.prod(shape[axis] for axis in as_tuple(value.in_axis))
            fan_out = field * math.prod(shape[axis] for axis in as_tuple(value.out_axis))
            n = {
                "fan_in": fan_in,
                "fan_out": fan_out,
                "fan_avg": (fan_in + fan_out) / 2,
                "fan_geo_avg": math.sqrt(fan_in * fan_out),
            }[mode]
            mean, variance = 0.0, scale / n
    scale = math.sqrt(variance) or 1.0
    assert abs(made.mean() - mean) < 0.01 * scale
    np.testing.assert_allclose(made.var(), variance, rtol=0.02)


def as_tuple(axes: Any) -> tuple[int, ...]:
    return axes if isinstance(axes, tuple) else (axes,)


def truncated(lower: float, upper: float) -> tuple[float, float]:
    """Return mean and variance of a standard normal distribution between two bounds."""
    x = np.linspace(lower, upper, 100_001)
    weight = np.exp(-(x**2) / 2)
    mean = np.average(x, weights=weight)
    return float(mean), float(np.average((x - mean) ** 2, weights=weight))


@every
def test_empty_arrays(value):
    for shape in [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)]:
        assert value(KEY, shape, jnp.bfloat16).shape == shape


@random
def test_a_key_is_needed(value):
    with pytest.raises(ValueError, match="needs a key") as error:
        value(None, SHAPE, jnp.float32)
    assert str(error.value) == f"{value!r} needs a key, got None"
    for dtype in (jnp.int32, bool, KEY.dtype):
        with pytest.raises(TypeError, match="makes only floating-point"):
            value(KEY, SHAPE, dtype)


@every
def test_bad_shapes_and_dtypes(value):
    for shape in [3, None, (2.0,), (-1, 2), "23", (True, 2)]:
        with pytest.raises(TypeError, match="shape must be a tuple of sizes"):
            value(KEY, shape, jnp.float32)
    with pytest.raises(TypeError, match="dtype must be a dtype of JAX"):
        value(KEY, SHAPE, "float31")


def test_shapes_without_the_axes():
    for value in (
        init.he_normal,
        init.variance_scaling(1, "fan_in", "normal", in_axis=0, out_axis=-2),
    ):
        for shape in [(), (3,), (3, 4)] if value is not init.he_normal else [(), (3,)]:
            with pytest.raises(
                ValueError, match=r"needs arrays with the different axes .*, got the"
            ):
                value(KEY, shape, jnp.float32)
    for value, shape in ((init.orthogonal(), (3,)), (init.orthogonal(column_axis=2), (3, 3))):
        with pytest.raises(ValueError, match="needs at least two axes, among them"):
            value(KEY, shape, jnp.float32)
    with pytest.raises(ValueError, match="needs arrays") as error:
        init.he_normal(KEY, (3,), jnp.float32)
    assert str(error.value) == (
        "he_normal needs arrays with the different axes -2, -1, got the shape (3,).\n"
        "  Use zeros or normal(stddev) for a vector, or set in_axis and out_axis."
    )
    own = dataclasses.replace(init.he_normal, in_axis=0)
    assert own(KEY, (3, 4, 5), jnp.float32).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: init.normal(-1), "normal.stddev must be a finite number >= 0, got -1 (int)"),
        (lambda: init.normal(math.inf), "normal.stddev must be a finite number >= 0, got inf"),
        (lambda: init.normal(True), "normal.stddev must be a finite number >= 0, got True (bool)"),
        (lambda: init.normal("1"), "normal.stddev must be a finite number >= 0, got '1' (str)"),
        (
            lambda: init.normal(jnp.ones(())),
            "normal.stddev must be a finite number >= 0, got float32[]\n"
            "  Use a Python number: an initializer must be hashable.",
        ),
        (lambda: init.truncated_normal(-1.0), "truncated_normal.stddev must be"),
        (
            lambda: init.truncated_normal(1.0, 2, 1),
            "truncated_normal.upper must be a finite number > 2",
        ),
        (lambda: init.uniform(1, 1), "uniform.high must be a finite number > 1, got 1 (int)"),
        (lambda: init.uniform(math.nan, 1), "uniform.low must be a finite number, got nan"),
        (lambda: init.variance_scaling(0, "fan_in", "normal"), "variance_scaling.scale must be"),
        (
            lambda: init.variance_scaling(1, "fan", "normal"),
            "variance_scaling.mode must be one of 'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg', got 'fan' (str)",
        ),
        (
            lambda: init.variance_scaling(1, "fan_in", "gauss"),
            "variance_scaling.distribution must be one of 'truncated_normal', 'normal', 'uniform', got 'gauss'",
        ),
        (
            lambda: init.variance_scaling(1, "fan_in", "normal", in_axis=[0]),
            "variance_scaling.in_axis must be an integer or a tuple of integers, got [0] (list)",
        ),
        (lambda: init.variance_scaling(1, [], "normal"), "variance_scaling.mode must be"),
        (lambda: init.orthogonal(0.0), "orthogonal.scale must be a finite number > 0"),
        (lambda: init.orthogonal(1.0, 0.5), "orthogonal.column_axis must be an integer"),
        (lambda: init.constant("1"), "constant.value must be a number, got '1' (str)"),
        (lambda: init.constant(np.ones(2)), "constant.value must be a number, got float64[2]"),
        (lambda: init.constant(None), "constant.value must be a number, got None"),
    ],
)
def test_options_are_checked(make, message):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert message in str(error.value)


@given(
    st.one_of(st.integers(-300, 300), st.floats(-300, 300), st.booleans(), st.complex_numbers()),
    st.sampled_from([jnp.int8, jnp.uint8, jnp.int32, jnp.bool_]),
)
def test_a_constant_is_held_exactly_or_refused(number, dtype):
    value = init.constant(number)
    bounds = (0, 1) if dtype == jnp.bool_ else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    real = not isinstance(number, complex)
    if real and number == int(number) and bounds[0] <= number <= bounds[1]:
        made = value(None, (2,), dtype)
        assert made.dtype == dtype
        assert made.tolist() == [number, number]
    else:
        with pytest.raises(TypeError) as error:
            value(None, (2,), dtype)
        assert str(error.value) == f"{value!r} is not a value of dtype {np.dtype(dtype).name}"
    if real:
        assert tree_equal(value(None, (), jnp.float32), jnp.float32(number))
    else:
        with pytest.raises(TypeError, match="is not a value of dtype float32"):
            value(None, (), jnp.float32)


def test_constants_of_any_dtype():
    assert init.constant(2**31 - 1)(None, (), jnp.int32) == 2**31 - 1
    assert init.constant(np.float32(0.1)) == init.constant(float(np.float32(0.1)))
    assert init.constant(1j)(None, (), jnp.complex64) == 1j
    assert bool(jnp.isnan(init.constant(math.nan)(None, (), jnp.bfloat16)))
    assert init.constant(math.inf)(None, (), jnp.float16) == math.inf
    for number in (math.inf, math.nan, 0.5, 256, -1, 1j):
        with pytest.raises(TypeError, match="is not a value of dtype uint8"):
            init.constant(number)(None, (), jnp.uint8)
    with pytest.raises(TypeError, match="is not a value of dtype key<fry>"):
        init.constant(0)(None, (), KEY.dtype)
