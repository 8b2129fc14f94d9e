"""A multilayer perceptron in mlax."""

import jax
from jaxtyping import Array

import mlax
from mlax import losses, nn


def make(inputs: int, hidden: int, outputs: int, rng: Array) -> nn.MLP:
    sample = jax.ShapeDtypeStruct((inputs,), float)
    return mlax.set_up(nn.MLP(hidden, hidden, outputs), sample, rng=rng)


def loss_fn(model: nn.MLP, x: Array, y: Array) -> tuple[Array, nn.MLP]:
    logits, model = model(x)
    return jax.vmap(losses.cross_entropy)(logits, y).mean(), model
