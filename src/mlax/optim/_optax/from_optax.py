"""Optax's gradient transformations as optimizers of mlax."""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax.optim._optax.to_optax import import_optax
from mlax.optim.transformations._protocol import arguments_after_trees
from mlax.optim.transformations._wrapping import Arguments, Move, Transformation
from mlax.optimizer import exportable, no_steps, one_more, trainable
from mlax.tree import describe, mismatches
from mlax.typing import Count, LeafMismatchError, Weights, checked, checks_enabled

if TYPE_CHECKING:
    import optax  # pyright: ignore[reportMissingTypeStubs]  # read from its source

__all__ = ["FromOptax", "State", "from_optax"]

T = TypeVar("T")


def from_optax(transformation: "optax.GradientTransformation") -> "FromOptax":
    """Return a gradient transformation of Optax as an optimizer of mlax.

        optimizer = optim.from_optax(optax.lamb(1e-3))
        others = optim.from_optax(optax.adamw(3e-4))
        optimizer = optim.MultiOptimizer([optim.Muon(), others], [is_matrix])

    It has `init`, `step`, `apply_gradients` and `update`. It is hashable, and equal to one made
    from the same transformation object; Optax makes a new object at each call.

    The dtype rule holds: if Optax promotes dtypes, `step` raises an error about the updates or the
    state. If the transformation takes extra arguments, `step` passes its keyword arguments on.

    Args:
        transformation: An `optax.GradientTransformation`, with or without extra arguments.

    Raises:
        ImportError: Optax is not installed.
        TypeError: `transformation` is not a gradient transformation.
    """
    if isinstance(transformation, import_optax("from_optax").GradientTransformation):
        return FromOptax(transformation)
    given: object = transformation
    cure = ""
    if hasattr(given, "gradient_transformation"):
        cure = f"; use {type(given).__name__}(...).gradient_transformation()"
    elif hasattr(given, "step"):
        cure = "; an optimizer of mlax does not need from_optax"
    elif callable(given):
        cure = "; call the function, and pass what it returns"
    raise TypeError(
        f"from_optax: expected an optax.GradientTransformation, got {describe(given)}{cure}"
    )


class FromOptax(Transformation):
    """A gradient transformation of Optax as an optimizer. Made by `from_optax`.

    Args:
        transformation: Computes the updates.
    """

    transformation: Any

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of the keyword arguments of `step`; None if the transformation takes arguments of any name."""
        # The class does not show it: `MultiSteps.gradient_transformation()` takes extra arguments without saying so.
        return arguments_after_trees(self.transformation.update)

    def own(self, state: T) -> T:
        """Return a state if this optimizer made it; otherwise raise an error.

        Raises:
            TypeError: The state is that of a different optimizer, or not a state.
            ValueError: It was made with a different transformation.
        """
        try:
            return super().own(state)
        except ValueError:
            raise ValueError(
                "from_optax.step: the state was made with a different transformation object (Optax makes a new one "
                "at each call); keep the optimizer, or move the state: "
                "optimizer.init(weights)._replace(inner=state.inner)"
            ) from None

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step. For a Module: of its unfrozen parameters."""
        return self._init(trainable(weights))

    if TYPE_CHECKING:

        def step(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights | None = None,
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...
        def apply_gradients(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights,
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...
        def update(
            self,
            model: Weights,
            gradients: Weights,
            state: "State[Weights]",
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...

    @checked
    def _init(self, weights: Weights) -> "State[Weights]":
        return State(no_steps(), _strong_copies(self.transformation.init(weights)), self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights]]":
        try:
            updates, inner = self.transformation.update(
                gradients, state.inner, weights, **arguments
            )
        except TypeError as error:
            if "required keyword-only argument" not in str(error):
                raise
            raise TypeError(
                f"from_optax.step: {error}.\n  Pass what Optax needs to step, apply_gradients or update as "
                "keyword arguments: step(..., value=loss)."
            ) from None
        updates, inner = _strong_copies((updates, inner))
        if checks_enabled():
            _refuse_other(
                *("updates", updates, "gradients", gradients),
                "cast them in Optax: optax.chain(..., optax.stateless(optax.tree.cast_like))",
            )
            _refuse_other(
                *("state.inner", inner, "that before the step", state.inner),
                "loops need a state of constant dtypes; many transformations take a dtype for their state",
            )
        return move.along(updates, weights), State(
            one_more(state.step), inner, state.hyperparameters
        )


@exportable
class State(NamedTuple, Generic[Weights]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        inner: The state of the transformation.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    inner: Any
    hyperparameters: FromOptax


def _strong_copies(tree: T) -> T:
    """Return a tree of strongly typed arrays that share no memory with others.

    Some of Optax's transformations return weak types, Python numbers, or one array in two places.
    """

    def copy(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        if is_tracer(array) and not array.weak_type:
            return array  # results of a compiled function never share memory
        return jnp.array(array, array.dtype, copy=True)

    result: T = jax.tree.map(copy, tree)
    return result


def _refuse_other(name: str, tree: Any, reference_name: str, reference: Any, cure: str) -> None:
    """Raise an error if Optax returned a tree of a different structure, or different shapes or dtypes, than it
    got.
    """
    lines = list(mismatches(name, tree, reference_name, reference))
    if lines:
        raise LeafMismatchError(
            "from_optax.step: the transformation changed structure, shape or dtype "
            f"(no implicit promotion); {cure}:\n  " + "\n  ".join(lines)
        )
