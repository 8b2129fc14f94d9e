"""Gradient transformations of Optax as optimizers of mlax."""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax.optim._optax.to_optax import import_optax
from mlax.optim.transformations._protocol import arguments_after_trees
from mlax.optim.transformations._wrapping import Arguments, Move, Transformation
from mlax.optimizer import no_steps, selected
from mlax.tree import describe, mismatches
from mlax.typing import Count, LeafMismatchError, Weights, checked, checks_enabled

if TYPE_CHECKING:
    import optax  # pyright: ignore[reportMissingTypeStubs]  # read from its source

__all__ = ["FromOptax", "State", "from_optax"]

T = TypeVar("T")


def from_optax(transformation: "optax.GradientTransformation") -> "FromOptax":
    """Return a gradient transformation of Optax as an optimizer: with `init`, `step`, `apply_gradients` and `update`.

        optimizer = optim.from_optax(optax.lamb(1e-3))
        optimizer = optim.MultiOptimizer([optim.Muon(), optim.from_optax(optax.adamw(3e-4))], [is_matrix])

    It is hashable, and equal to one that was made of the same transformation; Optax makes another at each call.

    The dtype rule holds: Optax may promote, and then `step` refuses the updates and the state that come out of it.
    Keyword arguments of `step` go to the transformation, if that takes any.

    Args:
        transformation: An `optax.GradientTransformation`, with or without extra arguments.

    Raises:
        ImportError: Optax is not installed.
        TypeError: It is no such transformation.
    """
    if isinstance(transformation, import_optax("from_optax").GradientTransformation):
        return FromOptax(transformation)
    given: object = transformation
    cure = ""
    if hasattr(given, "gradient_transformation"):
        cure = f"; {type(given).__name__}(...).gradient_transformation() is one"
    elif hasattr(given, "step"):
        cure = "; if it is an optimizer of mlax, it needs no from_optax"
    elif callable(given):
        cure = "; call the function that makes one"
    raise TypeError(
        f"from_optax: expected an optax.GradientTransformation, got {describe(given)}{cure}"
    )


class FromOptax(Transformation):
    """A gradient transformation of Optax as an optimizer; `from_optax` makes one.

    Args:
        transformation: Computes the updates.
    """

    transformation: Any

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of what `step` takes by keyword; None if the transformation takes extra arguments, of any name."""
        # Not by the class: `MultiSteps.gradient_transformation()` takes extra arguments, and does not say so.
        return arguments_after_trees(self.transformation.update)

    def own(self, state: T) -> T:
        """Return a state if this optimizer made it; refuse it otherwise.

        Raises:
            TypeError: The state is of another optimizer, or no state.
            ValueError: It was made with another transformation.
        """
        try:
            return super().own(state)
        except ValueError:
            raise ValueError(
                "from_optax.step: the state was made with another transformation, as Optax makes a new one at each "
                "call; keep the optimizer, or move the state: optimizer.init(weights)._replace(inner=state.inner)"
            ) from None

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step; of a Module, for its unfrozen parameters."""
        return self._init(selected(weights))

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
        updates, inner = self.transformation.update(gradients, state.inner, weights, **arguments)
        updates, inner = _strong_copies((updates, inner))
        if checks_enabled():
            _refuse_other(
                *("updates", updates, "gradients", gradients),
                "cast them in Optax: optax.chain(..., optax.stateless(optax.tree.cast_like))",
            )
            _refuse_other(
                *("state.inner", inner, "that before the step", state.inner),
                "such a state breaks loops; many transformations take a dtype for what they keep",
            )
        return move.along(updates, weights), State(state.step + 1, inner, state.hyperparameters)


class State(NamedTuple, Generic[Weights]):
    """What is remembered between steps.

    Attributes:
        step: Number of steps done.
        inner: What the transformation remembers.
        hyperparameters: The optimizer. Static, no leaves.
    """

    step: Count
    inner: Any
    hyperparameters: FromOptax


def _strong_copies(tree: T) -> T:
    """Return a tree of arrays that share no memory with what they came from and promote nothing.

    Optax has transformations that return weak types, Python numbers, and one array in two places.
    """

    def copy(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        if is_tracer(array) and not array.weak_type:
            return array  # what a compiled function returns shares no memory anyway
        return jnp.array(array, array.dtype, copy=True)

    result: T = jax.tree.map(copy, tree)
    return result


def _refuse_other(name: str, tree: Any, reference_name: str, reference: Any, cure: str) -> None:
    """Refuse what came out of Optax with another structure, or in other shapes or dtypes, than what went in."""
    lines = list(mismatches(name, tree, reference_name, reference))
    if lines:
        raise LeafMismatchError(
            "from_optax.step: the transformation changed structure, shape or dtype "
            f"(no implicit promotion); {cure}:\n  " + "\n  ".join(lines)
        )
