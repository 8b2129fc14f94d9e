"""A moving average of the weights, to evaluate and to save."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, NamedTuple

from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper, cast_like
from mlax.optimizer import (
    Dtype,
    Number,
    copies,
    exportable,
    follow_schedules,
    initial,
    merged,
    no_steps,
    one_more,
    scheduled,
    trainable,
    warn_if_narrow,
)
from mlax.typing import Count, Scalar, Weights, checked

__all__ = ["AverageWeights", "State"]


class AverageWeights(Wrapper[Inner, P]):
    """Keeps a moving average of the weights beside the weights that are trained.

    ```text
    averageₜ = decay · averageₜ₋₁ + (1 − decay) wₜ
    ```

    The average starts at the initial weights. For the mean of all weights so far (Polyak & Juditsky
    1992, https://doi.org/10.1137/0330046), use `decay=lambda step: step / (step + 1)`.

    It counts calls of `step`. With AccumulateGradients, put it inside that, not outside.

    Args:
        optimizer: Makes the steps.
        decay: 0 <= decay <= 1: a number, an array or a schedule.
        slot_dtype: Floating-point dtype of the average; that of the weights if it is None. In half
            precision an average with a decay near 1 does not move: use `jnp.float32`.
    """

    has_the_last_word: ClassVar[bool] = True

    decay: Annotated[Number, scheduled(at_least=0, at_most=1)] = 0.999
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
        average = copies(weights, self.slot_dtype)
        state = State(no_steps(), initial(self.decay), average, inner, self.held())
        warn_if_narrow(state, kept={"average": self.decay})
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
        weights = self._needs(weights)
        result, inner = move.by(self.optimizer, gradients, state.inner, weights, arguments)
        state = follow_schedules(state)
        _, average = map_leaves(
            _average,
            None,
            (move.weights(result, weights),),
            (state.average,),
            self._output(state),
            decay=state.decay,
        )
        return result, state._replace(step=one_more(state.step), average=average, inner=inner)

    def evaluation_weights(self, state: "State[Weights, Inner]", weights: Weights) -> Weights:
        """Return the average in the dtypes of the weights. For a Module: the model with the average as its
        parameters.
        """
        return merged(_evaluation_weights(self.own(state), trainable(weights)), weights)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        decay: The value used by the last step; before the first step, the value it will use.
        average: Average of the weights, like the weights.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    decay: Scalar
    average: Weights
    inner: Inner
    hyperparameters: AverageWeights


def _average(_: None, w: Array, average: Array, *, decay: Array) -> tuple[Array, Array]:
    return w, decay * average + (1 - decay) * w


@checked
def _evaluation_weights(state: State[Weights, Inner], weights: Weights) -> Weights:
    return cast_like(state.average, weights)
