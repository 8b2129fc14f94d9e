"""A language model of transformer blocks, written for each library with that library's own layers.

A model of 24 blocks makes 292 calls. All have the same weights and compute the same logits. mlax's layers are written
beside its model, so that the time of its calls does not depend on what its own layers check.
"""

import importlib
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.agreement import DisagreementError
from benchmarks.trees import transformer

__all__ = ["Forward", "agree", "attended", "forwards", "tracing"]

WIDTH, HEADS, VOCABULARY, LENGTH, BATCH = 32, 4, 64, 32, 8
TOLERANCE = 1e-4  # measured: 2e-6

LIBRARIES = {"mlax": "in_mlax", "Equinox": "in_equinox", "flax.nnx": "in_flax"}


class Forward(NamedTuple):
    """The forward pass of a model.

    Attributes:
        function: From weights and tokens to logits.
        weights: The weights, as a PyTree that can be passed to a jitted function.
    """

    function: Callable[[Any, Array], Array]
    weights: Any


def _tokens() -> Int[Array, "batch time"]:
    """Return a batch of sequences."""
    numbers = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, LENGTH))
    return jnp.asarray(numbers, jnp.int32)


def forwards(libraries: Container[str], blocks: int) -> dict[str, Forward]:
    """Return the model in each of the libraries that are installed.

    Args:
        libraries: Names of the libraries that are installed; mlax always is.
        blocks: Number of transformer blocks.
    """
    weights = transformer(blocks, WIDTH, VOCABULARY, LENGTH).weights()
    found = dict[str, Forward]()
    for library, module in LIBRARIES.items():
        if library == "mlax" or library in libraries:
            forward = importlib.import_module(f"benchmarks.language.{module}").forward
            found[library] = forward(weights, blocks)
    return found


def agree(models: Mapping[str, Forward]) -> None:
    """Compare the logits of all models with those of mlax's.

    Raises:
        DisagreementError: Some differ; it says which, and by how much.
    """
    logits = {
        library: np.asarray(jax.jit(each.function)(each.weights, _tokens()))
        for library, each in models.items()
    }
    largest = np.abs(logits["mlax"]).max()
    for library, each in logits.items():
        difference = np.abs(each - logits["mlax"]).max()
        if not difference <= TOLERANCE * largest:
            raise DisagreementError(
                f"language model: not the same work: {library}'s logits differ from mlax's by {difference:.2g}"
            )


def tracing(forward: Forward) -> Callable[[], Any]:
    """Return a function that traces a forward pass."""
    tokens = _tokens()

    def trace() -> Any:
        def run(
            weights: Any, tokens: Array
        ) -> Array:  # a new function, which JAX has not traced yet
            return forward.function(weights, tokens)

        return jax.jit(run).trace(forward.weights, tokens)

    return trace


def attended(
    q: Float[Array, "*batch time d"],
    k: Float[Array, "*batch time d"],
    v: Float[Array, "*batch time d"],
) -> Float[Array, "*batch time d"]:
    """Return the attention of several heads, in which each position sees itself and those before it."""
    q, k, v = (jnp.reshape(a, (*a.shape[:-1], HEADS, -1)) for a in (q, k, v))
    scores = jnp.einsum("...qhf,...khf->...hqk", q, k) / np.sqrt(q.shape[-1]).astype(q.dtype)
    time = jnp.arange(q.shape[-3])
    scores = jnp.where(time <= time[:, None], scores, -jnp.inf)
    h = jnp.einsum("...hqk,...khf->...qhf", jax.nn.softmax(scores), v)
    return jnp.reshape(h, (*h.shape[:-2], -1))
