"""Base classes of optimizers that wrap others.

A transformation defines one method, `_step`: what it does around the step of another optimizer. The
result may be updates or new weights, and which is wanted is passed to the innermost optimizer as a
`Move`. The two are not interchangeable: if an optimizer keeps the weights in a wider dtype, its new
weights differ from the old ones plus rounded updates.

If an optimizer inside rounds stochastically, so do those around it when they change weights, or
their own slots.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax.tracing import cond, is_tracer
from mlax._jax.trees import leaves
from mlax.leafwise import Output, Rounding, map_leaves
from mlax.optim.transformations._protocol import Inner, OptimizerLike, P, arguments_of, trees_of
from mlax.optimizer import Optimizer, apply_updates, merged, trainable, zeros
from mlax.optimizer._specified import Specification
from mlax.typing import Weights, checked

__all__ = [
    "Arguments",
    "Inner",
    "Move",
    "P",
    "Transformation",
    "Wrapper",
    "all_finite",
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
    """What a step should return: new weights, or the updates that lead to them.

    The methods return this for a step `by` an optimizer, for no step (`nowhere`), for given updates
    (`along`), and for given new weights (`to`). `weights` is the inverse: it returns the new
    weights.
    """

    new_weights: bool

    def by(
        self,
        optimizer: OptimizerLike[Any, ...],
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
        """Return the result of a step that changes nothing."""
        if self.new_weights:
            return cast("T", weights)
        return zeros(gradients, None)

    def weights(self, result: T, weights: T) -> T:
        """Return the new weights that a result stands for."""
        return result if self.new_weights else apply_updates(result, weights)

    def along(self, updates: T, weights: T | None) -> T:
        """Return the result of a step that adds these updates."""
        if not self.new_weights:
            return updates
        return apply_updates(updates, cast("T", weights))

    def to(self, new: T, weights: T) -> T:
        """Return the result of a step to these new weights."""
        if self.new_weights:
            return new
        (updates,) = map_leaves(_difference, None, (new, weights), ())
        return updates


def _difference(_: None, new: Array, w: Array) -> tuple[Array]:
    return (new - w,)


def cast_like(tree: Any, weights: T, output: Output | None = None) -> T:
    """Return a tree in the dtypes of the weights, in separate buffers, rounded as `output` says."""
    (result,) = map_leaves(_second, None, (weights, tree), (), output or Output())
    return result


def _second(_: None, w: Array, other: Array) -> tuple[Array]:
    return (other,)


def where(condition: Array, chosen: T, other: T) -> T:
    """Select one of two trees that have the same structure, shapes and dtypes."""

    def choose(a: Array, b: Array) -> Array:
        # It takes a third of the time that `jnp.where` takes to lower.
        return lax.select(condition, a, b)

    result: T = jax.tree.map(choose, chosen, other)
    return result


def made_or_skipped(made: Array, make: Callable[[], T], skip: Callable[[], T]) -> T:
    """Return the result of one of two functions: the step, or what replaces a step that is skipped.

    Outside `jit`, a skipped step is still traced, though not run. So an error such as missing
    weights is raised at once, as under `jit`.
    """
    if not is_tracer(made) and not made:
        jax.eval_shape(make)
    return cond(made, make, skip)


def all_finite(gradients: Any) -> Array:
    """Return whether all elements of all leaves are finite: a boolean of shape ()."""
    return functools.reduce(lax.bitwise_and, map(_finite, leaves(gradients)), jnp.array(True))


def _all_finite(leaf: Array) -> Array:
    return jnp.isfinite(leaf).all()


_finite: Callable[[Array], Array] = jax.jit(_all_finite)  # traced once for each shape


def as_optimizer(value: Any) -> OptimizerLike[Any, ...]:
    """Return an optimizer; raise an error for anything else.

    Raises:
        TypeError: Says what is expected.
    """
    if isinstance(value, type) or not isinstance(value, OptimizerLike):
        cure = ""
        if isinstance(value, type):
            cure = " (an instance, not the class)"
        elif hasattr(value, "init") and hasattr(value, "update"):
            cure = " (for Optax's, use optim.from_optax)"
        raise TypeError(f"an object with init and step{cure}")
    return cast("OptimizerLike[Any, ...]", value)


def _inside(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield all optimizers that this one wraps, at any depth."""
    for field in fields(optimizer):
        value: object = getattr(optimizer, field.name)
        entries: tuple[object, ...] = cast("Any", value) if isinstance(value, tuple) else (value,)
        for one in entries:
            if isinstance(one, Optimizer):
                yield one
                yield from _inside(one)


@checked
def _step(gradients: Weights, **arguments: Weights) -> None:
    """Raise an error if an argument that is a tree does not correspond to the gradients."""
    del gradients, arguments


_step.__module__ = "mlax.optim"  # error messages name optim.step


