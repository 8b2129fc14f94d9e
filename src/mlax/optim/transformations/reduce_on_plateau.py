"""Smaller steps once the loss has stopped falling."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim.transformations._protocol import accepted
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper
from mlax.optimizer import Float, exportable, integer, no_steps, number, one_more, scalar, trainable
from mlax.typing import Count, Real, Scalar, Weights, checked

__all__ = ["ReduceOnPlateau", "State"]


class ReduceOnPlateau(Wrapper[Inner, P]):
    """Multiplies the updates by a scale that is reduced whenever the loss has not improved for a while.

    Pass the loss to `step`, `apply_gradients` or `update` as `value`. It has improved if it is
    below `best - rtol * |best| - atol`. Names, defaults and counting are those of Optax, after
    PyTorch's ReduceLROnPlateau; both use `rtol * best` for positive losses, but for negative ones
    Optax 0.2.8 takes a loss that stays the same for an improvement. There is no paper.

    Args:
        optimizer: Makes the steps.
        factor: The scale is multiplied by this, 0 < factor < 1.
        patience: Number of losses without improvement before the scale is reduced, >= 1.
        rtol: Relative improvement that counts, 0 <= rtol < 1.
        atol: Absolute improvement that counts, >= 0.
        cooldown: Number of losses to ignore after a reduction, >= 0.
        accumulation_size: Number of losses averaged into one, >= 1.
        min_scale: Smallest scale, 0 <= min_scale <= 1.
    """

    moves_further: ClassVar[bool] = True

    factor: Annotated[Float, number(above=0, below=1)] = 0.1
    patience: Annotated[int, integer(at_least=1)] = 10
    rtol: Annotated[Float, number(at_least=0, below=1)] = 1e-4
    atol: Annotated[Float, number(at_least=0)] = 0.0
    cooldown: Annotated[int, integer(at_least=0)] = 0
    accumulation_size: Annotated[int, integer(at_least=1)] = 1
    min_scale: Annotated[Float, number(at_least=0, at_most=1)] = 0.0

    def __post_init__(self) -> None:
        """Check each hyperparameter, and that some improvement is required."""
        super().__post_init__()
        self.require(lambda: self.rtol > 0 or self.atol > 0, "rtol or atol must be > 0, both are 0")

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of the keyword arguments of `step`: `value`, and those of the optimizer inside."""
        inside = super().arguments
        return None if inside is None else inside | {"value"}

    def init(self, weights: Weights) -> "State[Weights, Inner]":
        """Return the state before the first step. For a Module: of its unfrozen parameters."""
        return self._init(trainable(weights))

    if TYPE_CHECKING:

        def step(
            self,
            gradients: Weights,
            state: "State[Weights, Inner]",
            weights: Weights | None = None,
            *,
            value: ArrayLike,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...
        def apply_gradients(
            self,
            gradients: Weights,
            state: "State[Weights, Inner]",
            weights: Weights,
            *,
            value: ArrayLike,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...
        def update(
            self,
            model: Weights,
            gradients: Weights,
            state: "State[Weights, Inner]",
            *,
            value: ArrayLike,
        ) -> "tuple[Weights, State[Weights, Inner]]": ...

    @checked
    def _init(self, weights: Weights) -> "State[Weights, Inner]":
        return State(
            step=no_steps(),
            scale=scalar(1.0),
            best=jnp.array(jnp.inf, jnp.result_type(float)),
            mean=scalar(0.0),
            seen=no_steps(),
            waited=no_steps(),
            resting=no_steps(),
            inner=self.optimizer.init(weights),
            hyperparameters=self.held(),
        )

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        state = self._seen(state, _loss(arguments))
        updates, inner = Move(new_weights=False).by(
            self.optimizer, gradients, state.inner, weights, accepted(self.optimizer, arguments)
        )
        output = self._output(state, weights, applied=move.new_weights)
        (result,) = map_leaves(_scaled, None, (updates,), (), output, scale=state.scale)
        return result, state._replace(step=one_more(state.step), inner=inner)

    def _seen(self, state: "State[Weights, Inner]", loss: Array) -> "State[Weights, Inner]":
        """Return the state after one more loss."""
        mean = state.mean + (loss - state.mean) / (state.seen + 1).astype(float)
        complete = state.seen + 1 == self.accumulation_size
        factor = jnp.where(state.best < 0, 1 + self.rtol, 1 - self.rtol)
        improved = mean < factor * state.best - self.atol
        waited = jnp.where(improved, 0, state.waited + 1)
        resting = state.resting > 0
        # After a migration from a longer patience, it may have waited longer.
        reduced = complete & ~resting & (waited >= self.patience)
        smaller = jnp.maximum(state.scale * self.factor, self.min_scale)
        return state._replace(
            scale=jnp.where(reduced, smaller, state.scale),
            best=jnp.where(complete & improved, mean, state.best),
            mean=jnp.where(complete, 0.0, mean),
            seen=one_more(state.seen, self.accumulation_size),
            waited=jnp.where(complete, jnp.where(resting | reduced, 0, waited), state.waited),
            resting=jnp.where(
                reduced,
                self.cooldown,
                jnp.where(complete & resting, state.resting - 1, state.resting),
            ),
        )


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        scale: The updates of the last step were multiplied by this.
        best: Best loss so far.
        mean: Running mean of the losses that are being averaged into one.
        seen: Number of those losses.
        waited: Number of averaged losses since the best or the last reduction.
        resting: Number of averaged losses still to ignore.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    scale: Scalar
    best: Scalar
    mean: Scalar
    seen: Count
    waited: Count
    resting: Count
    inner: Inner
    hyperparameters: ReduceOnPlateau


def _loss(arguments: Arguments) -> Array:
    value: Real | None = arguments.get("value")
    if value is None:
        raise TypeError("ReduceOnPlateau: step needs the loss: step(..., value=loss)")
    return scalar(value, "ReduceOnPlateau: value")


def _scaled(_: None, update: Array, *, scale: Array) -> tuple[Array]:
    return (scale * update,)
