"""JAX's libraries: jitted steps whose weights and state are donated."""

import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mlax
from benchmarks.algorithms import Algorithm
from benchmarks.peers.run import Build
from benchmarks.trees import Arrays, Tree

__all__ = ["IdentityRun", "JaxRun", "MlaxRun", "OptaxRun", "PackedRun", "put"]


def put(numbers: Arrays, dtype: str) -> dict[str, jax.Array]:
    """Return JAX arrays with buffers of their own, which can be donated."""
    return {name: jnp.array(a, dtype=dtype, copy=True) for name, a in numbers.items()}


class JaxRun:
    """A step `weights, state = update(weights, state, gradients)` under `jax.jit`."""

    def __init__(
        self,
        tree: Tree,
        init: Callable[[Any], Any],
        update: Callable[[Any, Any, Any], tuple[Any, Any]],
        wrap: Callable[[dict[str, jax.Array]], Any] = lambda tree: tree,
        unwrap: Callable[[Any], dict[str, jax.Array]] = lambda tree: tree,
    ) -> None:
        """Set out.

        Args:
            tree: What is stepped.
            init: From weights to state.
            update: One step.
            wrap: From a dict to what this library calls weights.
            unwrap: Back.
        """
        self._dtype, self._update, self._wrap, self._unwrap = tree.dtype, update, wrap, unwrap
        self._weights = wrap(put(tree.weights(), tree.dtype))
        self._gradients = wrap(put(tree.gradients(), tree.dtype))
        with warnings.catch_warnings():
            # All libraries keep moments in the dtype of the weights; mlax warns about that.
            warnings.filterwarnings("ignore", ".*slots is too narrow", UserWarning)
            self._state = init(self._weights)
        self._compiled: Callable[..., Any] | None = None

    def build(self) -> Build:
        """Trace, lower and compile the step with all of JAX's caches empty, and take it once."""
        jax.clear_caches()
        function = self._jitted()
        start = time.perf_counter()
        traced = function.trace(*self._arguments()) if hasattr(function, "trace") else None
        middle = time.perf_counter()
        lowered = function.lower(*self._arguments()) if traced is None else traced.lower()
        end = time.perf_counter()
        compiled = lowered.compile()
        built = time.perf_counter()
        self._compiled = compiled
        self.step()
        seconds = {
            "trace + lower": end - start,
            "compile": built - end,
            "build": built - start,
            "first call": time.perf_counter() - start,
        }
        if traced is not None:
            seconds |= {"trace": middle - start, "lower": end - middle}
        lines = {"StableHLO": _lines(lowered), "instructions": _instructions(compiled)}
        return Build(seconds, {"memory": _planned(compiled)}, lines)

    def step(self) -> None:
        """Take one step, and wait for one output: all outputs of an execution are ready together."""
        assert self._compiled is not None, "build first"
        self._weights, self._state = self._compiled(*self._arguments())
        jax.tree.leaves((self._weights, self._state))[-1].block_until_ready()

    def feed(self, gradients: Arrays) -> None:
        """Set the gradients of the next steps."""
        self._gradients = self._wrap(put(gradients, self._dtype))

    def weights(self) -> Arrays:
        """Return the current weights."""
        return _numbers(self._unwrap(self._weights))

    @property
    def kept(self) -> Any:
        """Weights and state."""
        return self._weights, self._state

    def touched(self) -> float:
        """Return the bytes that a step has to read and write if it touches each array once: all that it is given, and
        all results but those that are handed back as they came.
        """
        traced = jax.make_jaxpr(self._update)(*self._arguments()).jaxpr
        results = [x for x in traced.outvars if x not in traced.invars]
        return float(sum(x.aval.size * x.aval.dtype.itemsize for x in (*traced.invars, *results)))

    def optimized(self) -> str:
        """Return the text of the program that XLA made of the step."""
        text: str = _inner(self._compiled).as_text()
        return text

    def _jitted(self) -> Any:
        # A new function each time, so that nothing about it is cached.
        def step(weights: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
            return self._update(weights, state, gradients)

        return jax.jit(step, donate_argnums=(0, 1))

    def _arguments(self) -> tuple[Any, ...]:
        return self._weights, self._state, self._gradients


class MlaxRun(JaxRun):
    """mlax on a dict of arrays."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        optimizer, given = algorithm.mlax, algorithm.given
        super().__init__(
            tree, optimizer.init, lambda w, s, g: optimizer.apply_gradients(g, s, w, **given)
        )


class PackedRun(JaxRun):
    """mlax on the same dict packed: weights, gradients and state."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        optimizer = algorithm.mlax
        super().__init__(
            tree,
            optimizer.init,
            lambda w, s, g: optimizer.apply_gradients(g, s, w),
            wrap=mlax.pack,
            unwrap=lambda packed: packed.unpack(),
        )


class OptaxRun(JaxRun):
    """Optax on a dict of arrays."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        transformation = algorithm.optax

        def update(weights: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
            updates, state = transformation.update(gradients, state, weights, **algorithm.given)
            return optax.apply_updates(weights, updates), state

        def init(weights: Any) -> Any:
            # A copy: MADGRAD's state holds the weights, which are donated too.
            return jax.tree.map(jnp.copy, transformation.init(weights))

        super().__init__(tree, init, update)


class IdentityRun(JaxRun):
    """No work at all: weights and Adam's state go in and come out. This shows the cost of the call."""

    def __init__(self, tree: Tree, algorithm: Algorithm) -> None:
        """Initialize the state."""
        super().__init__(tree, algorithm.mlax.init, lambda w, s, g: (w, s))


def _inner(stage: Any) -> Any:
    """Return JAX's own stage object from that of Equinox or Flax."""
    for name in ("compiled", "lowered"):
        stage = getattr(stage, name, stage)
    return stage


def _planned(compiled: Any) -> float:
    """Return the bytes that XLA plans for a call: arguments and results, each buffer once, and temporaries."""
    plan = _inner(compiled).memory_analysis()
    return float(
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        - plan.alias_size_in_bytes
        + plan.temp_size_in_bytes
    )


def _lines(lowered: Any) -> float:
    text: str = _inner(lowered).as_text()
    return float(text.count("\n"))


def _instructions(compiled: Any) -> float:
    text: str = _inner(compiled).as_text()
    return float(len(re.findall(r"^ +(?:ROOT )?%?[\w.-]+ = ", text, re.MULTILINE)))


def _numbers(arrays: dict[str, jax.Array]) -> Arrays:
    return {name: np.asarray(a.astype(jnp.float32)) for name, a in arrays.items()}
