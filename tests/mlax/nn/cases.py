"""Every layer of `mlax.nn`, with inputs and what it is compared with. All laws hold for all of them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mlax
from mlax import Module, Parameter, nn
from tests.mlax.nn import peers

KEY = jax.random.key(7)


def array(*shape: int, seed: int = 0) -> Any:
    """Return normally distributed numbers that bfloat16 and float16 can represent."""
    return jnp.asarray(short(np.random.default_rng([seed, *shape]).normal(size=shape)))


def short(x: Any) -> Any:
    """Round to 6 binary places."""
    return np.clip(np.round(np.asarray(x, np.float32) * 64) / 64, -3.75, 3.75)


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def cast(tree: Any, dtype: Any) -> Any:
    """Return a tree with all floats in another dtype."""
    return jax.tree.map(lambda a: a.astype(dtype) if is_float(a) else a, tree)


def drawn(shapes: Any) -> Any:
    """Return numbers in place of shapes; to compile what a layer draws them with takes far longer."""
    leaves, structure = jax.tree.flatten(shapes)
    numbers = [np.asarray(array(*leaf.shape, seed=i)) for i, leaf in enumerate(leaves)]
    return structure.unflatten([jnp.asarray(short(0.5 * a)) for a in numbers])


def with_gradients(call: Any, layer: Any, given: Any) -> Any:
    """Return a result, and gradients with respect to all Parameters and all floats of the inputs."""
    parameters, rest = layer.partition(mlax.is_parameter)
    leaves, structure = jax.tree.flatten(given)

    def loss(parameters: Any, floats: Any) -> Any:
        numbers = iter(floats)
        each = [next(numbers) if is_float(a) else a for a in leaves]
        y = call(parameters.combine(rest), jax.tree.unflatten(structure, each))
        return sum(jnp.sum(jnp.sin(3 * a.astype(np.float32))) for a in jax.tree.leaves(y)), y

    floats = [a for a in leaves if is_float(a)]
    gradients, y = jax.grad(loss, (0, 1), has_aux=True)(parameters, floats)
    return y, *gradients


def same(got: Any, expected: Any, tolerance: float = 2e-6) -> None:
    """Check results that are computed by the same formulas, in another order."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        one, other = np.asarray(a, np.float32), np.asarray(b, np.float32)
        bound = tolerance * max(1, np.abs(other).max(initial=0))
        np.testing.assert_allclose(one, other, 0, bound)


@dataclass
class Case:
    """A layer that is not set up.

    Attributes:
        layer: The layer.
        inputs: Its inputs, float32 or integers.
        reference: The result, as a function of the layer that is set up and the inputs.
        keywords: Keyword arguments of both.
        training: Whether it is called in training, with a key.
        wrong: Inputs that are refused, each with a part of the message.
        own_dtype: Whether the dtype of the result is that of the inputs.
        rounded: How far a narrow result may be from the exact one, in units in the last place of each number: half
            of one if the exact one is rounded once. Otherwise it is compared with the greatest number.
        double: How exact it is in float64.
        fixed: Sizes of axes of the inputs that follow from the layer. It takes multiples of the others.
    """

    layer: Module
    inputs: tuple[Any, ...]
    reference: Callable[..., Any]
    keywords: dict[str, Any] = field(default_factory=dict)
    training: bool = False
    wrong: tuple[tuple[tuple[Any, ...], str], ...] = ()
    own_dtype: bool = True
    rounded: float | None = None
    double: float = 1e-12
    fixed: tuple[int, ...] = ()

    @functools.cached_property
    def model(self) -> Any:
        """The layer, set up with weights that are neither zeros nor ones, and exact in narrow dtypes."""

        @jax.jit
        def others(key: Any) -> Any:
            return self.set_up(self.given, key).partition(mlax.is_parameter)[1]

        made = jax.eval_shape(lambda key: self.set_up(self.given, key), KEY)
        return drawn(made.partition(mlax.is_parameter)[0]).combine(others(KEY))

    @property
    def given(self) -> Any:
        """All arguments: a tuple, and a dict of those that are passed by name."""
        return self.inputs, self.keywords

    def set_up(self, given: Any, key: Any = KEY) -> Any:
        """Return the layer with its first weights."""
        return mlax.set_up(self.layer, *given[0], rng=key, **given[1])

    def call(self, layer: Any, given: Any) -> Any:
        """Return the result and the layer that comes back."""
        prepared = mlax.training(layer, rng=KEY) if self.training else mlax.inference(layer)
        return prepared(*given[0], **given[1])

    def with_gradients(self, layer: Any, given: Any) -> Any:
        """Return the result, and the gradients with respect to all Parameters and all floats of the inputs."""
        with jax.numpy_dtype_promotion("strict"):
            return with_gradients(lambda *each: self.call(*each)[0], layer, given)

    @functools.cached_property
    def results(self) -> Any:
        """The result with gradients, in float32."""
        return jax.jit(self.with_gradients)(self.model, self.given)

    def expected(self, layer: Any, given: Any) -> Any:
        """Return the result of the reference."""
        return self.reference(layer, *given[0], **given[1])


