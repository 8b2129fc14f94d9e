"""What layers share: checks of their static fields and of dtypes, and nodes that may be absent."""

from collections.abc import Hashable, Iterator
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import compute_dtype
from mlax._jax.trees import class_of
from mlax._module.nodes import ENode
from mlax._module.recipes import Initializer
from mlax.tree import describe

__all__ = [
    "AxisNames",
    "at_least",
    "axis_names",
    "check_dtype",
    "example_key",
    "fraction",
    "is_float",
    "made",
    "one_by_one",
    "one_per_axis",
    "repeated",
    "residual_sum",
    "small",
    "wide",
]

AxisNames = Hashable
"""The name of an axis that examples are mapped over, or a tuple of names."""

N = TypeVar("N", bound=ENode[Any])


def made(
    node: N | None, rng: Array | None, shape: tuple[int, ...], init: Initializer, dtype: DTypeLike
) -> N | None:
    """Return `node.made(...)`; None if the layer has no such node."""
    return None if node is None else node.made(rng, shape, init, dtype)


def check_dtype(layer: Any, x: Array, *names: str, what: str = "input") -> None:
    """Raise an error unless an input has the dtype of the layer's nodes with these names.

    Args:
        layer: The layer.
        x: The input.
        names: Fields of the layer. Those that are None are passed over.
        what: What the input is called in the message.

    Raises:
        TypeError: Names both dtypes.
    """
    for name in names:
        node = getattr(layer, name)
        if node is not None and node.data.dtype != x.dtype:
            kind = type(layer).__name__
            raise TypeError(
                f"{kind}: the {what} is {describe(x)}, but {name} is {describe(node.data)}, and nothing is promoted "
                f"implicitly.\n"
                f"  Cast the {what}, x.astype(jnp.{node.data.dtype.name}), or let the whole model compute in one "
                f"dtype: nn.Compute(model, jnp.{x.dtype.name})."
            )


def wide(x: Array) -> Array:
    """Return an array in the dtype that statistics are computed in: at least float32."""
    return x.astype(compute_dtype(x.dtype))


def at_least(layer: Any, low: int, *names: str) -> None:
    """Raise an error unless static fields are integers of at least `low`. Those that are None are passed over."""
    for name in names:
        value: Any = getattr(layer, name)
        if value is not None and not (_is_int(value) and value >= low):
            raise ValueError(
                f"{type(layer).__name__}.{name} must be an integer of at least {low}, got {value!r}"
            )


def fraction(layer: Any, *names: str, cure: str = "") -> None:
    """Raise an error unless static fields are numbers of at least 0 and less than 1."""
    for name in names:
        value: Any = getattr(layer, name)
        if not 0 <= value < 1:
            raise ValueError(
                f"{type(layer).__name__}.{name} must be at least 0 and less than 1, got {value!r}{cure}"
            )


def small(layer: Any, *names: str) -> None:
    """Raise an error unless fields of a norm are at least 0 and less than 1: others are likely to be meant as sizes."""
    fraction(
        layer,
        *names,
        cure=".\n  The number of channels is not given: it is that of the first input.",
    )


def residual_sum(layer: Any, x: Array, name: str, y: Array) -> Array:
    """Return the sum of a residual connection, `x + y`.

    Args:
        layer: The layer.
        x: The input.
        name: The field with the module whose result is added.
        y: Its result.

    Raises:
        ValueError: The result has another shape or dtype than the input.
    """
    if y.shape != x.shape or y.dtype != x.dtype:
        raise ValueError(
            f"{type(layer).__name__}: the input is {describe(x)}, but {name} returned {describe(y)}"
        )
    return x + y


def one_per_axis(layer: Any, name: str, axes: int, low: int = 1) -> tuple[int, ...]:
    """Return a static field as one integer for each axis.

    Args:
        layer: The layer.
        name: A field that is an integer, which holds for all axes, or has one for each axis.
        axes: Number of axes.
        low: Lower bound.
    """
    values = repeated(getattr(layer, name), axes)
    if len(values) != axes or not all(_is_int(value) and value >= low for value in values):
        raise ValueError(
            f"{type(layer).__name__}.{name} must be an integer of at least {low}, or {axes} of them for {axes} axes, "
            f"got {getattr(layer, name)!r}"
        )
    return values


def repeated(given: Any, axes: int) -> tuple[Any, ...]:
    """Return a tuple as it is, and anything else once for each axis."""
    values: tuple[Any, ...] = given if issubclass(class_of(given), tuple) else (given,) * axes
    return values


def one_by_one(call: str, what: str, given: tuple[Any, ...]) -> None:
    """Raise an error for a list, a tuple or an iterator among arguments that are given one by one.

    Args:
        call: What takes the arguments, such as `Series`.
        what: What they are called, such as `modules`.
        given: The arguments.
    """
    for each in given:
        kind = class_of(each)
        if issubclass(kind, (list, tuple, Iterator)):
            raise TypeError(
                f"{call} takes {what} one by one, got a {kind.__name__} of them.\n"
                f"  Unpack it: nn.{call}(*{what})"
            )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def axis_names(batch_axis_name: AxisNames) -> tuple[Hashable, ...]:
    """Return the names of the axes that examples are mapped over, as a tuple."""
    if isinstance(batch_axis_name, tuple):
        return cast("tuple[Hashable, ...]", batch_axis_name)
    return (batch_axis_name,)


def example_key(rng: Array, batch_axis_name: AxisNames) -> Array:
    """Return a key of this example's own, made of one that all examples were given."""
    for name in axis_names(batch_axis_name):
        rng = jax.random.fold_in(rng, jax.lax.axis_index(name))
    return rng


def is_float(dtype: Any) -> bool:
    """Whether a dtype is floating-point."""
    floating: bool = jnp.issubdtype(dtype, jnp.floating)
    return floating
