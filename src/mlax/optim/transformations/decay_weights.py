"""Decoupled weight decay, for any optimizer, and for all weights or some."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple

from jaxtyping import Array

from mlax._jax.trees import flatten, leaves
from mlax.leafwise import map_leaves
from mlax.optim.transformations._paths import (
    PathPredicate,
    answers,
    as_callable,
    holds,
    warn_of_none,
)
from mlax.optim.transformations._wrapping import Arguments, Inner, Move, P, Wrapper
from mlax.optimizer import (
    Number,
    exportable,
    follow_schedules,
    initial,
    no_steps,
    one_more,
    scheduled,
    trainable,
)
from mlax.optimizer._specified import Specification
from mlax.typing import Count, Scalar, Weights, checked

__all__ = ["DecayWeights", "State"]


class DecayWeights(Wrapper[Inner, P]):
    """Subtracts a fraction of the weights in each step, in addition to the updates of the optimizer inside.

    ```text
    w ← w + updates − learning_rate · weight_decay · w
    ```

    This is what AdamW does to Adam. The learning rate is that of the optimizer inside, including
    its schedule.

    Args:
        optimizer: Makes the steps. Its state, or that of an optimizer inside it, has a
            `learning_rate`.
        weight_decay: >= 0: a number, an array or a schedule.
        mask: Takes a path and a weight, returns whether the weight decays; all do if it is None.
            Biases and gains usually should not: `lambda path, w: w.ndim > 1`.
        independent: Whether the fraction is `weight_decay` alone, without the learning rate.

    References:
        Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    moves_further: ClassVar[bool] = True

    weight_decay: Annotated[Number, scheduled(at_least=0)]
    mask: Annotated[PathPredicate | None, Specification(as_callable)] = None
    independent: bool = False

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
        self.require(
            self.independent or _learning_rate(inner) is not None,
            f"the decay is multiplied by learning_rate, but the state of {type(self.optimizer).__name__} has none; "
            "use independent=True, and a weight_decay that is the whole fraction",
        )
        if self.mask is not None and not leaves(_masked(weights, self.mask)):
            warn_of_none("DecayWeights.mask", weights)
        return State(no_steps(), initial(self.weight_decay), inner, self.held())

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
        decay = state.weight_decay
        fraction = decay if self.independent else decay * _learning_rate(inner)

        masked = weights if self.mask is None else _masked(weights, self.mask)
        output = self._output(state, None if move.new_weights else weights)
        (result,) = map_leaves(_decayed, None, (result, masked), (), output, fraction=fraction)
        return result, state._replace(step=one_more(state.step), inner=inner)


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        weight_decay: The value used by the last step; before the first step, the value it will use.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    weight_decay: Scalar
    inner: Inner
    hyperparameters: DecayWeights


def _masked(weights: Weights, mask: PathPredicate) -> Weights:
    """Return the weights, with None in place of those that do not decay."""

    def decays(path: str, weight: Array) -> bool:
        return holds("DecayWeights.mask", mask, path, weight)

    chosen, treedef = flatten(answers("DecayWeights.mask", decays, weights))
    pairs = zip(chosen, leaves(weights), strict=True)
    masked: Weights = treedef.unflatten(w if decays else None for decays, w in pairs)
    return masked


def _decayed(_: None, result: Array, w: Array | None, *, fraction: Array) -> tuple[Array]:
    return (result if w is None else result - fraction * w,)


def _learning_rate(state: Any) -> Any:
    """Return the learning rate in a state or in its inner states; None if there is none."""
    while state is not None:
        rate = getattr(state, "learning_rate", None)
        if rate is not None:
            return rate
        state = getattr(state, "inner", None)
    return None
