"""A multilayer perceptron in Equinox."""

import equinox as eqx
import jax
import optax
from jaxtyping import Array, PRNGKeyArray


def make(inputs: int, hidden: int, outputs: int, key: PRNGKeyArray) -> eqx.nn.MLP:
    return eqx.nn.MLP(inputs, outputs, width_size=hidden, depth=2, key=key)


def loss_fn(model: eqx.nn.MLP, x: Array, y: Array) -> Array:
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
