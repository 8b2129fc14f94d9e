"""Layers of a transformer that act on each position alone, and networks of them: `MLP`, `SwiGLU`."""

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Self

import jax
from jaxtyping import Array, Float

from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import at_least, check_dtype, one_by_one
from mlax.nn.init import lecun_normal
from mlax.nn.linear import Linear

__all__ = ["MLP", "SwiGLU"]


class MLP(Module):
    """Linear layers with an activation between them: `nn.MLP(64, 64, 10)`.

    Args:
        features: Number of outputs of each layer; the last is that of the network.
        activation: Function of an array, applied after each layer but the last. By default ReLU.
    """

    layers: tuple[Linear, ...]
    activation: Callable[[Array], Array]

    def __init__(self, *features: int, activation: Callable[[Array], Array] = jax.nn.relu) -> None:
        one_by_one("MLP", "features", features)
        super().__init__(layers=tuple(map(Linear, features)), activation=activation)

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        """Return the outputs of the last layer."""
        for i, layer in enumerate(self.layers):
            x = self.activation(x) if i else x
            x, self = self.call(layer, x)
        return x, self


class SwiGLU(Module):
    """A gated feed-forward layer: `(silu(x @ gate) * (x @ up)) @ down` (Shazeer, 2020).

    The result has as many features as the input.

    Args:
        hidden_features: Size of the hidden layer. Two thirds of that of an `MLP` have as many parameters.
        activation: Function of the gate. `jax.nn.gelu` makes it GEGLU.
        gate: Weights, shape (in, hidden). By default LeCun normal, as those below.
        up: Likewise.
        down: Weights, shape (hidden, in).
    """

    hidden_features: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = jax.nn.silu
    gate: Parameter[Float[Array, "in {self.hidden_features}"]] = Parameter()
    up: Parameter[Float[Array, "in {self.hidden_features}"]] = Parameter()
    down: Parameter[Float[Array, "{self.hidden_features} in"]] = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "hidden_features")

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        """Make the weights, in the dtype of the input."""
        gate, up, down = jax.random.split(rng, 3)
        wider, back = (x.shape[-1], self.hidden_features), (self.hidden_features, x.shape[-1])
        return self.replace(
            gate=self.gate.made(gate, wider, lecun_normal, x.dtype),
            up=self.up.made(up, wider, lecun_normal, x.dtype),
            down=self.down.made(down, back, lecun_normal, x.dtype),
        )

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch in"], Self]:
        """Return the outputs."""
        check_dtype(self, x, "gate", "up", "down")
        hidden = self.activation(x @ self.gate.data) * (x @ self.up.data)
        return hidden @ self.down.data, self
