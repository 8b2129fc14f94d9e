"""Optimizers as values.

An optimizer's class is its hyperparameters. A state holds a copy of it, in which the numbers that the state itself
holds are replaced by a marker: static, hashable, and without leaves.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar, cast, dataclass_transform

import jax
import numpy as np

from mlax._jax.tracing import is_tracer
from mlax.optimizer._hyperparameters import HELD, is_array, is_schedule, required, specification
from mlax.optimizer._stepping import initial
from mlax.tree import describe

__all__ = ["Optimizer"]


S = TypeVar("S")


# Of field_specifiers only `required`: checkers take `number(0.9, ...)` for the default that it is.
@dataclass_transform(frozen_default=True, field_specifiers=(required,))
class Optimizer:
    """Base of every optimizer class. Inheriting is enough: the class becomes a frozen dataclass, static to JAX.

    Instances are equal if their hyperparameters are, and hashable unless they were given arrays.
    """

    __module__ = "mlax.optim"

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        made = dataclasses.dataclass(frozen=True)(cls)
        setattr(made, "__hash__", _naming_arrays(made.__hash__))  # noqa: B010
        jax.tree_util.register_static(made)

    def __post_init__(self) -> None:
        """Bring every hyperparameter into its form, and refuse what is out of bounds."""
        for field in dataclasses.fields(self):
            spec = specification(field.metadata)
            value = getattr(self, field.name)
            if spec is None or (value is None and spec.optional):
                continue
            try:
                normal = spec.normalise(value)
            except (TypeError, ValueError) as error:
                raise type(error)(self._complaint(field.name, value, str(error))) from None
            object.__setattr__(self, field.name, normal)

    def _complaint(self, name: str, value: object, expected: str) -> str:
        text = f"{type(self).__name__}: {name} must be {expected}, got {_shown(value)}"
        schedulable = [
            field.name
            for field in dataclasses.fields(self)
            if (spec := specification(field.metadata)) is not None and spec.schedulable
        ]
        if schedulable and name not in schedulable and (is_array(value) or is_schedule(value)):
            accepting = ", ".join(schedulable)
            text += f"; it is compiled in, arrays and schedules are for {accepting}"
            if is_array(value):
                text += " (with optax.inject_hyperparams, name it in static_args)"
        return text

    def require(self, test: bool, message: str) -> None:
        """Raise ValueError with a message about the hyperparameters unless `test` holds."""
        if not test:
            raise ValueError(f"{type(self).__name__}: {message}")

    def held(self) -> Self:
        """Return a copy that is always hashable: a marker stands for each number that the state holds.

        Schedules stay, and so does None. What a schedule begins with is held to the bounds where it is known.

        Raises:
            ValueError: A schedule's value at step 0 is out of bounds.
        """
        for field in dataclasses.fields(self):
            spec, value = specification(field.metadata), getattr(self, field.name)
            if spec is not None and spec.schedulable and is_schedule(value):
                first = initial(value)
                try:
                    spec.normalise(first)
                except ValueError as error:
                    raise ValueError(
                        f"{type(self).__name__}: {field.name} must be {error}, got {first} from its "
                        "schedule at step 0"
                    ) from None
        return self._held()

    def _held(self) -> Self:
        copy = object.__new__(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            spec = specification(field.metadata)
            if (
                spec is not None
                and spec.schedulable
                and value is not None
                and not is_schedule(value)
            ):
                value = HELD
            object.__setattr__(copy, field.name, self._held_inside(value))
        return copy

    @staticmethod
    def _held_inside(value: Any) -> Any:
        """Do the same with the optimizers that this one is made of; their own `init` has checked their schedules."""
        if isinstance(value, Optimizer):
            return value._held()
        if type(value) is tuple:
            return tuple(Optimizer._held_inside(one) for one in cast("Any", value))
        return value

    def own(self, state: S) -> S:
        """Return a state if it is one of this optimizer's; refuse it if it has other hyperparameters.

        Numbers that the state holds may differ: the state's count.

        Raises:
            TypeError: The state is of another optimizer, or no state.
            ValueError: It has other hyperparameters; naming each.
        """
        theirs = getattr(state, "hyperparameters", None)
        where = f"{type(self).__name__}.step"
        if not isinstance(theirs, Optimizer):
            raise TypeError(
                f"{where}: expected a state from {type(self).__name__}.init, got {describe(state)}"
            )
        if type(theirs) is not type(self):
            raise TypeError(f"{where}: the state is one of {type(theirs).__name__}")
        ours = self._held()  # no schedule is called in each step
        if ours != theirs:
            differences = [
                f"{name} is {_shown(value)} in the state, {_shown(getattr(ours, name))} in the optimizer"
                for name, value in vars(theirs).items()
                if value != getattr(ours, name)
            ]
            raise ValueError(
                f"{where}: the state has other hyperparameters: {'; '.join(differences)}"
            )
        return state


def _naming_arrays(generated: Callable[..., int]) -> Callable[..., int]:
    """Return a `__hash__` that says which hyperparameter has none."""

    def __hash__(self: object) -> int:  # noqa: N807
        try:
            return generated(self)
        except TypeError:
            arrays = [name for name, value in vars(self).items() if is_array(value)]
            if not arrays:
                raise
            raise TypeError(
                f"{type(self).__name__} has no hash, {' and '.join(arrays)} was given as an array; give a number or "
                "a schedule, or set it in the state"
            ) from None

    return __hash__


def _shown(value: object) -> str:
    if value is HELD:
        return "a number"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, np.dtype):
        return value.name
    if getattr(value, "shape", None) == () and not is_tracer(value):
        return f"{value} ({describe(value)})"
    return describe(value)
