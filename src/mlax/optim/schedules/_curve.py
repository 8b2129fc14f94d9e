"""What all schedules of the library share: how their fields are checked, and how they are called."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeAlias, cast, dataclass_transform

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax.optim.schedules._arithmetic import counts, values
from mlax.optimizer import _hyperparameters
from mlax.optimizer._hyperparameters import Specification, specification
from mlax.tree import describe

__all__ = [
    "Boundaries",
    "Count",
    "Curve",
    "Factor",
    "Flag",
    "Fraction",
    "Positive",
    "Real",
    "RealOrNone",
    "Scales",
    "Steps",
    "StepsOrNone",
    "elements",
    "one_of",
]


def _as(field: dataclasses.Field[Any]) -> Specification:
    """Return the check of a hyperparameter's field: numbers of schedules follow the same rules."""
    return cast("Specification", specification(field.metadata))


def one_of(*choices: str) -> Specification:
    """Return a check that a value is one of these names."""
    return _as(_hyperparameters.choice(None, *choices))


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


_STEPS = _as(_hyperparameters.integer(None, at_least=1))
_FACTOR = _as(_hyperparameters.number(None, at_least=0))

Real: TypeAlias = Annotated[float, _as(_hyperparameters.number(None))]
RealOrNone: TypeAlias = Annotated[float | None, _as(_hyperparameters.number(None))]
Positive: TypeAlias = Annotated[float, _as(_hyperparameters.number(None, above=0))]
Factor: TypeAlias = Annotated[float, _FACTOR]
Fraction: TypeAlias = Annotated[float, _as(_hyperparameters.number(None, at_least=0, at_most=1))]
Steps: TypeAlias = Annotated[int, _STEPS]
StepsOrNone: TypeAlias = Annotated[int | None, _STEPS]
Count: TypeAlias = Annotated[int, _as(_hyperparameters.integer(None, at_least=0))]
Flag: TypeAlias = Annotated[bool, _as(_hyperparameters.flag(False))]
Boundaries: TypeAlias = Annotated[Sequence[int], Specification(_boundaries)]
Scales: TypeAlias = Annotated[
    Mapping[int, float] | Sequence[tuple[int, float]], Specification(_scales)
]


@dataclass_transform(frozen_default=True)
class Curve(ABC):
    """Base class of the library's schedules. A subclass becomes a frozen dataclass that is static to JAX.

    The annotation of a field determines how it is checked. Any callable can be a schedule; yours
    need not inherit from this class.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(dataclasses.dataclass(frozen=True)(cls))

    def __post_init__(self) -> None:
        """Bring every field into its normal form. Raise an error if one is out of bounds."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            (check,) = cast("Any", field.type).__metadata__
            try:
                normal = check.normalise(value)
            except (TypeError, ValueError) as error:
                raise type(error)(self._complaint(field.name, value, str(error))) from None
            object.__setattr__(self, field.name, normal)

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

    def _complaint(self, name: str, value: object, expected: str) -> str:
        number = isinstance(value, bool | int | float) and abs(value) < 2**64
        text = f"{type(self).__name__}: {name} must be {expected}, "
        text += f"got {value if number else describe(value)}"
        if isinstance(value, jax.Array):
            text += "; use a Python number: a schedule must be hashable"
        return text

    def _require(self, test: bool, message: str) -> None:
        """Raise ValueError with a message about the fields unless `test` holds."""
        if not test:
            raise ValueError(f"{type(self).__name__}: {message}")
