"""One class for each library: how it builds and runs one step of an optimizer."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.algorithms import Algorithm
from benchmarks.peers.run import Run
from benchmarks.trees import Tree

__all__ = ["PEERS", "Peer", "available"]

Start = Callable[[Tree, Algorithm], Run]


@dataclass(frozen=True)
class Peer:
    """A library, or one of the ways in which it steps.

    Args:
        name: Its name in the tables.
        package: The package that it needs, as it is imported.
        start: Returns a run that owns the tree's weights, state and gradients.
        adam_only: Whether it only implements Adam.
    """

    name: str
    package: str
    start: Start
    adam_only: bool = True


def _lazily(module: str, function: str, **options: Any) -> Start:
    """Return a function that is imported when it is called, because its library may be missing."""

    def start(tree: Tree, algorithm: Algorithm) -> Run:
        run: Run = getattr(importlib.import_module(f"benchmarks.peers.{module}"), function)(
            tree, algorithm, **options
        )
        return run

    return start


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("Optax", "optax", _lazily("with_jax", "OptaxRun"), adam_only=False),
        Peer("mlax", "mlax", _lazily("with_jax", "MlaxRun"), adam_only=False),
        Peer("mlax packed", "mlax", _lazily("with_jax", "PackedRun"), adam_only=False),
        Peer("Equinox", "equinox", _lazily("with_equinox", "EquinoxRun")),
        Peer("flax.nnx", "flax.nnx", _lazily("with_flax", "FlaxRun")),
        Peer("MLX", "mlx.core", _lazily("with_mlx", "MlxRun")),
        Peer("PyTorch fused", "torch", _lazily("with_torch", "TorchRun", fused=True)),
        Peer("PyTorch foreach", "torch", _lazily("with_torch", "TorchRun", foreach=True)),
    )
}


def available() -> tuple[dict[str, Peer], dict[str, str]]:
    """Return the peers whose libraries can be imported, and for each other one, why it is left out."""
    there, missing = dict[str, Peer](), dict[str, str]()
    for name, peer in PEERS.items():
        try:
            importlib.import_module(peer.package)
        except ImportError as error:
            missing[name] = f"{name} is left out: {peer.package} cannot be imported ({error})"
        else:
            there[name] = peer
    return there, missing


def versions() -> dict[str, str]:
    """Return the versions of all libraries that are compared or that these run on."""
    found = dict[str, str]()
    for package in ("mlax", "jax", "jaxlib", "optax", "equinox", "flax", "mlx", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
