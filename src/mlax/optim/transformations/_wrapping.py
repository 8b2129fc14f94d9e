"""The base of optimizers that are made of others.

A transformation says once, in `_step`, what it does around the step of another optimizer. Whether the result is to be
updates or new weights is what a `Move` carries to the innermost one: where an optimizer keeps the weights in a wider
dtype, new weights are not the old ones plus updates that were rounded.

Where an optimizer inside rounds stochastically, so do those around it: weights that they move further, and their slots.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import jax
from jax import lax
from jaxtyping import Array

from mlax._jax.tracing import cond, is_tracer
from mlax._jax.trees import leaves
from mlax.leafwise import Store, map_leaves
from mlax.optim.transformations._protocol import OptimizerLike, arguments_of
from mlax.optimizer import Optimizer, apply_updates, merged, required, selected, zeros
from mlax.optimizer._hyperparameters import Specification, specified
from mlax.typing import Weights

__all__ = [
    "Arguments",
    "Move",
    "Transformation",
    "Wrapper",
    "as_optimizer",
    "cast_like",
    "made_or_skipped",
    "where",
]

S = TypeVar("S")
T = TypeVar("T")

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Move:
    """What a step is to result in: new weights, or updates that lead to them.

    Each method returns such a result: of a step `by` an optimizer, `nowhere`, `along` updates, or `to` new weights. The
    other way round, `weights` returns the new weights that a result means.
    """

    new_weights: bool

    def by(
        self,
        optimizer: OptimizerLike,
        gradients: T,
        state: S,
        weights: T | None,
        arguments: Arguments,
    ) -> tuple[T, S]:
        """Return the result of an optimizer's step, and its next state."""
        direct = getattr(optimizer, "apply_gradients", None) if self.new_weights else None
        if direct is not None:
            result, state = direct(gradients, state, weights, **arguments)
            return result, state
        updates, state = optimizer.step(gradients, state, weights, **arguments)
        return self.along(updates, weights), state

    def nowhere(self, gradients: T, weights: T | None) -> T:
        """Return the result of not moving."""
        if self.new_weights:
            return cast("T", weights)
        return zeros(gradients, None)

    def weights(self, result: T, weights: T) -> T:
        """Return the new weights that a result leads to."""
        return result if self.new_weights else apply_updates(result, weights)

    def along(self, updates: T, weights: T | None) -> T:
        """Return the result of moving by updates."""
        if not self.new_weights:
            return updates
        return apply_updates(updates, cast("T", weights))

    def to(self, new: T, weights: T) -> T:
        """Return the result that leads to new weights."""
        if self.new_weights:
            return new
        (updates,) = map_leaves(_difference, None, (new, weights), ())
        return updates


def _difference(_: None, new: Array, w: Array) -> tuple[Array]:
    return (new - w,)


def cast_like(tree: Any, weights: T) -> T:
    """Return a tree in the dtypes of the weights, in buffers of its own."""
    (result,) = map_leaves(_second, None, (weights, tree), ())
    return result


def _second(_: None, w: Array, other: Array) -> tuple[Array]:
    return (other,)


def where(condition: Array, chosen: T, other: T) -> T:
    """Return one of two trees, leaf by leaf of the same shapes and dtypes."""

    def choose(a: Array, b: Array) -> Array:
        return lax.select(condition, a, b)  # a third of the lowering of jnp.where

    result: T = jax.tree.map(choose, chosen, other)
    return result


def made_or_skipped(made: Array, make: Callable[[], T], skip: Callable[[], T]) -> T:
    """Return what one of two functions computes: a step, or what stands in for it.

    Outside of `jit` a step that is skipped does not run, but it is traced: what it lacks, such as weights, is said at
    once, as under `jit`.
    """
    if not is_tracer(made) and not made:
        jax.eval_shape(make)
    return cond(made, make, skip)


def as_optimizer(value: Any) -> OptimizerLike:
    """Return an optimizer as it is, or refuse what is none.

    Raises:
        TypeError: Saying what is expected.
    """
    if isinstance(value, type) or not isinstance(value, OptimizerLike):
        cure = ""
        if isinstance(value, type):
            cure = " (an instance, not the class)"
        elif hasattr(value, "init") and hasattr(value, "update"):
            cure = " (optim.from_optax makes one of Optax's)"
        raise TypeError(f"an object with init and step{cure}")
    return value


