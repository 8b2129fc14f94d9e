"""Dynamic loss scaling: gradients in float16 that neither vanish nor overflow."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax.leafwise import map_leaves
from mlax.optim._numbers import states_in
from mlax.optim.transformations._wrapping import (
    Arguments,
    Inner,
    Move,
    P,
    Wrapper,
    all_finite,
    made_or_skipped,
)
from mlax.optimizer import exportable, integer, no_steps, number, one_more, scalar, trainable
from mlax.tree import describe
from mlax.typing import Count, Scalar, Weights, checked

__all__ = ["ScaleLoss", "State", "scaled_loss"]


class ScaleLoss(Wrapper[Inner, P]):
    """Divides the gradients of a scaled loss by its scale; skips the step and reduces the scale if they are not
    finite.

    ```text
    not finite: scale ← max(scale · backoff_factor, min_scale), weights and inner state stay
    finite: g ← g / scale, and after growth_interval steps in a row, scale ← scale · growth_factor
    ```

    The loss function multiplies the loss by the scale, with `scaled_loss`. As in PyTorch's
    GradScaler.

    Args:
        optimizer: Makes the steps.
        init_scale: The first scale, > 0.
        growth_factor: >= 1.
        backoff_factor: 0 < backoff_factor < 1.
        growth_interval: Number of steps in a row after which the scale grows, >= 1.
        min_scale: The scale does not become smaller, > 0.

    References:
        Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
    """

    has_the_last_word: ClassVar[bool] = True
    gradients_are_scaled: ClassVar[bool] = True

    init_scale: Annotated[float, number(above=0)] = 2.0**16
    growth_factor: Annotated[float, number(at_least=1)] = 2.0
    backoff_factor: Annotated[float, number(above=0, below=1)] = 0.5
    growth_interval: Annotated[int, integer(at_least=1)] = 2000
    min_scale: Annotated[float, number(above=0)] = 1.0

    def __post_init__(self) -> None:
        """Check each hyperparameter, and that the loss is scaled once."""
        super().__post_init__()
        self.require(self.init_scale >= self.min_scale, "init_scale must be >= min_scale")
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
        scale = scalar(self.init_scale)
        return State(no_steps(), scale, no_steps(), no_steps(), inner, self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        made = all_finite(gradients)
        (unscaled,) = map_leaves(_unscaled, None, (gradients,), (), factor=1 / state.scale)

        def make() -> tuple[Weights, Inner]:
            return move.by(self.optimizer, unscaled, state.inner, weights, arguments)

        def skip() -> tuple[Weights, Inner]:
            return move.nowhere(gradients, weights), state.inner

        result, inner = made_or_skipped(made, make, skip)
        larger = state.scale * self.growth_factor
        larger = jnp.where(jnp.isfinite(larger), larger, state.scale)
        smaller = jnp.maximum(state.scale * self.backoff_factor, self.min_scale)
        grows = state.since >= self.growth_interval - 1
        return result, State(
            one_more(state.step),
            jnp.where(made, jnp.where(grows, larger, state.scale), smaller),
            jnp.where(made & ~grows, one_more(state.since), 0),
            jnp.where(made, state.skipped, one_more(state.skipped)),
            inner,
            state.hyperparameters,
        )


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps asked for.
        scale: The next loss is multiplied by this.
        since: Number of steps since the scale changed.
        skipped: Number of steps skipped.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    scale: Scalar
    since: Count
    skipped: Count
    inner: Inner
    hyperparameters: ScaleLoss


def scaled_loss(loss: Scalar, state: object) -> Scalar:
    """Return a loss multiplied by the scale in a state, for the gradients that ScaleLoss expects.

    Args:
        loss: Floating-point, shape (); float32 or wider, in which the product does not overflow.
        state: The state of ScaleLoss, or of what wraps it.

    Returns:
        Like the loss.

    Raises:
        TypeError: The loss is not such a scalar, or there is not exactly one state of ScaleLoss in `state`.
    """
    scales = [node.scale for _, node in states_in(state) if isinstance(node, State)]
    if len(scales) != 1:
        raise TypeError(
            f"scaled_loss: expected a state with one ScaleLoss in it, found {len(scales)}"
        )
    dtype: Any = getattr(loss, "dtype", jnp.dtype("float16"))
    if (
        getattr(loss, "shape", None) != ()
        or not jnp.issubdtype(dtype, jnp.floating)
        or dtype.itemsize < 4
    ):
        raise TypeError(
            f"scaled_loss: the loss must be a scalar in float32 or wider, got {describe(loss)}.\n"
            "  Compute it from float32, as in logits.astype(jnp.float32)."
        )
    return loss * lax.convert_element_type(scales[0], dtype)


def _unscaled(_: None, g: Array, *, factor: Array) -> tuple[Array]:
    return (factor * g,)
