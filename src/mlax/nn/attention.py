"""`MultiHeadAttention`, and the cache of keys and values that it continues a sequence with."""

from dataclasses import KW_ONLY
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Shaped

from mlax._jax.dtypes import promotion_is_strict
from mlax._jax.tracing import is_tracer
from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax._module.unset import refuse_unset
from mlax.nn._fields import at_least, check_dtype, made, wide
from mlax.nn._methods import as_call
from mlax.nn.embedding import rotary
from mlax.nn.init import variance_scaling, zeros
from mlax.tree import describe

__all__ = ["KVCache", "MultiHeadAttention"]

_INTO_HEADS = variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=0, out_axis=(1, 2))
_OUT_OF_HEADS = variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2)

Mask = Shaped[Array, "*#heads #time #source"]  # of bools: others are refused with a cure


class KVCache(NamedTuple):
    """Keys and values of the positions that an attention layer has seen.

    Attributes:
        keys: Shape (length, kv_heads, head_features), rotated.
        values: The same shape.
        used: How many positions are filled, an int32 scalar.
    """

    keys: Array
    values: Array
    used: Array


class MultiHeadAttention(Module):
    """Attention of each position to all positions of a sequence (Vaswani et al., 2017), by several heads.

    Products run in `jax.nn.dot_product_attention`, the softmax in float32. Queries and keys can be rotated by
    position, and several query heads can share keys and values (grouped queries; Ainslie et al., 2023).

    Args:
        num_heads: Number of heads. It divides the number of features, unless `head_features` is given.
        num_kv_heads: Number of heads of keys and values, which divides `num_heads`. By default `num_heads`.
        head_features: Size of a head. By default features / num_heads.
        causal: Whether a position sees only itself and those before it.
        rope_base: Base of rotary positions, such as 10,000: see `rotary`. None for no rotation.
        query: Weights, shape (features, heads, head_features). By default LeCun normal, as those below.
        key: Shape (source_features, kv_heads, head_features).
        value: Likewise.
        output: Shape (heads, head_features, features).
        query_bias: Shape (heads, head_features). By default None: no bias; `Parameter()` for one of zeros.
        key_bias: Shape (kv_heads, head_features), likewise.
        value_bias: Likewise.
        output_bias: Shape (features,), likewise.
    """

    num_heads: int
    _: KW_ONLY
    num_kv_heads: int | None = None
    head_features: int | None = None
    causal: bool = False
    rope_base: float | None = None
    query: Parameter[Float[Array, "features {self.num_heads} size"]] = Parameter()
    key: Parameter[Float[Array, "source_features kv_heads size"]] = Parameter()
    value: Parameter[Float[Array, "source_features kv_heads size"]] = Parameter()
    output: Parameter[Float[Array, "{self.num_heads} size features"]] = Parameter()
    query_bias: Parameter[Float[Array, "{self.num_heads} size"]] | None = None
    key_bias: Parameter[Float[Array, "kv_heads size"]] | None = None
    value_bias: Parameter[Float[Array, "kv_heads size"]] | None = None
    output_bias: Parameter[Float[Array, "features"]] | None = None

    def __check__(self) -> None:
        at_least(self, 1, "num_heads", "num_kv_heads", "head_features")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"MultiHeadAttention: num_heads={self.num_heads} cannot be divided into "
                f"num_kv_heads={self.num_kv_heads}"
            )

    def set_up(
        self,
        x: Float[Array, "time features"],
        rng: Array,
        source: Float[Array, "source source_features"] | None = None,
    ) -> Self:
        """Make the weights, in the dtype of the input."""
        features = x.shape[-1]
        if self.head_features is None and features % self.num_heads:
            raise ValueError(
                f"MultiHeadAttention: {features} features cannot be divided into {self.num_heads} heads.\n"
                f"  Give head_features."
            )
        size = self.head_features or features // self.num_heads
        kv_heads = self.num_kv_heads or self.num_heads
        of_query = (features, self.num_heads, size)
        of_key = (features if source is None else source.shape[-1], kv_heads, size)
        keys = jax.random.split(rng, 8)

        def bias(node: Any, key: Array, shape: tuple[int, ...]) -> Any:
            return made(node, key, shape, zeros, x.dtype)

        return self.replace(
            query=self.query.made(keys[0], of_query, _INTO_HEADS, x.dtype),
            key=self.key.made(keys[1], of_key, _INTO_HEADS, x.dtype),
            value=self.value.made(keys[2], of_key, _INTO_HEADS, x.dtype),
            output=self.output.made(keys[3], (*of_query[1:], features), _OUT_OF_HEADS, x.dtype),
            query_bias=bias(self.query_bias, keys[4], of_query[1:]),
            key_bias=bias(self.key_bias, keys[5], of_key[1:]),
            value_bias=bias(self.value_bias, keys[6], of_key[1:]),
            output_bias=bias(self.output_bias, keys[7], of_query[:1]),
        )

    def forward(
        self,
        x: Float[Array, "time features"],
        mask: Mask | None = None,
        *,
        source: Float[Array, "source source_features"] | None = None,
        positions: Integer[Array, "time"] | None = None,
        length: Int[Array, ""] | int | None = None,
        segment_ids: Integer[Array, "time"] | None = None,
    ) -> tuple[Float[Array, "time features"], Self]:
        """Return what each position has gathered.

        Args:
            x: The sequence that asks.
            mask: Which positions see which, True where they do: bools of shape (time, source), or with an axis of
                heads before. One for all positions of `x`, such as for gaps in the source, has shape (1, source).
                Every position has to see one, or its result is not meaningful.
            source: The sequence that is asked, for cross-attention. By default `x`.
            positions: Positions of `x`, for the rotation. By default 0, 1, 2 and so on.
            length: How many positions of the source are not padding.
            segment_ids: For several sequences packed into one: a number for each position. Positions see only
                those with their own number.

        Raises:
            ValueError: There is both a source and something that needs queries and keys at the same positions, or
                the mask has another shape.
            TypeError: The mask has another dtype than bool.
        """
        if source is not None and (self.causal or self.rope_base or segment_ids is not None):
            raise ValueError(
                "MultiHeadAttention: with a source, positions of queries and keys have nothing to do with each other.\n"
                "  Use a layer without causal and rope_base, and no segment_ids."
            )
        queries, keys, values = self._projected(x, x if source is None else source, positions)
        if mask is not None:
            self._check_mask(mask, x.shape[0], keys.shape[0])
        masks: list[Any] = [] if mask is None else [mask]
        if length is not None:
            masks.append(jnp.arange(keys.shape[0]) < length)
        if segment_ids is not None:
            masks.append(segment_ids[:, None] == segment_ids)
        gathered = _attention(queries, keys, values, _combined(masks), self.causal)
        return self._result(gathered), self

    def cache(self, length: int) -> KVCache:
        """Return an empty cache for `decode`.

        If the layer is one of a `Repeat`, its nodes are stacked, and so is the cache.

        Args:
            length: The greatest number of positions.
        """
        refuse_unset("MultiHeadAttention.cache", "attention", self, "set up the model first")
        *stack, _, kv_heads, size = self.key.data.shape
        empty = jnp.zeros((*stack, length, kv_heads, size), self.key.data.dtype)
        return KVCache(empty, empty, jnp.zeros(stack, jnp.int32))

    @as_call
    def decode(
        self, x: Float[Array, "time features"], cache: KVCache
    ) -> tuple[tuple[Float[Array, "time features"], KVCache], Self]:
        """Continue a sequence by the positions after those in the cache.

        One call with several positions and several calls with one each have the same results, those of
        `forward` of a causal layer.

        Args:
            x: The new positions.
            cache: Keys and values of all positions before. While JAX traces, how many are used is not known: positions
                beyond its length then overwrite its last ones, silently.

        Returns:
            The results with the new cache, and the layer.

        Raises:
            ValueError: The positions do not fit the cache, as far as that is known.
        """
        check_dtype(self, cache.keys, "key", what="cache")
        used = 0 if is_tracer(cache.used) else int(cache.used)
        if used + x.shape[0] > cache.keys.shape[0]:
            after = f" after the {used} in use" if used else ""
            raise ValueError(
                f"MultiHeadAttention.decode: {x.shape[0]} positions do not fit a cache of length {cache.keys.shape[0]}"
                f"{after}.\n"
                f"  Make a longer one, attention.cache(length)."
            )
        positions = cache.used + jnp.arange(x.shape[0])
        queries, keys, values = self._projected(x, x, positions)
        keys = jax.lax.dynamic_update_slice_in_dim(cache.keys, keys, cache.used, 0)
        values = jax.lax.dynamic_update_slice_in_dim(cache.values, values, cache.used, 0)
        mask = jnp.arange(keys.shape[0]) <= positions[:, None]
        gathered = _attention(queries, keys, values, mask[None])
        return (self._result(gathered), KVCache(keys, values, cache.used + x.shape[0])), self

    def _projected(
        self, x: Array, source: Array, positions: Array | None
    ) -> tuple[Array, Array, Array]:
        names = ("query", "key", "value", "output")
        check_dtype(self, x, *names, *(f"{name}_bias" for name in names))
        check_dtype(self, source, "key", "value", what="source")
        queries = _map("tf,fhd->thd", x, self.query, self.query_bias)
        keys = _map("tf,fhd->thd", source, self.key, self.key_bias)
        values = _map("tf,fhd->thd", source, self.value, self.value_bias)
        if self.rope_base is not None:
            queries = rotary(queries, positions, self.rope_base)
            keys = rotary(keys, positions, self.rope_base)
        return queries, keys, values

    def _check_mask(self, mask: Array, time: int, source: int) -> None:
        if mask.dtype != jnp.bool_:
            raise TypeError(
                f"MultiHeadAttention: the mask must be bools, True where attention is allowed, got {describe(mask)}.\n"
                f"  One of ones and zeros is `mask > 0`; one that is added to the scores, with -inf where it is not "
                f"allowed, is `mask == 0`."
            )
        shape = (self.num_heads, time, source)
        pairs = zip(reversed(mask.shape), reversed(shape), strict=False)
        if mask.ndim not in {2, 3} or not all(size in {1, right} for size, right in pairs):
            raise ValueError(
                f"MultiHeadAttention: the mask is {describe(mask)}, but heads, time and source are {shape}"
            )

    def _result(self, gathered: Array) -> Array:
        return _map("thd,hdf->tf", gathered, self.output, self.output_bias)


