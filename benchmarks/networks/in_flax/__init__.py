"""The networks in flax.nnx: each file as its users write it, and here what is measured."""

from typing import Any

import numpy as np
from flax import nnx

from benchmarks.networks.candidates import Candidate, Layout, Network, filled
from benchmarks.networks.in_flax import conv_net, deep_transformer, mlp, transformer
from benchmarks.trees import Arrays

__all__ = ["candidates"]

LAYOUTS: tuple[Layout, ...] = (
    (r"linear(\d)\.(.*)", lambda m: f"layers.{int(m[1]) - 1}.{m[2]}", np.asarray),
    (r"(embedding|positions)\.embedding", r"\1.kernel", np.asarray),
    (r"(.*)\.(query|key|value)\.kernel", r"\1.\2", np.asarray),
    (r"(.*)\.out\.kernel", r"\1.output", np.asarray),
)


def candidates(network: Network, weights: Arrays) -> dict[str, Candidate]:
    """Return the network with these weights, and its variant."""
    kind, sizes, data = network.kind, network.sizes, network.data()
    if kind == "mlp":
        return {"flax.nnx": _candidate(mlp.loss_fn, mlp.MLP, sizes, weights, data)}
    if kind == "conv_net":
        return {"flax.nnx": _candidate(conv_net.loss_fn, conv_net.ConvNet, sizes, weights, data)}
    classes = {
        "flax.nnx": transformer.LanguageModel,
        "flax.nnx, scan with remat": deep_transformer.DeepLanguageModel,
    }
    return {
        name: _candidate(transformer.loss_fn, each, sizes, weights, data)
        for name, each in classes.items()
    }


def _candidate(
    loss_fn: Any, model: Any, sizes: Any, weights: Arrays, data: tuple[Any, ...]
) -> Candidate:
    shapes = nnx.eval_shape(lambda: model(**sizes, rngs=nnx.Rngs(0)))
    split: Any = nnx.split  # its overloads are too general for mypy
    definition, params, rest = split(shapes, nnx.Param, ...)

    def run(params: Any, rest: Any, *data: Any) -> tuple[Any, Any, Any]:
        model = nnx.merge(definition, params, rest)
        loss, gradients = nnx.value_and_grad(loss_fn)(model, *data)
        return loss, gradients, nnx.state(model, nnx.Not(nnx.Param))

    return Candidate(run, (filled(params, weights, LAYOUTS), filled(rest, {}, ()), *data))
