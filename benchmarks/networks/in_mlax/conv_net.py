"""A convolutional net with BatchNorm and Dropout in mlax."""

from typing import Self

import jax
from jaxtyping import Array, Float

import mlax
from mlax import Module, losses, nn


class ConvNet(Module):
    conv1: nn.Conv
    conv2: nn.Conv
    dropout: nn.Dropout
    head: nn.Linear
    norm1: nn.BatchNorm = nn.BatchNorm()
    norm2: nn.BatchNorm = nn.BatchNorm()

    def forward(self, x: Float[Array, "h w channels"]) -> tuple[Float[Array, "classes"], Self]:
        x, self = self.chain(x, self.conv1, self.norm1)
        x, self = self.chain(jax.nn.relu(x), self.conv2, self.norm2)
        x = jax.nn.relu(x).mean((0, 1))
        return self.chain(x, self.dropout, self.head)


Model = nn.Batched[ConvNet]


def make(width: int, classes: int, dropout: float, rng: Array) -> Model:
    conv1, conv2 = nn.Conv(width, 3, padding=1), nn.Conv(2 * width, 3, padding=1, stride=2)
    net = ConvNet(conv1, conv2, nn.Dropout(dropout), nn.Linear(classes))
    return mlax.set_up(nn.Batched(net), jax.ShapeDtypeStruct((1, 16, 16, 1), float), rng=rng)


def loss_fn(model: Model, x: Array, y: Array, rng: Array) -> tuple[Array, Model]:
    logits, model = mlax.training(model, rng=rng)(x)
    return jax.vmap(losses.cross_entropy)(logits, y).mean(), model
