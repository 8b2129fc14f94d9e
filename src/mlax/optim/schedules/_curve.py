"""What all schedules of the library share: how their fields are checked, and how they are called."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import counts, values
from mlax.optimizer._hyperparameters import integer, number
from mlax.optimizer._specified import Specification, Specified

__all__ = [
    "Boundaries",
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
Steps: TypeAlias = Annotated[int, _STEPS]
StepsOrNone: TypeAlias = Annotated[int | None, _STEPS]
Count: TypeAlias = Annotated[int, integer(at_least=0)]
Boundaries: TypeAlias = Annotated[Sequence[int], Specification(_boundaries)]
Scales: TypeAlias = Annotated[
    Mapping[int, float] | Sequence[tuple[int, float]], Specification(_scales)
]


class Curve(Specified, ABC):
    """Base class of the library's schedules. A subclass becomes a frozen dataclass that is static to JAX.

    The annotation of a field determines how it is checked. Any callable can be a schedule; yours
    need not inherit from this class.
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
        return jnp.where(jnp.isnan(n), n, value) if jnp.issubdtype(n.dtype, jnp.floating) else value

    @abstractmethod
    def _at(self, n: Array) -> Array:
        """Return the values at steps >= 0."""

    def _hint(self, name: str, value: object) -> str:
        if not isinstance(value, jax.Array):
            return ""
        return "; use a Python number: a schedule must be hashable"
