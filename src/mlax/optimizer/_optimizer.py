"""Optimizers as values.

The fields of an optimizer's class are its hyperparameters. A state holds a copy of the optimizer,
in which a marker takes the place of the numbers that the state itself holds. So the copy is static
and hashable, except for arrays that were given for other numbers.

An optimizer is a node of a tree. Its leaves are the arrays among its hyperparameters, and those of
optimizers inside it. Its aux data is its outline: itself, or if it has arrays, a copy with a marker
in their places.
"""

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import class_of
from mlax._module.exporting import register_node
from mlax._module.written import read_dataclass, written_fields
from mlax.optimizer._hyperparameters import HELD, LEAF, is_narrow, is_schedule, refuse_out_of_range
from mlax.optimizer._labels import labels_of
from mlax.optimizer._specified import Specified, is_array, shown, specifications
from mlax.optimizer._stepping import initial
from mlax.tree import describe
from mlax.typing import Weights

__all__ = ["Optimizer"]


Kind = TypeVar("Kind", bound="Optimizer")
S = TypeVar("S")
T = TypeVar("T")


def _fields(optimizer: "Optimizer") -> dict[str, Any]:
    """Return the hyperparameters of an optimizer by name."""
    return {field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer)}


def _with(optimizer: Kind, changes: Mapping[str, Any]) -> Kind:
    """Return a copy with some hyperparameters replaced, unchecked."""
    changed: Kind = object.__new__(type(optimizer))
    for name, value in (_fields(optimizer) | {**changes}).items():
        object.__setattr__(changed, name, value)
    return changed


def _outline(value: Any) -> Any:
    """Return a hyperparameter with a marker in the place of each array; itself if it has none."""
    if is_array(value):
        return LEAF
    if isinstance(value, Optimizer):
        return value.outline
    if class_of(value) is tuple:
        parts: tuple[Any, ...] = tuple(map(_outline, value))
        return value if all(map(operator.is_, parts, value)) else parts
    return value


def _has_arrays(outline: Any) -> bool:
    if isinstance(outline, Optimizer):
        return any(map(_has_arrays, _fields(outline).values()))
    return outline is LEAF or (
        type(outline) is tuple and any(map(_has_arrays, cast("Any", outline)))
    )


def _children(optimizer: "Optimizer") -> "tuple[tuple[Any, ...], Optimizer]":
    children, outline = _children_with_keys(optimizer)
    return tuple(child for _, child in children), outline


def _children_with_keys(
    optimizer: "Optimizer",
) -> "tuple[tuple[tuple[Any, Any], ...], Optimizer]":
    outline = optimizer.outline
    if outline is optimizer:
        return (), optimizer
    children: list[tuple[Any, Any]] = [
        (GetAttrKey(name), _child(value, getattr(outline, name)))
        for name, value in _fields(optimizer).items()
        if _has_arrays(getattr(outline, name))
    ]
    return tuple(children), outline


def _child(value: Any, outline: Any) -> Any:
    """Return the part of a hyperparameter that has leaves: an array, an optimizer, or a tuple of these and None."""
    if type(outline) is not tuple:
        return value if _has_arrays(outline) else None
    return tuple(map(_child, value, cast("Any", outline)))


def _filled(outline: "Optimizer", children: Any) -> "Optimizer":
    """Return an optimizer with these in the places of its arrays. They need not be arrays."""
    given = iter(children)
    values = {
        name: _joined(value, next(given)) if _has_arrays(value) else value
        for name, value in _fields(outline).items()
    }
    if not any(values[name] is not value for name, value in _fields(outline).items()):
        return outline
    filled = _with(outline, values)
    vars(filled)["_outline"] = outline
    return filled


def _joined(outline: Any, child: Any) -> Any:
    if type(outline) is not tuple:
        return child if _has_arrays(outline) else outline
    return tuple(map(_joined, cast("Any", outline), child))


