"""The decorator of every loss: the dtype rule, float32 for half precision, shared documentation."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mlax._checking.bounds import Bounds
from mlax._checking.spelling import qualname, spelled
from mlax._checking.values import checks_enabled
from mlax._jax.dtypes import compute_dtype
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax.tree import describe
from mlax.typing._checked import checked
from mlax.typing._complaints import LeafMismatchError

__all__ = ["Number", "loss", "require"]

Number: TypeAlias = float | Float[Array, ""]
"""A setting of a loss: a Python number, or an array of shape () in the predictions' dtype."""

P = ParamSpec("P")
R = TypeVar("R")


def loss(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of one example a public loss.

    Arguments are checked against their annotations. All floating-point arrays have the same dtype,
    and arrays annotated with the same dimensions have the same shape. The loss is computed in that
    dtype, or in float32 if it is narrower, under strict promotion. The result is rounded once, to
    the dtype of the arguments.

    The docstring is completed with what all losses share: arguments, if none are described, then
    the result and the exceptions.

    Args:
        function: Takes arrays annotated with jaxtyping, the first one floating-point.
    """
    function.__module__ = function.__module__.partition("._")[0]  # its public place
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    function.__doc__ = _completed(function.__doc__ or "", hints)
    call = _with_precision(function, signature)
    check = _Check(
        f"{function.__module__.removeprefix('mlax.')}.{qualname(function)}",
        signature,
        hints,
    )
    checked_call = checked(call)

    @trimmed
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not checks_enabled():
            return call(*args, **kwargs)
        check(args, kwargs)
        return checked_call(*args, **kwargs)

    return wrapper


def _completed(doc: str, hints: dict[str, Any]) -> str:
    """Return a loss's docstring with the sections that it does not have itself."""
    first, *others = names = [name for name in hints if name != "return"]
    floats = [name for name in names if "Float[" in spelled(hints[name])]
    settings = [f"`{name}`" for name in names if _is_setting(hints[name])]
    text, *references = inspect.cleandoc(doc).split("\n\nReferences:")
    if "\n\nArgs:" not in text:
        vector = not hints[first].dim_str.startswith("*")
        text += f"\n\nArgs:\n    {first}: {'A vector' if vector else 'Any shape'}."
        text += "".join(f"\n    {name}: Same shape and dtype." for name in others)
    if "\n\nReturns:" not in text:
        text += f"\n\nReturns:\n    A number (shape ()) in the dtype of `{first}`."
    text += "\n\nRaises:"
    if len(floats) > 1:
        text += "\n    LeafMismatchError: Arrays that should have the same dtype or shape do not."
    text += "\n    TypeError: An argument does not match its annotation; it may be a batch."
    text += "\n    ValueError: An array is empty"
    if settings:
        which = settings[0] if len(settings) == 1 else f"one of {', '.join(settings)}"
        text += f", or {which} is out of bounds"
    return "\n\nReferences:".join([f"{text}.", *references])


def _is_setting(hint: Any) -> bool:
    return hint is int or float in (hint, *get_args(hint))


def _with_precision(function: Callable[P, R], signature: inspect.Signature) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            given = None
        if given is None:
            return function(*args, **kwargs)  # raises Python's own error, which names the function
        floats = {name: x for name, x in given.arguments.items() if _is_float(x)}
        dtype = next((np.dtype(x.dtype) for x in floats.values()), np.dtype(np.float32))
        wide = compute_dtype(dtype)
        for name, x in floats.items():  # the conversion also removes weak types
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
    """An array argument, and the part of its annotation that allows its dtype."""

    name: str
    value: Any
    hint: Any


class _Check(NamedTuple):
    """Checks that annotations alone cannot make, or make with a worse message."""

    label: str
    signature: inspect.Signature
    hints: dict[str, Any]

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._refuse_bools(args, kwargs)
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
                    "a loss takes one example; map it over a batch with jax.vmap"
                )
            if array.value.ndim < axes and "|" in expected.removesuffix(" | None"):
                # Of two kinds of argument, this may be the other: a label that is a float.
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

    def _refuse_bools(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise an error for True or False in place of a number, which annotations allow."""
        for name, value in self._bound(args, kwargs).items():
            hint = self.hints[name]
            kinds = (hint, *get_args(hint))
            if isinstance(value, bool) and (int in kinds or float in kinds) and bool not in kinds:
                raise TypeError(f"{self.label}: {name} must be {spelled(hint)}, got {value}")

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name; none if they do not fit, for which the call raises Python's own error."""
        try:
            return self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return {}

    def _arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Given]:
        """Yield the arguments that are JAX arrays with a dtype that their annotation allows."""
        for name, value in self._bound(args, kwargs).items():
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
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise an error if a setting is out of bounds or not finite. Tracers are not checked.

    Args:
        name: The loss and its argument: `huber: delta`.
        value: The value given.
        above: The setting has to be greater than this.
        at_least: The setting has to be at least this.
        below: The setting has to be less than this.
        at_most: The setting has to be at most this.

    Raises:
        ValueError: Names the bounds and the value.
    """
    bounds = Bounds(at_least, above, at_most, below)
    if not is_tracer(value) and (expected := bounds.expected(float(value))) is not None:
        shown = value if isinstance(value, int | float) else float(value)
        raise ValueError(f"losses.{name} must be {expected}, got {shown}")
