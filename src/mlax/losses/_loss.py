"""What every loss is made with: the dtype rule, float32 arithmetic for half precision, and bounds of its numbers."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mlax._checking.spelling import spelled
from mlax._checking.values import checks_enabled
from mlax._jax.dtypes import compute_dtype
from mlax._jax.tracing import is_tracer
from mlax.tree import describe
from mlax.typing._checked import LeafMismatchError, checked

__all__ = ["Number", "loss", "require"]

Number: TypeAlias = float | Float[Array, ""]
"""A setting of a loss: a Python number, or an array of shape () in the dtype of the predictions."""

P = ParamSpec("P")
R = TypeVar("R")


def loss(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of one example a public loss.

    Its arguments are checked against their annotations; floating-point arrays have one dtype, and those annotated with
    the same dimensions one shape. It computes in that dtype, or in float32 where that is narrower, under strict
    promotion; what it returns is rounded once, to the dtype of the arguments.

    Args:
        function: Takes arrays annotated with jaxtyping, the first one floating-point.

    Raises:
        LeafMismatchError: By the loss, for arrays that differ in dtype or shape.
        TypeError: By the loss, for a batch where one example was expected, and for what is no JAX array.
        ValueError: By the loss, for an empty array.
    """
    function.__module__ = function.__module__.partition("._")[0]  # where people know it from
    signature = inspect.signature(function)
    call = _with_precision(function, signature)
    check = _Check(
        f"{function.__module__.removeprefix('mlax.')}.{function.__name__}",
        signature,
        get_type_hints(function, include_extras=True),
    )
    checked_call = checked(call)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not checks_enabled():
            return call(*args, **kwargs)
        check(args, kwargs)
        return checked_call(*args, **kwargs)

    return wrapper


def _with_precision(function: Callable[P, R], signature: inspect.Signature) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # raises Python's own, which names the function
        floats = {name: x for name, x in given.arguments.items() if _is_float(x)}
        dtype = next((np.dtype(x.dtype) for x in floats.values()), np.dtype(np.float32))
        wide = compute_dtype(dtype)
        for name, x in floats.items():  # this is also where weak types end
            given.arguments[name] = lax.convert_element_type(x, wide)
        with jax.numpy_dtype_promotion("strict"):
            result = cast("Any", function)(*given.args, **given.kwargs)

        def rounded(x: Any) -> Array:
            return lax.convert_element_type(x, dtype)

        return cast("R", jax.tree.map(rounded, result))

    return call


def _is_float(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


class _Given(NamedTuple):
    """An array argument, and the part of its annotation that speaks of its dtype."""

    name: str
    value: Any
    hint: Any


class _Check(NamedTuple):
    """Checks that annotations alone do not make, or make with a worse message."""

    label: str
    signature: inspect.Signature
    hints: dict[str, Any]

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lines: list[str] = []
        reference: _Given | None = None
        by_dimensions: dict[str, _Given] = {}
        for array in self._arrays(args, kwargs):
            dimensions: str = array.hint.dim_str
            axes = array.value.ndim if dimensions.startswith("*") else len(dimensions.split())
            expected = spelled(self.hints[array.name])
            if array.value.ndim > axes:
                raise TypeError(
                    f"{self.label}: {array.name} must be {expected}, got {describe(array.value)}; "
                    "a loss takes one example, jax.vmap maps it over a batch"
                )
            if array.value.ndim < axes and "|" in expected.removesuffix(" | None"):
                # Perhaps the other one of two kinds was meant: a label that is a float.
                raise TypeError(
                    f"{self.label}: {array.name} must be {expected}, got {describe(array.value)}"
                )
            if _is_float(array.value):
                if array.value.size == 0:
                    raise ValueError(
                        f"{self.label}: {array.name} is empty: {describe(array.value)}"
                    )
                reference = reference or array
                if array.value.dtype != reference.value.dtype:
                    lines.append(_line(array, reference))
                    continue
            other = by_dimensions.setdefault(dimensions, array) if dimensions else array
            if array.value.shape != other.value.shape:
                lines.append(_line(array, other))
        if lines and reference is not None:
            raise LeafMismatchError(
                f"{self.label}: arguments that do not correspond to `{reference.name}` "
                "(no implicit promotion or broadcasting):\n  " + "\n  ".join(lines)
            )

    def _arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Given]:
        """Yield the arguments that are JAX arrays of a dtype that their annotation allows."""
        try:
            arguments = self.signature.bind(*args, **kwargs).arguments
        except TypeError:  # the call itself raises Python's own
            return
        for name, value in arguments.items():
            if isinstance(value, jax.Array):
                for hint in get_args(self.hints[name]) or (self.hints[name],):
                    if str(value.dtype) in getattr(hint, "dtypes", ()):
                        yield _Given(name, value, hint)
                        break


def _line(array: _Given, other: _Given) -> str:
    return f"{array.name}: {describe(array.value)}, but {other.name}: {describe(other.value)}"


def require(
    name: str,
    value: Number,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> None:
    """Refuse a setting that is out of bounds, or not finite; tracers are let through.

    Args:
        name: Of the loss and its argument: `huber: delta`.
        value: What was given.
        above: The setting is greater than this.
        at_least: The setting is not less.
        below: The setting is less.
        at_most: The setting is not greater.

    Raises:
        ValueError: Naming the bounds and what was given.
    """
    if is_tracer(value):
        return
    number = float(value)
    bounds = {">": above, ">=": at_least, "<": below, "<=": at_most}
    expected = " and ".join(
        f"{sign} {bound:g}" for sign, bound in bounds.items() if math.isfinite(bound)
    )
    if not (math.isfinite(number) and above < number < below and at_least <= number <= at_most):
        shown = value if isinstance(value, int | float) else number
        raise ValueError(f"losses.{name} must be {expected or 'a finite number'}, got {shown}")
