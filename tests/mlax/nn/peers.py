"""The same layers of Equinox and Flax, or formulas, as functions of a layer of mlax and its inputs.

They use the layer's own arrays, so their gradients with respect to the layer compare with the layer's. Called with
float64, they are the exact results. A formula stands where neither library has the layer (Bilinear, LearnedPositions,
SinusoidalPositions, SwiGLU, LoRA, Repeat, Shared), or another one: Equinox divides space into other parts in adaptive
pools, and its SpectralNorm iterates before it divides; Flax's transposed convolution has not PyTorch's padding.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

KEY = jax.random.key(0)
eqn: Any = eqx.nn


def filled(module: Any, **arrays: Any) -> Any:
    """Return a module of Equinox with these arrays; those that are None have to be None there."""
    given = {name: a for name, a in arrays.items() if a is not None}
    for name in arrays.keys() - given.keys():
        assert getattr(module, name) is None
    return eqx.tree_at(lambda m: [getattr(m, n) for n in given], module, [*given.values()])


def of(node: Any) -> Any:
    """Return a node's array, or None."""
    return None if node is None else node.data


def over_batch(function: Any, x: Any, axes: int = 1) -> Any:
    """Call a function of so many axes, which are the last of an array."""
    for _ in range(x.ndim - axes):
        function = jax.vmap(function)
    return function(x)


def linear(layer: Any, x: Any) -> Any:
    peer = eqn.Linear(x.shape[-1], layer.out_features, layer.bias is not None, key=KEY)
    return over_batch(filled(peer, weight=layer.kernel.data.T, bias=of(layer.bias)), x)


def bilinear(layer: Any, a: Any, b: Any) -> Any:
    return jnp.stack(
        [
            (a @ layer.kernel.data[..., k] * b).sum(-1) + bias
            for k, bias in enumerate(of(layer.bias))
        ],
        -1,
    )


def embedding(layer: Any, tokens: Any) -> Any:
    peer = eqn.Embedding(layer.num_embeddings, layer.features, key=KEY)
    return over_batch(filled(peer, weight=layer.kernel.data), tokens, 0)


def learned_positions(layer: Any, x: Any, positions: Any = None) -> Any:
    return x + (layer.kernel.data[: len(x)] if positions is None else layer.kernel.data[positions])


def sinusoidal_positions(layer: Any, x: Any) -> Any:
    waves = [
        [
            (math.cos if i % 2 else math.sin)(t / layer.base ** ((i - i % 2) / x.shape[1]))
            for i in range(x.shape[1])
        ]
        for t in range(len(x))
    ]
    return x + jnp.asarray(waves)


def channels_first(function: Any) -> Any:
    """Return a function of an example with channels last, from one with channels first."""
    return lambda x: jnp.moveaxis(function(jnp.moveaxis(x, -1, 0)), 0, -1)


def conv(layer: Any, x: Any) -> Any:
    axes = x.ndim - 1
    pads = layer.padding
    if isinstance(pads, tuple):
        pads = [pad if isinstance(pad, tuple) else (pad, pad) for pad in pads]
    peer = eqn.Conv(
        axes,
        x.shape[-1],
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        pads,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode.upper(),
        key=KEY,
    )
    bias = None if layer.bias is None else layer.bias.data.reshape(-1, *(1,) * axes)
    kernel = jnp.moveaxis(layer.kernel.data, (-1, -2), (0, 1))
    return channels_first(filled(peer, weight=kernel, bias=bias))(x)


