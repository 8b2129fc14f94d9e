"""The networks in Equinox: each file as its users write it, and here what is measured."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from benchmarks.networks.candidates import Candidate, Layout, Network, filled
from benchmarks.networks.in_equinox import conv_net, deep_transformer, mlp, transformer
from benchmarks.trees import Arrays

__all__ = ["candidates"]

LAYOUTS: tuple[Layout, ...] = (
    (r"(.*norm\d?)\.weight", r"\1.scale", np.asarray),
    (r"(embedding|positions)\.weight", r"\1.kernel", np.asarray),
    (r"(.*)\.(query|key|value)_proj\.weight", r"\1.\2", lambda a: a.reshape(len(a), -1).T),
    (r"(.*)\.output_proj\.weight", r"\1.output", lambda a: a.reshape(-1, a.shape[-1]).T),
    (r"(conv\d)\.weight", r"\1.kernel", lambda a: a.transpose(3, 2, 0, 1)),
    (r"(conv\d\.bias)", r"\1", lambda a: a[:, None, None]),
    (r"(.*)\.weight", r"\1.kernel", np.transpose),
)
KEY = jax.random.key(0)


def candidates(network: Network, weights: Arrays) -> dict[str, Candidate]:
    """Return the network with these weights, and its variant."""
    sizes, data = network.sizes, network.data()
    if network.kind == "mlp":
        return {"Equinox": _candidate(mlp.loss_fn, _shapes(mlp.make, sizes), weights, data)}
    if network.kind == "conv_net":
        net, state = _shapes(conv_net.make, sizes)
        data = (filled(state, {}, ()), data[0].transpose(0, 3, 1, 2), data[1], KEY)
        return {"Equinox": _candidate(conv_net.loss_fn, net, weights, data, has_aux=True)}
    classes = {
        "Equinox": transformer.LanguageModel,
        "Equinox, scan with remat": deep_transformer.DeepLanguageModel,
    }
    return {
        name: _candidate(transformer.loss_fn, _shapes(each, sizes), weights, (*data, KEY))
        for name, each in classes.items()
    }


def _shapes(make: Any, sizes: Any) -> Any:
    return eqx.filter_eval_shape(lambda: make(**sizes, key=KEY))


def _candidate(
    loss_fn: Any, model: Any, weights: Arrays, data: tuple[Any, ...], has_aux: bool = False
) -> Candidate:
    params, static = eqx.partition(model, lambda leaf: hasattr(leaf, "shape"))

    def run(params: Any, *data: Any) -> tuple[Any, Any, Any]:
        with_gradient = eqx.filter_value_and_grad(loss_fn, has_aux=has_aux)
        value, gradients = with_gradient(eqx.combine(params, static), *data)
        loss, state = value if has_aux else (value, None)
        return loss, gradients, state

    return Candidate(run, (filled(params, weights, LAYOUTS), *data))
