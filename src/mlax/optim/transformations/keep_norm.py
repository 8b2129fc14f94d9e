"""The norm of the gradients in the state, for a log."""

from typing import TYPE_CHECKING, Generic, NamedTuple

from mlax.optim.clipping import global_norm
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper
from mlax.optimizer import exportable, no_steps, one_more, scalar, trainable
from mlax.typing import Count, Scalar, Weights, checked

__all__ = ["KeepNorm", "State"]


class KeepNorm(Wrapper[Inner, P]):
    """Keeps the global norm of the gradients of the last step in its state, for a log. Steps stay as they are.

        KeepNorm(ClipGradients(optim.Adam(1e-3), max_norm=1.0))

    The norm is that of the gradients as they come, before those inside change them. Outside
    SkipNonFinite, it shows why a step was skipped.

    Args:
        optimizer: Makes the steps.
    """

    def __post_init__(self) -> None:
        """Check each hyperparameter, and that the gradients are not scaled."""
        super().__post_init__()
        self._refuse_scaled()

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
        return State(no_steps(), scalar(0.0), self.optimizer.init(weights), self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        norm = global_norm(gradients)
        result, inner = move.by(self.optimizer, gradients, state.inner, weights, arguments)
        return result, State(one_more(state.step), norm, inner, state.hyperparameters)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        norm: Global norm of the gradients in the last step; 0 before the first.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    norm: Scalar
    inner: Inner
    hyperparameters: KeepNorm
