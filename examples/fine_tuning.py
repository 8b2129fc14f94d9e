"""Fine-tuning with LoRA: the model that writes Python's documentation learns to invent names of Unicode characters.

The model of `language_model.py` is loaded from its file, or trained if there is none. It stays as it is: `nn.LoRA` adds
a matrix of low rank to each of its kernels, and only their factors are trained. Merged, it is a plain model again.
`make examples` runs this, or `python examples/fine_tuning.py`.
"""

import random
import sys
import unicodedata
from pathlib import Path

import jax
from jaxtyping import Array, Int
from language_model import (
    LENGTH,
    MODEL,
    LanguageModel,
    documentation,
    encoded,
    language_model,
    loss_fn,
    sample,
    train_step,
    windows,
)
from language_model import main as train_language_model
from tqdm import trange

import mlax
from mlax import nn, optim

TUNED = Path("out/fine_tuned.safetensors")


def names() -> tuple[Int[Array, "n"], Int[Array, "m"]]:
    """Return names of characters to learn from, and a tenth of all, to test with: one a line, in random order."""
    every = [unicodedata.name(chr(code), "") for code in range(sys.maxunicode)]
    chosen = [name for name in every if name.replace(" ", "").isalpha() and "HANGUL" not in name]
    random.Random(0).shuffle(chosen)
    unseen = len(chosen) // 10
    return encoded("\n".join(chosen[unseen:])), encoded("\n".join(chosen[:unseen]))


def fine_tuned(
    model: LanguageModel, text: Int[Array, "n"], steps: int = 200, rank: int = 8, batch: int = 16
) -> LanguageModel:
    """Return a model with kernels that are changed by matrices of low rank, which have learnt a text.

    The arrays of the given one are donated.
    """
    tuned = mlax.set_up(nn.LoRA(model, rank), text[:LENGTH], rng=jax.random.key(0))
    print(mlax.summary(tuned, text[:LENGTH], depth=1))
    optimizer = optim.AdamW(optim.cosine_decay(1e-2, steps))
    state = optimizer.init(tuned)  # has slots for the factors only
    for step in (progress := trange(steps, unit=" steps")):
        batch_of_text = windows(text, batch, jax.random.key(step))
        tuned, state, loss = train_step(tuned, state, optimizer, batch_of_text)
        progress.set_postfix(loss=f"{loss:.2f}", refresh=False)
    return mlax.unfreeze(tuned.merged())


def report(title: str, model: LanguageModel, unseen: Int[Array, "n"]) -> None:
    """Print the losses of a model, and what it writes."""
    evaluate = jax.jit(loss_fn)
    loss, _ = evaluate(model, windows(unseen, 64, jax.random.key(0)))
    other, _ = evaluate(model, windows(documentation(), 64, jax.random.key(0)))
    print(f"\n{title}: loss {loss:.2f} for new names, {other:.2f} for documentation")
    print(sample(model, "LATIN ", jax.random.key(0)), "\n")


def main(steps: int = 200) -> None:
    """Load, fine-tune and save the model, and say what it was and what it is."""
    if not MODEL.exists():
        train_language_model()
    model = mlax.load(MODEL, like=language_model())
    text, unseen = names()
    report("Before", model, unseen)
    tuned = fine_tuned(model, text, steps)
    report("After", tuned, unseen)
    mlax.save(TUNED, tuned)
    print(f"The model, merged: {TUNED}")


if __name__ == "__main__":
    main()
