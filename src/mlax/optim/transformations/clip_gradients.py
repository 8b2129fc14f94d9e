"""Gradient clipping, as part of an optimizer."""

from typing import TYPE_CHECKING, Annotated, Generic, NamedTuple

from mlax.optim.clipping import (
    clip_grad_adaptive,
    clip_grad_leaf_norm,
    clip_grad_norm,
    clip_grad_value,
)
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper
from mlax.optimizer import Float, exportable, no_steps, number, one_more, refuse_packed, trainable
from mlax.typing import Count, Weights, checked

__all__ = ["ClipGradients", "State"]


class ClipGradients(Wrapper[Inner, P]):
    """Clips the gradients before the optimizer inside sees them.

    If several limits are given, elements are clipped first, then leaves, then units, then all
    together.

    Args:
        optimizer: Makes the steps.
        max_norm: Largest global norm, >= 0, as in `clip_grad_norm`.
        max_value: Largest magnitude of an element, >= 0, as in `clip_grad_value`.
        max_leaf_norm: Largest norm of a leaf, >= 0, as in `clip_grad_leaf_norm`.
        adaptive: Largest norm of a unit, as a fraction of the norm of its weights, >= 0, as in
            `clip_grad_adaptive`.
    """

    max_norm: Annotated[Float | None, number(at_least=0)] = None
    max_value: Annotated[Float | None, number(at_least=0)] = None
    max_leaf_norm: Annotated[Float | None, number(at_least=0)] = None
    adaptive: Annotated[Float | None, number(at_least=0)] = None

    def __post_init__(self) -> None:
        """Check each hyperparameter, that at least one limit is given, and that the gradients are not
        scaled.
        """
        super().__post_init__()
        self._refuse_scaled()
        limits = (self.max_norm, self.max_value, self.max_leaf_norm, self.adaptive)
        self.require(
            any(limit is not None for limit in limits),
            "at least one of max_norm, max_value, max_leaf_norm and adaptive is required, all are None",
        )

    def init(self, weights: Weights) -> "State[Weights, Inner]":
        """Return the state before the first step. For a Module: of its unfrozen parameters."""
        return self._init(trainable(weights))

    if TYPE_CHECKING:

        def step(
            self,
            gradients: Weights,
            state: "State[Weights, Inner]",
            weights: Weights | None = None,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...
        def apply_gradients(
            self,
            gradients: Weights,
            state: "State[Weights, Inner]",
            weights: Weights,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...
        def update(
            self,
            model: Weights,
            gradients: Weights,
            state: "State[Weights, Inner]",
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...

    @checked
    def _init(self, weights: Weights) -> "State[Weights, Inner]":
        if self.max_leaf_norm is not None or self.adaptive is not None:
            refuse_packed(
                weights, "ClipGradients", "max_leaf_norm is not None or adaptive is not None"
            )
        return State(no_steps(), self.optimizer.init(weights), self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        if self.max_value is not None:
            gradients = clip_grad_value(gradients, self.max_value)
        if self.max_leaf_norm is not None:
            gradients = clip_grad_leaf_norm(gradients, self.max_leaf_norm)
        if self.adaptive is not None:
            gradients = clip_grad_adaptive(gradients, self._needs(weights), self.adaptive)
        if self.max_norm is not None:
            gradients, _ = clip_grad_norm(gradients, self.max_norm)
        result, inner = move.by(self.optimizer, gradients, state.inner, weights, arguments)
        return result, State(one_more(state.step), inner, state.hyperparameters)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    inner: Inner
    hyperparameters: ClipGradients
