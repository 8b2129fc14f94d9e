"""Equinox: modules, and a step of Optax under `eqx.filter_jit`."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

from benchmarks.algorithms import Algorithm
from benchmarks.peers.with_jax import JaxRun
from benchmarks.trees import Tree

__all__ = ["EquinoxLayer", "EquinoxModel", "EquinoxRun"]


class _Model(eqx.Module):
    parameters: dict[str, jax.Array]


class EquinoxRun(JaxRun):
    """A module of Equinox, stepped by Optax under `eqx.filter_jit`."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        transformation = algorithm.optax

        def update(model: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
            updates, state = transformation.update(gradients, state, model)
            return eqx.apply_updates(model, updates), state

        super().__init__(
            tree,
            lambda model: transformation.init(eqx.filter(model, eqx.is_inexact_array)),
            update,
            wrap=_Model,
            unwrap=lambda model: model.parameters,
        )

    def _jitted(self) -> Any:
        def step(gradients: Any, model: Any, state: Any) -> tuple[Any, Any]:
            return self._update(model, state, gradients)

        return eqx.filter_jit(step, donate="all-except-first")

    def _arguments(self) -> tuple[Any, ...]:
        return self._gradients, self._weights, self._state


class EquinoxLayer(eqx.Module):
    """A module of three arrays and three static fields."""

    a: Array
    b: Array
    c: Array
    size: int = eqx.field(static=True)
    name: str = eqx.field(static=True)
    rate: float = eqx.field(static=True)


class EquinoxModel(eqx.Module):
    """Many such modules."""

    layers: list[EquinoxLayer]
