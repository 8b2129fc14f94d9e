"""Optimizers around optimizers: each state belongs to one of them, to one model and to one optimizer inside."""

from typing import Any, Self, TypeVar, assert_type

import optax  # pyright: ignore[reportMissingTypeStubs]
from jaxtyping import Array

from mlax import Module, Parameter, optim
from mlax.optim import OptimizerLike

T = TypeVar("T")


class Encoder(Module):
    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class Decoder(Module):
    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class Own:
    """An optimizer that inherits nothing."""

    def init(self, weights: Any) -> None:
        """Return no state."""

    def step(self, gradients: T, state: None, weights: T | None = None, *, temperature: float = 1.0) -> tuple[T, None]:
        return gradients, state


def kept(encoder: Encoder, gradients: Encoder) -> None:
    optimizer = optim.AverageWeights(optim.Adam(1e-3), decay=0.99)
    state = optimizer.init(encoder)
    assert_type(state.average, Encoder)
    assert_type(state.decay, Array)
    updates, state = optimizer.step(gradients, state, encoder)
    assert_type(updates, Encoder)
    assert_type(state.average, Encoder)
    encoder, state = optimizer.update(encoder, gradients, state)
    assert_type(encoder, Encoder)
    assert_type(optimizer.evaluation_weights(state, encoder), Encoder)


def inner_states(encoder: Encoder) -> None:
    state = optim.Lookahead(optim.Adam()).init(encoder)
    print(state.inner.m, state.inner.learning_rate, state.inner.hyperparameters.b1)
    nested = optim.SkipNonFinite(optim.ClipGradients(optim.SGD(), max_norm=1.0)).init(encoder)
    print(nested.skipped, nested.inner.step, nested.inner.inner.velocity)


def changed_inside(encoder: Encoder) -> None:
    state = optim.Lookahead(optim.Adam()).init(encoder)
    state = state._replace(inner=state.inner._replace(learning_rate=state.inner.learning_rate / 2))
    print(state.inner.learning_rate)


def arguments_pass_through(encoder: Encoder, gradients: Encoder, loss: Array) -> None:
    optimizer = optim.ClipGradients(optim.PolyakSGD(), max_norm=1.0)
    state = optimizer.init(encoder)
    optimizer.step(gradients, state, encoder, value=loss)
    optimizer.update(encoder, gradients, state, value=loss)


def arguments_of_ones_own(encoder: Encoder, gradients: Encoder) -> None:
    optimizer = optim.Lookahead(Own())
    optimizer.step(gradients, optimizer.init(encoder), encoder, temperature=2.0)


def plateau(encoder: Encoder, gradients: Encoder, loss: Array) -> None:
    optimizer = optim.ReduceOnPlateau(optim.Adam())
    state = optimizer.init(encoder)
    encoder, state = optimizer.update(encoder, gradients, state, value=loss)
    print(state.best, state.inner.m)
    around = optim.SkipNonFinite(optimizer)
    around.step(gradients, around.init(encoder), encoder, value=loss)


def multi(encoder: Encoder, gradients: Encoder) -> None:
    optimizer = optim.MultiOptimizer([optim.Muon(), optim.Adam()], [lambda path, w: w.ndim == 2])
    state = optimizer.init(encoder)
    encoder, state = optimizer.update(encoder, gradients, state)
    print(state.inner[0], optimizer.groups(encoder))


def all_of_them(encoder: Encoder) -> None:
    inside = optim.Adam()
    optim.AccumulateGradients(inside, 4).init(encoder)
    optim.DecayWeights(inside, 0.1, mask=lambda path, w: w.ndim > 1).init(encoder)
    optim.MasterWeights(inside).init(encoder)
    optim.ScaleUpdates(inside, lambda path, w: 0.1 if path.startswith("head") else 1.0).init(encoder)
    optim.Frozen().init(encoder)


def by_name(optimizer: optim.Lookahead, encoder: Encoder) -> optim.Optimizer:
    print(optimizer.sync_period, optimizer.init(encoder).slow)
    return optim.SkipNonFinite(optimizer)


def like(own: Own) -> list[OptimizerLike]:
    return [own, optim.Adam(), optim.PolyakSGD(), optim.SkipNonFinite(optim.Lookahead(own)), optim.Frozen()]


def some_inside(optimizer: optim.Optimizer, encoder: Encoder) -> Encoder:
    around = optim.Lookahead(optimizer)
    encoder, _ = around.apply_gradients(encoder, around.init(encoder), encoder)
    return encoder


def to_and_from_optax(encoder: Encoder) -> None:
    optim.to_optax(optim.Adam())
    optim.to_optax(optim.ClipGradients(optim.Adam(), max_norm=1.0))
    optimizer = optim.from_optax(optax.adam(1e-3))
    encoder, state = optimizer.apply_gradients(encoder, optimizer.init(encoder), encoder)
    print(state.inner)


