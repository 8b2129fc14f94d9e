"""What `equinox.nn` has, and where it is in mlax."""

import re
from pathlib import Path

import equinox as eqx
import mlx.core as mx
import mlx.nn as mlx_nn
import numpy as np
import pytest

import mlax
from mlax import Parameter, nn
from mlax.nn import init
from tests.mlax.nn.cases import KEY, array

pytestmark = pytest.mark.one_python

LAYERS = {
    "AdaptivePool AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d": "AdaptiveAvgPool",
    "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d": "AdaptiveMaxPool",
    "Pool AvgPool1d AvgPool2d AvgPool3d": "AvgPool",
    "MaxPool1d MaxPool2d MaxPool3d": "MaxPool",
    "Conv Conv1d Conv2d Conv3d": "Conv",
    "ConvTranspose ConvTranspose1d ConvTranspose2d ConvTranspose3d": "ConvTranspose",
    "BatchNorm": "BatchNorm",
    "Dropout": "Dropout",
    "Embedding": "Embedding",
    "GRUCell": "GRUCell",
    "GroupNorm": "GroupNorm",
    "Identity Lambda": "F",
    "LSTMCell": "LSTMCell",
    "LayerNorm": "LayerNorm",
    "Linear": "Linear",
    "MLP": "MLP",
    "MultiheadAttention": "MultiHeadAttention",
    "PReLU": "PReLU",
    "RMSNorm": "RMSNorm",
    "RotaryPositionalEmbedding": "rotary",
    "Sequential": "Series",
    "Shared": "Shared",
    "SpectralNorm": "SpectralNorm",
    "WeightNorm": "WeightNorm",
}
ANSWERS = {
    "State StateIndex StatefulLayer make_with_state delete_init_state": mlax.Variable,  # a node of the model
    "inference_mode": mlax.inference,  # an option of the call
}


def test_every_kind_of_equinox_is_there_or_answered() -> None:
    kinds = {name for name in dir(eqx.nn) if not name.startswith("_")}
    found = {name for names in (*LAYERS, *ANSWERS) for name in names.split()}
    assert kinds == found
    assert all(hasattr(nn, name) for name in LAYERS.values())


def test_the_page_names_every_layer_and_every_kind_of_equinox() -> None:
    page = (Path(__file__).parents[3] / "docs/layers.md").read_text()
    named = set(re.findall(r"\w+", page))
    layers = {name for name in dir(nn) if callable(getattr(nn, name)) and name[0] != "_"}
    assert layers - named <= {"KVCache"}  # what `cache` returns
    kinds = {re.sub("[23]d$", "1d", name) for name in dir(eqx.nn) if not name.startswith("_")}
    assert kinds <= named


X = array(4, 6)


def as_mlx(a: object) -> mx.array:
    return mx.array(np.asarray(a))


def test_mlx_agrees() -> None:
    """Outputs only: MLX cannot be differentiated by JAX."""
    x = as_mlx(X)[None]

    def check(layer: nn.Linear, peer: mlx_nn.Module, **weights: object) -> None:
        model = mlax.set_up(layer, X, rng=KEY)
        peer.update({name: as_mlx(weight(model)) for name, weight in weights.items()})
        found = peer(x)
        y = found[0] if isinstance(found, tuple) else found  # an LSTM returns its cells, too
        np.testing.assert_allclose(model(X)[0], np.array(y)[0], 1e-5, 1e-5)

    check(nn.Linear(3), mlx_nn.Linear(6, 3, bias=False), weight=lambda m: m.kernel.data.T)
    check(
        nn.Conv(3, 2, stride=2, padding=1),
        mlx_nn.Conv1d(6, 3, 2, stride=2, padding=1, bias=False),
        weight=lambda m: np.moveaxis(np.asarray(m.kernel.data), -1, 0),
    )
    check(nn.LayerNorm(), mlx_nn.LayerNorm(6))
    check(nn.RMSNorm(), mlx_nn.RMSNorm(6, eps=1e-6))
    check(nn.GroupNorm(2), mlx_nn.GroupNorm(2, 6, pytorch_compatible=True))
    check(nn.InstanceNorm(), mlx_nn.InstanceNorm(6))
    check(nn.MaxPool(2), mlx_nn.MaxPool1d(2))
    check(nn.AvgPool(2), mlx_nn.AvgPool1d(2))
    check(
        nn.Recurrent(nn.GRUCell(3)),
        mlx_nn.GRU(6, 3),
        Wx=lambda m: m.cell.kernel.data.T,
        Wh=lambda m: m.cell.recurrent.data.T,
        b=lambda m: m.cell.bias.data,
        bhn=lambda m: m.cell.candidate_bias.data,
    )
    check(
        nn.Recurrent(nn.LSTMCell(3, bias=Parameter(init=init.normal(1.0)))),
        mlx_nn.LSTM(6, 3),
        Wx=lambda m: m.cell.kernel.data.T,
        Wh=lambda m: m.cell.recurrent.data.T,
        bias=lambda m: m.cell.bias.data,
    )
    check(nn.F(lambda x: nn.rotary(x, base=100.0)), mlx_nn.RoPE(6, base=100.0))
