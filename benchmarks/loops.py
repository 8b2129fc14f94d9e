"""Ways to write a training loop: `python -m benchmarks.loops` prints the tables of docs/training.md."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from rich.console import Console
from rich.table import Table

import mlax
from benchmarks.timing import Timings, take_turns
from mlax import Module, Parameter, losses, optim

BATCH, STEPS, SIZE = 64, 22, 1_437  # as in the digits example


class Dense(Module):
    """An affine map."""

    out_features: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    bias: Parameter[Float[Array, "out"]] = Parameter()

    def set_up(self, x: Float[Array, "in"], rng: Array) -> Self:
        """Return this with a random kernel."""
        kernel = jax.nn.initializers.he_normal()(rng, (x.size, self.out_features), x.dtype)
        bias = jnp.zeros(self.out_features, x.dtype)
        return self.replace(kernel=Parameter(kernel), bias=Parameter(bias))

    def forward(self, x: Float[Array, "in"]) -> tuple[Float[Array, "out"], Self]:
        """Return the map of x."""
        return x @ self.kernel.data + self.bias.data, self


class Block(Module):
    """A normalization and two dense layers, with a residual connection: six arrays."""

    scale: Parameter[Float[Array, "features"]]
    offset: Parameter[Float[Array, "features"]]
    inner: Dense
    outer: Dense

    @classmethod
    def of(cls, features: int) -> Self:
        """Return a block that keeps the number of features."""
        scale, offset = Parameter(jnp.ones(features)), Parameter(jnp.zeros(features))
        return cls(scale, offset, Dense(features), Dense(features))

    def forward(self, x: Float[Array, "features"]) -> tuple[Float[Array, "features"], Self]:
        """Return x plus the output of the layers."""
        h = self.scale.data * jax.nn.standardize(x) + self.offset.data
        h, self = self.call(self.inner, h)
        h, self = self.call(self.outer, jax.nn.relu(h))
        return x + h, self


class Layers(Module):
    """Layers one after the other, with ReLU between."""

    layers: tuple[Dense, ...]

    def forward(self, x: Float[Array, "pixels"]) -> tuple[Float[Array, "classes"], Self]:
        """Return the logits of x."""
        for layer in self.layers[:-1]:
            x, self = self.call(layer, x)
            x = jax.nn.relu(x)
        return self.call(self.layers[-1], x)


class Unrolled(Module):
    """Blocks one after the other, each with arrays of its own."""

    blocks: tuple[Block, ...]
    head: Dense

    def forward(self, x: Float[Array, "features"]) -> tuple[Float[Array, "classes"], Self]:
        """Return the logits of x."""
        for block in self.blocks:
            x, self = self.call(block, x)
        return self.call(self.head, x)


class Stacked(Module):
    """The same blocks, stacked: one block whose arrays have one more axis."""

    blocks: Block
    head: Dense

    def forward(self, x: Float[Array, "features"]) -> tuple[Float[Array, "classes"], Self]:
        """Return the logits of x."""
        x, blocks = jax.lax.scan(lambda x, block: block(x), x, self.blocks)
        return self.replace(blocks=blocks).call(self.head, x)


def loss_fn(model: Any, x: Array, y: Array) -> tuple[Array, Any]:
    """Return the mean cross-entropy of a batch, and the model."""
    logits, model = jax.vmap(model, out_axes=(0, None))(x)
    return jax.vmap(losses.cross_entropy)(logits, y).mean(), model


OPTIMIZER = optim.Adam(1e-3)


@functools.partial(jax.jit, donate_argnames="run")
def on_batch(run: Any, x: Array, y: Array) -> Any:
    """Take a step on a batch that was selected before."""
    model, state = run
    _, gradients = mlax.value_and_grad(loss_fn)(model, x, y)
    return OPTIMIZER.update(model, gradients, state)


@functools.partial(jax.jit, donate_argnames="run")
def on_indices(run: Any, x: Array, y: Array, batch: Int[Array, "batch"]) -> Any:
    """Select a batch, and take a step."""
    return on_batch(run, x[batch], y[batch])


@functools.partial(jax.jit, donate_argnames="run", static_argnames="unroll")
def scanned(
    run: Any, x: Array, y: Array, batches: Int[Array, "steps batch"], unroll: int = 1
) -> Any:
    """Take all steps in one call."""

    def step(run: Any, batch: Array) -> Any:
        return on_batch(run, x[batch], y[batch]), None

    return jax.lax.scan(step, run, batches, unroll=unroll)[0]


def loops(model: Any, x: Array, y: Array) -> dict[str, Callable[[], Any]]:
    """Return the ways to go through the data once, each with its own weights."""
    order = jax.random.permutation(jax.random.key(0), SIZE)[: BATCH * STEPS]
    batches = order.reshape(STEPS, BATCH)

    def one_by_one(run: Any) -> Any:
        for batch in batches:
            run = on_batch(run, x[batch], y[batch])
        return run

    def picked_inside(run: Any) -> Any:
        for batch in batches:
            run = on_indices(run, x, y, batch)
        return run

    def all_at_once(run: Any, unroll: int = 1) -> Any:
        return scanned(run, x, y, batches, unroll)

    ways: dict[str, tuple[Callable[[Any], Any], bool]] = {
        "a call for each step": (one_by_one, False),
        "the same, batch selected inside": (picked_inside, False),
        "the same, packed": (picked_inside, True),
        "all steps in one call": (all_at_once, False),
        "the same, unroll=4": (functools.partial(all_at_once, unroll=4), False),
        "one call, packed": (all_at_once, True),
    }
    return {name: keeping(way, model, packed) for name, (way, packed) in ways.items()}


def keeping(way: Callable[[Any], Any], model: Any, packed: bool) -> Callable[[], Any]:
    """Return a function that continues from its last state, and returns model and state."""
    weights = jax.tree.map(jnp.copy, model)  # pack does not copy large leaves
    weights = mlax.pack(weights) if packed else weights
    run = weights, OPTIMIZER.init(weights)

    def go_on() -> Any:
        nonlocal run
        run = jax.block_until_ready(way(run))
        return run

    return go_on


def compiled(model: Module, x: Array, y: Array) -> tuple[float, float, float]:
    """Return milliseconds to trace and lower a step, to compile it, and to take it (the minimum of 30)."""
    run = model, OPTIMIZER.init(model)
    jax.clear_caches()
    times = [time.perf_counter()]
    lowered = on_batch.lower(run, x[:BATCH], y[:BATCH])
    times.append(time.perf_counter())
    step = lowered.compile()
    times.append(time.perf_counter())
    taken: list[float] = []
    for _ in range(30):
        start = time.perf_counter()
        run = jax.block_until_ready(step(run, x[:BATCH], y[:BATCH]))
        taken.append(time.perf_counter() - start)
    return 1e3 * (times[1] - times[0]), 1e3 * (times[2] - times[1]), 1e3 * min(taken)


def main() -> None:
    """Measure and print."""
    jax.config.update("jax_enable_compilation_cache", False)
    console = Console()
    key = jax.random.key(0)
    x = jax.random.uniform(key, (SIZE, 64))
    y = jax.random.randint(key, (SIZE,), 0, 10)
    models = {
        "digits": Layers((Dense(256), Dense(128), Dense(10))),
        "30 layers of 64": Layers((*(Dense(64) for _ in range(30)), Dense(10))),
        "100 layers of 16": Layers((*(Dense(16) for _ in range(100)), Dense(10))),
        "3 layers of 1,024": Layers((*(Dense(1024) for _ in range(3)), Dense(10))),
    }
    table = Table("milliseconds a step: least, median", *models)
    columns: list[Timings] = []
    with console.status("") as status:
        for layers in models.values():
            model = mlax.set_up(layers, x[0], rng=key)
            ways = loops(model, x, y)
            columns.append(take_turns(ways, rounds=15, turn=0.03, progress=status.update))
    for way in columns[0]:
        milliseconds = [[1e3 * t / STEPS for t in column[way]] for column in columns]
        table.add_row(way, *(f"{min(t):.3f}, {statistics.median(t):.3f}" for t in milliseconds))
    console.print(table)

    table = Table("one step, milliseconds", "trace and lower", "compile", "step")
    for name, network in networks(x, key).items():
        table.add_row(name, *(f"{number:,.1f}" for number in compiled(network, x, y)))
    console.print(table)


def networks(x: Array, key: Array) -> dict[str, Module]:
    """Return deep networks: plain, and in forms that compile faster."""
    narrow = mlax.set_up(Layers((*(Dense(16) for _ in range(100)), Dense(10))), x[0], rng=key)
    found: dict[str, Module] = {
        "100 layers of 16": jax.tree.map(jnp.copy, narrow),
        "the same, packed": mlax.pack(narrow),
    }
    for count in (20, 100):
        keys = jax.random.split(key, count)
        head = mlax.set_up(Dense(10), x[0], rng=key)
        blocks = [mlax.set_up(Block.of(64), x[0], rng=key) for key in keys]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        found[f"{count} blocks of 64"] = Unrolled(tuple(blocks), jax.tree.map(jnp.copy, head))
        found[f"{count}, stacked"] = Stacked(stacked, head)
    return found


if __name__ == "__main__":
    main()
