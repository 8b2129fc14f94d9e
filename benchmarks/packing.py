"""When packing pays off: `python -m benchmarks.packing` prints the tables of docs/packing.md."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

import mlax
from benchmarks.timing import garbage_of_its_own, take_turns
from mlax import optim

Weights: TypeAlias = list[Float[Array, "in out"]]
Loss: TypeAlias = Callable[[Weights], Float[Array, ""]]

NUMBER = 4
"""Bytes of a float32."""

SHAPES = [
    (16, 16),
    (32, 32),
    (64, 64),
    (64, 96),
    (64, 128),
    (96, 128),
    (128, 128),
    (256, 256),
    (512, 512),
]
"""The shapes of leaves of 1 kB to 1 MB."""

OPTIMIZER = optim.Adam(1e-3)


def sum_of(weights: Weights) -> Float[Array, ""]:
    """Return a sum over all weights: the cheapest loss."""
    return functools.reduce(jnp.add, (jnp.tanh(w).sum() for w in weights))


def chain_of(weights: Weights) -> Float[Array, ""]:
    """Return the result of a chain of matrix products for a batch of 64."""
    x = jnp.ones((64, len(weights[0])))
    for i, w in enumerate(weights):
        x = jnp.tanh(x @ (w.T if i % 2 else w))
    return jnp.mean(x**2)


def leaves(count: int, shape: tuple[int, int]) -> Weights:
    """Return weights of one shape."""
    keys = jax.random.split(jax.random.key(0), count)
    return [jax.random.normal(key, shape) / shape[0] for key in keys]


def run_of(weights: Any) -> Any:
    """Return weights and Adam's state for them, in buffers of their own."""
    weights = jax.tree.map(jnp.copy, weights)
    return weights, OPTIMIZER.init(weights)


def packed(weights: Weights) -> Any:
    """Return the weights packed, whatever their size."""
    return mlax.pack(weights, threshold=2**30)


def step_of(loss: Callable[[Any], Array]) -> Any:
    """Return a jitted training step."""

    def step(run: Any) -> Any:
        weights, state = run
        return OPTIMIZER.apply_gradients(jax.grad(loss)(weights), state, weights)

    return jax.jit(step, donate_argnums=0)


def forms(loss: Loss, weights: Weights) -> dict[str, tuple[Any, Any]]:
    """Return a step and its initial arguments, for plain weights and for packed ones."""
    return {
        "plain": (step_of(loss), run_of(weights)),
        "packed": (step_of(lambda weights: loss(weights.unpack())), run_of(packed(weights))),
    }


def built(step: Any, run: Any) -> tuple[list[float], Any]:
    """Return the seconds that tracing, lowering and compiling take, and the compiled step."""
    jax.clear_caches()
    with garbage_of_its_own():
        times = [time.perf_counter()]
        traced = step.trace(run)
        times.append(time.perf_counter())
        lowered = traced.lower()
        times.append(time.perf_counter())
        compiled = lowered.compile()
        times.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(times)], compiled


def going_on(step: Callable[[Any], Any], run: Any) -> Callable[[], None]:
    """Return a function that takes a step from the result of the last one."""

    def go_on() -> None:
        nonlocal run
        run = jax.block_until_ready(step(run))

    return go_on


def in_turns(steps: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of interleaved steps, for 25 rounds."""
    return take_turns(steps, rounds=25, turn=0.1, progress=lambda _: None)


def many_small(console: Console) -> None:
    """Print the time of a whole step on leaves of 1 kB."""
    table = Table("leaves of 1 kB", "", "trace s", "lower s", "compile s", "step ms")
    for count in (100, 1_000, 3_000):
        builds: dict[str, list[float]] = {}
        steps: dict[str, Callable[[], None]] = {}
        for name, (step, run) in forms(sum_of, leaves(count, (16, 16))).items():
            builds[name], compiled = built(step, run)
            steps[name] = going_on(compiled, run)
        for name, seconds in in_turns(steps).items():
            stages = (f"{stage:.2f}" for stage in builds[name])
            table.add_row(f"{count:,}", name, *stages, f"{1e3 * statistics.median(seconds):.3g}")
    console.print(table)


def threshold(console: Console) -> None:
    """Print the size of leaves up to which the step on packed weights is faster."""
    table = Table("bytes in a leaf", "leaves", "loss: a sum", "loss: a chain of matrix products")
    for shape in SHAPES:
        size = NUMBER * shape[0] * shape[1]
        count = min(512, 2**24 // size)
        ratios: list[float] = []
        for loss in (sum_of, chain_of):
            steps = {
                name: going_on(step, run)
                for name, (step, run) in forms(loss, leaves(count, shape)).items()
            }
            seconds = in_turns(steps)
            pairs = zip(seconds["packed"], seconds["plain"], strict=True)
            ratios.append(statistics.median(mine / theirs for mine, theirs in pairs))
        table.add_row(f"{size:,}", f"{count}", *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)


def boundary(console: Console) -> None:
    """Print the time of a call of a jitted function that does nothing."""
    weights = leaves(1_000, (16, 16))
    trees = {
        "1,000 leaves": weights,
        "packed": packed(weights),
        "one array": jnp.ones(256_000),
    }

    def calling(tree: Any) -> Callable[[], None]:
        identity = jax.jit(lambda tree: tree)
        return lambda: jax.block_until_ready(identity(tree))

    table = Table("a call", "microseconds")
    for name, seconds in in_turns({name: calling(tree) for name, tree in trees.items()}).items():
        table.add_row(name, f"{1e6 * statistics.median(seconds):,.0f}")
    console.print(table)


def main() -> None:
    """Measure and print."""
    jax.config.update("jax_enable_compilation_cache", False)
    console = Console()
    for measure in (boundary, threshold, many_small):
        with console.status(measure.__name__):
            measure(console)


if __name__ == "__main__":
    main()
