"""Lookahead: k steps forward, one step back."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._wrapping import (
    Arguments,
    Inner,
    Move,
    P,
    Wrapper,
    cast_like,
    where,
)
from mlax.optimizer import (
    Dtype,
    Float,
    copies,
    exportable,
    integer,
    merged,
    no_steps,
    number,
    one_more,
    trainable,
)
from mlax.typing import Count, Weights, checked

__all__ = ["Lookahead", "State"]


class Lookahead(Wrapper[Inner, P]):
    """After every few steps, moves the weights back to a point between the slow weights and themselves.

    ```text
    slow ← slow + slow_step_size · (w − slow)
    w ← slow
    ```

    Evaluate with the slow weights, which `evaluation_weights` returns. The state of the optimizer
    inside is kept.

    Args:
        optimizer: Makes the steps.
        sync_period: Number of steps from one synchronization to the next, >= 1.
        slow_step_size: 0 <= slow_step_size <= 1.
        slot_dtype: Floating-point dtype of the slow weights; that of the weights if it is None.

    References:
        Zhang et al. 2019, https://arxiv.org/abs/1907.08610
    """

    moves_further: ClassVar[bool] = True
    has_the_last_word: ClassVar[bool] = True

    sync_period: Annotated[int, integer(at_least=1)] = 5
    slow_step_size: Annotated[Float, number(at_least=0, at_most=1)] = 0.5
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
        slow = copies(weights, self.slot_dtype)
        return State(no_steps(), no_steps(), slow, inner, self.held())

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
        cycle = one_more(state.cycle, self.sync_period)
        now = cycle == 0
        back, slow = map_leaves(
            _back,
            self.slow_step_size,
            (move.weights(result, weights),),
            (state.slow,),
            self._output(state),
            now=now,
        )
        # Between synchronizations the updates are exactly those of the optimizer inside.
        result = where(now, move.to(back, weights), result)
        return result, State(one_more(state.step), cycle, slow, inner, state.hyperparameters)

    def evaluation_weights(self, state: "State[Weights, Inner]", weights: Weights) -> Weights:
        """Return the slow weights in the dtypes of the weights. For a Module: the model with them as its
        parameters.
        """
        return merged(_evaluation_weights(self.own(state), trainable(weights)), weights)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        cycle: Number of those since the last synchronization.
        slow: Slow weights, like the weights.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    cycle: Count
    slow: Weights
    inner: Inner
    hyperparameters: Lookahead


def _back(rate: Float, w: Array, slow: Array, *, now: Array) -> tuple[Array, Array]:
    back = slow + rate * (w - slow)
    return back, jnp.where(now, back, slow)


@checked
def _evaluation_weights(state: State[Weights, Inner], weights: Weights) -> Weights:
    return cast_like(state.slow, weights)
