"""Vectors for tokens and for positions: `Embedding`, `LearnedPositions`, `SinusoidalPositions`, `rotary`."""

from dataclasses import KW_ONLY
from typing import Self

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mlax._jax.dtypes import compute_dtype
from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import at_least, check_dtype, is_float, wide
from mlax.nn._methods import as_call
from mlax.nn.init import normal, variance_scaling
from mlax.tree import describe

__all__ = ["Embedding", "LearnedPositions", "SinusoidalPositions", "rotary"]

_PER_FEATURE = variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2)


class Embedding(Module):
    """A vector for each of a number of tokens.

    `attend` maps vectors back to scores of the tokens, with the same weights.

    Args:
        num_embeddings: How many tokens there are.
        features: Size of the vectors.
        kernel: The vectors, shape (num_embeddings, features). By default normal with variance
            1 / features, in float32.
    """

    num_embeddings: int
    features: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "{self.num_embeddings} {self.features}"]] = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "num_embeddings", "features")

    def set_up(self, rng: Array) -> Self:
        """Make the vectors."""
        shape = (self.num_embeddings, self.features)
        return self.replace(kernel=self.kernel.made(rng, shape, _PER_FEATURE, jnp.float32))

    def forward(
        self, tokens: Integer[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch {self.features}"], Self]:
        """Return the vectors of tokens. For a token that does not exist, the vector is NaN."""
        return _rows(self.kernel.data, tokens), self

    @as_call
    def attend(
        self, x: Float[Array, "*batch {self.features}"]
    ) -> tuple[Float[Array, "*batch {self.num_embeddings}"], Self]:
        """Return the inner product of vectors with those of all tokens: the logits of a tied output layer."""
        check_dtype(self, x, "kernel")
        return x @ self.kernel.data.T, self


class LearnedPositions(Module):
    """Adds a trained vector to each position of a sequence.

    Args:
        length: The greatest number of positions.
        kernel: The vectors, shape (length, features). By default normal with standard deviation
            0.02.
    """

    length: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "{self.length} features"]] = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "length")

    def set_up(self, x: Float[Array, "time features"], rng: Array) -> Self:
        """Make the vectors, in the dtype of the input."""
        shape = (self.length, x.shape[-1])
        return self.replace(kernel=self.kernel.made(rng, shape, normal(0.02), x.dtype))

    def forward(
        self, x: Float[Array, "time features"], positions: Integer[Array, "time"] | None = None
    ) -> tuple[Float[Array, "time features"], Self]:
        """Return the sequence with the vectors of its positions added.

        Args:
            x: The sequence.
            positions: By default 0, 1, 2 and so on. For one that does not exist, the vector is NaN.

        Raises:
            ValueError: The sequence is longer than `length`.
        """
        check_dtype(self, x, "kernel")
        if x.shape[0] > self.length:
            raise ValueError(
                f"LearnedPositions: the sequence has {x.shape[0]} positions, but length is {self.length}"
            )
        if positions is None:
            return x + self.kernel.data[: x.shape[0]], self
        return x + _rows(self.kernel.data, positions), self


class SinusoidalPositions(Module):
    """Adds sines and cosines of each position, as in Vaswani et al. (2017), section 3.5.

    Features 2i and 2i + 1 are the sine and the cosine of `position / base ** (2i / features)`.

    Args:
        base: 2 pi times this is the longest wavelength.
    """

    base: float = 10_000.0

    def forward(
        self, x: Float[Array, "time features"], positions: Integer[Array, "time"] | None = None
    ) -> tuple[Float[Array, "time features"], Self]:
        """Return the sequence with the waves at its positions added.

        Args:
            x: The sequence.
            positions: By default 0, 1, 2 and so on.
        """
        time, features = x.shape
        positions = jnp.arange(time) if positions is None else positions
        angles = _angles(positions, (features + 1) // 2, features, self.base, x.dtype)
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        waves = waves.reshape(time, 2 * angles.shape[1])
        return (wide(x) + waves[:, :features]).astype(x.dtype), self


def _rows(vectors: Array, indices: Array) -> Array:
    """Return vectors by their indices; NaN for those that do not exist, of which negative ones are some."""
    found: Array = vectors.at[indices].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
    )
    return found


def rotary(
    x: Float[Array, "time *heads features"],
    positions: Integer[Array, "time"] | None = None,
    base: float = 10_000.0,
) -> Float[Array, "time *heads features"]:
    """Rotate pairs of features by angles proportional to the position (Su et al., 2021, "RoFormer").

    Features i and i + features / 2 are a pair, which is rotated by
    `position / base ** (2i / features)`, as in Llama, Flax and Equinox. RoFormer itself pairs
    features 2i and 2i + 1; the two differ by a permutation of the features.

    Args:
        x: Queries or keys.
        positions: By default 0, 1, 2 and so on.
        base: 2 pi times this is the longest wavelength.

    Returns:
        The rotated array, in the dtype of `x`. Angles and products are computed in float32 or wider.

    Raises:
        TypeError: `x` is not floating-point.
        ValueError: The number of features is odd, or that of positions another.
    """
    time, features = x.shape[0], x.shape[-1]
    if not is_float(x.dtype):
        raise TypeError(f"rotary rotates floating-point numbers, got {describe(x)}")
    if positions is not None and positions.shape != (time,):
        raise ValueError(f"rotary: there are {time} positions, got {describe(positions)} of them")
    if features % 2:
        raise ValueError(f"rotary rotates pairs of features, got {features} features")
    positions = jnp.arange(time) if positions is None else positions
    angles = _angles(positions, features // 2, features, base, x.dtype)
    angles = angles.reshape(time, *(1,) * (x.ndim - 2), features // 2)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(angles.dtype), 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def _angles(
    positions: Integer[Array, "time"], count: int, features: int, base: float, dtype: object
) -> Float[Array, "time count"]:
    in_dtype = compute_dtype(dtype)
    exponents = jnp.arange(count, dtype=in_dtype) * (-2.0 / features)
    return positions[:, None].astype(in_dtype) * jnp.asarray(base, in_dtype) ** exponents
