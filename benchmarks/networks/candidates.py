"""Networks to be measured, of fixed sizes, with the same weights in each library."""

import importlib
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.agreement import DisagreementError
from benchmarks.trees import Arrays

__all__ = [
    "CONV_NET",
    "DEEP",
    "LIBRARIES",
    "MLP",
    "Candidate",
    "Layout",
    "Network",
    "agree",
    "candidates",
    "filled",
    "random_weights",
    "transformer",
]

LIBRARIES = {"mlax": "in_mlax", "Equinox": "in_equinox", "flax.nnx": "in_flax"}
TOLERANCE = (
    1e-4  # measured: 1e-5; the norms of flax.nnx add 1e-6 to variances, those of the others 1e-5
)

QUICKLY: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""How XLA compiles what is run once, to be compared."""

DEEP = "mlax, Repeat with remat"

_PATHS: Any = jax.tree_util  # its types are partly unknown


class Candidate(NamedTuple):
    """The loss of a network in one library, with its gradient.

    Attributes:
        function: From these arguments to the loss, the gradients, and the rest of the state afterwards: statistics,
            and counts of keys.
        arguments: PyTrees of arrays.
    """

    function: Callable[..., tuple[Any, Any, Any]]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Network:
    """A network with its sizes.

    Args:
        case: What tables call it.
        kind: "mlp", "conv_net" or "transformer": the file that it is written in.
        sizes: The arguments of the function that makes it, but for the key.
        batch: Number of examples.
    """

    case: str
    kind: str
    sizes: Mapping[str, Any]
    batch: int

    def of(self, **sizes: Any) -> "Network":
        """Return the network with other sizes."""
        return replace(self, sizes={**self.sizes, **sizes})

    def data(self) -> tuple[Any, ...]:
        """Return a batch: examples with their labels, or texts."""
        rng, sizes = np.random.default_rng(0), self.sizes
        if self.kind == "transformer":
            texts = rng.integers(0, sizes["vocabulary"], (self.batch, sizes["time"] + 1))
            return (jnp.asarray(texts, jnp.int32),)
        shape = (sizes["inputs"],) if self.kind == "mlp" else (16, 16, 1)
        x, y = rng.normal(size=(self.batch, *shape)), rng.integers(0, 10, self.batch)
        return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


MLP = Network("MLP", "mlp", {"inputs": 64, "hidden": 512, "outputs": 10}, 256)
CONV_NET = Network(
    "convolutional net", "conv_net", {"width": 16, "classes": 10, "dropout": 0.1}, 64
)


def transformer(blocks: int) -> Network:
    """Return a language model of so many blocks."""
    sizes = {"vocabulary": 64, "time": 32, "features": 64, "heads": 4, "depth": blocks}
    return Network(f"transformer, {blocks} blocks", "transformer", {**sizes, "dropout": 0.1}, 4)


def candidates(network: Network, libraries: Container[str]) -> dict[str, Candidate]:
    """Return the network in each library, and its variants with a loop over the blocks.

    Args:
        network: Which one.
        libraries: Names of the libraries that are installed; mlax always is.
    """
    weights: Arrays = _library("mlax").weights(network)
    found = dict[str, Candidate]()
    for library in LIBRARIES:
        if library == "mlax" or library in libraries:
            found |= _library(library).candidates(network, weights)
    return found


def _library(name: str) -> Any:
    return importlib.import_module(f"benchmarks.networks.{LIBRARIES[name]}")


def agree(network: Network, found: Mapping[str, Candidate]) -> None:
    """Compare losses and norms of gradients with mlax's. Without dropout, all are to be the same.

    Raises:
        DisagreementError: Some differ; it says which, and by how much.
    """
    figures = dict[str, Any]()
    for name, (function, arguments) in found.items():
        compiled = jax.jit(function).lower(*arguments).compile(QUICKLY)
        loss, gradients, _ = compiled(*arguments)
        squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradients)]
        figures[name] = np.array([loss, jnp.sqrt(sum(squares, jnp.zeros(())))])
    for name, each in figures.items():
        difference = np.abs(each / figures["mlax"] - 1).max()
        if not difference <= TOLERANCE:
            raise DisagreementError(
                f"{network.case}: not the same work: {name}'s loss or gradients differ by {difference:.2g}"
            )


Layout = tuple[str, str | Callable[[re.Match[str]], str], Callable[[Any], Any]]
"""A pattern of names in one library, mlax's name, and how the array there follows from mlax's."""


def random_weights(tree: Any, layouts: tuple[Layout, ...]) -> Arrays:
    """Return random weights for the arrays of a tree, by mlax's names without those of wrappers.

    The tree's blocks, if it has any, are stacked; the weights are those of each.
    """
    rng, found = np.random.default_rng(1), dict[str, Any]()
    for path, leaf in _PATHS.tree_leaves_with_path(tree):
        name, _ = _layout(path, layouts)
        center = 1.0 if name.endswith(".scale") else 0.0
        spread = 1.0 if name in {"embedding.kernel", "positions.kernel"} else 0.1
        numbers = rng.normal(center, spread, leaf.shape).astype(np.float32)
        if name.startswith("blocks."):
            blocks = enumerate(numbers)
            found |= {name.replace("blocks.", f"blocks.{i}.", 1): each for i, each in blocks}
        else:
            found[name] = numbers
    return found


def filled(tree: Any, weights: Arrays, layouts: tuple[Layout, ...]) -> Any:
    """Return a tree of shapes as one of arrays: weights by their names, and for other state keys and zeros.

    Blocks that are stacked get the weights of all blocks.
    """

    def given(path: Any, leaf: Any) -> Any:
        name, layout = _layout(path, layouts)
        each = [name.replace("blocks.", f"blocks.{i}.", 1) for i in range(*leaf.shape[:1] or (0,))]
        if name in weights:
            new = layout(weights[name])
        elif each and each[0] in weights:
            new = np.stack([layout(weights[one]) for one in each])
        elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), leaf.shape)
        else:
            return jnp.zeros(leaf.shape, leaf.dtype)
        assert new.shape == leaf.shape, (name, new.shape, leaf.shape)
        return jnp.asarray(new)

    return _PATHS.tree_map_with_path(given, tree)


def _layout(path: Any, layouts: tuple[Layout, ...]) -> tuple[str, Callable[[Any], Any]]:
    """Return mlax's name of the array at this path, and how that follows from mlax's."""
    name = re.sub(r"\.(data|value)$", "", _PATHS.keystr(path, simple=True, separator="."))
    for pattern, new, layout in layouts:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name), layout
    return name, np.asarray
