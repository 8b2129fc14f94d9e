"""Models whose kernels are computed from others: `WeightNorm` and `SpectralNorm`."""

import functools
import math
from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._module.module import Module
from mlax._module.nodes import Parameter, Variable
from mlax._module.unset import holds_unset
from mlax.nn._effective import Effective, M, kernels, matching, patterns, with_kernels
from mlax.nn._fields import at_least, wide
from mlax.nn._inside import Model, P, R, S, in_inference

__all__ = ["SpectralNorm", "WeightNorm"]

_linalg: Any = jnp.linalg  # its types are partly unknown


class WeightNorm(Effective[M]):
    r"""Separates the length of weights from their direction (Salimans and Kingma, 2016).

    Each kernel, whose last axis are its outputs, becomes `scale * kernel / |kernel|`, with a trained scale for each
    output, and the norm over all other axes. Scales start as the norms, so that the model starts as it was, or as 1
    where all weights are zero. Scales of frozen kernels have gradients of zero.

    Args:
        inner: The model.
        where: A regular expression, or a tuple of them, for paths of kernels. By default all that end with `kernel`,
            that of an `Embedding` too, whose outputs are its features. To leave one out, exclude its path:
            `r"(?!embedding\b).*\bkernel"`.
        scale: The scales, by path, shape (out,). In a `Repeat`,
            each block has its own.
    """

    inner: M
    _: KW_ONLY
    where: str | tuple[str, ...] = r".*\bkernel"
    scale: Parameter[dict[str, Array]] = Parameter()

    def __check__(self) -> None:
        patterns(self)

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model, and make the scales."""
        new = super().set_up(*args, rng=rng, **kwargs)
        if not holds_unset(self.scale):
            return new
        norms = {
            name: kernel.mapped(_lengths).astype(kernel.array.dtype)
            for name, kernel in matching(self, new.inner).items()
        }
        return new.replace(scale=self.scale.with_data(norms))

    def forward(
        self: "WeightNorm[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, WeightNorm[S]]":
        """Return the result of the model with normalized kernels."""
        layer: Any = self
        result, layer = layer._called(args, kwargs)
        return result, layer

    def _effective(self) -> M:
        """Return the model with normalized kernels."""

        def normalized(kernel: Array, scale: Array) -> Array:
            return (wide(kernel) * (wide(scale) / _lengths(kernel))).astype(kernel.dtype)

        new: dict[str, Array] = {}
        for name, kernel in kernels(self.inner, self.scale.data.__contains__).items():
            scale = self.scale.data[name]
            scale = jax.lax.stop_gradient(scale) if kernel.frozen else scale
            new[name] = kernel.mapped(normalized, scale)
        return with_kernels(self.inner, new)


class SpectralNorm(Effective[M]):
    r"""Divides weights by their greatest singular value (Miyato et al., 2018).

    It is estimated by power iteration, which continues from one training call to the next. A kernel is a matrix of its
    last axis, the outputs, and all others. One of zeros stays as it is.

    Args:
        inner: The model.
        where: A regular expression, or a tuple of them, for paths of kernels. By default all that end with `kernel`,
            that of an `Embedding` too, whose outputs are its features. To leave one out, exclude its path:
            `r"(?!embedding\b).*\bkernel"`.
        iterations: Power iterations in each training call.
        eps: Least length of a vector when it is normalized.
        vectors: The left singular vectors as far as they are known, by path, shape (out,). In a `Repeat`,
            each block has its own.
    """

    inner: M
    _: KW_ONLY
    where: str | tuple[str, ...] = r".*\bkernel"
    iterations: int = 1
    eps: float = 1e-12
    vectors: Variable[dict[str, Array]] = Variable()

    def __check__(self) -> None:
        at_least(self, 1, "iterations")
        patterns(self)

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model, and make random vectors, improved by 15 iterations, as in PyTorch."""
        model_key, own_key = jax.random.split(rng)
        new = super().set_up(*args, rng=model_key, **kwargs)
        if not holds_unset(self.vectors):
            return new
        vectors: dict[str, Array] = {}
        for i, (name, kernel) in enumerate(matching(self, new.inner).items()):
            shape = (*kernel.array.shape[: kernel.stacked], kernel.array.shape[-1])
            key = jax.random.fold_in(own_key, i)
            start = jax.random.normal(key, shape, wide(kernel.array).dtype)
            vectors[name] = kernel.mapped(functools.partial(self._improved, times=15), start)
        return new.replace(vectors=self.vectors.with_data(vectors))

    def forward(
        self: "SpectralNorm[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, SpectralNorm[S]]":
        """Return the result of the model with normalized kernels, and in training the layer with better vectors."""
        layer: Any = self
        result, layer = layer._called(args, kwargs)
        return result, layer

    def _called(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], method: Any = Module.forward
    ) -> tuple[Any, Any]:
        if not in_inference():
            improve = functools.partial(self._improved, times=self.iterations)
            better = {
                name: jax.lax.stop_gradient(kernel.mapped(improve, self.vectors.data[name]))
                for name, kernel in kernels(self.inner, self.vectors.data.__contains__).items()
            }
            self = self.replace(vectors=self.vectors.with_data(better))
        return super()._called(args, kwargs, method)

    def _effective(self) -> M:
        """Return the model with normalized kernels."""

        def normalized(kernel: Array, u: Array) -> Array:
            matrix = _matrix(kernel)
            v = self._unit(jax.lax.stop_gradient(matrix) @ u)
            value = v @ (matrix @ u)
            return (wide(kernel) / jnp.where(value > 0, value, 1)).astype(kernel.dtype)

        vectors = self.vectors.data
        found = kernels(self.inner, vectors.__contains__)
        new = {name: kernel.mapped(normalized, vectors[name]) for name, kernel in found.items()}
        return with_kernels(self.inner, new)

    def _improved(self, kernel: Array, u: Array, times: int) -> Array:
        """Return a better vector, after some power iterations."""
        matrix = _matrix(jax.lax.stop_gradient(kernel))
        for _ in range(times):
            better = matrix.T @ self._unit(matrix @ u)
            # A vector of zeros would stay one.
            u = jnp.where(jnp.any(better), self._unit(better), u)
        return u

    def _unit(self, vector: Array) -> Array:
        return vector / jnp.maximum(_linalg.norm(vector), self.eps)


def _lengths(kernel: Array) -> Array:
    """Return the norm of each output's weights, or 1 if all are zero."""
    matrix = _matrix(kernel)
    some = jnp.any(matrix, axis=0)
    lengths: Array = _linalg.norm(jnp.where(some, matrix, 1), axis=0)
    return jnp.where(some, lengths, 1)


def _matrix(kernel: Array) -> Array:
    return jnp.reshape(wide(kernel), (math.prod(kernel.shape[:-1]), kernel.shape[-1]))
