"""Modules as PyTrees, compared with those of Equinox and Flax, and with plain tuples and classes.

The model is 200 modules with 3 arrays and 3 static fields each. mlax wraps its arrays in Parameters, so that its tree
has 600 nodes more than those of its peers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks.effort import Effort
from benchmarks.peers import available
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within
from mlax import Module, Parameter

__all__ = ["measure"]

MODULES = 200

Cases = dict[str, dict[str, Callable[[], Any]]]
"""Functions to be timed, by operation and by candidate."""

FLATTEN = f"flatten and unflatten {MODULES} modules"
READ = "read a field a thousand times"
CONSTRUCT = "construct one module"
FUNCTION = "construct one module, a jitted function in a field"
CLOSURE = "construct one module, a function that refers to another in a field"
SHAPED = "construct one module, shaped annotations"
REPLACE = "replace one array of one module"
REPLACE_SHAPED = "replace one array of one module, shaped annotations"
CALL = f"call a jitted identity, {3 * MODULES} arrays in and out"


class Layer(Module):
    a: Parameter[Array]
    b: Parameter[Array]
    c: Parameter[Array]
    size: int
    name: str
    rate: float


class ShapedLayer(Module):
    a: Parameter[Float[Array, "n"]]
    b: Parameter[Float[Array, "n"]]
    c: Parameter[Float[Array, "n"]]
    size: int
    name: str
    rate: float


class Model(Module):
    layers: list[Layer]


class Activation(Module):
    scale: Parameter[Array]
    function: Callable[[Array], Array]


class PlainLayer:
    def __init__(self, arrays: tuple[Array, Array, Array], static: tuple[int, str, float]) -> None:
        self.a, self.b, self.c = arrays
        self.size, self.name, self.rate = static


STATIC = (1, "relu", 0.5)


@jax.jit
def squared(x: Array) -> Array:
    """Return the square."""
    return x * x


def twice(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function that refers to another one."""
    return lambda x: function(function(x))


def array() -> Array:
    """Return a new small array."""
    return jnp.ones(8)


def parameters() -> tuple[Parameter[Array], Parameter[Array], Parameter[Array]]:
    """Return three new Parameters."""
    return Parameter(array()), Parameter(array()), Parameter(array())


def arrays() -> tuple[Array, Array, Array]:
    """Return three new arrays."""
    return array(), array(), array()


def round_trip(tree: Any) -> Callable[[], Any]:
    """Return a function that flattens and unflattens a tree."""

    def run() -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        return jax.tree.unflatten(treedef, leaves)

    return run


def reading(layer: Any) -> Callable[[], Any]:
    """Return a function that reads a field a thousand times."""

    def run() -> None:
        for _ in range(1_000):
            layer.a  # noqa: B018

    return run


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure the overhead of modules, without any array computation."""
    for case, candidates in cases().items():
        timings = take_turns(
            candidates,
            rounds=effort.rounds,
            turn=effort.turn / 2,
            progress=within(progress, case),
        )
        results.add("modules", case, "time", "s", timings)


def cases() -> Cases:
    """Return the functions to be timed, for the libraries that are installed."""
    there, _ = available()
    found = _cases_of_mlax()
    for name, more in (("Equinox", _cases_of_equinox), ("flax.nnx", _cases_of_flax)):
        if name in there:
            for case, candidates in more().items():
                found[case] |= candidates
    for case, candidates in _cases_without_library().items():
        found[case] |= candidates
    return found


def _cases_of_mlax() -> Cases:
    model = Model([Layer(*parameters(), *STATIC) for _ in range(MODULES)])
    layer, nodes = model.layers[0], parameters()
    shaped = ShapedLayer(*nodes, *STATIC)
    call, closure = jax.jit(_identity), twice(jnp.tanh)
    output = call(model).layers[0]
    return {
        FLATTEN: {"mlax": round_trip(model)},
        READ: {"mlax": reading(layer), "mlax, out of jit": reading(output)},
        CONSTRUCT: {"mlax": lambda: Layer(*nodes, *STATIC)},
        FUNCTION: {"mlax": lambda: Activation(nodes[0], squared)},
        CLOSURE: {"mlax": lambda: Activation(nodes[0], closure)},
        SHAPED: {"mlax": lambda: ShapedLayer(*nodes, *STATIC)},
        REPLACE: {"mlax": lambda: layer.replace(a=nodes[0])},
        REPLACE_SHAPED: {"mlax": lambda: shaped.replace(a=nodes[0])},
        CALL: {"mlax": lambda: call(model)},
    }


def _cases_of_equinox() -> Cases:

    import equinox as eqx

    from benchmarks.peers.with_equinox import (
        EquinoxActivation,
        EquinoxLayer,
        EquinoxModel,
        EquinoxShapedLayer,
    )

    model = EquinoxModel([EquinoxLayer(*arrays(), *STATIC) for _ in range(MODULES)])
    layer, leaves = model.layers[0], arrays()
    shaped = EquinoxShapedLayer(*leaves, *STATIC)
    call, filtered = jax.jit(_identity), eqx.filter_jit(_identity)
    closure = twice(jnp.tanh)
    return {
        FLATTEN: {"Equinox": round_trip(model)},
        READ: {"Equinox": reading(layer)},
        CONSTRUCT: {"Equinox": lambda: EquinoxLayer(*leaves, *STATIC)},
        FUNCTION: {"Equinox": lambda: EquinoxActivation(leaves[0], squared)},
        CLOSURE: {"Equinox": lambda: EquinoxActivation(leaves[0], closure)},
        SHAPED: {"Equinox": lambda: EquinoxShapedLayer(*leaves, *STATIC)},
        REPLACE: {"Equinox": lambda: eqx.tree_at(_a, layer, leaves[0])},
        REPLACE_SHAPED: {"Equinox": lambda: eqx.tree_at(_a, shaped, leaves[0])},
        CALL: {
            "Equinox, jax.jit": lambda: call(model),
            "Equinox, filter_jit": lambda: filtered(model),
        },
    }


def _cases_of_flax() -> Cases:

    from flax import nnx

    from benchmarks.peers.with_flax import FlaxActivation, FlaxLayer, FlaxModel

    model = FlaxModel([FlaxLayer(arrays(), STATIC) for _ in range(MODULES)])
    leaves, call, closure = arrays(), nnx.jit(_identity), twice(jnp.tanh)
    return {
        FLATTEN: {"flax.nnx": lambda: nnx.merge(*nnx.split(model))},
        READ: {"flax.nnx": reading(model.layers[0])},
        CONSTRUCT: {"flax.nnx": lambda: FlaxLayer(leaves, STATIC)},
        FUNCTION: {"flax.nnx": lambda: FlaxActivation(leaves[0], squared)},
        CLOSURE: {"flax.nnx": lambda: FlaxActivation(leaves[0], closure)},
        CALL: {"flax.nnx, nnx.jit": lambda: call(model)},
    }


def _cases_without_library() -> Cases:
    tuples, leaves = [arrays() for _ in range(MODULES)], arrays()
    plain, call = PlainLayer(arrays(), STATIC), jax.jit(_identity)
    return {
        FLATTEN: {"tuples": round_trip(tuples)},
        READ: {"plain class": reading(plain)},
        CONSTRUCT: {"plain class": lambda: PlainLayer(leaves, STATIC)},
        CALL: {"tuples": lambda: call(tuples)},
    }


def _a(module: Any) -> Any:
    return module.a


def _identity(tree: Any) -> Any:
    return tree
