"""Optimizers made of optimizers keep the types of weights and states, and take what has `init` and `step`."""

from typing import Any, Self, TypeVar, reveal_type

from jaxtyping import Array

from mlax import Module, Parameter, optim
from mlax.optim import OptimizerLike

T = TypeVar("T")


class Encoder(Module):
    """A model."""

    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class Own:
    """An optimizer that inherits nothing."""

    def init(self, weights: Any) -> None:
        """Return no state."""

    def step(self, gradients: T, state: None, weights: T | None = None, *, temperature: float = 1.0) -> tuple[T, None]:
        return gradients, state


class NotAtAll:
    """Has no step."""

    def init(self, weights: Any) -> None:
        """Return no state."""


def taken(own: Own, adafactor: optim.Adafactor, polyak: optim.PolyakSGD) -> list[OptimizerLike]:
    optim.Lookahead(NotAtAll())  # error: reportArgumentType // arg-type
    optim.Lookahead(optim.Adam)  # error: reportArgumentType // arg-type
    optim.Lookahead()  # error: reportCallIssue // call-arg
    optim.AccumulateGradients(own)  # error: reportCallIssue // call-arg
    optim.AccumulateGradients(own, "3")  # error: reportArgumentType // arg-type
    optim.ScaleUpdates(own, 0.5)  # error: reportArgumentType // arg-type
    optim.MultiOptimizer([own, adafactor], [lambda path, w: path.startswith("a") and w.ndim == 2])
    return [own, adafactor, polyak, optim.SkipNonFinite(optim.Lookahead(own)), optim.Frozen()]


def kept(encoder: Encoder, gradients: Encoder) -> None:
    optimizer = optim.AverageWeights(optim.Adam(1e-3), decay=0.99)
    reveal_type(optimizer)  # reveals: AverageWeights[State[Any], ()] // AverageWeights[State[Any], []]
    state = optimizer.init(encoder)
    reveal_type(state.average)  # reveals: Encoder
    reveal_type(optimizer.step(gradients, state, encoder))  # reveals: tuple[Encoder, State[Encoder, State[Any]]]
    reveal_type(optimizer.update(encoder, gradients, state))  # reveals: tuple[Encoder, State[Encoder, State[Any]]]
    reveal_type(optimizer.evaluation_weights(state, encoder))  # reveals: Encoder
    reveal_type(optim.clip_grad_norm(gradients, 1.0))  # reveals: tuple[Encoder, Array]
    rates = optim.learning_rates(state)
    reveal_type(optim.with_numbers(state, dict.fromkeys(rates, 0.5)).average)  # reveals: Encoder
    optimizer.decay = 0.5  # error: reportAttributeAccessIssue // misc
