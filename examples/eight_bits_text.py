"""The third task of `eight_bits.py`: the language model of `language_model.py`, smaller, for several seeds at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from half_precision import SEEDS, stored_as
from jax.typing import DTypeLike
from jaxtyping import Array, Int
from language_model import LanguageModel, documentation, language_model, loss_fn, windows

import mlax
from mlax import optim
from mlax.experimental.optim import Prodigy

STEPS = 300
STEPS_PER_CALL = 20
BATCH = 4

RATES = {
    optim.Adam: optim.cosine_decay(3e-3, STEPS),
    optim.AdamW: optim.cosine_decay(3e-3, STEPS),
    optim.Lion: optim.cosine_decay(1e-3, STEPS),
    optim.Adan: optim.cosine_decay(1e-2, STEPS),
    Prodigy: optim.cosine_decay(1.0, STEPS),
}

Run = tuple[LanguageModel, Any]


class Text(NamedTuple):
    """Characters to learn from, and pieces of other text to test with."""

    seen: Int[Array, "n"]
    held_out: Int[Array, "pieces time"]


def text() -> Text:
    """Return nine tenths of Python's documentation, and pieces of the rest."""
    whole = documentation()
    cut = len(whole) * 9 // 10
    return Text(whole[:cut], windows(whole[cut:], 32, jax.random.key(0)))


def start(key: Array, optimizer: Any, data: Text, dtype: DTypeLike) -> Run:
    """Return a new model and state. The same key gives the same numbers, rounded to the dtype."""
    del data  # the characters are those of ASCII, whatever the text
    model = stored_as(dtype, language_model(depth=2, rng=key))
    return model, optimizer.init(model)


def wide_loss_fn(
    model: LanguageModel, text: Int[Array, "batch time"]
) -> tuple[Array, LanguageModel]:
    """Return loss and model, computed in float32 whatever dtype the model is stored in."""
    return loss_fn(stored_as(jnp.float32, model), text)[0], model


@jax.jit(static_argnames="optimizer", donate_argnames="run")
def train_on(run: Run, key: Array, optimizer: Any, data: Text) -> tuple[Run, Array]:
    """Take `STEPS_PER_CALL` steps in one call, for all seeds at once.

    Args:
        run: Model and state of each seed; donated.
        key: Draws the batches: the same for both ways of storing.
        optimizer: The optimizer.
        data: The text.

    Returns:
        Model and state of each seed, and the mean loss of the steps and the loss on held-out text of each,
        `[seeds, 2]`.
    """

    def train_step(run: Run, key: Array) -> tuple[Run, Array]:
        model, state = run
        batch = windows(data.seen, BATCH, key)
        (loss, _), gradients = mlax.value_and_grad(wide_loss_fn)(model, batch)
        return optimizer.update(model, gradients, state), loss

    def train_seed(run: Run, key: Array) -> tuple[Run, Array]:
        run, losses = jax.lax.scan(train_step, run, jax.random.split(key, STEPS_PER_CALL))
        return run, jnp.stack([losses.mean(), wide_loss_fn(run[0], data.held_out)[0]])

    return jax.vmap(train_seed)(run, jax.random.split(key, SEEDS))
