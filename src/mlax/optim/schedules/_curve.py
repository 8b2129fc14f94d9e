"""What all schedules of the library share: how their fields are checked, and how they are called."""

import dataclasses
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import counts, real, values
from mlax.optimizer._hyperparameters import Schedule, integer, is_schedule, number
from mlax.optimizer._specified import Specification, Specified

__all__ = [
    "Boundaries",
    "Combination",
    "Count",
    "Curve",
    "Factor",
    "Fraction",
    "Positive",
    "Real",
    "RealOrNone",
    "Scales",
    "Steps",
    "StepsOrNone",
    "elements",
]


def elements(value: object) -> tuple[Any, ...]:
    """Return the items of a sequence; nothing for anything else."""
    return tuple(cast("Any", value)) if isinstance(value, Sequence) else ()


def _increasing(value: Any) -> tuple[int, ...]:
    steps = tuple(_STEPS.normalise(step) for step in value)
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError
    return steps


def _boundaries(value: Any) -> tuple[int, ...]:
    try:
        return _increasing(value)
    except (TypeError, ValueError) as error:
        raise type(error)("increasing integers >= 1") from None


def _scales(value: Any) -> tuple[tuple[int, float], ...]:
    given: Any = value
    if isinstance(value, Mapping):
        given = cast("Any", value).items()
    try:
        pairs = sorted((_STEPS.normalise(step), _FACTOR.normalise(scale)) for step, scale in given)
        _increasing(step for step, _ in pairs)
    except (TypeError, ValueError) as error:
        raise type(error)("a dict from steps >= 1 to factors >= 0") from None
    return tuple(pairs)


_STEPS = integer(at_least=1)
_FACTOR = number(at_least=0)

Real: TypeAlias = Annotated[float, number()]
RealOrNone: TypeAlias = Annotated[float | None, number()]
Positive: TypeAlias = Annotated[float, number(above=0)]
Factor: TypeAlias = Annotated[float, _FACTOR]
Fraction: TypeAlias = Annotated[float, number(at_least=0, at_most=1)]
Steps: TypeAlias = Annotated[float, _STEPS]
StepsOrNone: TypeAlias = Annotated[float | None, _STEPS]
Count: TypeAlias = Annotated[float, integer(at_least=0)]
Boundaries: TypeAlias = Annotated[Sequence[float], Specification(_boundaries)]
Scales: TypeAlias = Annotated[
    Mapping[int, float] | Mapping[float, float] | Sequence[tuple[float, float]],
    Specification(_scales),
]


class Curve(Specified, ABC):
    """Base class of the library's schedules. A subclass becomes a frozen dataclass that is static to JAX.

    The annotation of a field determines how it is checked. Any callable can be a schedule; yours
    need not inherit from this class.

    Schedules are added, subtracted, multiplied and divided, by numbers and by each other: `0.1 * schedule`.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __call__(self, step: ArrayLike) -> Array:
        """Return the value at a step.

        Args:
            step: Number of steps done, an integer: a scalar, or an array of any shape. Steps below
                0 count as 0. A float is a point between two steps, and values can be differentiated
                with respect to it. Infinity counts as the largest float: a decay has ended there.
                NaN gives NaN.

        Returns:
            The value or values, in JAX's default float dtype.

        Raises:
            TypeError: `step` is not a real number.
            ValueError: `step` is an integer too large for JAX's default integer dtype.
        """
        n = counts(step, type(self).__name__)
        value = values(self._at(n))
        if not jnp.issubdtype(n.dtype, jnp.floating):
            return value
        return value + jnp.where(jnp.isnan(n), n, 0.0) * n  # NaN, and so is its derivative

    def __add__(self, other: float | Schedule) -> "Combination":
        return Combination(self, "+", other)

    def __radd__(self, other: float | Schedule) -> "Combination":
        return Combination(other, "+", self)

    def __sub__(self, other: float | Schedule) -> "Combination":
        return Combination(self, "-", other)

    def __rsub__(self, other: float | Schedule) -> "Combination":
        return Combination(other, "-", self)

    def __mul__(self, other: float | Schedule) -> "Combination":
        return Combination(self, "*", other)

    def __rmul__(self, other: float | Schedule) -> "Combination":
        return Combination(other, "*", self)

    def __truediv__(self, other: float | Schedule) -> "Combination":
        return Combination(self, "/", other)

    def __rtruediv__(self, other: float | Schedule) -> "Combination":
        return Combination(other, "/", self)

    def __neg__(self) -> "Combination":
        return Combination(-1.0, "*", self)

    @abstractmethod
    def _at(self, n: Array) -> Array:
        """Return the values at steps >= 0."""

    def _hint(self, name: str, value: object) -> str:
        if not isinstance(value, jax.Array):
            return ""
        return "; use a Python number: a schedule must be hashable"


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _operand(value: Any) -> Any:
    try:
        hash(value)
        return value if is_schedule(value) else number().normalise(value)
    except TypeError:
        raise TypeError("a number or a hashable schedule") from None


class Combination(Curve):
    """Two schedules, or a schedule and a number, with an operator between them.

    Args:
        left: A number or a schedule. Your own functions get the step as an array.
        operator: `"+"`, `"-"`, `"*"` or `"/"`.
        right: A number or a schedule.
    """

    left: Annotated[float | Schedule, Specification(_operand)]
    operator: Literal["+", "-", "*", "/"]
    right: Annotated[float | Schedule, Specification(_operand)]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require((self.operator, self.right) != ("/", 0), "right must not be 0 in a quotient")

    def _at(self, n: Array) -> Array:
        left, right = (real(x, n) if is_schedule(x) else x for x in (self.left, self.right))
        return values(_OPERATORS[self.operator](left, right))

    def __repr__(self) -> str:
        """Return the expression that makes it."""
        return f"({self.left!r} {self.operator} {self.right!r})"
