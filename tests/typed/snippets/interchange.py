"""Optimizers go to Optax and come back with their types."""

from typing import reveal_type

import optax  # pyright: ignore[reportMissingTypeStubs]
from jaxtyping import Array

from mlax import optim


def to_optax() -> None:
    transformation = optim.to_optax(optim.Adam(1e-3))
    reveal_type(transformation)  # reveals: GradientTransformationExtraArgs // Any
    optax.chain(optax.clip(1.0), transformation)
    optim.to_optax(optim.ClipGradients(optim.Adam(), max_norm=1.0))
    optim.to_optax(optim.Adam)  # error: reportArgumentType // arg-type
    optim.to_optax(optax.adam(1e-3))  # error: reportArgumentType // -


def from_optax(weights: dict[str, Array]) -> None:
    optimizer = optim.from_optax(optax.adam(1e-3))
    reveal_type(optimizer)  # reveals: FromOptax
    state = optimizer.init(weights)
    reveal_type(state)  # reveals: State[dict[str, Array]]
    reveal_type(optimizer.step(weights, state, weights)[0])  # reveals: dict[str, Array]
    reveal_type(optimizer.apply_gradients(weights, state, weights)[1].step)  # reveals: Array
    optim.MultiOptimizer([optim.Muon(), optimizer], [lambda path, w: w.ndim == 2])
    optim.from_optax(optax.adam)  # error: reportArgumentType // -
    optim.from_optax(optim.Adam())  # error: reportArgumentType // -
