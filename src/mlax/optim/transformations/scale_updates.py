"""A factor for the updates of each weight: different learning rates for different layers."""

import contextlib
import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.dtypes import compute_dtype
from mlax.leafwise import map_leaves
from mlax.optim.transformations._paths import answers, as_callable, asked
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper
from mlax.optimizer import exportable, no_steps, one_more, trainable
from mlax.optimizer._specified import Specification
from mlax.tree import describe
from mlax.typing import Count, Weights, checked

__all__ = ["ScaleUpdates", "State"]


class ScaleUpdates(Wrapper[Inner, P]):
    """Multiplies the updates of each weight by its own factor, like a learning rate per weight.

        ScaleUpdates(optim.AdamW(1e-3), lambda path, w: 0.1 if path.startswith("embedding.") else
            1.0)

    Args:
        optimizer: Makes the steps.
        scale: Takes a path, `"layers.0.kernel"`, and a weight, and returns its factor: a Python
            number, >= 0. Only shape and dtype of the weight are known under `jit`.
    """

    moves_further: ClassVar[bool] = True

    scale: Annotated[Callable[[str, Array], float], Specification(as_callable)]

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
        answers("ScaleUpdates.scale", self._scale, weights)
        return State(no_steps(), self.optimizer.init(weights), self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        updates, inner = Move(new_weights=False).by(
            self.optimizer, gradients, state.inner, weights, arguments
        )
        reference = gradients if weights is None else weights
        scales = jax.tree.map(
            _as_array, answers("ScaleUpdates.scale", self._scale, reference), reference
        )
        output = self._output(state, weights, applied=move.new_weights)
        (result,) = map_leaves(_scaled, None, (updates, scales), (), output)
        return result, State(one_more(state.step), inner, state.hyperparameters)

    def _scale(self, path: str, weight: Array) -> float:
        given = cast("object", asked("ScaleUpdates.scale", self.scale, path, weight))
        number = math.nan
        if isinstance(given, Real):
            with contextlib.suppress(OverflowError):
                number = float(given)
        if not 0 <= number < math.inf:
            raise ValueError(
                f"ScaleUpdates: scale must return a finite Python number >= 0, got {describe(given)} for {path!r}"
            )
        return number


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    inner: Inner
    hyperparameters: ScaleUpdates


def _as_array(scale: float, weight: Array) -> Array:
    # An array in the dtype that the leaf is computed in. In the jitted leaf function it would be too
    # late to choose the dtype of a Python number.
    return jnp.asarray(scale, compute_dtype(weight.dtype))


def _scaled(_: None, update: Array, scale: Array) -> tuple[Array]:
    return (scale * update,)