def wrong_states(encoder: Encoder, decoder: Decoder, gradients: Encoder) -> None:
    optimizer = optim.Lookahead(optim.Adam())
    optimizer.step(gradients, optim.Adam().init(encoder), encoder)  # wrong
    optimizer.step(gradients, optim.MasterWeights(optim.Adam()).init(encoder), encoder)  # wrong
    optimizer.step(gradients, optim.Lookahead(optim.SGD()).init(encoder), encoder)  # wrong
    optimizer.step(gradients, optimizer.init(decoder), encoder)  # wrong: unseen by pyrefly, ty
    optimizer.step(gradients, None, encoder)  # wrong
    optimizer.apply_gradients(gradients, optim.Lookahead(optim.SGD()).init(encoder), encoder)  # wrong
    optimizer.apply_gradients(gradients, optimizer.init(decoder), encoder)  # wrong: unseen by pyrefly, ty
    optimizer.update(encoder, gradients, optim.Lookahead(optim.SGD()).init(encoder))  # wrong
    optimizer.update(encoder, gradients, optimizer.init(decoder))  # wrong: unseen by pyrefly, ty
    optim.Frozen().step(gradients, optimizer.init(encoder))  # wrong
    optim.MultiOptimizer([optim.Adam()]).step(gradients, optimizer.init(encoder))  # wrong


def wrong_arguments(encoder: Encoder, gradients: Encoder, loss: Array) -> None:
    plain = optim.Lookahead(optim.Adam())
    plain.step(gradients, plain.init(encoder), encoder, value=loss)  # wrong
    plain.step(gradients, plain.init(encoder), wieghts=encoder)  # wrong
    plain.apply_gradients(gradients, plain.init(encoder))  # wrong
    polyak = optim.Lookahead(optim.PolyakSGD())
    polyak.step(gradients, polyak.init(encoder), encoder, vlaue=loss)  # wrong
    polyak.step(gradients, polyak.init(encoder), encoder)  # wrong
    polyak.update(encoder, gradients, polyak.init(encoder), valu=loss)  # wrong
    plateau = optim.ReduceOnPlateau(optim.Adam())
    plateau.step(gradients, plateau.init(encoder), encoder, vlaue=loss)  # wrong
    plateau.update(encoder, gradients, plateau.init(encoder))  # wrong
    own = optim.Lookahead(Own())
    own.step(gradients, own.init(encoder), encoder, temprature=2.0)  # wrong
    own.step(gradients, own.init(encoder), encoder, temperature="2")  # wrong
    optim.Frozen().step(gradients, optim.Frozen().init(encoder), value=loss)  # wrong


def wrong_fields(encoder: Encoder) -> None:
    state = optim.Lookahead(optim.Adam()).init(encoder)
    state.inner.mm  # wrong
    state.inner.velocity  # wrong
    state.slwo  # wrong
    state.slow.bias  # wrong
    state.hyperparameters.sync_perod  # wrong
    state._replace(lr=0.1)  # wrong: unseen by pyright
    state._replace(step="3")  # wrong: unseen by pyright
    state.inner._replace(lr=0.1)  # wrong: unseen by pyright
    optim.SkipNonFinite(optim.Lookahead(optim.Adam())).init(encoder).inner.inner.mm  # wrong: unseen by pyrefly
    optim.adam.init(encoder)._replace(lr=0.1)  # wrong: unseen by pyright
    optim.adam.init(encoder)._replace(learning_rate=0.1)  # wrong: unseen by pyright
    state.step = state.step + 1  # wrong


def wrong_optimizers(encoder: Encoder) -> None:
    optim.Lookahead(optim.Adam)  # wrong
    optim.Lookahead(encoder)  # wrong
    optim.Lookahead()  # wrong
    optim.Lookahead(optim.Adam(), sync_perod=3)  # wrong
    optim.Lookahead(optax.adam(1e-3))  # wrong: unseen by mypy
    optim.AccumulateGradients(optim.Adam(), "3")  # wrong
    optim.ScaleUpdates(optim.Adam(), 0.5)  # wrong
    optim.MultiOptimizer(optim.Adam())  # wrong
    optim.MultiOptimizer([optim.Adam(), optim.SGD()], [lambda path: True])  # wrong
    optim.DecayWeights(optim.Adam(), "0.1")  # wrong
    optim.to_optax(optax.adam(1e-3))  # wrong: unseen by mypy
    optim.to_optax(optim.Adam)  # wrong
    optim.from_optax(optim.Adam())  # wrong: unseen by mypy
    optim.from_optax(optax.adam)  # wrong: unseen by mypy
