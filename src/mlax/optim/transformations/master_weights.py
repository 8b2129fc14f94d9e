"""Weights in half precision, trained in single precision."""

from typing import Any, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._wrapping import Arguments, Move, Wrapper, cast_like
from mlax.optimizer import Dtype, copies, dtype, merged, no_steps, selected
from mlax.typing import Count, Weights, checked

__all__ = ["MasterWeights", "State"]


class MasterWeights(Wrapper):
    """Keeps the weights in a wider dtype, and trains those; the model's own follow, rounded.

    The optimizer inside sees gradients, weights and slots in the wider dtype only. Weights that are changed outside,
    the next step changes back: they are read from the state. `apply_gradients` and `update` round once; `step` returns
    what is to be added, rounded, and so ends next to the rounded weights, not always on them. They are rounded to
    nearest whatever the optimizer inside asks for, as nothing is lost: the next step begins from the wide ones.

    References:
        Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740

    Args:
        optimizer: Makes the steps.
        slot_dtype: Floating-point dtype of the master weights.
    """

    has_the_last_word: ClassVar[bool] = True

    slot_dtype: Dtype = dtype(jnp.float32)

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step; of a Module, for its unfrozen parameters."""
        return self._init(selected(weights))

    @checked
    def _init(self, weights: Weights) -> "State[Weights]":
        master = copies(weights, self.slot_dtype)
        return State(no_steps(), master, self.optimizer.init(master), self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights]]":
        weights = self._needs(weights)
        master, inner = Move(new_weights=True).by(
            self.optimizer, cast_like(gradients, state.master), state.inner, state.master, arguments
        )
        next_state = State(state.step + 1, master, inner, state.hyperparameters)
        if move.new_weights:
            return cast_like(master, weights), next_state
        (updates,) = map_leaves(_difference, None, (weights, master), ())
        return updates, next_state

    def evaluation_weights(self, state: "State[Weights]", weights: Weights) -> Weights:
        """Return the weights to evaluate, in the dtypes of the weights, if the optimizer inside has others."""
        state = self.own(state)
        wide = self._inside_evaluation_weights(state.inner, state.master)
        return merged(cast_like(wide, selected(weights)), weights)


class State(NamedTuple, Generic[Weights]):
    """What is remembered between steps.

    Attributes:
        step: Number of steps done.
        master: The weights in `slot_dtype`.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer. Static, no leaves.
    """

    step: Count
    master: Weights
    inner: Any
    hyperparameters: MasterWeights


def _difference(_: None, w: Array, master: Array) -> tuple[Array]:
    return (master - w,)