X = array(4, 6)
IMAGE = array(7, 6, 4)
INTEGERS = jnp.arange(24).reshape(4, 6)
FEW_AXES = jnp.float32(1.0)


def floats(*shapes: tuple[Any, str]) -> tuple[Any, ...]:
    """Return inputs that are refused, with integers among them."""
    return ((INTEGERS,), "int"), *(((x,), text) for x, text in shapes)


CHANNELS = floats((array(4, 5), "5"))
CONV: dict[str, Any] = {
    "wrong": (
        ((IMAGE[0],), "takes one example with 2 axes of space"),
        ((IMAGE[None],), "nn.Batched"),
        ((X[0],), "axes of space"),
        ((IMAGE[..., :2],), "2 channels"),
        ((IMAGE.astype(jnp.int32),), "int32"),
    )
}
POOL: dict[str, Any] = {
    "wrong": (
        ((IMAGE.astype(jnp.int32),), "int32"),
        ((FEW_AXES,), "float32[]"),
        ((IMAGE[None],), "nn.Batched"),
    )
}
TUPLE_POOL: dict[str, Any] = {"wrong": (*POOL["wrong"], ((IMAGE[0],), "2 axes of space"))}
BIAS: Any = Parameter()
BIASES = {"query_bias": BIAS, "key_bias": BIAS, "value_bias": BIAS, "output_bias": BIAS}
MASK = jnp.asarray(np.random.default_rng(0).random((4, 4)) < 0.5).at[:, 0].set(True)
CAUSAL = nn.MultiHeadAttention(4, num_kv_heads=2, causal=True, rope_base=100.0)


def second_kernel(series: Any) -> Any:
    return series.layers[1].kernel


def first_kernel_transposed(series: Any) -> Any:
    return series.layers[0].kernel.data.T


SOFTMAX = 1e-5  # that of Equinox is computed in float32 always

