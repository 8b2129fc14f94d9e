"""`TransformerBlock`: attention and a feed-forward layer, each with a norm and a residual connection."""

from dataclasses import KW_ONLY
from typing import Self

from jaxtyping import Array, Float, Int, Integer

from mlax._module.module import Module
from mlax.nn._fields import residual_sum
from mlax.nn._methods import as_call
from mlax.nn.attention import KVCache, Mask, MultiHeadAttention
from mlax.nn.dropout import Dropout
from mlax.nn.normalization import LayerNorm

__all__ = ["TransformerBlock"]


class TransformerBlock(Module):
    """One block of a transformer.

        nn.TransformerBlock(nn.MultiHeadAttention(8, causal=True), nn.SwiGLU(256))

    Args:
        attention: The attention layer.
        feed_forward: A module that acts on each position, such as `MLP(1024, 256)` or `SwiGLU(512)`.
        attention_norm: Norm of the input of the attention. By default a `LayerNorm`.
        feed_forward_norm: Norm of the input of the feed-forward layer, likewise.
        dropout: Applied to the results of both. By default none.
        norm_first: Whether norms come before the layers, as is usual today, or after the residual connections, as
            in Vaswani et al. (2017).
    """

    attention: MultiHeadAttention
    feed_forward: Module
    _: KW_ONLY
    attention_norm: Module = LayerNorm()
    feed_forward_norm: Module = LayerNorm()
    dropout: Dropout = Dropout(0.0)
    norm_first: bool = True

    def forward(
        self,
        x: Float[Array, "time features"],
        mask: Mask | None = None,
        *,
        positions: Integer[Array, "time"] | None = None,
        length: Int[Array, ""] | int | None = None,
        segment_ids: Integer[Array, "time"] | None = None,
    ) -> tuple[Float[Array, "time features"], Self]:
        """Return the sequence after the block. The arguments are those of `MultiHeadAttention.forward`.

        Raises:
            ValueError: The feed-forward layer returned another shape or dtype than its input has.
        """
        h, self = self.call(self.attention_norm, x) if self.norm_first else (x, self)
        h, self = self.call(
            self.attention, h, mask, positions=positions, length=length, segment_ids=segment_ids
        )
        return self._rest(x, h)

    @as_call
    def decode(
        self, x: Float[Array, "time features"], cache: KVCache
    ) -> tuple[tuple[Float[Array, "time features"], KVCache], Self]:
        """Continue a sequence: see `MultiHeadAttention.decode`."""
        h, self = self.call(self.attention_norm, x) if self.norm_first else (x, self)
        (h, cache), self = self.call(self.attention.decode, h, cache)
        y, self = self._rest(x, h)
        return (y, cache), self

    def _rest(self, x: Array, h: Array) -> tuple[Array, Self]:
        """Return the result, given the block's input and the result of its attention."""
        h, self = self.call(self.dropout, h)
        x = residual_sum(self, x, "attention", h)
        if not self.norm_first:
            x, self = self.call(self.attention_norm, x)
        h, self = self.call(self.feed_forward_norm, x) if self.norm_first else (x, self)
        h, self = self.chain(h, self.feed_forward, self.dropout)
        x = residual_sum(self, x, "feed_forward", h)
        return (x, self) if self.norm_first else self.call(self.feed_forward_norm, x)