def _inside(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield the optimizers that one is made of, at any depth."""
    for value in vars(optimizer).values():
        entries: tuple[object, ...] = cast("Any", value) if isinstance(value, tuple) else (value,)
        for one in entries:
            if isinstance(one, Optimizer):
                yield one
                yield from _inside(one)


class Transformation(Optimizer):
    """Base of all optimizers that are not generated. A subclass has `init`, `_step`, and a NamedTuple as its state."""

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of what `step` takes by keyword; None if it takes any."""
        return frozenset()

    @property
    def stochastic_rounding(self) -> bool:
        """Whether an optimizer in it rounds stochastically."""
        return any(getattr(inside, "stochastic_rounding", False) for inside in _inside(self))

    def _store(self, step: Array, weights: Any = None, *, applied: bool = False) -> Store:
        """Return how this optimizer stores what it computes itself; of what optimizers inside gave that is the rest.

        Args:
            step: Number of steps done.
            weights: What updates are for, where it computes updates.
            applied: Whether the result is to be weights + updates.
        """
        depth = len([*_inside(self)])
        return Store(weights, applied, step if self.stochastic_rounding else None, depth)

    def _step(
        self, move: Move, gradients: Any, state: Any, weights: Any, arguments: Arguments
    ) -> tuple[Any, Any]:
        raise NotImplementedError

    def step(
        self, gradients: Weights, state: S, weights: Weights | None = None, **arguments: Any
    ) -> tuple[Weights, S]:
        """Return the updates and the next state; refuse a state of other hyperparameters.

        Args:
            gradients: Gradients of the loss, like the weights.
            state: From `init` or from the last step.
            weights: The weights; needed where this optimizer or one inside reads them.
            **arguments: What the optimizers inside take by keyword, such as the loss.
        """
        return self._checked_step(Move(new_weights=False), gradients, state, weights, arguments)

    def apply_gradients(
        self, gradients: Weights, state: S, weights: Weights, **arguments: Any
    ) -> tuple[Weights, S]:
        """Return the weights after one more step, and the next state."""
        return self._checked_step(Move(new_weights=True), gradients, state, weights, arguments)

    def update(
        self, model: Weights, gradients: Weights, state: S, **arguments: Any
    ) -> tuple[Weights, S]:
        """Return the model with its unfrozen parameters one step further, and the next state."""
        weights, state = self.apply_gradients(gradients, state, selected(model), **arguments)
        return merged(weights, model), state

    def _checked_step(
        self, move: Move, gradients: Any, state: Any, weights: Any, arguments: Arguments
    ) -> tuple[Any, Any]:
        names = self.arguments
        unknown = [] if names is None else [name for name in arguments if name not in names]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.step: no optimizer in it takes {', '.join(unknown)}"
                + (f"; what they take is {', '.join(sorted(names))}" if names else "")
            )
        state = self.own(state)
        if weights is None and move.new_weights and leaves(gradients):
            raise ValueError(f"{type(self).__name__}: apply_gradients needs the weights")
        return self._step(move, gradients, state, weights, arguments)

    def _needs(self, weights: T | None) -> T:
        """Return the weights, or say that they are missing."""
        if weights is None:
            raise ValueError(f"{type(self).__name__}: step needs the weights")
        return weights


class Wrapper(Transformation):
    """Base of what changes the steps of one other optimizer. Its state has that one's as `inner`."""

    moves_further: ClassVar[bool] = False
    """Whether it changes what the optimizer inside results in, or counts its steps."""

    has_the_last_word: ClassVar[bool] = False
    """Whether it keeps the weights that a step leads to, or decides that there is no step."""

    optimizer: OptimizerLike = required(specified(None, Specification(as_optimizer)))

    def __post_init__(self) -> None:
        """Check each hyperparameter, and that what it does to the weights is not undone."""
        super().__post_init__()
        if not self.moves_further:
            return
        for inside in _inside(self):
            name = type(inside).__name__
            self.require(
                not (isinstance(inside, Wrapper) and inside.has_the_last_word),
                f"{name} inside would not know what it does to a step; put the {name} around it",
            )

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of what `step` takes by keyword: what the optimizer inside takes; None if it takes any."""
        return arguments_of(self.optimizer)

    def evaluation_weights(self, state: Any, weights: Weights) -> Weights:
        """Return the weights to evaluate, if the optimizer inside has others than those that it trains.

        Args:
            state: The state after a step.
            weights: The weights after it; of a Module, the model.

        Raises:
            TypeError: It has no others.
        """
        return self._inside_evaluation_weights(self.own(state).inner, weights)

    def _inside_evaluation_weights(self, state: Any, weights: T) -> T:
        inside = getattr(self.optimizer, "evaluation_weights", None)
        if inside is None:
            raise TypeError(
                f"{type(self).__name__}: no optimizer in it has evaluation_weights; evaluate the weights themselves"
            )
        result: T = inside(state, weights)
        return result