CASES: dict[str, Case] = {
    "Linear": Case(nn.Linear(3), (X,), peers.linear, wrong=CHANNELS),
    "Linear without bias": Case(nn.Linear(3, bias=None), (X[0],), peers.linear, wrong=CHANNELS),
    "Bilinear": Case(
        nn.Bilinear(3),
        (X, array(4, 5)),
        peers.bilinear,
        wrong=(((X, X), "6"), ((INTEGERS, array(4, 5)), "int"), ((X, array(3, 5)), "3")),
    ),
    "Embedding": Case(
        nn.Embedding(5, 3),
        (jnp.array([[0, 2], [4, 2]]),),
        peers.embedding,
        own_dtype=False,
        wrong=(((X,), "float32"),),
    ),
    "LearnedPositions": Case(
        nn.LearnedPositions(5),
        (X,),
        peers.learned_positions,
        wrong=(((array(6, 6),), "length is 5"), ((X[0],), "float32[6]"), ((INTEGERS,), "int")),
        rounded=0.5,
        fixed=(4,),
    ),
    "LearnedPositions at positions": Case(
        nn.LearnedPositions(5),
        (X, jnp.array([4, 0, 0, 1])),
        peers.learned_positions,
        rounded=0.5,
        fixed=(4,),
    ),
    "SinusoidalPositions": Case(
        nn.SinusoidalPositions(),
        (array(4, 5),),
        peers.sinusoidal_positions,
        wrong=(((X[0],), "float32[6]"), ((INTEGERS,), "int")),
        rounded=0.5,
    ),
    "Conv 1": Case(nn.Conv(4, 3, stride=2, padding="SAME"), (array(7, 3),), peers.conv),
    "Conv 2": Case(
        nn.Conv(6, (3, 2), stride=(1, 2), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2),
        (IMAGE,),
        peers.conv,
        **CONV,
    ),
    "Conv depthwise, circular": Case(
        nn.Conv(4, 3, groups=4, padding=1, padding_mode="circular", bias=None), (IMAGE,), peers.conv
    ),
    "Conv 3": Case(nn.Conv(2, (2, 2, 2), padding=1), (array(3, 2, 3, 2),), peers.conv),
    "ConvTranspose 1": Case(
        nn.ConvTranspose(4, 3, stride=2, padding=1, output_padding=1),
        (array(4, 3),),
        peers.conv_transpose,
    ),
    "ConvTranspose 2": Case(
        nn.ConvTranspose(
            4, (3, 2), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2), groups=2
        ),
        (IMAGE,),
        peers.conv_transpose,
        **CONV,
    ),
    "ConvTranspose 3": Case(
        nn.ConvTranspose(2, (2, 2, 2), bias=None), (array(3, 2, 3, 2),), peers.conv_transpose
    ),
    "MaxPool": Case(nn.MaxPool(2), (IMAGE,), peers.pool("max_pool"), rounded=0, **POOL),
    "MaxPool, overlapping": Case(
        nn.MaxPool((3, 2), (2, 1), padding="SAME"),
        (IMAGE,),
        peers.pool("max_pool"),
        rounded=0,
        **TUPLE_POOL,
    ),
    "AvgPool": Case(
        nn.AvgPool(2, 1, padding=1), (IMAGE,), peers.pool("avg_pool"), rounded=0.5, **POOL
    ),
    "AvgPool without padding": Case(
        nn.AvgPool((3, 2), (2, 1), padding="SAME", count_include_pad=False),
        (IMAGE,),
        peers.pool("avg_pool"),
        rounded=0.5,
        **TUPLE_POOL,
    ),
    "AdaptiveAvgPool": Case(
        nn.AdaptiveAvgPool((3, 2)),
        (IMAGE,),
        peers.adaptive(jnp.mean),
        rounded=0.5,
        wrong=(*TUPLE_POOL["wrong"], ((IMAGE[:2],), "cannot be divided into 3 parts")),
    ),
    "AdaptiveMaxPool": Case(
        nn.AdaptiveMaxPool(3), (IMAGE,), peers.adaptive(jnp.max), rounded=0, **POOL
    ),
    "LayerNorm": Case(nn.LayerNorm(), (X,), peers.layer_norm, rounded=0.5, wrong=CHANNELS),
    "LayerNorm without scale and bias": Case(
        nn.LayerNorm(0.1, scale=None, bias=None), (X,), peers.layer_norm, rounded=0.5
    ),
    "RMSNorm": Case(nn.RMSNorm(), (X,), peers.rms_norm, rounded=0.5, wrong=CHANNELS),
    "GroupNorm": Case(
        nn.GroupNorm(2),
        (IMAGE,),
        peers.group_norm,
        rounded=0.5,
        wrong=(((IMAGE[..., :3],), "3"), ((INTEGERS,), "int")),
    ),
    "InstanceNorm": Case(
        nn.InstanceNorm(),
        (IMAGE,),
        peers.instance_norm,
        rounded=0.5,
        wrong=floats((X[0], "float32[6]")),
    ),
    "BatchNorm": Case(nn.BatchNorm(), (X,), peers.batch_norm, rounded=0.5, wrong=CHANNELS),
    "Batched": Case(
        nn.Batched(nn.BatchNorm()),
        (IMAGE,),
        lambda layer, x: peers.batch_norm(layer.inner, x, running=False),
        training=True,
        rounded=0.5,
        wrong=(((INTEGERS,), "int"), ((FEW_AXES,), "first axis")),
    ),
    "Dropout": Case(nn.Dropout(), (X,), lambda layer, x: x, rounded=0, wrong=floats()),
    "MLP": Case(nn.MLP(5, 4, 3), (X,), peers.mlp, wrong=CHANNELS),
    "SwiGLU": Case(nn.SwiGLU(5), (X,), peers.swiglu, wrong=CHANNELS),
    "PReLU": Case(nn.PReLU(), (X,), peers.prelu, rounded=0.5, wrong=floats()),
    "F": Case(nn.F(jnp.square), (X,), lambda layer, x: x * x, rounded=0.5),
    "Series": Case(
        nn.Series(nn.Linear(3), nn.F(jax.nn.relu), nn.Linear(2)),
        (X,),
        lambda layer, x: peers.mlp(nn.MLP(1).replace(layers=(layer.layers[0], layer.layers[2])), x),
        wrong=CHANNELS,
    ),
    "Parallel": Case(
        nn.Parallel(nn.Linear(3), nn.RMSNorm()),
        (X,),
        lambda layer, x: (
            peers.linear(layer.branches[0], x),
            peers.rms_norm(layer.branches[1], x),
        ),
        wrong=CHANNELS,
    ),
    "Residual": Case(
        nn.Residual(nn.Linear(6)),
        (X,),
        lambda layer, x: x + peers.linear(layer.inner, x),
        wrong=CHANNELS,
        fixed=(6,),
    ),
    "MultiHeadAttention": Case(
        nn.MultiHeadAttention(2, **BIASES),
        (X, MASK),
        peers.attention,
        double=SOFTMAX,
        wrong=(
            ((X[0],), "float32[6]"),
            ((X[None],), "nn.Batched"),
            ((array(4, 5),), "5"),
            ((INTEGERS,), "int"),
            ((X, MASK[:3]), "3"),
        ),
    ),
    "MultiHeadAttention, cross": Case(
        nn.MultiHeadAttention(2, head_features=4, output_bias=BIAS),
        (X,),
        peers.attention,
        {"source": array(3, 5)},
        double=SOFTMAX,
    ),
    "MultiHeadAttention, grouped, rotary, causal": Case(
        CAUSAL, (array(5, 16),), peers.attention, double=SOFTMAX
    ),
    "TransformerBlock": Case(
        nn.TransformerBlock(nn.MultiHeadAttention(2, causal=True), nn.SwiGLU(5)),
        (X,),
        peers.transformer_block,
        double=SOFTMAX,
        wrong=CHANNELS,
    ),
    "TransformerBlock, norm last": Case(
        nn.TransformerBlock(nn.MultiHeadAttention(2), nn.SwiGLU(5), norm_first=False),
        (X,),
        peers.transformer_block,
        double=SOFTMAX,
    ),
    "GRUCell": Case(
        nn.GRUCell(3),
        (X[0], array(3)),
        peers.gru,
        wrong=(((X, array(3)), "[4,6]"), ((X[0], array(4)), "4"), ((INTEGERS[0], array(3)), "int")),
        fixed=(3,),
    ),
    "LSTMCell": Case(
        nn.LSTMCell(3),
        (X[0], (array(3), array(3, seed=1))),
        peers.lstm,
        wrong=(
            ((X, (array(3), array(3))), "[4,6]"),
            ((X[0], (array(4), array(3))), "4"),
            ((X[0], (array(3), array(2))), "2"),
        ),
        fixed=(3,),
    ),
    "Recurrent": Case(
        nn.Recurrent(nn.LSTMCell(3)),
        (X,),
        peers.recurrent(peers.lstm),
        wrong=(*CHANNELS, ((FEW_AXES,), "time")),
    ),
    "Recurrent, reverse": Case(
        nn.Recurrent(nn.GRUCell(3), reverse=True), (X,), peers.recurrent(peers.gru)
    ),
    "Bidirectional": Case(
        nn.Bidirectional(nn.GRUCell(3), nn.GRUCell(2)), (X,), peers.bidirectional, wrong=CHANNELS
    ),
    "WeightNorm": Case(nn.WeightNorm(nn.Linear(3)), (X,), peers.weight_norm, wrong=CHANNELS),
    "SpectralNorm": Case(nn.SpectralNorm(nn.Linear(3)), (X,), peers.spectral_norm, wrong=CHANNELS),
    "Repeat": Case(
        nn.Repeat(nn.Residual(nn.MLP(5, 6)), 3, remat=True),
        (X,),
        peers.repeat,
        wrong=CHANNELS,
        fixed=(6,),
    ),
    "Compute": Case(
        nn.Compute(nn.Linear(3), jnp.float32),
        (X,),
        lambda layer, x: peers.linear(layer.inner, x),
        own_dtype=False,
        wrong=CHANNELS,
    ),
    "LoRA": Case(nn.LoRA(nn.Linear(3), 2, scale=0.7), (X,), peers.lora, wrong=CHANNELS),
    "Shared": Case(
        nn.Shared(
            nn.Series(nn.Linear(4), nn.Linear(6)),
            second_kernel,
            first_kernel_transposed,
        ),
        (X,),
        lambda layer, x: (
            (x @ layer.inner.layers[0].kernel.data + layer.inner.layers[0].bias.data)
            @ layer.inner.layers[0].kernel.data.T
            + layer.inner.layers[1].bias.data
        ),
        wrong=CHANNELS,
        fixed=(6,),
    ),
}