def conv_transpose(layer: Any, x: Any) -> Any:
    """The gradient of Equinox's convolution. Padding by numbers."""
    axes = x.ndim - 1
    *window, inner, out = layer.kernel.data.shape
    stride, dilation, more = (
        given if isinstance(given, tuple) else (given,) * axes
        for given in (layer.stride, layer.dilation, layer.output_padding)
    )
    pads = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * axes
    pads = [pad if isinstance(pad, tuple) else (pad, pad) for pad in pads]
    space = [  # PyTorch's formula
        (x.shape[i] - 1) * stride[i] - sum(pads[i]) + dilation[i] * (window[i] - 1) + more[i] + 1
        for i in range(axes)
    ]
    forward = eqn.Conv(
        axes, out, x.shape[-1], window, stride, pads, dilation, layer.groups, False, key=KEY
    )
    groups = layer.kernel.data.reshape(*window, inner, layer.groups, out // layer.groups)
    kernel = jnp.moveaxis(groups, (-2, -3, -1), (0, 1, 2)).reshape(-1, out // layer.groups, *window)
    forward = channels_first(filled(forward, weight=kernel))
    y = jax.linear_transpose(forward, jnp.zeros((*space, out), x.dtype))(x)[0]
    return y if layer.bias is None else y + layer.bias.data


def pool(kind: str) -> Any:
    def call(layer: Any, x: Any) -> Any:
        window = layer.kernel_size
        window = window if isinstance(window, tuple) else (window,) * (x.ndim - 1)
        stride = window if layer.stride is None else layer.stride
        stride = stride if isinstance(stride, tuple) else (stride,) * (x.ndim - 1)
        pad = layer.padding
        if isinstance(pad, int):
            pad = ((pad, pad),) * (x.ndim - 1)
        more = {} if kind == "max_pool" else {"count_include_pad": layer.count_include_pad}
        return getattr(nnx, kind)(x[None], window, stride, pad, **more)[0]

    return call


def adaptive(reduce: Any) -> Any:
    """Pools by PyTorch's definition. Equinox's divides an axis of 5 into parts of 3 and 2, not 3 and 3."""

    def call(layer: Any, x: Any) -> Any:
        for axis in range(x.ndim - 1):
            size = x.shape[axis]
            given = layer.output_size
            parts = given[axis] if isinstance(given, tuple) else given
            windows = [
                jnp.take(
                    x,
                    jnp.arange(math.floor(i * size / parts), math.ceil((i + 1) * size / parts)),
                    axis,
                )
                for i in range(parts)
            ]
            x = jnp.stack([reduce(window, axis) for window in windows], axis)
        return x

    return call


def layer_norm(layer: Any, x: Any) -> Any:
    scale, bias = of(layer.scale), of(layer.bias)
    peer = eqn.LayerNorm(
        x.shape[-1:], layer.eps, use_weight=scale is not None, use_bias=bias is not None
    )
    return over_batch(filled(peer, weight=scale, bias=bias), x)


def rms_norm(layer: Any, x: Any) -> Any:
    peer = eqn.RMSNorm(x.shape[-1:], layer.eps, use_bias=False)
    return over_batch(filled(peer, weight=of(layer.scale)), x)


def group_norm(layer: Any, x: Any) -> Any:
    peer = eqn.GroupNorm(layer.num_groups, x.shape[-1], layer.eps)
    return channels_first(filled(peer, weight=of(layer.scale), bias=of(layer.bias)))(x)


def instance_norm(layer: Any, x: Any) -> Any:
    """Each channel is a group."""
    peer = eqn.GroupNorm(x.shape[-1], x.shape[-1], layer.eps)
    return channels_first(filled(peer, weight=of(layer.scale), bias=of(layer.bias)))(x)


def batch_norm(layer: Any, xs: Any, running: bool = True) -> Any:
    """With running statistics, or those of the batch."""
    options = {"momentum": layer.momentum, "epsilon": layer.eps, "use_fast_variance": False}
    peer = nnx.BatchNorm(xs.shape[-1], **options, param_dtype=xs.dtype, rngs=nnx.Rngs(0))
    peer.scale, peer.bias = nnx.Param(layer.scale.data), nnx.Param(layer.bias.data)
    peer.mean = nnx.BatchStat(layer.mean.data.astype(xs.dtype))
    peer.var = nnx.BatchStat(layer.variance.data.astype(xs.dtype))
    return peer(xs, use_running_average=running)


def mlp(layer: Any, x: Any) -> Any:
    for i, each in enumerate(layer.layers):
        x = linear(each, layer.activation(x) if i else x)
    return x


def swiglu(layer: Any, x: Any) -> Any:
    gate = x @ layer.gate.data
    return (gate / (1 + jnp.exp(-gate)) * (x @ layer.up.data)) @ layer.down.data


def prelu(layer: Any, x: Any) -> Any:
    return filled(eqn.PReLU(), negative_slope=layer.slope.data)(x)


def attention(layer: Any, x: Any, mask: Any = None, **kwargs: Any) -> Any:
    """Equinox's attention. Keys and values that several queries share are repeated for each of them."""
    source = kwargs.pop("source", x)
    assert not kwargs
    features, heads, size = layer.query.data.shape
    shared = heads // layer.key.data.shape[1]

    def kernel(node: Any, times: int = 1) -> Any:
        return jnp.repeat(node.data, times, 1).reshape(len(node.data), -1).T

    def bias(node: Any, times: int = 1) -> Any:
        return None if node is None else jnp.repeat(node.data, times, 0).ravel()

    peer = eqn.MultiheadAttention(
        heads,
        features,
        source.shape[-1],
        source.shape[-1],
        features,
        size,
        size,
        use_query_bias=layer.query_bias is not None,
        use_key_bias=layer.key_bias is not None,
        use_value_bias=layer.value_bias is not None,
        use_output_bias=layer.output_bias is not None,
        key=KEY,
    )
    peer = eqx.tree_at(
        lambda m: [m.query_proj, m.key_proj, m.value_proj, m.output_proj],
        peer,
        [
            filled(peer.query_proj, weight=kernel(layer.query), bias=bias(layer.query_bias)),
            filled(
                peer.key_proj, weight=kernel(layer.key, shared), bias=bias(layer.key_bias, shared)
            ),
            filled(
                peer.value_proj,
                weight=kernel(layer.value, shared),
                bias=bias(layer.value_bias, shared),
            ),
            filled(
                peer.output_proj,
                weight=layer.output.data.reshape(-1, features).T,
                bias=of(layer.output_bias),
            ),
        ],
    )
    if layer.causal:
        causal = jnp.tril(jnp.ones((len(x), len(x)), bool))
        mask = causal if mask is None else mask & causal
    rotated = None
    if layer.rope_base is not None:
        rope = eqn.RotaryPositionalEmbedding(size, layer.rope_base, dtype=x.dtype)

        def rotated(q: Any, k: Any, v: Any) -> Any:
            rotate = jax.vmap(rope, in_axes=1, out_axes=1)
            return rotate(q), rotate(k), v

    return peer(x, source, source, mask=mask, process_heads=rotated)


def transformer_block(layer: Any, x: Any) -> Any:
    first, second = layer.attention_norm, layer.feed_forward_norm
    if layer.norm_first:
        x = x + attention(layer.attention, layer_norm(first, x))
        return x + swiglu(layer.feed_forward, layer_norm(second, x))
    x = layer_norm(first, x + attention(layer.attention, x))
    return layer_norm(second, x + swiglu(layer.feed_forward, x))


def gru(layer: Any, x: Any, carry: Any) -> Any:
    peer = eqn.GRUCell(len(x), layer.features, layer.bias is not None, key=KEY)
    new = filled(
        peer,
        weight_ih=layer.kernel.data.T,
        weight_hh=layer.recurrent.data.T,
        bias=of(layer.bias),
        bias_n=of(layer.candidate_bias),
    )(x, carry)
    return new, new


def lstm(layer: Any, x: Any, carry: Any) -> Any:
    peer = eqn.LSTMCell(len(x), layer.features, layer.bias is not None, key=KEY)
    new = filled(
        peer,
        weight_ih=layer.kernel.data.T,
        weight_hh=layer.recurrent.data.T,
        bias=of(layer.bias),
    )(x, carry)
    return new[0], new


def recurrent(cell: Any) -> Any:
    """A loop over the steps."""

    def call(layer: Any, xs: Any) -> Any:
        carry = layer.cell.initial_carry(xs[0])
        ys: list[Any] = []
        for x in xs[::-1] if layer.reverse else xs:
            y, carry = cell(layer.cell, x, carry)
            ys.append(y)
        return jnp.stack(ys[::-1] if layer.reverse else ys)

    return call


def bidirectional(layer: Any, x: Any) -> Any:
    both = recurrent(gru)(layer.ahead, x), recurrent(gru)(layer.back, x)
    return jnp.concatenate(both, -1)


def weight_norm(layer: Any, x: Any) -> Any:
    inner = layer.inner
    plain = filled(
        eqn.Linear(x.shape[-1], inner.out_features, key=KEY),
        weight=inner.kernel.data.T,
        bias=inner.bias.data,
    )
    peer = eqn.WeightNorm(plain)
    return over_batch(filled(peer, g=layer.scale.data["kernel"][:, None]), x)


def spectral_norm(layer: Any, x: Any) -> Any:
    """With v = W u / |W u|, which is constant, the estimate of the greatest singular value is v W u."""
    kernel, u = layer.inner.kernel.data, layer.vectors.data["kernel"]
    v = jax.lax.stop_gradient(kernel @ u / jnp.sqrt(((kernel @ u) ** 2).sum()))
    return x @ (kernel / (v @ kernel @ u)) + layer.inner.bias.data


def repeat(layer: Any, x: Any) -> Any:
    for i in range(layer.depth):
        block = jax.tree.map(lambda a, i=i: a[i], layer.block)
        x = x + mlp(block.inner, x)
    return x


def lora(layer: Any, x: Any) -> Any:
    inner = layer.inner
    kernel = inner.kernel.data + layer.scale * layer.a.data["kernel"] @ layer.b.data["kernel"]
    return x @ kernel + inner.bias.data
