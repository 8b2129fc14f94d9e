"""A convolutional net with BatchNorm and Dropout in Equinox."""

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray


class ConvNet(eqx.Module):
    conv1: eqx.nn.Conv2d
    norm1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv2d
    norm2: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, width: int, classes: int, dropout: float, key: PRNGKeyArray) -> None:
        key1, key2, key3 = jax.random.split(key, 3)
        self.conv1 = eqx.nn.Conv2d(1, width, 3, padding=1, key=key1)
        self.norm1 = eqx.nn.BatchNorm(width, axis_name="batch", mode="batch")
        self.conv2 = eqx.nn.Conv2d(width, 2 * width, 3, padding=1, stride=2, key=key2)
        self.norm2 = eqx.nn.BatchNorm(2 * width, axis_name="batch", mode="batch")
        self.dropout = eqx.nn.Dropout(dropout)
        self.head = eqx.nn.Linear(2 * width, classes, key=key3)

    def __call__(
        self, x: Float[Array, "channels h w"], state: eqx.nn.State, key: PRNGKeyArray
    ) -> tuple[Float[Array, "classes"], eqx.nn.State]:
        x, state = self.norm1(self.conv1(x), state)
        x, state = self.norm2(self.conv2(jax.nn.relu(x)), state)
        x = jax.nn.relu(x).mean((1, 2))
        return self.head(self.dropout(x, key=key)), state


def make(
    width: int, classes: int, dropout: float, key: PRNGKeyArray
) -> tuple[ConvNet, eqx.nn.State]:
    return eqx.nn.make_with_state(ConvNet)(width, classes, dropout, key)


def loss_fn(
    model: ConvNet, state: eqx.nn.State, x: Array, y: Array, key: PRNGKeyArray
) -> tuple[Array, eqx.nn.State]:
    keys = jax.random.split(key, len(x))
    batched = jax.vmap(model, axis_name="batch", in_axes=(0, None, 0), out_axes=(0, None))
    logits, state = batched(x, state, keys)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state
