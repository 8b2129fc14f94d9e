"""Training with the slots of optimizers in eight bits, beside float32: bytes a weight, loss and accuracy.

The two tasks and the model are those of half_precision.py. Weights are in bfloat16, rounded stochastically, and slots
in eight bits. This prints a table, and draws the loss curves of the first task:

    python examples/eight_bits.py docs/eight_bits.png
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from eight_bits_picture import save_picture
from half_precision import SEEDS, STEPS, STEPS_PER_CALL, TASKS, start, task, train_on
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax import optim
from mlax.experimental.optim import Prodigy

OPTIMIZERS = {
    optim.Adam: 1e-4,
    optim.AdamW: 1e-4,
    optim.Lion: 3e-5,
    optim.Adan: 1e-4,
    Prodigy: 1.0,
}


def train(name: str, optimizer: Any, dtype: DTypeLike) -> tuple[Array, float]:
    """Train all seeds.

    Args:
        name: The task, one of `TASKS`.
        optimizer: The optimizer.
        dtype: Of the weights.

    Returns:
        Training loss and validation accuracy after each call, `[calls, seeds, 2]`, and the bytes stored per weight.
    """
    data = task(name)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    run = jax.vmap(functools.partial(start, optimizer=optimizer, data=data, dtype=dtype))(keys)
    weights = sum(x.size for x in jax.tree.leaves(run[0]))
    stored = sum(x.nbytes for x in jax.tree.leaves(run))
    history: list[Array] = []
    for key in jax.random.split(jax.random.key(1), STEPS // STEPS_PER_CALL):
        run, measured = train_on(run, key, optimizer, data)
        history.append(measured)
    return jnp.stack(history), stored / weights


def row(history: Array, stored: float) -> str:
    """Return bytes a weight, and mean and standard deviation of the last losses and accuracies."""
    loss, accuracy = history[-1].T
    return (
        f"{stored:5.2f} | {loss.mean():.3g} ± {loss.std():.2g} | "
        f"{100 * accuracy.mean():.1f} ± {100 * accuracy.std():.1f}"
    )


def main(picture: Path) -> None:
    """Train on all tasks with all optimizers, print a table, and draw the picture."""
    curves: dict[str, tuple[Array, Array]] = {}
    for name in TASKS:
        for kind, rate in OPTIMIZERS.items():
            narrow = kind(rate, slot_dtype="int8", stochastic_rounding=True)
            wide, eight = train(name, kind(rate), jnp.float32), train(name, narrow, jnp.bfloat16)
            print(f"| {name} | {kind.__name__} | {row(*wide)} | {row(*eight)} |", flush=True)
            if name == TASKS[0]:
                label = f"{kind.__name__}\n{wide[1]:.3g} and {eight[1]:.3g} bytes a weight"
                curves[label] = wide[0][:, :, 0], eight[0][:, :, 0]
    picture.parent.mkdir(parents=True, exist_ok=True)
    title = f"{TASKS[0]}: median of {SEEDS} seeds; bands from minimum to maximum"
    save_picture(picture, curves, STEPS_PER_CALL, title)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/eight_bits.png"))
