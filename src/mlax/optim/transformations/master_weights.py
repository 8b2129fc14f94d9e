"""Weights in half precision, trained in single precision."""

from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper, cast_like
from mlax.optimizer import Dtype, copies, exportable, merged, no_steps, one_more, trainable
from mlax.typing import Count, Weights, checked

__all__ = ["MasterWeights", "State"]


class MasterWeights(Wrapper[Inner, P]):
    """Keeps a copy of the weights in a wider dtype and trains that. The model's own weights are the rounded
    copy.

    Gradients, weights and slots of the optimizer inside are in the wider dtype. The weights are
    read from the state: if you change them elsewhere, the next step undoes the change.

    `apply_gradients` and `update` round once. `step` returns a rounded update, so that weights +
    updates may differ slightly from the rounded copy. Rounding is always to nearest, even if the
    optimizer inside rounds stochastically: no information is lost, because the next step starts
    from the copy.

    Args:
        optimizer: Makes the steps.
        slot_dtype: Floating-point dtype of the master weights.

    References:
        Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
    """

    has_the_last_word: ClassVar[bool] = True

    slot_dtype: Dtype = jnp.float32

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
        master = copies(weights, self.slot_dtype)
        return State(no_steps(), master, self.optimizer.init(master), self.held())

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
        wide = {
            name: cast_like(value, state.master) if name in self.trees else value
            for name, value in arguments.items()
        }
        master, inner = Move(new_weights=True).by(
            self.optimizer, cast_like(gradients, state.master), state.inner, state.master, wide
        )
        next_state = State(one_more(state.step), master, inner, state.hyperparameters)
        if move.new_weights:
            return cast_like(master, weights), next_state
        (updates,) = map_leaves(_difference, None, (weights, master), ())
        return updates, next_state

    def evaluation_weights(self, state: "State[Weights, Inner]", weights: Weights) -> Weights:
        """Return the weights to evaluate, in the dtypes of the weights, if the optimizer inside has others."""
        state = self.own(state)
        wide = self._inside_evaluation_weights(state.inner, state.master)
        return merged(cast_like(wide, trainable(weights)), weights)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        master: The weights in `slot_dtype`.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    master: Weights
    inner: Inner
    hyperparameters: MasterWeights


def _difference(_: None, w: Array, master: Array) -> tuple[Array]:
    return (master - w,)
