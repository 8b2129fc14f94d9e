"""Steps are made only if all gradients are finite."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, NamedTuple

import jax.numpy as jnp

from mlax.optim.transformations._wrapping import (
    Arguments,
    Inner,
    Move,
    P,
    Wrapper,
    all_finite,
    made_or_skipped,
)
from mlax.optimizer import exportable, integer, no_steps, one_more, trainable
from mlax.typing import Count, Weights, checked

__all__ = ["SkipNonFinite", "State"]


class SkipNonFinite(Wrapper[Inner, P]):
    """Skips a step if any gradient holds an infinity or NaN: weights and state stay as they are.

    Args:
        optimizer: Makes the other steps.
        at_most: How many steps in a row may be skipped, >= 0. The next one is made even if it is
            not finite, so that a diverged model does not seem to be training. None: any number.
    """

    has_the_last_word: ClassVar[bool] = True

    at_most: Annotated[int | None, integer(at_least=0)] = None

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
        inner = self.optimizer.init(weights)
        return State(no_steps(), no_steps(), no_steps(), inner, self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        finite = all_finite(gradients)
        given_up = self.at_most is not None and state.consecutive >= self.at_most
        made = finite | given_up

        def make() -> tuple[Weights, Inner]:
            return move.by(self.optimizer, gradients, state.inner, weights, arguments)

        def skip() -> tuple[Weights, Inner]:
            return move.nowhere(gradients, weights), state.inner

        result, inner = made_or_skipped(made, make, skip)
        return result, State(
            one_more(state.step),
            jnp.where(made, state.skipped, one_more(state.skipped)),
            jnp.where(finite, 0, one_more(state.consecutive)),
            inner,
            state.hyperparameters,
        )


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps asked for.
        skipped: Number of steps skipped.
        consecutive: Number of non-finite gradients in a row, up to the last step.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    skipped: Count
    consecutive: Count
    inner: Inner
    hyperparameters: SkipNonFinite
