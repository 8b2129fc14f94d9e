"""What mlax costs beside its peers, in one run: modules as PyTrees, imports, and the checks of the dtype rule.

The model is 200 modules with 3 arrays and 3 static fields each. mlax wraps its arrays in Parameters, so that its tree
has 600 nodes more than those of its peers. Only ratios mean something: the machine is shared.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array
from timing import compare, report

import mlax
from mlax import Module, Parameter, optim

MODULES = 200
LEAVES = 1_000


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


def importing(modules: str) -> Callable[[], Any]:
    """Return a function that imports modules in a new process."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)


def tracing(enabled: bool) -> Callable[[], Any]:
    """Return a function that traces an Adam step on many leaves from nothing, with or without checks."""
    weights = {f"layer{i}": jnp.ones(256) for i in range(LEAVES)}
    state = optim.adam.init(weights)

    def step(*arguments: Any) -> Any:
        return optim.adam.step(*arguments)

    def run() -> None:
        jax.clear_caches()
        with mlax.runtime_checks(enabled):
            jax.jit(step).trace(weights, state, weights)

    return run


def main() -> None:
    """Print all tables."""
    model = Model([Layer(*parameters(), *STATIC) for _ in range(MODULES)])
    equinox = EquinoxModel([EquinoxLayer(*arrays(), *STATIC) for _ in range(MODULES)])
    flax = FlaxModel([FlaxLayer(arrays(), STATIC) for _ in range(MODULES)])
    tuples = [arrays() for _ in range(MODULES)]

    report(
        f"Flatten and unflatten {MODULES} modules",
        compare(
            {
                "mlax": round_trip(model),
                "Equinox": round_trip(equinox),
                "flax.nnx": nnx_round_trip(flax),
                "tuples": round_trip(tuples),
            },
            calls=50,
        ),
        targets={"Equinox": 0.8},
    )

    plain = PlainLayer(arrays(), STATIC)
    [output] = jax.jit(lambda model: model)(model).layers[:1]
    report(
        "Read a field a thousand times",
        compare(
            {
                "mlax": reading(model.layers[0]),
                "mlax, out of jit": reading(output),
                "Equinox": reading(equinox.layers[0]),
                "flax.nnx": reading(flax.layers[0]),
                "plain class": reading(plain),
            },
            calls=20,
        ),
        targets={"plain class": 1.05},
    )

    nodes, leaves = parameters(), arrays()
    report(
        "Construct one module",
        compare(
            {
                "mlax": lambda: Layer(*nodes, *STATIC),
                "Equinox": lambda: EquinoxLayer(*leaves, *STATIC),
                "flax.nnx": lambda: FlaxLayer(leaves, STATIC),
                "plain class": lambda: PlainLayer(leaves, STATIC),
            },
            calls=200,
        ),
        targets={},
    )

    layer, other = model.layers[0], equinox.layers[0]
    report(
        "Replace one array of one module",
        compare(
            {
                "mlax": lambda: layer.replace(a=nodes[0]),
                "Equinox": lambda: eqx.tree_at(lambda module: module.a, other, leaves[0]),
            },
            calls=200,
        ),
        targets={},
    )

    identity: Callable[[Any], Any] = lambda tree: tree  # noqa: E731
    on_mlax, on_equinox, on_tuples = jax.jit(identity), jax.jit(identity), jax.jit(identity)
    filtered, on_flax = eqx.filter_jit(identity), nnx.jit(identity)
    report(
        f"Dispatch a jitted identity, {3 * MODULES} arrays in and out",
        compare(
            {
                "mlax": lambda: on_mlax(model),
                "Equinox, jax.jit": lambda: on_equinox(equinox),
                "Equinox, filter_jit": lambda: filtered(equinox),
                "flax.nnx, nnx.jit": lambda: on_flax(flax),
                "tuples": lambda: on_tuples(tuples),
            },
            calls=20,
        ),
        targets={"Equinox, jax.jit": 1.05, "Equinox, filter_jit": 0.5},
    )

    report(
        "Import in a new process",
        compare(
            {
                "mlax": importing("mlax"),
                "jax": importing("jax"),
                "equinox": importing("equinox"),
                "optax": importing("optax"),
            },
            calls=1,
            rounds=9,
        ),
        targets={"jax": 1.2},
    )

    report(
        f"Trace an Adam step on {LEAVES:,} leaves",
        compare(
            {"with checks": tracing(enabled=True), "without checks": tracing(enabled=False)},
            calls=1,
            rounds=15,
        ),
        targets={"without checks": 1.1},
        first="with checks",
    )


if __name__ == "__main__":
    main()
