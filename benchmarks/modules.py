"""Modules as PyTrees, beside those of Equinox and Flax and beside plain tuples and classes.

The model is 200 modules with 3 arrays and 3 static fields each. mlax wraps its arrays in Parameters, so that its tree
has 600 nodes more than those of its peers.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from benchmarks.effort import Effort
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within
from mlax import Module, Parameter

__all__ = ["measure"]

MODULES = 200


class Layer(Module):
    a: Parameter[Array]
    b: Parameter[Array]
    c: Parameter[Array]
    size: int
    name: str
    rate: float


class Model(Module):
    layers: list[Layer]


class EquinoxLayer(eqx.Module):
    a: Array
    b: Array
    c: Array
    size: int = eqx.field(static=True)
    name: str = eqx.field(static=True)
    rate: float = eqx.field(static=True)


class EquinoxModel(eqx.Module):
    layers: list[EquinoxLayer]


class FlaxLayer(nnx.Module):
    def __init__(self, arrays: tuple[Array, Array, Array], static: tuple[int, str, float]) -> None:
        self.a, self.b, self.c = map(nnx.Param, arrays)
        self.size, self.name, self.rate = static


class FlaxModel(nnx.Module):
    def __init__(self, layers: list[FlaxLayer]) -> None:
        self.layers = nnx.List(layers)


class PlainLayer:
    def __init__(self, arrays: tuple[Array, Array, Array], static: tuple[int, str, float]) -> None:
        self.a, self.b, self.c = arrays
        self.size, self.name, self.rate = static


STATIC = (1, "relu", 0.5)


def array() -> Array:
    """Return a small array of its own."""
    return jnp.ones(8)


def parameters() -> tuple[Parameter[Array], Parameter[Array], Parameter[Array]]:
    """Return three Parameters of their own."""
    return Parameter(array()), Parameter(array()), Parameter(array())


def arrays() -> tuple[Array, Array, Array]:
    """Return three arrays of their own."""
    return array(), array(), array()


def round_trip(tree: Any) -> Callable[[], Any]:
    """Return a function that flattens and unflattens a tree."""

    def run() -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        return jax.tree.unflatten(treedef, leaves)

    return run


def nnx_round_trip(model: FlaxModel) -> Callable[[], Any]:
    """Return a function that splits and merges a model of Flax."""

    def run() -> Any:
        graph, state = nnx.split(model)
        return nnx.merge(graph, state)

    return run


def reading(layer: Any) -> Callable[[], Any]:
    """Return a function that reads a field a thousand times."""

    def run() -> None:
        for _ in range(1_000):
            layer.a  # noqa: B018

    return run


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure all that a module costs where no array is computed with."""
    model = Model([Layer(*parameters(), *STATIC) for _ in range(MODULES)])
    equinox = EquinoxModel([EquinoxLayer(*arrays(), *STATIC) for _ in range(MODULES)])
    flax = FlaxModel([FlaxLayer(arrays(), STATIC) for _ in range(MODULES)])
    tuples = [arrays() for _ in range(MODULES)]
    layer, other = model.layers[0], equinox.layers[0]
    plain = PlainLayer(arrays(), STATIC)
    nodes, leaves = parameters(), arrays()
    identity: Callable[[Any], Any] = lambda tree: tree  # noqa: E731
    [output] = jax.jit(identity)(model).layers[:1]
    on_mlax, on_equinox, on_tuples = jax.jit(identity), jax.jit(identity), jax.jit(identity)
    filtered, on_flax = eqx.filter_jit(identity), nnx.jit(identity)

    cases: dict[str, dict[str, Callable[[], Any]]] = {
        f"flatten and unflatten {MODULES} modules": {
            "mlax": round_trip(model),
            "Equinox": round_trip(equinox),
            "flax.nnx": nnx_round_trip(flax),
            "tuples": round_trip(tuples),
        },
        "read a field a thousand times": {
            "mlax": reading(layer),
            "mlax, out of jit": reading(output),
            "Equinox": reading(other),
            "flax.nnx": reading(flax.layers[0]),
            "plain class": reading(plain),
        },
        "construct one module": {
            "mlax": lambda: Layer(*nodes, *STATIC),
            "Equinox": lambda: EquinoxLayer(*leaves, *STATIC),
            "flax.nnx": lambda: FlaxLayer(leaves, STATIC),
            "plain class": lambda: PlainLayer(leaves, STATIC),
        },
        "replace one array of one module": {
            "mlax": lambda: layer.replace(a=nodes[0]),
            "Equinox": lambda: eqx.tree_at(lambda module: module.a, other, leaves[0]),
        },
        f"call a jitted identity, {3 * MODULES} arrays in and out": {
            "mlax": lambda: on_mlax(model),
            "Equinox, jax.jit": lambda: on_equinox(equinox),
            "Equinox, filter_jit": lambda: filtered(equinox),
            "flax.nnx, nnx.jit": lambda: on_flax(flax),
            "tuples": lambda: on_tuples(tuples),
        },
    }
    for case, candidates in cases.items():
        timings = take_turns(
            candidates,
            rounds=effort.rounds,
            turn=effort.turn / 2,
            progress=within(progress, case),
        )
        results.add("modules", case, "time", "s", timings)