class Optimizer(Specified):
    """Base class of all optimizers. A subclass becomes a frozen dataclass, and a node whose leaves are the
    hyperparameters that are arrays.

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

    @classmethod
    def _register(cls) -> None:
        jax.tree_util.register_pytree_with_keys(
            cls, _children_with_keys, _filled, flatten_func=_children
        )
        register_node(
            cls,
            write=lambda outline: written_fields(outline, cls.__name__),
            read=lambda text: read_dataclass(cls, text, cls.__name__),
            unflatten=_filled,
        )

    @property
    def outline(self) -> Self:
        """The optimizer with a marker in the place of each array, at any depth; itself if it has none."""
        found: Self = vars(self).get("_outline", self)
        return found

    def __post_init__(self) -> None:
        """Check each hyperparameter, and note which are arrays."""
        super().__post_init__()
        self._note_arrays()

    def _note_arrays(self) -> None:
        outlines = {name: _outline(value) for name, value in _fields(self).items()}
        if any(outlines[name] is not value for name, value in _fields(self).items()):
            vars(self)["_outline"] = _with(self, outlines)

    def _hint(self, name: str, value: object) -> str:
        schedulable = self._schedulable()
        if isinstance(value, jax.Array) and (jnp.iscomplexobj(value) or is_narrow(value)):
            kind = "complex" if jnp.iscomplexobj(value) else "such"
            return (
                f"; for {kind} weights, optax.inject_hyperparams needs hyperparam_dtype=jnp.float32"
            )
        if name in schedulable:
            return ""
        if is_schedule(value) and schedulable:
            return f"; only {', '.join(schedulable)} can be schedules"
        spec = specifications(type(self))[name]
        if spec.each and is_array(value):
            return "; its numbers are compiled in, so they cannot be an array of JAX"
        if is_array(value) and spec.normalise_array is not None and not spec.arrays:
            return (
                "; the step branches on it or computes a shape from it, so it is compiled in "
                "(with optax.inject_hyperparams, name it in static_args)"
            )
        return ""

    @classmethod
    def _schedulable(cls) -> list[str]:
        """Return the names of the hyperparameters that a state holds."""
        return [name for name, spec in specifications(cls).items() if spec.schedulable]

    def check_dtype(self, dtype: Any) -> None:
        """Raise an error if leaves of a dtype cannot be computed with these hyperparameters. Called by
        `map_leaves`.

        Raises:
            ValueError: A number is too large for the dtype, or too small to divide by in it.
        """
        refuse_out_of_range(self, dtype)

    def held(self) -> Self:
        """Return the copy that a state holds: each number that the state holds is replaced by a marker.

        Schedules and None are kept. Arrays given for other numbers are copied, in JAX's default
        float dtype. The first value of a schedule is checked against the bounds, if
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
        return self._held(initial)

    def _held(self, array: Callable[[Any], Any]) -> Self:
        """Return a copy with markers for the numbers that the state holds, and `array(x)` for each array x."""
        schedulable = self._schedulable()
        changes: dict[str, Any] = {}
        for name, value in _fields(self).items():
            if name in schedulable:
                changes[name] = value if value is None or is_schedule(value) else HELD
            else:
                changes[name] = array(value) if is_array(value) else self._held_inside(value)
        held = _with(self, changes)
        held._note_arrays()
        return held

    @staticmethod
    def _held_inside(value: Any) -> Any:
        """Replace the numbers and arrays in the optimizers inside this one. Their own states hold them, and their
        schedules have been checked by their own `init`.
        """
        if isinstance(value, Optimizer):
            return value._held(lambda _: HELD)
        if type(value) is tuple:
            return tuple(Optimizer._held_inside(one) for one in cast("Any", value))
        return value

    def _labels(self) -> dict[str, Any]:
        """Return the hyperparameters that may differ between leaves."""
        found = specifications(type(self)).items()
        return {name: getattr(self, name) for name, spec in found if spec.labels}

    def labelled(self, weights: object) -> Self:
        """Return a copy in which each function of labels is replaced by the labels of all leaves of some weights.

        Raises:
            ValueError: A function returns something else than a label.
        """
        choices = {name: spec.labels for name, spec in specifications(type(self)).items()}
        changes = {
            name: labels_of(type(self).__name__, name, function, choices[name], weights)
            for name, function in self._labels().items()
            if callable(function)
        }
        return _with(self, changes) if changes else self

    def per_leaf(self, count: int) -> list[Self]:
        """Return the hyperparameters for each of so many leaves: of labels, its own one.

        Leaves with the same labels have the same object.

        Raises:
            ValueError: The labels are for another number of leaves.
        """
        labels: dict[str, tuple[Any, ...]] = {
            name: cast("Any", value)
            for name, value in self._labels().items()
            if type(value) is tuple
        }
        if not labels:
            return [self] * count
        made: dict[tuple[Any, ...], Self] = {}
        found: list[Self] = []
        for values in zip(*labels.values(), strict=True):
            if values not in made:
                made[values] = _with(self, dict(zip(labels, values, strict=True)))
                made[values]._note_arrays()
            found.append(made[values])
        if len(found) != count:
            raise ValueError(
                f"{type(self).__name__}: the state has labels for {len(found)} leaves, not for {count}"
            )
        return found

    def with_arrays(self, other: "Optimizer") -> Self:
        """Return this optimizer with the arrays of another one, of the same outline, in place of its own."""
        theirs, outline = _fields(other), _fields(other.outline)
        arrays = {name: theirs[name] for name, value in outline.items() if value is LEAF}
        return _with(self, {**vars(self), **arrays}) if arrays else self

    def own(self, state: S) -> S:
        """Return a state if it belongs to this optimizer; raise an error if it has different hyperparameters.

        Numbers that the state holds may be different, and so may arrays: the step uses those in the
        state.

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
        # Not `held()`, which would call the schedules in each step.
        ours, outline = self._held(lambda _: LEAF), theirs.outline
        labels = {name: getattr(outline, name) for name, x in ours._labels().items() if callable(x)}
        ours = _with(ours, labels) if labels else ours
        if ours != outline:
            said = "; ".join(_differences("", outline, ours))
            cure = "Use the optimizer that made the state, or move the state: optim.migrate(state, optimizer, weights)."
            if "an array in" in said:
                cure = f"What is an array in init stays one: pass jnp.asarray(number) there too. {cure}"
            raise ValueError(f"{where}: the state has different hyperparameters: {said}.\n  {cure}")
        return state


def _asking(cls: type, called: str, method: Callable[..., T]) -> Callable[..., T]:
    """Return a method whose error names a missing argument, and says what that is."""
    said: Any = cls.__dict__.get("arguments")
    if not isinstance(said, Mapping):
        return method
    parameters = inspect.signature(method).parameters
    needed = {
        name: doc
        for name, doc in cast("Mapping[str, str]", said).items()
        if parameters[name].default is inspect.Parameter.empty
    }

    @functools.wraps(method)
    def asking(*args: Any, **kwargs: Any) -> T:
        for name, doc in needed.items():
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
            arrays = [name for name, value in _fields(cast("Any", self)).items() if is_array(value)]
            if not arrays:
                raise
            why = f"{' and '.join(arrays)} {'is an array' if len(arrays) == 1 else 'are arrays'}"
            raise TypeError(
                f"{type(self).__name__} cannot be hashed because {why}; pass a number or a schedule, or set it in "
                "the state"
            ) from None

    return __hash__


def _differences(place: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Yield how the hyperparameters of a state differ from those of an optimizer, with their places in it."""
    if theirs == ours:
        return
    cls = class_of(theirs)
    if issubclass(cls, Optimizer) and cls is class_of(ours):
        schedulable = [name for name, spec in specifications(cls).items() if spec.schedulable]
        for name, value in _fields(theirs).items():
            inside = f"{place}.{name}" if place else name
            # In optimizers inside this one, both a number and an array may be held.
            marker = HELD if name in schedulable else LEAF
            yield from _differences(
                inside, *(marker if x is HELD else x for x in (value, getattr(ours, name)))
            )
    elif cls is class_of(ours) is tuple and len(theirs) == len(ours):
        for i, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(f"{place}[{i}]", *pair)
    else:
        yield f"{place} is {_shown(theirs)} in the state, {_shown(ours)} in the optimizer"


def _shown(value: object) -> str:
    return "a number" if value is HELD else "an array" if value is LEAF else shown(value)
