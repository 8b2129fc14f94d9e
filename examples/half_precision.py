"""Training in bfloat16 that learns like float32: weights and moments in half the bytes, rounded stochastically.

Adam trains one model on two tasks, with weights and moments stored in three ways: in float32; in bfloat16 rounded to
nearest, which loses every change of less than half the distance to the next number; and in bfloat16 rounded
stochastically, so that small changes add up. The arithmetic is done in float32 in all three. `make precision` runs
this, or

    python examples/half_precision.py docs/half_precision.png
"""

import functools
import sys
import warnings
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from digits import Classifier, Model, digits, loss_fn
from half_precision_picture import save_picture
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import mlax
from mlax import Module, nn, optim

SEEDS = 5
STEPS = 3_000
STEPS_PER_CALL = 50
BATCH = 64
LEARNING_RATE = 1e-4

M = TypeVar("M", bound=Module)

Run = tuple[Model, optim.adam.State[Model]]


class Task(NamedTuple):
    """Training and validation data: features `[n, features]`, float32, and labels `[n]`."""

    x: Array
    x_validation: Array
    y: Array
    y_validation: Array


class Storage(NamedTuple):
    """How weights and moments are stored."""

    dtype: DTypeLike
    stochastic_rounding: bool


TASKS = ("Digits", "Breast cancer")
STORAGES = {
    "float32": Storage(jnp.float32, False),
    "bfloat16, nearest": Storage(jnp.bfloat16, False),
    "bfloat16, stochastic": Storage(jnp.bfloat16, True),
}


def task(name: str) -> Task:
    """Return the data of a task, from scikit-learn: 10 classes of images, or 2 classes of tumours."""
    if name == "Digits":
        return Task(*digits())
    features, labels = load_breast_cancer(return_X_y=True)
    split = train_test_split(features, labels, test_size=0.2, random_state=0, stratify=labels)
    x, x_validation, y, y_validation = map(jnp.asarray, split)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    return Task((x - mean) / deviation, (x_validation - mean) / deviation, y, y_validation)


def stored_as(dtype: DTypeLike, model: M) -> M:
    """Return a model in another dtype."""

    def cast(weight: Array) -> Array:
        return weight.astype(dtype)

    result: M = jax.tree.map(cast, model)
    return result


def wide_loss_fn(
    model: Model, x: Float[Array, "batch features"], y: Int[Array, "batch"]
) -> tuple[Array, Model, Array]:
    """Return loss, model and accuracy, computed in float32 whatever dtype the model is stored in."""
    loss, _, accuracy = loss_fn(stored_as(jnp.float32, model), x, y)
    return loss, model, accuracy


def start(key: Array, optimizer: optim.Adam, data: Task, dtype: DTypeLike) -> Run:
    """Return a new model and state. The same key gives the same numbers, rounded to the dtype."""
    classes = int(data.y.max()) + 1
    model = nn.Batched(Classifier(nn.MLP(128, 64), nn.LayerNorm(), nn.Linear(classes)))
    model = stored_as(dtype, mlax.set_up(model, data.x, rng=key))
    return model, optimizer.init(model)


@jax.jit(static_argnames="optimizer", donate_argnames="run")
def train_on(run: Run, key: Array, optimizer: optim.Adam, data: Task) -> tuple[Run, Array]:
    """Take `STEPS_PER_CALL` steps in one call, for all seeds at once.

    Args:
        run: Model and state of each seed; donated.
        key: Draws the batches: the same for all ways of storing.
        optimizer: The optimizer.
        data: The task.

    Returns:
        Model and state of each seed, and training loss and validation accuracy of each, `[seeds, 2]`.
    """

    def train_step(run: Run, batch: Int[Array, "batch"]) -> tuple[Run, None]:
        model, state = run
        _, gradients = mlax.value_and_grad(wide_loss_fn)(model, data.x[batch], data.y[batch])
        return optimizer.update(model, gradients, state), None

    def train_seed(run: Run, key: Array) -> tuple[Run, Array]:
        batches = jax.random.randint(key, (STEPS_PER_CALL, BATCH), 0, len(data.y))
        run, _ = jax.lax.scan(train_step, run, batches)
        loss, _, _ = wide_loss_fn(run[0], data.x, data.y)
        _, _, accuracy = wide_loss_fn(run[0], data.x_validation, data.y_validation)
        return run, jnp.stack([loss, accuracy])

    return jax.vmap(train_seed)(run, jax.random.split(key, SEEDS))


def train(name: str, label: str) -> tuple[Array, float]:
    """Train all seeds.

    Args:
        name: The task, one of `TASKS`.
        label: The way of storing, one of `STORAGES`.

    Returns:
        Training loss and validation accuracy after each call, `[calls, seeds, 2]`, and the bytes stored per weight.
    """
    data, storage = task(name), STORAGES[label]
    optimizer = optim.Adam(LEARNING_RATE, stochastic_rounding=storage.stochastic_rounding)
    new_run = functools.partial(start, optimizer=optimizer, data=data, dtype=storage.dtype)
    with warnings.catch_warnings():  # stalling slots are what the example shows
        warnings.filterwarnings(
            "ignore", "Adam: the dtype of these slots is too narrow", UserWarning
        )
        run = jax.vmap(new_run)(jax.random.split(jax.random.key(0), SEEDS))
    weights = sum(x.size for x in jax.tree.leaves(run[0]))
    stored = sum(x.nbytes for x in jax.tree.leaves((run[0], run[1].m, run[1].v)))
    history: list[Array] = []
    keys = jax.random.split(jax.random.key(1), STEPS // STEPS_PER_CALL)
    for key in (progress := tqdm(keys, desc=f"{name}, {label}".ljust(35), unit=" calls")):
        run, measured = train_on(run, key, optimizer, data)
        history.append(measured)
        progress.set_postfix(loss=f"{measured[:, 0].mean():.4f}", refresh=False)
    return jnp.stack(history), stored / weights


def main(picture: Path) -> None:
    """Train on all tasks with all ways of storing, print a table, and draw the picture."""
    curves: dict[str, dict[str, Array]] = {name: {} for name in TASKS}
    rows: list[str] = []
    for name in TASKS:
        for label in STORAGES:
            history, stored = train(name, label)
            curves[name][label] = history[:, :, 0]
            losses, accuracies = history[-1].T
            rows.append(
                f"{name:13}  {label:20}  {stored:5.0f}  {losses.mean():8.4f} "
                f"({losses.min():.4f} to {losses.max():.4f})  {accuracies.mean():6.1%} "
                f"({accuracies.min():.1%} to {accuracies.max():.1%})"
            )
    print(f"\nAdam({LEARNING_RATE}), {STEPS:,} steps; mean of {SEEDS} seeds (minimum to maximum)\n")
    print(f"{'':37}  bytes")
    print(f"{'task':13}  {'stored as':20}  a weight {'training loss':25}  validation accuracy")
    print("\n".join(rows))
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_picture(picture, curves, STEPS_PER_CALL)
    print(f"\nPicture: {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/half_precision.png"))
