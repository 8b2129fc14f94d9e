"""A character language model learns Python's own documentation, and writes some as it learns.

A small Llama: rotary positions, grouped queries, RMSNorm, SwiGLU, an embedding that is also the output layer, and
`nn.Repeat`, whose blocks compile as one. It writes with a cache of keys and values, one character at a time.
`make examples` runs this, or `python examples/language_model.py`.
"""

import pydoc_data.topics
import re
import sys
import textwrap
from pathlib import Path
from typing import Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import trange

import mlax
from mlax import Module, losses, nn, optim

LENGTH = 128
CHECKPOINT = Path("out/language_model.checkpoint.safetensors")
MODEL = Path("out/language_model.safetensors")


class LanguageModel(Module):
    """Map a text to the logits of the next character at each position."""

    embedding: nn.Embedding
    blocks: nn.Repeat[nn.TransformerBlock]
    norm: nn.RMSNorm = nn.RMSNorm()

    def forward(self, text: Int[Array, "time"]) -> tuple[Float[Array, "time 128"], Self]:
        return self.chain(text, self.embedding, self.blocks, self.norm, self.embedding.attend)

    def decode(
        self, text: Int[Array, "time"], caches: nn.KVCache
    ) -> tuple[tuple[Float[Array, "time 128"], nn.KVCache], Self]:
        """Continue a text: the caches have keys and values of what came before."""
        x, self = self.call(self.embedding, text)
        (x, caches), self = self.call(self.blocks.scan, nn.TransformerBlock.decode, x, caches)
        logits, self = self.chain(x, self.norm, self.embedding.attend)
        return (logits, caches), self


def language_model(features: int = 64, depth: int = 4, rng: Array | None = None) -> LanguageModel:
    """Return a new model of ASCII texts."""
    block = nn.TransformerBlock(
        nn.MultiHeadAttention(4, num_kv_heads=2, causal=True, rope_base=10_000),
        nn.SwiGLU(2 * features),
        attention_norm=nn.RMSNorm(),
        feed_forward_norm=nn.RMSNorm(),
    )
    model = LanguageModel(nn.Embedding(128, features), nn.Repeat(block, depth))
    key = jax.random.key(0) if rng is None else rng
    return mlax.set_up(model, jnp.zeros(LENGTH, int), rng=key)


M = TypeVar("M", LanguageModel, nn.LoRA[LanguageModel])


def documentation() -> Int[Array, "n"]:
    """Return all topics of Python's `help()`, with indents and rulers of at most four characters."""
    topics = pydoc_data.topics.topics
    text = "".join(topics[name] for name in sorted(topics))
    return encoded(re.sub(r"(\W)\1{4,}", r"\1" * 4, text))


def encoded(text: str) -> Int[Array, "n"]:
    """Return the ASCII codes of a text, without characters that have none."""
    return jnp.array(np.frombuffer(text.encode("ascii", "ignore"), np.uint8), int)


def decoded(codes: Int[Array, "n"]) -> str:
    """Return the text of ASCII codes."""
    return bytes(codes.tolist()).decode()


def windows(text: Int[Array, "n"], batch: int, rng: Array) -> Int[Array, "batch time"]:
    """Return pieces of a text, drawn at random."""
    starts = jax.random.randint(rng, (batch, 1), 0, len(text) - LENGTH)
    return text[starts + jnp.arange(LENGTH + 1)]


def loss_fn(model: M, text: Int[Array, "batch time"]) -> tuple[Array, M]:
    """Return the mean cross-entropy of each next character."""
    logits, model = jax.vmap(model, out_axes=(0, None))(text[:, :-1])
    return jax.vmap(jax.vmap(losses.cross_entropy))(logits, text[:, 1:]).mean(), model


@jax.jit(static_argnames="optimizer", donate_argnames=("model", "state"))
def train_step(
    model: M, state: optim.adamw.State[M], optimizer: optim.AdamW, text: Int[Array, "batch time"]
) -> tuple[M, optim.adamw.State[M], Array]:
    """Return model and state after one step, and the loss; the old ones are donated."""
    (loss, model), gradients = mlax.value_and_grad(loss_fn)(model, text)
    model, state = optimizer.update(model, gradients, state)
    return model, state, loss


@jax.jit
def continued(model: LanguageModel, prompt: Int[Array, "time"], rng: Array) -> Int[Array, "length"]:
    """Return what the model writes after a prompt, drawn character by character."""
    caches = model.blocks.block.attention.cache(len(prompt) + LENGTH)
    (logits, caches), _ = model.decode(prompt, caches)

    def write(
        before: tuple[Array, nn.KVCache], key: Array
    ) -> tuple[tuple[Array, nn.KVCache], Array]:
        logits, caches = before
        character = jax.random.categorical(key, logits / 0.7)
        (logits, caches), _ = model.decode(character[None], caches)
        return (logits[-1], caches), character

    return jax.lax.scan(write, (logits[-1], caches), jax.random.split(rng, LENGTH))[1]


def sample(model: LanguageModel, prompt: str, rng: Array) -> str:
    """Return a prompt and what the model writes after it, indented."""
    written = decoded(continued(model, encoded(prompt), rng))
    return textwrap.indent(prompt + written, "    ")


def train(
    model: LanguageModel, steps: int = 400, every: int = 100, batch: int = 16
) -> LanguageModel:
    """Return a trained model. Each `every` steps it writes something, and is saved."""
    text = documentation()
    optimizer = optim.AdamW(optim.cosine_decay(5e-3, steps))
    start = model, optimizer.init(model), 0
    if CHECKPOINT.exists():
        print(f"Resuming from {CHECKPOINT}. Delete it to start over.")
        start = mlax.load(CHECKPOINT, like=start)
    CHECKPOINT.parent.mkdir(exist_ok=True)
    model, state, done = start
    for step in (progress := trange(done, steps, initial=done, total=steps, unit=" steps")):
        key = jax.random.key(step)
        model, state, loss = train_step(model, state, optimizer, windows(text, batch, key))
        if step % every == every - 1:
            written = sample(model, "The ", key)
            progress.write(f"\nAfter {step + 1} steps, loss {loss:.2f}:\n{written}")
            mlax.save(CHECKPOINT, (model, state, step + 1))
    CHECKPOINT.unlink(missing_ok=True)
    return model


def main() -> None:
    """Train and save the model."""
    model = language_model()
    print(mlax.summary(model, jnp.zeros(LENGTH, int), depth=2))
    try:
        mlax.save(MODEL, train(model))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The next run resumes here.")
    print(f"Model: {MODEL}")


if __name__ == "__main__":
    main()
