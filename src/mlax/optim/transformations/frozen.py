"""An optimizer that makes no steps, for weights that should not change."""

from typing import TYPE_CHECKING, Generic, NamedTuple

from mlax.optim.transformations._wrapping import Arguments, Move, Transformation
from mlax.optimizer import exportable, no_steps, one_more, trainable
from mlax.typing import Count, Weights, checked

__all__ = ["Frozen", "State"]


class Frozen(Transformation):
    """Leaves weights unchanged and keeps no slots for them.

        MultiOptimizer([Frozen(), Adam(1e-3)], [lambda path, w: path.startswith("encoder.")])

    In a Module, consider `Parameter(..., frozen=True)`: then no gradient is computed either.
    """

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step. For a Module: of its unfrozen parameters."""
        return self._init(trainable(weights))

    if TYPE_CHECKING:

        def step(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights | None = None,
        ) -> "tuple[Weights, State[Weights]]": ...
        def apply_gradients(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights,
        ) -> "tuple[Weights, State[Weights]]": ...
        def update(
            self,
            model: Weights,
            gradients: Weights,
            state: "State[Weights]",
        ) -> "tuple[Weights, State[Weights]]": ...

    @checked
    def _init(self, weights: Weights) -> "State[Weights]":
        return State(no_steps(), self)

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights]]":
        return move.nowhere(gradients, weights), state._replace(step=one_more(state.step))


@exportable
class State(NamedTuple, Generic[Weights]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    hyperparameters: Frozen
