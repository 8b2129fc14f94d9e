"""Optimizers as values.

The fields of an optimizer's class are its hyperparameters. A state holds a copy of the optimizer,
in which a marker takes the place of the numbers that the state itself holds. So the copy is static,
hashable, and without leaves.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from mlax._jax.tracebacks import trimmed
from mlax.optimizer._hyperparameters import HELD, is_array, is_schedule, refuse_vanishing
from mlax.optimizer._specified import Specified, shown, specifications
from mlax.optimizer._stepping import initial
from mlax.tree import describe
from mlax.typing import Weights

__all__ = ["Optimizer"]


S = TypeVar("S")
T = TypeVar("T")


class Optimizer(Specified):
    """Base class of all optimizers. A subclass becomes a frozen dataclass that is static to JAX.

    Instances are equal if their hyperparameters are. They can be hashed unless a hyperparameter is
    an array.
    """

    __module__ = "mlax.optim"

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    if TYPE_CHECKING:  # what each of them has, for functions that take some optimizer

        def init(self, weights: Any) -> Any:
            """Return the state before the first step. For a Module: of its unfrozen parameters."""

        def step(
            self, gradients: Weights, state: Any, weights: Weights, *args: Any, **kwargs: Any
        ) -> tuple[Weights, Any]:
            """Return the updates and the next state."""
            ...

        def apply_gradients(
            self, gradients: Weights, state: Any, weights: Weights, *args: Any, **kwargs: Any
        ) -> tuple[Weights, Any]:
            """Return the weights after one more step, and the next state."""
            ...

        def update(
            self, model: Weights, gradients: Weights, state: Any, *args: Any, **kwargs: Any
        ) -> tuple[Weights, Any]:
            """Return the model after one more step of its unfrozen parameters, and the next state."""
            ...

    @trimmed
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        setattr(cls, "__hash__", _naming_arrays(cls.__hash__))  # noqa: B010
        for name in ("init", "step", "apply_gradients", "update"):
            if name in cls.__dict__:
                method = cls.__dict__[name]
                setattr(
                    cls, name, trimmed(method if name == "init" else _asking(cls, name, method))
                )

    def _hint(self, name: str, value: object) -> str:
        schedulable = self._schedulable()
        if not schedulable or name in schedulable or not (is_array(value) or is_schedule(value)):
            return ""
        text = f"; only {', '.join(schedulable)} can be arrays or schedules, it is compiled into the step"
        if is_array(value):
            text += " (with optax.inject_hyperparams, name it in static_args)"
        return text

    @classmethod
    def _schedulable(cls) -> list[str]:
        """Return the names of the hyperparameters that a state holds."""
        return [name for name, spec in specifications(cls).items() if spec.schedulable]

    def check_dtype(self, dtype: Any) -> None:
        """Raise an error if leaves of a dtype cannot be computed with these hyperparameters. Called by
        `map_leaves`.

        Raises:
            ValueError: A number that leaves may be divided by is too small for the dtype.
        """
        refuse_vanishing(self, dtype)

    def held(self) -> Self:
        """Return a copy that can always be hashed: each number that the state holds is replaced by a marker.

        Schedules and None are kept. The first value of a schedule is checked against the bounds, if
        it is known.

        Raises:
            ValueError: A schedule's value at step 0 is out of bounds.
        """
        for name in self._schedulable():
            value = getattr(self, name)
            if is_schedule(value):
                first = initial(value)
                try:
                    specifications(type(self))[name].normalise(first)
                except ValueError as error:
                    raise ValueError(
                        f"{type(self).__name__}: {name} must be {error}, got {first} from its "
                        "schedule at step 0"
                    ) from None
        return self._held()

    def _held(self) -> Self:
        copy = object.__new__(type(self))
        schedulable = self._schedulable()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in schedulable and value is not None and not is_schedule(value):
                value = HELD
            object.__setattr__(copy, field.name, self._held_inside(value))
        return copy

    @staticmethod
    def _held_inside(value: Any) -> Any:
        """Replace the numbers in the optimizers inside this one. Their schedules have been checked by their own
        `init`.
        """
        if isinstance(value, Optimizer):
            return value._held()
        if type(value) is tuple:
            return tuple(Optimizer._held_inside(one) for one in cast("Any", value))
        return value

    def own(self, state: S) -> S:
        """Return a state if it belongs to this optimizer; raise an error if it has different hyperparameters.

        Numbers that the state holds may be different: the step uses those in the state.

        Raises:
            TypeError: The state is that of a different optimizer, or not a state.
            ValueError: The hyperparameters are different. The message names each.
        """
        theirs = getattr(state, "hyperparameters", None)
        where = f"{type(self).__name__}.step"
        if not isinstance(theirs, Optimizer):
            raise TypeError(
                f"{where}: expected a state from {type(self).__name__}.init, got {describe(state)}"
            )
        if type(theirs) is not type(self):
            raise TypeError(f"{where}: the state belongs to {type(theirs).__name__}")
        ours = self._held()  # not `held()`, which would call the schedules in each step
        if ours != theirs:
            differences = [
                f"{name} is {_shown(value)} in the state, {_shown(getattr(ours, name))} in the optimizer"
                for name, value in vars(theirs).items()
                if value != getattr(ours, name)
            ]
            raise ValueError(
                f"{where}: the state has different hyperparameters: {'; '.join(differences)}"
            )
        return state


def _asking(cls: type, called: str, method: Callable[..., T]) -> Callable[..., T]:
    """Return a method whose error names a missing argument, and says what that is."""
    said: Any = cls.__dict__.get("arguments")
    if not isinstance(said, Mapping):
        return method
    arguments = cast("Mapping[str, str]", said)

    @functools.wraps(method)
    def asking(*args: Any, **kwargs: Any) -> T:
        for name, doc in arguments.items():
            if name not in kwargs:
                raise TypeError(
                    f"{cls.__name__}.{called} needs `{name}`.\n  Pass {called}(..., {name}=...): {doc}"
                )
        return method(*args, **kwargs)

    return asking


def _naming_arrays(generated: Callable[..., int]) -> Callable[..., int]:
    """Return a `__hash__` whose error names the hyperparameters that cannot be hashed."""

    def __hash__(self: object) -> int:  # noqa: N807
        try:
            return generated(self)
        except TypeError:
            arrays = [name for name, value in vars(self).items() if is_array(value)]
            if not arrays:
                raise
            why = f"{' and '.join(arrays)} {'is an array' if len(arrays) == 1 else 'are arrays'}"
            raise TypeError(
                f"{type(self).__name__} cannot be hashed because {why}; pass a number or a schedule, or set it in "
                "the state"
            ) from None

    return __hash__


def _shown(value: object) -> str:
    return "a number" if value is HELD else shown(value)
