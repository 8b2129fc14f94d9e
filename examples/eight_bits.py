"""Training with the slots of optimizers in eight bits, beside float32: bytes a weight, loss and accuracy.

There are three tasks: the two of half_precision.py, and a small language model (eight_bits_text.py). Weights are in
bfloat16, rounded stochastically, and slots in eight bits. This prints a table for each task, and draws the loss curves
of the first and of the last:

    python examples/eight_bits.py docs/eight_bits.png
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eight_bits_text
import half_precision
import jax
import jax.numpy as jnp
from eight_bits_picture import Panels, save_picture
from half_precision import SEEDS
from jax.typing import DTypeLike
from jaxtyping import Array
from tqdm import tqdm

from mlax import optim
from mlax.experimental.optim import Prodigy


@dataclass(frozen=True)
class Task:
    """What is trained.

    Args:
        data: Returns the data.
        start: From a key, an optimizer, the data and a dtype to a model and its state.
        train_on: From these, for all seeds, a key, the optimizer and the data to these after some steps, and the
            training loss and another figure of each seed, `[seeds, 2]`.
        figure: What the other figure is.
        optimizers: Classes with their learning rates.
        steps: In all, and in one call of `train_on`.
    """

    data: Callable[[], Any]
    start: Callable[..., Any]
    train_on: Callable[..., Any]
    figure: str
    optimizers: Mapping[Any, Any]
    steps: tuple[int, int]


RATES = {
    optim.Adam: 1e-4,
    optim.AdamW: 1e-4,
    optim.Lion: 3e-5,
    optim.Adan: 1e-4,
    Prodigy: 1.0,
}

TASKS = {
    name: Task(
        functools.partial(half_precision.task, name),
        half_precision.start,
        half_precision.train_on,
        "accuracy",
        RATES,
        (half_precision.STEPS, half_precision.STEPS_PER_CALL),
    )
    for name in half_precision.TASKS
} | {
    "Language model": Task(
        eight_bits_text.text,
        eight_bits_text.start,
        eight_bits_text.train_on,
        "held-out loss",
        eight_bits_text.RATES,
        (eight_bits_text.STEPS, eight_bits_text.STEPS_PER_CALL),
    )
}


def train(name: str, optimizer: Any, dtype: DTypeLike) -> tuple[Array, float]:
    """Train all seeds.

    Args:
        name: The task, one of `TASKS`.
        optimizer: The optimizer.
        dtype: Of the weights.

    Returns:
        Training loss and the task's other figure after each call, `[calls, seeds, 2]`, and the bytes stored per weight.
    """
    task = TASKS[name]
    data = task.data()
    start = functools.partial(task.start, optimizer=optimizer, data=data, dtype=dtype)
    run = jax.vmap(start)(jax.random.split(jax.random.key(0), SEEDS))
    weights = sum(x.size for x in jax.tree.leaves(run[0]))
    stored = sum(x.nbytes for x in jax.tree.leaves(run))
    steps, in_a_call = task.steps
    keys = jax.random.split(jax.random.key(1), steps // in_a_call)
    history: list[Array] = []
    label = f"{name}, {type(optimizer).__name__}, {jnp.dtype(dtype).name}".ljust(35)
    for key in (progress := tqdm(keys, desc=label, unit=" calls")):
        run, measured = task.train_on(run, key, optimizer, data)
        history.append(measured)
        progress.set_postfix(loss=f"{measured[:, 0].mean():.4f}", refresh=False)
    return jnp.stack(history), stored / weights


def row(task: Task, history: Array, stored: float) -> str:
    """Return bytes a weight, and mean and standard deviation of the last losses and of the other figures."""
    loss, other = history[-1].T
    percent = task.figure == "accuracy"
    shown = 100 * other if percent else other
    digits = ".1f" if percent else ".3f"
    return (
        f"{stored:5.2f} | {loss.mean():.3g} ± {loss.std():.2g} | "
        f"{shown.mean():{digits}} ± {shown.std():{digits}}"
    )


def main(picture: Path) -> None:
    """Train on all tasks with all optimizers, print tables, and draw the picture."""
    drawn: dict[str, Panels] = {}
    for name, task in TASKS.items():
        print(f"\n| {name}{f' | bytes | loss | {task.figure}' * 2} |", flush=True)
        curves: dict[str, tuple[Array, Array]] = {}
        for kind, rate in task.optimizers.items():
            narrow = kind(rate, slot_dtype="int8", stochastic_rounding=True)
            wide, eight = train(name, kind(rate), jnp.float32), train(name, narrow, jnp.bfloat16)
            print(f"| {kind.__name__} | {row(task, *wide)} | {row(task, *eight)} |", flush=True)
            label = f"{kind.__name__}\n{wide[1]:.3g} and {eight[1]:.3g} bytes a weight"
            curves[label] = wide[0][:, :, 0], eight[0][:, :, 0]
        drawn[name] = Panels(curves, task.steps[1])
    picture.parent.mkdir(parents=True, exist_ok=True)
    first, *_, last = drawn
    save_picture(picture, {name: drawn[name] for name in (first, last)}, SEEDS)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/eight_bits.png"))