class Transformation(Optimizer):
    """Base class of all optimizers that are not generated. A subclass has `init`, `_step`, and a NamedTuple as
    its state.

    For type checkers it declares `step`, `apply_gradients` and `update` again, with its own state.
    """

    gradients_are_scaled: ClassVar[bool] = False
    """Whether it expects the gradients of a loss that was multiplied by its scale."""

    def _refuse_scaled(self) -> None:
        """Raise an error if an optimizer inside expects scaled gradients, which this one cannot handle."""
        for inside in _inside(self):
            name = type(inside).__name__
            self.require(
                not (isinstance(inside, Transformation) and inside.gradients_are_scaled),
                f"{name} inside expects the gradients of a scaled loss; put {name} outside",
            )

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of the keyword arguments of `step`; None if it takes any."""
        return frozenset()

    @property
    def trees(self) -> frozenset[str]:
        """Names of those arguments that are trees like the weights."""
        return frozenset()

    @property
    def stochastic_rounding(self) -> bool:
        """Whether any optimizer inside rounds stochastically."""
        return any(getattr(inside, "stochastic_rounding", False) for inside in _inside(self))

    def _output(self, state: Any, weights: Any = None, *, applied: bool = False) -> Output:
        """Return the output form and rounding of results that this optimizer computes itself, not those inside
        it.

        Args:
            state: The state before the step.
            weights: The weights that the results are added to, if the results are updates.
            applied: Whether to return weights + updates instead of updates.
        """
        step = state.step if self.stochastic_rounding else None
        return Output(weights, applied, Rounding(step, depth=len([*_inside(self)])))

    def _step(
        self, move: Move, gradients: Any, state: Any, weights: Any, arguments: Arguments
    ) -> tuple[Any, Any]:
        raise NotImplementedError

    if not TYPE_CHECKING:  # each class declares them for its state

        def step(
            self, gradients: Weights, state: Any, weights: Weights | None = None, **arguments: Any
        ) -> tuple[Weights, Any]:
            """Return the updates and the next state.

            Args:
                gradients: Gradients of the loss, like the weights.
                state: From `init` or from the last step; it must belong to an optimizer with equal
                    hyperparameters.
                weights: The weights. Only needed if this optimizer or one inside reads them.
                **arguments: Keyword arguments for the optimizers inside, such as the loss.
            """
            return self._checked_step(Move(new_weights=False), gradients, state, weights, arguments)

        def apply_gradients(
            self, gradients: Weights, state: Any, weights: Weights, **arguments: Any
        ) -> tuple[Weights, Any]:
            """Return the weights after one more step, and the next state."""
            return self._checked_step(Move(new_weights=True), gradients, state, weights, arguments)

        def update(
            self, model: Weights, gradients: Weights, state: Any, **arguments: Any
        ) -> tuple[Weights, Any]:
            """Return the model after one more step of its unfrozen parameters, and the next state."""
            weights, state = self.apply_gradients(gradients, state, trainable(model), **arguments)
            return merged(weights, model), state

    def _checked_step(
        self, move: Move, gradients: Any, state: Any, weights: Any, arguments: Arguments
    ) -> tuple[Any, Any]:
        names = self.arguments
        unknown = [] if names is None else [name for name in arguments if name not in names]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.step: no optimizer inside takes {', '.join(unknown)}"
                + (f"; they take {', '.join(sorted(names))}" if names else "")
            )
        state = self.own(state)
        own = self.with_arrays(state.hyperparameters)
        if weights is None and move.new_weights and leaves(gradients):
            raise ValueError(f"{type(self).__name__}: apply_gradients needs the weights")
        trees = {name: value for name, value in arguments.items() if name in self.trees}
        given = {name: value for name, value in trees.items() if value is not None}
        if given:
            _step(gradients, **given)
        others = {name: value for name, value in arguments.items() if name not in trees}
        result, state = own._step(move, gradients, state, weights, {**others, **given})
        if own is not self:  # buffers of their own, since the state that was given may be donated
            h = jax.tree.map(jnp.copy, state.hyperparameters)
            state = state._replace(hyperparameters=h)
        return result, state

    def _needs(self, weights: T | None) -> T:
        """Return the weights; raise an error if they are missing."""
        if weights is None:
            raise ValueError(f"{type(self).__name__}: step needs the weights")
        return weights


class Wrapper(Transformation, Generic[Inner, P]):
    """Base class of transformations that change the steps of one other optimizer.

    The state has the other optimizer's state as `inner`.
    """

    moves_further: ClassVar[bool] = False
    """Whether it changes the steps of the optimizer inside, or counts them."""

    has_the_last_word: ClassVar[bool] = False
    """Whether it records the weights after a step, or may skip the step."""

    optimizer: Annotated[OptimizerLike[Inner, P], Specification(as_optimizer)]

    def __post_init__(self) -> None:
        """Check each hyperparameter, and that wrappers that record or skip a step are outside those that change
        it.
        """
        super().__post_init__()
        if not self.moves_further:
            return
        for inside in _inside(self):
            name = type(inside).__name__
            self.require(
                not (isinstance(inside, Wrapper) and inside.has_the_last_word),
                f"{name} inside records or skips steps that {type(self).__name__} changes; put {name} outside",
            )

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of the keyword arguments of `step`: those of the optimizer inside; None if it takes any."""
        return arguments_of(self.optimizer)

    @property
    def trees(self) -> frozenset[str]:
        """Names of those arguments that are trees like the weights."""
        return trees_of(self.optimizer)

    def evaluation_weights(self, state: Any, weights: Weights) -> Weights:
        """Return the weights to evaluate, if the optimizer inside has others than those it trains.

        Args:
            state: The state after a step.
            weights: The weights after that step; or the model, if it is a Module.

        Raises:
            TypeError: The optimizer inside has no others.
        """
        return self._inside_evaluation_weights(self.own(state).inner, weights)

    def _inside_evaluation_weights(self, state: Any, weights: T) -> T:
        inside = getattr(self.optimizer, "evaluation_weights", None)
        if inside is None:
            raise TypeError(
                f"{type(self).__name__}: no optimizer inside has evaluation_weights; evaluate the weights themselves"
            )
        result: T = inside(state, weights)
        return result
