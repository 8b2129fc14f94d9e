"""Equinox: modules, and a step of Optax under `eqx.filter_jit`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from benchmarks.algorithms import Algorithm
from benchmarks.peers.with_jax import JaxRun
from benchmarks.trees import Tree

__all__ = [
    "EquinoxActivation",
    "EquinoxLayer",
    "EquinoxModel",
    "EquinoxRun",
    "EquinoxSame",
    "EquinoxShapedLayer",
    "EquinoxTen",
]


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


class EquinoxShapedLayer(eqx.Module):
    """The same with shapes, which Equinox does not check."""

    a: Float[Array, "n"]
    b: Float[Array, "n"]
    c: Float[Array, "n"]
    size: int = eqx.field(static=True)
    name: str = eqx.field(static=True)
    rate: float = eqx.field(static=True)


class EquinoxActivation(eqx.Module):
    """A module of an array and a static function."""

    scale: Array
    function: Callable[[Array], Array] = eqx.field(static=True)


class EquinoxModel(eqx.Module):
    """Many such modules."""

    layers: list[EquinoxLayer]


class EquinoxSame(eqx.Module):
    """A module that returns its argument."""

    scale: Array

    def __call__(self, x: Array) -> Array:
        """Return the argument."""
        return x


class EquinoxTen(eqx.Module):
    """A module that calls ten others."""

    a: EquinoxSame
    b: EquinoxSame
    c: EquinoxSame
    d: EquinoxSame
    e: EquinoxSame
    f: EquinoxSame
    g: EquinoxSame
    h: EquinoxSame
    i: EquinoxSame
    j: EquinoxSame

    def __call__(self, x: Array) -> Array:
        """Call all in turn."""
        first = self.a, self.b, self.c, self.d, self.e
        last = self.f, self.g, self.h, self.i, self.j
        for layer in (*first, *last):
            x = layer(x)
        return x
