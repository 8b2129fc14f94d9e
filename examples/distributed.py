"""The character language model on several devices: FSDP, a checkpoint in mid-run, and another mesh afterwards.

Each device has a part of every weight and of the optimizer's state (fully sharded data parallelism), and of each batch.
The same file runs in one process or in several, on simulated devices or real ones. `make distributed` trains on eight
simulated devices and goes on with four, then in two processes and goes on with one. Or by hand:

    python examples/distributed.py --devices 8 --until 120
    python examples/distributed.py --devices 4
    python examples/processes.py 2 examples/distributed.py --devices 4 --until 120

On accelerators leave out `--devices`. docs/distributed.md explains each step.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Int
from language_model import LENGTH, LanguageModel, documentation, language_model
from language_model import loss_fn as loss_of
from tqdm import trange

import mlax
from mlax import optim

P = PartitionSpec
Run: TypeAlias = tuple[LanguageModel, optim.adamw.State[LanguageModel]]

FEATURES, DEPTH, BATCH = 64, 2, 16
STEPS, EVERY = 240, 60
FOLDER = Path("out/distributed")

# The first axis of each weight is shared by all devices; of the attention's outputs, which belong to 4 heads, the next.
RULES = {r".*\.attention\.output": P(None, "data"), ".*": P("data")}
OPTIMIZER = optim.AdamW(optim.cosine_decay(5e-3, STEPS))


def start() -> Run:
    """Return a new model and the state of its optimizer."""
    model = language_model(FEATURES, DEPTH)
    return model, OPTIMIZER.init(model)


def loss_fn(model: LanguageModel, text: Int[Array, "batch time"]) -> tuple[Array, LanguageModel]:
    """Return the loss, and the model as it was.

    Every device needs all weights for its part of the batch. Here they are gathered, once a step.
    """
    whole = jax.lax.with_sharding_constraint(model, P())
    return loss_of(whole, text)[0], model


def train_step(run: Run, text: Int[Array, "batch time"]) -> tuple[Run, Array]:
    """Return model and state after one step, and the loss."""
    model, state = run
    (loss, model), gradients = mlax.value_and_grad(loss_fn)(model, text)
    return OPTIMIZER.update(model, gradients, state), loss


def windows(text: Int[np.ndarray, "n"], step: int, sharding: NamedSharding) -> Array:
    """Return the batch of a step. Each process reads the rows of its own devices only."""
    starts = np.random.default_rng(step).integers(len(text) - LENGTH, size=(BATCH, 1))

    def rows(index: Any) -> Any:
        return text[starts[index[0]] + np.arange(LENGTH + 1)]

    return jax.make_array_from_callback((BATCH, LENGTH + 1), sharding, rows)


def table(run: Run) -> str:
    """Return a table of where the weights lie, and how much of everything each device has."""
    lines = [f"{'weight':<36} {'shape':<14} {'sharded along':<22} on each device"]
    for path, weight in mlax.flatten(run[0]).items():
        part = weight.sharding.shard_shape(weight.shape)
        lines.append(f"{path:<36} {weight.shape!s:<14} {weight.sharding.spec!s:<22} {part}")
    arrays = jax.tree.leaves(run)
    whole = sum(x.nbytes for x in arrays)
    parts = sum(x.addressable_shards[0].data.nbytes for x in arrays)
    lines.append(f"Weights and state: {whole:,} bytes, of which each device has {parts:,}")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print once, not in each process."""
    if jax.process_index() == 0:
        print(text)


def train(until: int) -> float:
    """Train on all devices of all processes, up to some step, and return the last loss.

    If there is a checkpoint, training goes on from there.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh), ocp.CheckpointManager(FOLDER.absolute()) as checkpoints:
        shapes: Any = jax.eval_shape(start)
        places = mlax.shardings(shapes[0], mesh, RULES)
        places = places, optim.state_shardings(OPTIMIZER, shapes[0], places)
        done = checkpoints.latest_step() or 0
        if done >= until:
            sys.exit(f"{done} steps are done already, in {FOLDER}. Delete it to start over.")
        if done:
            say(f"Resuming after {done} steps from {FOLDER}. Delete it to start over.")
            like = mlax.abstract(shapes, places)
            saved = {"run": ocp.args.StandardRestore(like), "static": ocp.args.JsonRestore()}
            found = checkpoints.restore(done, args=ocp.args.Composite(**saved))
            mlax.check_static(found.static, like)  # Orbax compares arrays only
            run = found.run
        else:
            run = jax.jit(start, out_shardings=places)()
        say(table(run))

        text = np.asarray(documentation())
        rows = NamedSharding(mesh, P("data"))
        step = jax.jit(train_step, out_shardings=(places, None), donate_argnames="run")
        loss = np.nan
        quiet = jax.process_index() > 0
        progress = trange(done, until, initial=done, total=STEPS, unit=" steps", disable=quiet)
        for i in progress:
            run, loss = step(run, windows(text, i, rows))
            if (
                jax.default_backend() == "cpu"
            ):  # where steps of several processes may block each other
                jax.block_until_ready(run)
            if (i + 1) % 10 == 0:
                progress.set_postfix(loss=f"{loss:.2f}")
            if (i + 1) % EVERY == 0 or i + 1 == until:
                # Orbax copies the arrays, then writes them while the next steps run, which donate them.
                static: Any = mlax.static_text(run)  # any JSON, whatever Orbax's type says
                parts = {"run": ocp.args.StandardSave(run), "static": ocp.args.JsonSave(static)}
                checkpoints.save(i + 1, args=ocp.args.Composite(**parts))
    return float(loss)


def main() -> None:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(description="Train on several devices.")
    parser.add_argument("--devices", type=int, help="simulate so many devices in each process")
    parser.add_argument("--until", type=int, default=STEPS, help="stop after this step")
    parser.add_argument("--process", type=int, default=0, help="number of this process")
    parser.add_argument("--processes", type=int, default=1, help="how many there are")
    parser.add_argument("--coordinator", help="address and port of the first one")
    given = parser.parse_args()
    if given.devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", given.devices)
    if given.processes > 1:
        jax.distributed.initialize(given.coordinator, given.processes, given.process)
    say(f"Devices: {jax.device_count()}, processes: {jax.process_count()}")
    try:
        loss = train(given.until)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The next run begins at the last checkpoint.")
    say(f"Loss after {given.until} steps: {loss:.3f}")
    if given.until == STEPS and jax.process_index() == 0:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
