"""Initializers: functions that make the first weights of a model.

    from mlax.nn import init

    Linear(10, kernel=Parameter(init=init.he_normal), bias=Parameter(init=init.constant(0.1)))

An initializer is called with a key, a shape and a dtype, and returns an array. Any function of these can be one. Those
here are immutable values: they compare by their options, pickle, and can be static fields of a Module. There are two
forms:

    without options   zeros, ones, glorot_normal, glorot_uniform, he_normal, he_uniform, lecun_normal, lecun_uniform
    with options      constant(value), normal(stddev), orthogonal(scale), truncated_normal(stddev), uniform(low, high),
                      variance_scaling(scale, mode, distribution)

`dataclasses.replace(he_normal, in_axis=0)` changes an option of one that has a name.

With the same key, they return the values of `jax.nn.initializers`. Dtypes narrower than float32 are the exception:
their values are computed in float32 and rounded once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import compute_dtype, is_complex, is_inexact, is_key
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._module.printing import Printed
from mlax._module.recipes import Initializer, available_dtype, sizes_of
from mlax.tree import describe

__all__ = [
    "Initializer",
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]

_names: dict[str, str] = {}  # `constant(value=0)` prints as `zeros`


@dataclass(frozen=True, repr=False)
class _Value(Printed, ABC):
    """Base class of the initializers in this file."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        setattr(cls, "__post_init__", trimmed(cls.__post_init__))  # noqa: B010

    def __post_init__(self) -> None:
        """Refuse wrong options."""

    def __call__(self, key: Array | None, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
        """Return an array.

        Args:
            key: PRNG key. It may be None if the values are not random.
            shape: Shape of the array.
            dtype: Its dtype. By default JAX's default float dtype.

        Raises:
            TypeError: The initializer does not make arrays of this dtype, or `shape` is not valid.
            ValueError: A key is needed, or the shape has too few axes.
        """
        sizes = sizes_of(repr(self), shape)
        return self._array(key, sizes, available_dtype(repr(self), dtype))

    @abstractmethod
    def _array(self, key: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of a checked shape and dtype."""

    def __repr__(self) -> str:
        given = [(field, getattr(self, field.name)) for field in fields(self)]
        shown = [f"{field.name}={value!r}" for field, value in given if value != field.default]
        text = f"{type(self).__name__}({', '.join(shown)})"
        return _names.get(text, text)

    def _store(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _store_number(
        self, name: str, *, at_least: float = -math.inf, above: float = -math.inf
    ) -> None:
        """Check that an option is a finite number in its bounds, and store it as a float."""
        value: object = getattr(self, name)
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            number = float(cast("Any", value))
            if math.isfinite(number) and number >= at_least and number > above:
                self._store(name, number)
                return
        bounds = f" >= {at_least:g}" if math.isfinite(at_least) else ""
        bounds += f" > {above:g}" if math.isfinite(above) else ""
        self._refuse(name, f"a finite number{bounds}")

    def _refuse(self, name: str, expected: str) -> None:
        value: Any = getattr(self, name)
        kind = ValueError if isinstance(value, (int, float, str, tuple)) else TypeError
        hint = ""
        if isinstance(value, (jax.Array, np.ndarray)):
            hint = "\n  Use a Python number: an initializer must be hashable."
        given = describe(cast("object", value))
        raise kind(f"{type(self).__name__}.{name} must be {expected}, got {given}{hint}")


@dataclass(frozen=True, repr=False)
class constant(_Value):
    """The same number everywhere. It needs no key.

    Args:
        value: The number. An array of an integer or bool dtype must be able to hold it exactly, and
            only complex arrays hold complex numbers.
    """

    value: complex

    def __post_init__(self) -> None:
        value: Any = self.value
        if isinstance(value, (np.number, np.bool_)):
            self._store("value", cast("Any", value).item())
        elif not isinstance(value, (bool, int, float, complex)):
            self._refuse("value", "a number")

    def _array(self, key: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
        if not _holds(dtype, self.value):
            raise TypeError(f"{self!r} is not a value of dtype {dtype.name}")
        return jnp.full(shape, self.value, dtype)


def _holds(dtype: Any, value: complex) -> bool:
    if is_key(dtype):
        return False
    if is_complex(dtype):
        return True
    if isinstance(value, complex):
        return False
    if is_inexact(dtype):
        return True
    if dtype == np.bool_:
        return value in (0, 1)
    bounds = jnp.iinfo(dtype)
    return value == value // 1 and bounds.min <= value <= bounds.max


class _Random(_Value):
    """Base class of those whose values are random."""

    makes_complex: ClassVar[bool] = True

    def _array(self, key: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
        if not is_inexact(dtype) or (is_complex(dtype) and not self.makes_complex):
            kinds = "floating-point or complex" if self.makes_complex else "floating-point"
            raise TypeError(f"{self!r} makes only {kinds} arrays, got dtype {dtype.name}")
        if key is None:
            raise ValueError(f"{self!r} needs a key, got None")
        self._check_axes(shape)
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        return self._sample(key, shape, compute_dtype(dtype)).astype(dtype)

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        """Raise an error if the shape lacks axes that the initializer needs."""

    @abstractmethod
    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return random values, in float32 or a wider dtype."""


_ROOMS = 2**16, 2**20  # longer vectors take longer to fill than to compile for


def _drawn(make: Initializer, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return `make(key, shape, dtype)`, for a function whose values are independent of each other and of the shape.

    JAX compiles the generator for each shape, which takes 0.3 to 0.5 s of CPU time. Here shapes share one that fills a
    longer vector, whose first values are the same: threefry makes each value of the key and its position.
    """
    size = math.prod(shape)
    room = next((room for room in _ROOMS if room >= size), None)
    if room is None or is_tracer(key) or not _counts_positions(key):
        return make(key, shape, dtype)
    vector = make(key, (room,), dtype)
    return cast("Array", _first(vector, shape))


def _counts_positions(key: Array) -> bool:
    """Whether the i-th value of a key is the same in a vector of any length."""
    partitionable: bool = cast("Any", jax.config).jax_threefry_partitionable
    return partitionable and str(jax.random.key_impl(key)) == "threefry2x32"


@partial(jax.jit, static_argnums=1)
def _first(values: Array, shape: tuple[int, ...]) -> Array:
    """Return the first values of a vector as an array of this shape."""
    return values[: math.prod(shape)].reshape(shape)


@dataclass(frozen=True, repr=False)
class normal(_Random):
    """Normally distributed around 0.

    Args:
        stddev: Standard deviation, at least 0.
    """

    stddev: float = 0.01

    def __post_init__(self) -> None:
        self._store_number("stddev", at_least=0)

    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return _drawn(initializers.normal(self.stddev), key, shape, dtype)


@dataclass(frozen=True, repr=False)
class truncated_normal(_Random):
    """Normally distributed around 0, without the tails.

    Args:
        stddev: Standard deviation of the distribution with its tails, at least 0. That of the
            values is smaller: 0.88 of it with the default bounds.
        lower: Lower bound, in standard deviations.
        upper: Upper bound, in standard deviations.
    """

    makes_complex = False
    stddev: float = 0.01
    lower: float = -2.0
    upper: float = 2.0

    def __post_init__(self) -> None:
        self._store_number("stddev", at_least=0)
        self._store_number("lower")
        self._store_number("upper", above=self.lower)

    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        make = initializers.truncated_normal(self.stddev, lower=self.lower, upper=self.upper)
        return _drawn(make, key, shape, dtype)


@dataclass(frozen=True, repr=False)
class uniform(_Random):
    """Uniformly distributed between two numbers.

    `jax.nn.initializers.uniform(scale)` is `uniform(0, scale)`.

    Args:
        low: Lower bound.
        high: Upper bound, above `low`.
    """

    makes_complex = False
    low: float
    high: float

    def __post_init__(self) -> None:
        self._store_number("low")
        self._store_number("high", above=self.low)

    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        make = partial(jax.random.uniform, minval=self.low, maxval=self.high)
        return _drawn(make, key, shape, dtype)


_Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
_Distribution = Literal["truncated_normal", "normal", "uniform"]
_Axes = int | tuple[int, ...]


@dataclass(frozen=True, repr=False)
class variance_scaling(_Random):
    """Random around 0, with the variance `scale / n`, where n is a number of inputs or outputs.

    Axes that are neither inputs, outputs nor a batch are the receptive field of a convolution. Its
    size multiplies the numbers of inputs and outputs.

    Args:
        scale: Factor of the variance, above 0.
        mode: What n is: the number of inputs, of outputs, or their arithmetic or geometric mean.
        distribution: `"truncated_normal"` is truncated at 2 standard deviations. Complex values are
            uniform on a disk, or truncated by their modulus.
        in_axis: Axis or axes of the inputs.
        out_axis: Axis or axes of the outputs.
        batch_axis: Axis or axes along which there are independent weights.
    """

    scale: float
    mode: _Mode
    distribution: _Distribution
    in_axis: _Axes = -2
    out_axis: _Axes = -1
    batch_axis: _Axes = ()

    def __post_init__(self) -> None:
        self._store_number("scale", above=0)
        for name, choices in (("mode", get_args(_Mode)), ("distribution", get_args(_Distribution))):
            if getattr(self, name) not in choices:
                self._refuse(name, f"one of {', '.join(map(repr, choices))}")
        for name in ("in_axis", "out_axis", "batch_axis"):
            if not all(map(_is_axis, _axes(getattr(self, name)))):
                self._refuse(name, "an integer or a tuple of integers")

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        axes = [*_axes(self.in_axis), *_axes(self.out_axis), *_axes(self.batch_axis)]
        found = {axis % len(shape) for axis in axes if -len(shape) <= axis < len(shape)}
        if len(found) < len(axes):
            raise ValueError(
                f"{self!r} needs arrays with the different axes {', '.join(map(str, axes))}, got the shape {shape}.\n"
                f"  Use zeros or normal(stddev) for a vector, or set in_axis and out_axis."
            )

    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return _drawn(self._of_variance(self.scale / self._fan(shape)), key, shape, dtype)

    def _fan(self, shape: tuple[int, ...]) -> float:
        """Return the number that the variance is divided by."""
        inputs, outputs, batch = (
            math.prod(shape[axis] for axis in _axes(axes))
            for axes in (self.in_axis, self.out_axis, self.batch_axis)
        )
        field = math.prod(shape) / inputs / outputs / batch
        fan_in, fan_out = inputs * field, outputs * field
        if self.mode == "fan_in":
            return fan_in
        if self.mode == "fan_out":
            return fan_out
        return (
            (fan_in + fan_out) / 2 if self.mode == "fan_avg" else float((fan_in * fan_out) ** 0.5)
        )

    def _of_variance(self, variance: float) -> Initializer:
        """Return JAX's function for a variance, whatever the shape is."""

        def make(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            every = tuple(range(len(shape)))  # as axes of a batch, which leaves a fan of 1
            scaling = initializers.variance_scaling(
                variance, "fan_in", self.distribution, in_axis=(), out_axis=(), batch_axis=every
            )
            return scaling(key, shape, dtype)

        return make


def _is_axis(axis: object) -> bool:
    return isinstance(axis, int) and not isinstance(axis, bool)


def _axes(axes: _Axes) -> tuple[int, ...]:
    return axes if isinstance(axes, tuple) else (axes,)


@dataclass(frozen=True, repr=False)
class orthogonal(_Random):
    """A random orthogonal matrix; if it is not square, its rows or columns are orthonormal.

    With more than two axes, all but one are the rows.

    Args:
        scale: Factor of the matrix, above 0.
        column_axis: The axis of the columns.
    """

    scale: float = 1.0
    column_axis: int = -1

    def __post_init__(self) -> None:
        self._store_number("scale", above=0)
        if not _is_axis(self.column_axis):
            self._refuse("column_axis", "an integer")

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or not -len(shape) <= self.column_axis < len(shape):
            raise ValueError(
                f"{self!r} needs at least two axes, among them {self.column_axis}, got the shape {shape}"
            )

    def _sample(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return initializers.orthogonal(self.scale, self.column_axis)(key, shape, dtype)


zeros: constant = constant(0)
"""All 0. It needs no key."""

ones: constant = constant(1)
"""All 1. It needs no key."""

glorot_normal: variance_scaling = variance_scaling(1.0, "fan_avg", "truncated_normal")
"""Glorot and Bengio (2010), also called Xavier: for layers followed by tanh."""

glorot_uniform: variance_scaling = variance_scaling(1.0, "fan_avg", "uniform")
"""Like `glorot_normal`, uniformly distributed."""

he_normal: variance_scaling = variance_scaling(2.0, "fan_in", "truncated_normal")
"""He et al. (2015), also called Kaiming: for layers followed by ReLU."""

he_uniform: variance_scaling = variance_scaling(2.0, "fan_in", "uniform")
"""Like `he_normal`, uniformly distributed."""

lecun_normal: variance_scaling = variance_scaling(1.0, "fan_in", "truncated_normal")
"""LeCun et al. (1998): the outputs have the variance of the inputs. Also for SELU."""

lecun_uniform: variance_scaling = variance_scaling(1.0, "fan_in", "uniform")
"""Like `lecun_normal`, uniformly distributed."""

_names |= {
    repr(value): name for name, value in list(globals().items()) if isinstance(value, _Value)
}
