"""The networks in mlax: each file as users write it, and here what is measured."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import mlax
from benchmarks.networks.candidates import (
    DEEP,
    Candidate,
    Layout,
    Network,
    filled,
    random_weights,
)
from benchmarks.networks.in_mlax import conv_net, deep_transformer, mlp, transformer
from benchmarks.trees import Arrays

__all__ = ["candidates", "weights"]

LAYOUTS: tuple[Layout, ...] = (
    (
        r"inner\.blocks\.(?:block|layers)\.(.*)feed_forward\.layers\.0(.*)",
        r"blocks.\1up\2",
        np.asarray,
    ),
    (
        r"inner\.blocks\.(?:block|layers)\.(.*)feed_forward\.layers\.1(.*)",
        r"blocks.\1down\2",
        np.asarray,
    ),
    (r"inner\.blocks\.(?:block|layers)\.(.*)", r"blocks.\1", np.asarray),
    (r"inner\.(.*)", r"\1", np.asarray),
)
FILES: Any = {"mlp": mlp, "conv_net": conv_net, "transformer": transformer}
KEY = jax.random.key(0)


def weights(network: Network) -> Arrays:
    """Return random weights for the network, by name."""
    file = deep_transformer if network.kind == "transformer" else FILES[network.kind]
    return random_weights(_shapes(file, network).filter(), LAYOUTS)


def candidates(network: Network, weights: Arrays) -> dict[str, Candidate]:
    """Return the network with these weights, and its variants."""
    file = FILES[network.kind]
    models = {"mlax": _shapes(file, network)}
    if network.kind == "transformer":
        models[DEEP] = deep = _shapes(deep_transformer, network)
        models["mlax, Repeat"] = mlax.at(deep, lambda m: m.inner.blocks.remat).set(False)
    keys = () if network.kind == "mlp" else (KEY,)
    function = _with_gradient(file.loss_fn)
    return {
        name: Candidate(function, (filled(model, weights, LAYOUTS), *network.data(), *keys))
        for name, model in models.items()
    }


def _shapes(file: Any, network: Network) -> Any:
    return jax.eval_shape(lambda: file.make(**network.sizes, rng=KEY))


def _with_gradient(loss_fn: Any) -> Callable[..., tuple[Any, Any, Any]]:
    def run(model: Any, *data: Any) -> tuple[Any, Any, Any]:
        (loss, model), gradients = mlax.value_and_grad(loss_fn)(model, *data)
        return loss, gradients, model.filter(mlax.is_variable)

    return run
