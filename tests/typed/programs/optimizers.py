"""Some optimizer, one optimizer, and their states."""

from typing import Any, Self, assert_type

import jax.numpy as jnp
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, optim

Weights = dict[str, Array]


def train(optimizer: optim.Optimizer, weights: Weights, gradients: Weights) -> Weights:
    state = optimizer.init(weights)
    updates, state = optimizer.step(gradients, state, weights)
    weights, state = optimizer.apply_gradients(gradients, state, weights)
    weights, state = optimizer.update(weights, gradients, state)
    return optim.apply_updates(updates, weights)


def train_any(optimizer: optim.Optimizer, weights: Any) -> Any:
    return optimizer.init(weights)


def choose(a: bool) -> optim.Optimizer:
    return optim.Adam() if a else optim.ClipGradients(optim.SGD(), max_norm=1.0)


def call(weights: Weights) -> None:
    train(optim.Adam(1e-3), weights, weights)
    train(optim.Muon(), weights, weights)
    train(optim.PolyakSGD(), weights, weights)
    train(optim.Lookahead(optim.Adam()), weights, weights)
    train(optim.MultiOptimizer([optim.Muon(), optim.Adam()], [lambda path, w: w.ndim == 2]), weights, weights)


def loop(weights: Weights) -> None:
    for optimizer in [optim.Adam(), optim.SGD()]:
        optimizer.init(weights)
    for optimizer in (optim.Adam(), optim.Lookahead(optim.SGD())):
        print(optimizer.init(weights))


def loop_by_name(weights: Weights) -> None:
    named: dict[str, optim.Optimizer] = {"adam": optim.Adam(), "sgd": optim.SGD(), "muon": optim.Muon()}
    for name, optimizer in named.items():
        state = optimizer.init(weights)
        for _ in range(3):
            weights, state = optimizer.apply_gradients(weights, state, weights)
        print(name)


def chosen_in_place(a: bool, weights: Weights, state: Any) -> None:
    (optim.Adam() if a else optim.SGD()).init(weights)
    (optim.Adam() if a else optim.SGD()).apply_gradients(weights, state, weights)
    (optim.Adam() if a else optim.SGD()).update(weights, weights, state)


def chosen_in_place_with_its_state(a: bool, weights: Weights) -> None:
    optimizer = optim.Adam() if a else optim.SGD()
    state = optimizer.init(weights)
    optimizer.apply_gradients(weights, state, weights)  # false alarm: pyright, mypy, pyrefly, ty


def chosen_by_a_function(a: bool, weights: Weights) -> None:
    optimizer = choose(a)
    weights, _ = optimizer.apply_gradients(weights, optimizer.init(weights), weights)


class Encoder(Module):
    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class Decoder(Module):
    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


def states(encoder: Encoder, gradients: Encoder) -> None:
    state = optim.adam.init(encoder, learning_rate=optim.cosine_decay(1e-3, 1_000))
    assert_type(state.m, Encoder)
    assert_type(state.learning_rate, Array)
    assert_type(state.hyperparameters, optim.Adam)
    updates, state = optim.adam.step(gradients, state)
    assert_type(optim.apply_updates(updates, encoder), Encoder)
    encoder, state = optim.Adam().update(encoder, gradients, state)


def hyperparameters() -> None:
    optim.Adam(1e-3, b1=0.5, weight_decay=None)
    optim.SGD(optim.join_schedules([optim.constant(0.1), optim.cosine_decay(0.1, 100)], [10]), momentum=None)
    optim.Adam(jnp.float32(0.1), slot_dtype=jnp.float32)
    optim.Adam(learning_rate=jnp.asarray(1e-3), b2=jnp.asarray(0.99))
    optim.AdamW(learning_rate=lambda step: 0.1 / (step + 1))


def clipped(encoder: Encoder) -> None:
    gradients, norm = optim.clip_grad_norm(encoder, 1.0)
    assert_type(gradients, Encoder)
    assert_type(norm, Array)


def packed(weights: Weights) -> None:
    state = optim.adam.init(mlax.pack(weights))
    print(state.m)


def losses(x: Array, y: Array) -> None:
    assert_type(mlax.losses.squared_error(x, y), Array)


def experimental(weights: Weights) -> None:
    state = mlax.experimental.optim.Tiger().init(weights)
    assert_type(state.m, Weights)


class Own(optim.Optimizer):
    rate: float = 0.1

    def init(self, weights: Any) -> None:
        """Return no state."""


def with_a_loss(optimizer: optim.Optimizer, weights: Weights, loss: Array) -> Weights:
    weights, _ = optimizer.apply_gradients(weights, optimizer.init(weights), weights, value=loss)
    return weights


def wrong_optimizers(weights: Weights) -> None:
    train(optim.Adam, weights, weights)  # wrong
    train(weights, weights, weights)  # wrong
    train("adam", weights, weights)  # wrong
    optim.Optimizer().stepp  # wrong
    choose(True).lr  # wrong
    choose(True).init()  # wrong
    choose(True).step(weights)  # wrong
    choose(True).step(weights, None)  # wrong
    optim.Adamm()  # wrong
    optim.adamm.init(weights)  # wrong


def wrong_hyperparameters(weights: Weights) -> None:
    optim.Adam(lr=0.1)  # wrong
    optim.Adam(b1="0.9")  # wrong
    optim.Adam(learning_rate="0.1")  # wrong
    optim.Adam(bias_correction=0.5)  # wrong
    optim.Adam(b2=lambda step: 0.9)  # wrong
    optim.Muon(eps=jnp.asarray(1e-8))  # wrong
    optim.adam.init(weights, lr=0.1)  # wrong
    optim.adam.init(weights, 0.1)  # wrong
    optim.adam.init()  # wrong
    optim.Adam().beta1  # wrong
    optim.Adam().b1 = 0.5  # wrong
    optim.cosine_decay(0.1)  # wrong
    optim.cosine_decay("0.1", 10)  # wrong
    optim.cosine_decay(0.1, 10).decay_steps = 3  # wrong


def wrong_states(encoder: Encoder, decoder: Decoder, gradients: Encoder) -> None:
    adam, sgd = optim.adam.init(encoder), optim.sgd.init(encoder)
    optim.adam.step(gradients, sgd)  # wrong
    optim.sgd.step(gradients, adam)  # wrong
    optim.Adam().step(gradients, sgd)  # wrong
    optim.SGD().update(encoder, gradients, adam)  # wrong
    optim.adam.step(gradients, optim.adam.init(decoder))  # wrong: unseen by pyrefly, ty
    optim.Adam().apply_gradients(gradients, optim.adam.init(decoder), encoder)  # wrong: unseen by pyrefly, ty
    optim.Adam().update(decoder, gradients, adam)  # wrong
    optim.adam.step(gradients)  # wrong
    optim.adam.step(adam, gradients)  # wrong
    optim.adam.step(gradients, adam, encoder, lr=0.1)  # wrong
    optim.muon.step(gradients, optim.muon.init(encoder))  # wrong
    optim.PolyakSGD().step(gradients, optim.polyak_sgd.init(encoder), encoder)  # wrong
    adam.velocity  # wrong
    adam.mm  # wrong
    adam.m.kernle  # wrong
    adam.hyperparameters.beta1  # wrong
    adam.m = encoder  # wrong
    sgd.velocity.kernel  # wrong
    optim.apply_updates(encoder, decoder)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.apply_updates(encoder)  # wrong
    optim.clip_grad_norm(encoder)  # wrong
    optim.clip_grad_norm(encoder, "1")  # wrong