def _map(axes: str, x: Array, kernel: Parameter[Any], bias: Parameter[Any] | None) -> Array:
    y = jnp.einsum(axes, x, kernel.data)
    return y if bias is None else y + bias.data


def _attention(
    queries: Array, keys: Array, values: Array, mask: Any, causal: bool = False
) -> Array:
    """Return what each query has gathered: softmax in float32, the rest in the dtype of the arrays.

    Products are in float32 where JAX's function cannot do otherwise: in float16 it asks for a product that only GPUs
    have, and in bfloat16 it has a gradient that mixes dtypes, which strict promotion refuses as late as the program is
    lowered.
    """
    dtype = queries.dtype
    if dtype == jnp.float16 or (dtype == jnp.bfloat16 and promotion_is_strict()):
        queries, keys, values = wide(queries), wide(keys), wide(values)
    with jax.numpy_dtype_promotion("standard"):  # JAX's function promotes, in its own code
        gathered = jax.nn.dot_product_attention(queries, keys, values, mask=mask, is_causal=causal)
    return gathered.astype(dtype)


def _combined(masks: list[Any]) -> Any:
    """Return one mask with an axis of heads that is True where all masks are, or None."""
    if not masks:
        return None
    both = masks[0]
    for mask in masks[1:]:
        both = both & mask
    return both.reshape((1,) * (3 - both.ndim) + both.shape)
