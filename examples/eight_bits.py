"""Training with the slots of optimizers in eight bits, beside float32: bytes a weight, loss and accuracy.

The two tasks and the model are those of half_precision.py. Weights are in bfloat16, rounded stochastically, and slots
in eight bits. This prints a table:

    python examples/eight_bits.py
"""

from typing import Any

import jax
import jax.numpy as jnp
from half_precision import SEEDS, STEPS, STEPS_PER_CALL, TASKS, start, task, train_on
from jax.typing import DTypeLike

from mlax import optim
from mlax.experimental.optim import Prodigy

OPTIMIZERS = {
    optim.Adam: 1e-4,
    optim.AdamW: 1e-4,
    optim.Lion: 3e-5,
    optim.Adan: 1e-4,
    Prodigy: 1.0,
}


def train(name: str, optimizer: Any, dtype: DTypeLike) -> str:
    """Train all seeds; return bytes a weight, and mean and spread of training loss and validation accuracy."""
    data = task(name)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    run = jax.vmap(lambda key: start(key, optimizer, data, dtype))(keys)
    weights = sum(x.size for x in jax.tree.leaves(run[0]))
    stored = sum(x.nbytes for x in jax.tree.leaves(run))
    for key in jax.random.split(jax.random.key(1), STEPS // STEPS_PER_CALL):
        run, results = train_on(run, key, optimizer, data)
    loss, accuracy = results[:, 0], 100 * results[:, 1]
    return (
        f"{stored / weights:5.2f} | {loss.mean():.5f} ± {loss.std():.5f} | "
        f"{accuracy.mean():.1f} ± {accuracy.std():.1f}"
    )


if __name__ == "__main__":
    for name in TASKS:
        for kind, rate in OPTIMIZERS.items():
            wide = train(name, kind(rate), jnp.float32)
            narrow = kind(rate, slot_dtype="int8", stochastic_rounding=True)
            print(
                f"{name} | {kind.__name__} | {wide} | {train(name, narrow, jnp.bfloat16)}",
                flush=True,
            )
