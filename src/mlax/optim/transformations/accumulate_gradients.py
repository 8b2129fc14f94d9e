"""One step for several micro-batches, on their mean gradient."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple

from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper, made_or_skipped
from mlax.optimizer import (
    Dtype,
    exportable,
    integer,
    no_steps,
    one_more,
    trainable,
    warn_if_narrow,
    zeros,
)
from mlax.typing import Count, Weights, checked

__all__ = ["AccumulateGradients", "State"]


class AccumulateGradients(Wrapper[Inner, P]):
    """Makes one step for every `every` calls, on the mean of their gradients. The other calls change no weights.

    The step gets the keyword arguments of the last call.

    Args:
        optimizer: Makes the step.
        every: Number of micro-batches in a batch, >= 1.
        slot_dtype: Floating-point dtype of the mean; that of the weights if it is None.
    """

    has_the_last_word: ClassVar[bool] = True

    every: Annotated[int, integer(at_least=1)]
    slot_dtype: Dtype | None = None

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
        inner = self.optimizer.init(weights)
        state = State(no_steps(), no_steps(), zeros(weights, self.slot_dtype), inner, self.held())
        warn_if_narrow(state, kept={"mean": 1 - 1 / self.every})
        return state

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        mean, slot = map_leaves(
            _accumulate,
            None,
            (gradients,),
            (state.mean,),
            self._output(state),
            share=1 / (state.cycle + 1).astype(float),
        )

        def last() -> tuple[Weights, Weights, Any]:
            result, inner = move.by(self.optimizer, mean, state.inner, weights, arguments)
            return result, zeros(slot, None), inner

        def between() -> tuple[Weights, Weights, Any]:
            return move.nowhere(gradients, weights), slot, state.inner

        result, slot, inner = made_or_skipped(state.cycle == self.every - 1, last, between)
        cycle = one_more(state.cycle, self.every)
        return result, State(one_more(state.step), cycle, slot, inner, state.hyperparameters)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between micro-batches.

    Attributes:
        step: Number of micro-batches seen.
        cycle: Number of those since the last step, which are in the mean.
        mean: Mean of their gradients, like the weights.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Static: it has no leaves.
    """

    step: Count
    cycle: Count
    mean: Weights
    inner: Inner
    hyperparameters: AccumulateGradients


def _accumulate(_: None, g: Array, mean: Array, *, share: Array) -> tuple[Array, Array]:
    mean = mean + share * (g - mean)
    return mean, mean
