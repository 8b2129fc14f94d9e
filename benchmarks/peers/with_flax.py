"""flax.nnx: modules, and a step of `nnx.Optimizer` under `nnx.jit`."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from benchmarks.algorithms import Algorithm
from benchmarks.peers.with_jax import JaxRun, put
from benchmarks.trees import Arrays, Tree

__all__ = ["FlaxActivation", "FlaxLayer", "FlaxModel", "FlaxRun", "FlaxSame", "FlaxTen"]


class _FlaxModel(nnx.Module):
    def __init__(self, parameters: dict[str, jax.Array]) -> None:
        self.parameters = nnx.Dict({name: nnx.Param(a) for name, a in parameters.items()})


class FlaxRun(JaxRun):
    """A module of flax.nnx and its `nnx.Optimizer`, both changed in place under `nnx.jit`.

    Gradients go in as plain arrays: what `nnx.jit` is given as a state it also returns, and that costs a copy.
    """

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        super().__init__(
            tree,
            lambda model: nnx.Optimizer(model, algorithm.optax, wrt=nnx.Param),
            lambda model, optimizer, gradients: optimizer.update(model, gradients),
            wrap=_FlaxModel,
            unwrap=lambda model: {k: v[...] for k, v in model.parameters.items()},
        )
        self._gradients = put(tree.gradients(), tree.dtype)

    def step(self) -> None:
        """Take one step, and wait for the count of steps, which is ready when everything is."""
        assert self._compiled is not None, "build first"
        self._compiled(*self._arguments())
        self._state.step[...].block_until_ready()

    def feed(self, gradients: Arrays) -> None:
        """Set the gradients of the next steps."""
        self._gradients = put(gradients, self._dtype)

    def _jitted(self) -> Any:
        def step(model: Any, optimizer: Any, gradients: dict[str, jax.Array]) -> None:
            parameters = {name: nnx.Param(g) for name, g in gradients.items()}
            self._update(model, optimizer, nnx.State({"parameters": parameters}))

        return nnx.jit(step, donate_argnums=(0, 1))


class FlaxLayer(nnx.Module):
    """A module of three arrays and three static fields."""

    def __init__(self, arrays: tuple[Array, Array, Array], static: tuple[int, str, float]) -> None:
        """Set the fields."""
        self.a, self.b, self.c = map(nnx.Param, arrays)
        self.size, self.name, self.rate = static


class FlaxActivation(nnx.Module):
    """A module of an array and a function."""

    def __init__(self, scale: Array, function: Callable[[Array], Array]) -> None:
        """Set the fields."""
        self.scale, self.function = nnx.Param(scale), function


class FlaxModel(nnx.Module):
    """Many such modules."""

    def __init__(self, layers: list[FlaxLayer]) -> None:
        """Set the fields."""
        self.layers = nnx.List(layers)


class FlaxSame(nnx.Module):
    """A module that returns its argument."""

    def __init__(self, scale: Array) -> None:
        """Set the field."""
        self.scale = nnx.Param(scale)

    def __call__(self, x: Array) -> Array:
        """Return the argument."""
        return x


class FlaxTen(nnx.Module):
    """A module that calls ten others."""

    def __init__(self, *layers: FlaxSame) -> None:
        """Set the fields."""
        self.a, self.b, self.c, self.d, self.e, self.f, self.g, self.h, self.i, self.j = layers

    def __call__(self, x: Array) -> Array:
        """Call all in turn."""
        first = self.a, self.b, self.c, self.d, self.e
        last = self.f, self.g, self.h, self.i, self.j
        for layer in (*first, *last):
            x = layer(x)
        return x
