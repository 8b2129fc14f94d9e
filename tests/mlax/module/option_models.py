"""Modules that show the options that they are passed."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax import Module

KEY = jax.random.key(0)

X = jnp.ones(64)


class Dropout(Module):
    """Sets a half of its input to zero."""

    def forward(self, x: Array, rng: Any = None, inference_mode: Any = False) -> Any:
        if inference_mode:
            return x, self
        if rng is None:
            raise ValueError("Dropout needs a key")
        return jnp.where(jax.random.bernoulli(rng, 0.5, x.shape), 2 * x, 0), self


class Sees(Module):
    """Returns the options that it is passed."""

    def forward(
        self,
        x: Any = None,
        rng: Any = "none",
        inference_mode: Any = "none",
        batch_axis_name: Any = "none",
    ) -> Any:
        return (rng, inference_mode, batch_axis_name), self


class Needs(Module):
    """Has options without defaults, as the seed's modules have."""

    def forward(self, x: Any, rng: Any, inference_mode: Any, batch_axis_name: Any) -> Any:
        return (rng, inference_mode, batch_axis_name), self


class Quiet(Module):
    """Returns the key that it is passed, or None."""

    def forward(self, x: Any, rng: Any = None) -> Any:
        return (rng,), self


class Names(Module):
    """Names no option, and calls its child in a given way."""

    child: Any
    how: Any = None
    other: Any = None

    def forward(self, x: Any = X) -> Any:
        return self.call(self.child, x) if self.how is None else self.how(self, x)


def data_of(key: Any) -> Any:
    return jax.random.key_data(key).tolist() if isinstance(key, jax.Array) else key


def same_key(one: Any, other: Any) -> bool:
    return bool(data_of(one) == data_of(other))


def seen(model: Any) -> tuple[Any, Any, Any]:
    result: tuple[Any, Any, Any] = model(X)[0]
    return result


class Probe(Module):
    def forward(self, x: Array, inference_mode: Any = None, batch_axis_name: Any = None) -> Any:
        modes = {None: 0.0, False: 1.0, True: 2.0}
        return x * 0 + modes[inference_mode] + (10 if batch_axis_name else 0), self
