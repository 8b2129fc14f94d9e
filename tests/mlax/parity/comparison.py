"""Comparing an optimizer with MLX, Optax and NumPy, on a fixed random sequence of 100 gradient trees.

The gradients do not depend on the weights. So two correct optimizers stay together, while feedback
would magnify the last bit of each step. Weights are compared leaf by leaf: the largest difference
over the largest value. They stay of the size of their steps, because a weight that went far and
came back would keep rounding errors from there.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import mlx.core as mx
import numpy as np

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import MODULES, is_elementwise
from tests.quickly import QUICKLY

STEPS = 100
SEEDS = [0, 1, 2]
SHAPES = {
    "scalar": (),
    "vector": (5,),
    "layer": {"w": (3, 4), "t": (2, 3, 2)},
    "filter": (2, 2, 3, 2),
}


@functools.cache
def sequence(seed: int, dtype: Any) -> tuple[Any, Any]:
    """Return weights, and gradients with a leading axis of steps; scales differ from leaf to leaf."""
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Any:
        scale = 10.0 ** random.uniform(-2, 0)
        return random.normal(size=shape).astype(dtype), (
            scale * random.normal(size=(STEPS, *shape))
        ).astype(dtype)

    def is_shape(x: Any) -> bool:
        return isinstance(x, tuple)

    drawn = jax.tree.map(draw, SHAPES, is_leaf=is_shape)
    return tuple(jax.tree.map(lambda x, i=i: x[i], drawn, is_leaf=is_shape) for i in (0, 1))  # type: ignore


def trained(
    init: Callable[[Any], Any], step: Callable[..., Any], options: Any = QUICKLY
) -> Callable[[Any, Any], Any]:
    """Return a compiled loop over all gradients, from weights to weights."""

    def body(carry: Any, g: Any) -> Any:
        weights, state = carry
        updates, state = step(g, state, weights)
        return (apply_updates(updates, weights), state), None

    return jax.jit(
        lambda w, gradients: jax.lax.scan(body, (w, init(w)), gradients)[0][0],
        compiler_options=options,
    )


def ours(module: Any, hyperparameters: dict[str, Any]) -> Callable[[Any, Any], Any]:
    return trained(lambda weights: module.init(weights, **hyperparameters), module.step)


def train_mlx(optimizer: Any, weights: Any, gradients: Any) -> Any:
    weights = jax.tree.map(mx.array, weights)
    for i in range(STEPS):
        g = jax.tree.map(lambda x, i=i: mx.array(x[i]), gradients)
        weights = optimizer.apply_gradients(g, weights)
    return jax.tree.map(np.array, weights)


def difference(a: Any, b: Any) -> float:
    """Return the largest difference over the largest value, of the leaf where that is largest."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return max(
        float(
            np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)))
            / np.max(np.abs(y))
        )
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def cosine(library: Any, rate: float) -> Any:
    def schedule(step: Any) -> Any:
        return rate * (1 + library.cos(library.pi * step / STEPS)) / 2

    return schedule


def case_name(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(value) or "default"
    return value.__name__.rpartition(".")[2] if hasattr(value, "__file__") else ""


def compared(module: Any, hyperparameters: dict[str, Any], tree: Any) -> Any:
    """Return the leaves to compare an optimizer on: all, or one if its options make it elementwise.

    Elementwise algorithms are tested on all shapes with their defaults, and each leaf takes time to
    compile.
    """
    name = getattr(module, "__name__", "").rpartition(".")[2]
    options = set(hyperparameters) - {"learning_rate"}
    if not options or name not in MODULES:
        return tree
    return {"filter": tree["filter"]} if is_elementwise(name) else tree


def check_mlx(module: Any, hyperparameters: dict[str, Any], theirs: Callable[[], Any]) -> None:
    """Compare with an optimizer of MLX in float32; MLX keeps its scalars in float32, also for float64 weights.

    On one sequence: MLX takes as long for each, as it compiles nothing.
    """
    weights, gradients = (
        compared(module, hyperparameters, x) for x in sequence(SEEDS[0], np.float32)
    )
    expected = train_mlx(theirs(), weights, gradients)
    assert difference(ours(module, hyperparameters)(weights, gradients), expected) < 1e-6


def check(
    module: Any,
    hyperparameters: dict[str, Any],
    theirs: Callable[[], Any] | None = None,
    reference: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Compare with Optax in float32 and, under x64, in float64, and there with NumPy too.

    Args:
        module: The generated module.
        hyperparameters: For its `init`.
        theirs: Makes the transformation of Optax; None where it has none.
        reference: A loop over one leaf, written from the paper in NumPy: from the weight and all gradients of one leaf,
            and options, to its weight after all steps.
        options: For the reference.
    """
    assert theirs or reference
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-12)):
        if dtype is np.float32 and theirs is None:
            continue
        with jax.enable_x64(dtype is np.float64):
            train = ours(module, hyperparameters)
            peer = theirs() if theirs else None
            train_optax = trained(peer.init, peer.update) if peer else None
            for seed in SEEDS:
                weights, gradients = (
                    compared(module, hyperparameters, x) for x in sequence(seed, dtype)
                )
                result = train(weights, gradients)
                assert {x.dtype for x in jax.tree.leaves(result)} == {np.dtype(dtype)}
                if train_optax:
                    assert difference(result, train_optax(weights, gradients)) < tolerance
                if reference and dtype is np.float64:
                    expected = jax.tree.map(
                        lambda w, g: reference(w, g, **options or {}), weights, gradients
                    )
                    assert difference(result, expected) < tolerance
