"""`MultiHeadAttention` and `TransformerBlock`: masks, packing, padding, and decoding."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlax
from mlax import nn
from tests.mlax.nn.cases import KEY, array, drawn, same

pytestmark = pytest.mark.one_python

X = array(6, 8)
LAYER = nn.MultiHeadAttention(4, num_kv_heads=2, causal=True, rope_base=100.0)
ATTENTION: Any = drawn(jax.eval_shape(lambda key: mlax.set_up(LAYER, X, rng=key), KEY))
call = jax.jit(lambda layer, x, *mask, **kwargs: layer(x, *mask, **kwargs)[0])


def by_formula(layer: Any, x: Any, mask: Any) -> Any:
    """Head by head, in float64."""
    nodes = layer.query, layer.key, layer.value, layer.output
    weights = [np.asarray(node.data, np.float64) for node in nodes]
    x = np.asarray(x, np.float64)
    query, key, value, output = weights
    result = np.zeros_like(x)
    for head in range(layer.num_heads):
        group = head // (layer.num_heads // key.shape[1])
        q, k = x @ query[:, head], x @ key[:, group]
        if layer.rope_base is not None:
            q, k = turned(q, layer.rope_base), turned(k, layer.rope_base)
        scores = np.where(mask[head], q @ k.T / math.sqrt(q.shape[1]), -np.inf)
        weight = np.exp(scores - scores.max(1, keepdims=True))
        result += weight / weight.sum(1, keepdims=True) @ (x @ value[:, group]) @ output[head]
    return result


def turned(x: Any, base: float) -> Any:
    """Rotate by complex numbers."""
    half = x.shape[1] // 2
    speeds = base ** (-np.arange(half) / half)
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * np.arange(len(x))[:, None] * speeds)
    return np.concatenate([z.real, z.imag], 1)


@settings(max_examples=20)
@given(st.data())
def test_masks_of_any_kind(data: Any) -> None:
    """Masks without and with heads, lengths and segments, together."""
    causal = np.tril(np.ones((4, 6, 6), bool))
    seed = data.draw(st.integers(0, 99))
    mask = np.random.default_rng(seed).random((4, 6, 6)) < 0.6
    if data.draw(st.booleans()):
        mask[:] = mask[:1]
    length = data.draw(st.integers(1, 6))
    segments = np.sort(np.random.default_rng(seed).integers(0, 3, 6))
    allowed = mask & (np.arange(6) < length) & (segments[:, None] == segments) & causal
    own = np.arange(6)
    allowed[:, own, own] |= False
    sees = allowed.any(-1).all(0)  # others have no meaningful result
    got = call(ATTENTION, X, jnp.asarray(mask), length=length, segment_ids=jnp.asarray(segments))
    allowed[:, ~sees] = True
    np.testing.assert_allclose(got[sees], by_formula(ATTENTION, X, allowed)[sees], 1e-5, 1e-5)


def test_a_mask_without_heads_is_one_for_all() -> None:
    mask = jnp.asarray(np.random.default_rng(0).random((6, 6)) < 0.7).at[:, 0].set(True)
    same(call(ATTENTION, X, mask), call(ATTENTION, X, jnp.broadcast_to(mask, (4, 6, 6))))
    same(call(ATTENTION, X, mask), call(ATTENTION, X, mask[None]))


@pytest.mark.parametrize(
    "make", [lambda layer: layer, lambda layer: nn.TransformerBlock(layer, nn.SwiGLU(5))]
)
def test_lengths_and_segments_are_separate_sequences(make: Any) -> None:
    model = mlax.set_up(make(LAYER.replace(causal=False)), X, rng=KEY)
    whole = call(model, X, length=4)
    same(whole[:4], call(model, X[:4]))
    same(call(model, X, length=jnp.int32(4)), whole)
    segments = jnp.array([0, 0, 0, 0, 5, 5])
    positions = jnp.array([0, 1, 2, 3, 0, 1])
    packed = call(model, X, segment_ids=segments, positions=positions)
    same(packed, jnp.concatenate([call(model, X[:4]), call(model, X[4:])]))
    # Without positions too: rotations depend on their differences only.
    same(call(model, X, segment_ids=segments), packed, 1e-5)


@pytest.mark.parametrize("split", [[1] * 6, [0, 5, 1]])
def test_decode_is_forward_of_any_split(split: list[int]) -> None:
    blocks: Any = mlax.set_up(nn.Repeat(nn.TransformerBlock(LAYER, nn.SwiGLU(5)), 2), X, rng=KEY)

    @jax.jit
    def decode(x: Any, cache: Any) -> Any:
        (y, cache), _ = blocks.scan(nn.TransformerBlock.decode, x, cache)
        return y, cache

    cache = blocks.block.attention.cache(8)
    assert cache.keys.shape == (2, 8, 2, 2)
    parts: list[Any] = []
    for part in jnp.split(X, np.cumsum(split)[:-1]):
        y, cache = decode(part, cache)
        parts.append(y)
    assert cache.used.tolist() == [6, 6]
    same(jnp.concatenate(parts), call(blocks, X), 1e-5)


def test_decode_of_one_layer_and_in_narrow_dtypes() -> None:
    (y, cache), _ = ATTENTION.decode(X, ATTENTION.cache(6))
    same(y, call(ATTENTION, X))
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), ATTENTION)
    (y, cache), _ = narrow.decode(X.astype(jnp.bfloat16), narrow.cache(6))
    assert y.dtype == cache.keys.dtype == cache.values.dtype == jnp.bfloat16
    with pytest.raises(TypeError, match=r"MultiHeadAttention: .*bfloat16"):
        ATTENTION.decode(X, cache)
    with pytest.raises(ValueError, match="6 positions do not fit a cache of length 5"):
        ATTENTION.decode(X, ATTENTION.cache(5))
    with pytest.raises(ValueError, match=r"3 positions .* of length 8 after the 6 in use"):
        ATTENTION.decode(X[:3], ATTENTION.decode(X, ATTENTION.cache(8))[0][1])
    with pytest.raises(ValueError, match=r"MultiHeadAttention\.cache"):
        LAYER.cache(5)
    with pytest.raises(ValueError, match=r"LoRA\.merged"):
        nn.LoRA(LAYER, 2).merged()


def test_methods_beside_forward_are_calls() -> None:
    """They set up their layer, or say how, and check what they are given."""
    cache = ATTENTION.cache(6)
    (_, made) = mlax.training(LAYER.decode, rng=KEY)(X, cache)
    assert made.is_set_up
    block, embedding = nn.TransformerBlock(LAYER, nn.SwiGLU(5)), nn.Embedding(5, 8)
    for call, name in (
        (lambda: LAYER.decode(X, cache), "MultiHeadAttention"),
        (lambda: block.decode(X, cache), "LayerNorm at attention_norm"),
        (lambda: embedding.attend(X), "Embedding"),
        (lambda: nn.Repeat(block, 2).scan(nn.TransformerBlock.decode, X, cache), "Repeat"),
        (lambda: nn.Recurrent(nn.GRUCell(3)).run(X), "Recurrent"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} is not set up.*\n.*mlax\.set_up\(model"):
            call()
    with pytest.raises(TypeError, match=r"MultiHeadAttention\.decode: (?s:.*)float32\[6,7\]"):
        ATTENTION.decode(array(6, 7), cache)
    embedding = mlax.set_up(embedding, jnp.array([0]), rng=KEY)
    with pytest.raises(TypeError, match=r"Embedding\.attend: (?s:.*)float32\[6,7\]"):
        embedding.attend(array(6, 7))
    with pytest.raises(ValueError, match=r"LoRA\.effective: .* UNSET; set up the model first"):
        nn.LoRA(LAYER, 2).effective()


def test_rotary() -> None:
    x = array(5, 2, 6)
    for head in range(2):
        np.testing.assert_allclose(
            nn.rotary(x, base=50.0)[:, head], turned(np.asarray(x[:, head]), 50.0), 1e-5, 1e-6
        )
    same(nn.rotary(x, jnp.arange(5) + 3)[2:], nn.rotary(jnp.concatenate([x[:3] * 0, x]))[5:], 1e-5)
    # Far positions keep their precision in narrow dtypes.
    far = nn.rotary(x.astype(jnp.bfloat16), jnp.arange(5) + 1001)
    exact = nn.rotary(x.astype(jnp.bfloat16).astype(jnp.float32), jnp.arange(5) + 1001)
    np.testing.assert_array_equal(far, exact.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="rotary rotates pairs of features, got 3 features"):
        nn.rotary(array(2, 3))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"num_heads=3 cannot be divided into num_kv_heads=2"):
        nn.MultiHeadAttention(3, num_kv_heads=2)
    with pytest.raises(ValueError, match="8 features cannot be divided into 3 heads"):
        mlax.set_up(nn.MultiHeadAttention(3), X, rng=KEY)
    with pytest.raises(ValueError, match="with a source"):
        ATTENTION(X, source=X)
    with pytest.raises(ValueError, match="num_heads must be an integer of at least 1"):
        nn.MultiHeadAttention(0)
    with pytest.raises(ValueError, match="rotary rotates pairs of features, got 3"):
        mlax.set_up(nn.MultiHeadAttention(1, head_features=3, rope_base=10.0), X, rng=KEY)
    with pytest.raises((TypeError, ValueError), match="mask"):
        ATTENTION(X, jnp.ones((3, 6, 6), bool))
    with pytest.raises(TypeError, match=r"mask must be bools, .* got float32\[6,6\].\n.*mask > 0"):
        ATTENTION(X, jnp.ones((6, 6)))
    with pytest.raises((TypeError, ValueError), match="mask"):
        ATTENTION(X, jnp.ones((6, 5), bool))
    with pytest.raises((TypeError, ValueError), match="mask"):
        ATTENTION(X, jnp.ones((1, 1, 6, 6), bool))


def test_learned_positions_beyond_the_length() -> None:
    layer = mlax.set_up(nn.LearnedPositions(4), array(3, 2), rng=KEY)
    y, _ = layer(array(3, 2), jnp.array([-1, 3, 4]))
    assert jnp.isnan(y).any(1).tolist() == [True, False, True]


def test_embedding_attends_and_marks_what_does_not_exist() -> None:
    layer = mlax.set_up(nn.Embedding(5, 3), jnp.array([0]), rng=KEY)
    logits, _ = layer.attend(array(2, 3))
    np.testing.assert_allclose(logits, array(2, 3) @ layer.kernel.data.T, 1e-6)
    y, _ = layer(jnp.array([4, 5, -1]))
    assert jnp.isnan(y).all(1).tolist() == [False, True, True]
    y, _ = layer(jnp.array([4, 255], jnp.uint8))
    assert jnp.isnan(y).all(1).tolist() == [False, True]
    with pytest.raises(TypeError, match=r"nn\.Compute"):
        layer.attend(array(2, 3).astype(jnp.bfloat16))
