"""A sweep of 64 pairs of hyperparameters, learning rate and b2 of Adam, in one compiled call.

All 64 models have the same initial weights and see the same batches of digits, so that only the hyperparameters differ.
This prints a table of the test accuracy, and draws it as a heat map:

    python examples/sweep.py docs/sweeps.png
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from digits import Classifier, Model, digits, loss_fn
from jaxtyping import Array, Float, Int
from sweep_picture import save_picture

import mlax
from mlax import nn, optim

LEARNING_RATES = 10.0 ** jnp.linspace(-4, -0.5, 8)
B2S = jnp.array([0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999])
STEPS = 150
BATCH = 64


def accuracy_of(
    learning_rate: Array,
    b2: Array,
    model: Model,
    data: tuple[Array, Array, Array, Array],
    batches: Int[Array, "steps batch"],
) -> Array:
    """Train a model with one pair of hyperparameters, and return its accuracy on the test digits."""
    images, test_images, labels, test_labels = data
    optimizer = optim.Adam(learning_rate, b2=b2)

    def train_step(
        run: tuple[Model, optim.adam.State[Model]], batch: Int[Array, "batch"]
    ) -> tuple[tuple[Model, optim.adam.State[Model]], None]:
        model, state = run
        _, gradients = mlax.value_and_grad(loss_fn)(model, images[batch], labels[batch])
        return optimizer.update(model, gradients, state), None

    (model, _), _ = jax.lax.scan(train_step, (model, optimizer.init(model)), batches)
    _, _, accuracy = loss_fn(model, test_images, test_labels)
    return accuracy


@jax.jit
def sweep(
    learning_rates: Float[Array, "columns"],
    b2s: Float[Array, "rows"],
    model: Model,
    data: tuple[Array, Array, Array, Array],
    batches: Int[Array, "steps batch"],
) -> Float[Array, "rows columns"]:
    """Return the accuracy of each pair. All pairs are trained at the same time."""
    row = jax.vmap(accuracy_of, in_axes=(0, None, None, None, None))
    accuracies: Array = jax.vmap(row, in_axes=(None, 0, None, None, None))(
        learning_rates, b2s, model, data, batches
    )
    return accuracies


def main(picture: Path, steps: int = STEPS) -> Float[Array, "rows columns"]:
    """Sweep, print a table, and draw the picture. Return the accuracies."""
    data = digits()
    model = nn.Batched(Classifier(nn.MLP(64, 32), nn.LayerNorm(), nn.Linear(10)))
    model = mlax.set_up(model, data[0], rng=jax.random.key(0))
    batches = jax.random.randint(jax.random.key(1), (steps, BATCH), 0, len(data[0]))
    start = time.perf_counter()
    accuracies: Array = jax.block_until_ready(sweep(LEARNING_RATES, B2S, model, data, batches))
    seconds = time.perf_counter() - start
    print("b2 \\ rate " + "".join(f"{rate:8.2g}" for rate in LEARNING_RATES))
    for b2, row in zip(B2S, accuracies, strict=True):
        print(f"{b2:9.5f} " + "".join(f"{100 * accuracy:7.1f}%" for accuracy in row))
    print(f"{accuracies.size} models, {steps} steps each: {seconds:.1f} s, with compilation")
    save_picture(picture, LEARNING_RATES, B2S, accuracies)
    print(f"Picture: {picture}")
    return accuracies


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/sweep.png"))
