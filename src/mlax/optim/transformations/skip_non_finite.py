"""Steps on finite gradients only."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax.trees import leaves
from mlax.optim.transformations._wrapping import Arguments, Move, Wrapper, made_or_skipped
from mlax.optimizer import integer, no_steps, selected
from mlax.typing import Count, Weights, checked

__all__ = ["SkipNonFinite", "State"]


class SkipNonFinite(Wrapper):
    """Leaves weights and state as they are where a gradient holds an infinity or NaN.

    Args:
        optimizer: Makes the other steps.
        at_most: How many steps in a row are skipped, >= 0; the next one is made, whatever it holds, so that a model
            that is lost does not look as if it still trained. None: any number.
    """

    has_the_last_word: ClassVar[bool] = True

    at_most: int | None = integer(None, at_least=0, optional=True)

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step; of a Module, for its unfrozen parameters."""
        return self._init(selected(weights))

    @checked
    def _init(self, weights: Weights) -> "State[Weights]":
        inner = self.optimizer.init(weights)
        return State(no_steps(), no_steps(), no_steps(), inner, self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights]]":
        finite = functools.reduce(lax.bitwise_and, map(_finite, leaves(gradients)), jnp.array(True))
        given_up = self.at_most is not None and state.consecutive >= self.at_most
        made = finite | given_up

        def make() -> tuple[Weights, Any]:
            return move.by(self.optimizer, gradients, state.inner, weights, arguments)

        def skip() -> tuple[Weights, Any]:
            return move.nowhere(gradients, weights), state.inner

        result, inner = made_or_skipped(made, make, skip)
        return result, State(
            state.step + 1,
            state.skipped + (~made).astype(jnp.int32),
            jnp.where(finite, 0, state.consecutive + 1),
            inner,
            state.hyperparameters,
        )


class State(NamedTuple, Generic[Weights]):
    """What is remembered between steps.

    Attributes:
        step: Number of steps asked for.
        skipped: Number of those that were skipped.
        consecutive: Number of gradients in a row, up to the last, that were not finite.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer. Static, no leaves.
    """

    step: Count
    skipped: Count
    consecutive: Count
    inner: Any
    hyperparameters: SkipNonFinite


def _all_finite(gradient: Array) -> Array:
    return jnp.isfinite(gradient).all()


_finite: Callable[[Array], Array] = jax.jit(_all_finite)  # traced once for each shape
