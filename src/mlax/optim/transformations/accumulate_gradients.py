"""One step for several micro-batches, on their mean gradient."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import class_of
from mlax.leafwise import map_leaves
from mlax.optim._numbers import states_in
from mlax.optim.transformations._wrapping import (
    Arguments,
    Inner,
    Move,
    P,
    Wrapper,
    cast_like,
    made_or_skipped,
)
from mlax.optimizer import (
    Dtype,
    exportable,
    integer,
    merged,
    no_steps,
    one_more,
    trainable,
    warn_if_narrow,
    zeros,
)
from mlax.optimizer._hyperparameters import is_schedule
from mlax.optimizer._specified import Specification
from mlax.optimizer._stepping import asked
from mlax.tree import describe, path_text
from mlax.typing import Count, Weights, checked

__all__ = ["AccumulateGradients", "State"]


EverySchedule: TypeAlias = Callable[[Array], ArrayLike]
"""A function of the number of steps made, an int32 scalar, that returns an integer >= 1."""

_fixed = integer(at_least=1)


def _normal(value: Any) -> Any:
    return value if is_schedule(value) else _fixed.normalise(value)


class AccumulateGradients(Wrapper[Inner, P]):
    """Makes one step for every `every` calls, on the mean of their gradients. The other calls change no weights.

    The step gets the keyword arguments of the last call. After the last micro-batch of an epoch,
    `flush` makes the step of a cycle that is not complete.

    Args:
        optimizer: Makes the step.
        every: Number of micro-batches in a batch, >= 1: an integer, or a schedule, a function of the
            number of steps made. Floats that it returns are rounded.
        slot_dtype: Floating-point dtype of the mean; that of the weights if it is None.
    """

    has_the_last_word: ClassVar[bool] = True

    every: Annotated[int | EverySchedule, Specification(_normal, spelling="integer(at_least=1)")]
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
        mean = zeros(weights, self.slot_dtype)
        made = no_steps() if is_schedule(self.every) else None
        state = State(no_steps(), no_steps(), made, mean, inner, self.held())
        every = self._every(state)
        if not is_tracer(every):
            self.require(bool(every >= 1), f"every must be >= 1, got {every} from its schedule")
            warn_if_narrow(state, kept={"mean": 1 - 1 / float(every)})
        return state

    def _every(self, state: "State[Any, Any]") -> Any:
        """Return the number of micro-batches in this cycle: a number, or an int32 array of shape ()."""
        if state.made is None or not is_schedule(self.every):
            return self.every
        value = jnp.asarray(asked(self.every, state.made))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.number):
            raise TypeError(
                f"AccumulateGradients: the schedule of every must return an integer, got {describe(value)}"
            )
        return jnp.round(value).astype(jnp.int32)

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights, Inner]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        mean, slot = map_leaves(
            _accumulate,
            None,
            (gradients,),
            (state.mean,),
            self._output(state),
            share=1 / (state.cycle + 1).astype(float),
        )

        def last() -> tuple[Weights, Weights, Any]:
            result, inner = move.by(self.optimizer, mean, state.inner, weights, arguments)
            return result, zeros(slot, None), inner

        def between() -> tuple[Weights, Weights, Any]:
            return move.nowhere(gradients, weights), slot, state.inner

        # Not ==: another cycle may have been begun by a schedule, or before `migrate`.
        complete = state.cycle >= self._every(state) - 1
        result, slot, inner = made_or_skipped(complete, last, between)
        return result, State(
            one_more(state.step),
            jnp.where(complete, 0, one_more(state.cycle)),
            _counted(state.made, complete),
            slot,
            inner,
            state.hyperparameters,
        )

    def flush(
        self,
        state: "State[Weights, Inner]",
        weights: Weights,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "tuple[Weights, State[Weights, Inner]]":
        """Return the weights and the state after the step of a cycle that is not complete.

        The step is made on the mean of the micro-batches so far; without any, nothing changes. Works
        under `jit` too. Inside a wrapper, flush the state inside: `flush(state.inner, weights)`.

        Args:
            state: The state after any call.
            weights: The weights; or the model, if it is a Module.
            *args: None.
            **kwargs: Keyword arguments for the optimizers inside, such as the loss.
        """
        self._refuse_outer(state)
        new, state = self._flush(self.own(state), trainable(weights), kwargs)
        return merged(new, weights), state

    def _refuse_outer(self, state: object) -> None:
        """Raise an error if this optimizer's state is inside a state."""
        for path, node in states_in(state):
            if class_of(node.hyperparameters) is class_of(self):
                if not path:
                    return
                place = f"state.{path_text(path)}"
                raise TypeError(
                    f"AccumulateGradients.flush: expected its own state, got one with it at {place}.\n"
                    f"  Flush what is inside and put it back: weights, inner = accumulating.flush({place}, weights); "
                    f"state = mlax.at(state, lambda state: {place}).set(inner)."
                )

    @checked
    def _flush(
        self, state: "State[Weights, Inner]", weights: Weights, arguments: Arguments
    ) -> "tuple[Weights, State[Weights, Inner]]":
        mean = cast_like(state.mean, weights, self._output(state))

        def last() -> tuple[Weights, Any]:
            return Move(new_weights=True).by(self.optimizer, mean, state.inner, weights, arguments)

        def nothing() -> tuple[Weights, Any]:
            return weights, state.inner

        begun = state.cycle > 0
        result, inner = made_or_skipped(begun, last, nothing)
        return result, state._replace(
            cycle=no_steps(),
            made=_counted(state.made, begun),
            mean=zeros(state.mean, None),
            inner=inner,
        )


@exportable
class State(NamedTuple, Generic[Weights, Inner]):
    """What the optimizer remembers between micro-batches.

    Attributes:
        step: Number of micro-batches seen.
        cycle: Number of those since the last step, which are in the mean.
        made: Number of steps made by the optimizer inside. None unless `every` is a schedule.
        mean: Mean of the gradients of this cycle, like the weights.
        inner: State of the optimizer inside.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    cycle: Count
    made: Count | None
    mean: Weights
    inner: Inner
    hyperparameters: AccumulateGradients


def _counted(made: Array | None, now: Array) -> Array | None:
    return None if made is None else jnp.where(now, one_more(made), made)


def _accumulate(_: None, g: Array, mean: Array, *, share: Array) -> tuple[Array, Array]:
    mean = mean + share * (g - mean)
    return mean, mean
