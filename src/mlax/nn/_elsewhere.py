"""Names of layers in PyTorch, Equinox, Flax and MLX that are not names here, and what to write instead."""

import re
from collections.abc import Collection

__all__ = ["INSTEAD", "no_such_layer"]

_FUNCTIONS = {
    name: f"nn.F(jax.nn.{function})"
    for name, function in {
        **{"CELU": "celu", "ELU": "elu", "GELU": "gelu", "GLU": "glu", "Hardswish": "hard_swish"},
        **{"LeakyReLU": "leaky_relu", "LogSoftmax": "log_softmax", "Mish": "mish", "ReLU": "relu"},
        **{"ReLU6": "relu6", "SELU": "selu", "Sigmoid": "sigmoid", "SiLU": "silu", "Tanh": "tanh"},
        **{"Softmax": "softmax", "Softplus": "softplus", "Softsign": "soft_sign"},
    }.items()
}
_ATTENTION = "nn.MultiHeadAttention(num_heads)"
_TUPLE = "a field with a tuple of layers"

INSTEAD = {
    **_FUNCTIONS,
    "Dense": "nn.Linear(out_features)",
    "Embed": "nn.Embedding(num_embeddings, features)",
    "Flatten": "nn.F(jnp.ravel)",
    "GRU": "nn.Recurrent(nn.GRUCell(features))",
    "Identity": "nn.Series()",
    "Lambda": "nn.F(function)",
    "LSTM": "nn.Recurrent(nn.LSTMCell(features))",
    "List": _TUPLE,
    "Module": "mlax.Module",
    "ModuleList": _TUPLE,
    "MultiheadAttention": _ATTENTION,
    "MultiHeadDotProductAttention": _ATTENTION,
    "Param": "mlax.Parameter",
    "Parameter": "mlax.Parameter",
    "RNN": "nn.Recurrent(cell)",
    "RoPE": "nn.rotary(x), or rope_base= of nn.MultiHeadAttention",
    "RotaryPositionalEmbedding": "nn.rotary(x), or rope_base= of nn.MultiHeadAttention",
    "Sequential": "nn.Series(*layers)",
    "SinusoidalPositionalEncoding": "nn.SinusoidalPositions()",
    "TransformerEncoderLayer": "nn.TransformerBlock(attention, feed_forward)",
    "avg_pool": "nn.AvgPool(kernel_size)",
    "max_pool": "nn.MaxPool(kernel_size)",
    "spectral_norm": "nn.SpectralNorm(model)",
    "weight_norm": "nn.WeightNorm(model)",
}


def no_such_layer(name: str, names: Collection[str]) -> str:
    """Return the message for a name that `mlax.nn` does not have.

    Args:
        name: The name.
        names: Those that it has.
    """
    message = f"module 'mlax.nn' has no attribute {name!r}"
    without_axes = re.sub("[123][dD]$", "", name)
    if without_axes != name and without_axes in names:
        return f"{message}.\n  Write nn.{without_axes}: it takes any number of axes."
    return f"{message}.\n  Write {INSTEAD[name]}." if name in INSTEAD else message
