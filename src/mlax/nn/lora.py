"""`LoRA`: fine-tuning by changes of low rank."""

import math
from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._module.freezing import freeze
from mlax._module.nodes import Parameter
from mlax._module.unset import holds_unset, refuse_unset
from mlax.nn._effective import Effective, M, kernels, matching, patterns, with_kernels
from mlax.nn._fields import at_least
from mlax.nn._inside import Model, P, R, S

__all__ = ["LoRA"]


class LoRA(Effective[M]):
    r"""Adds a trained matrix of low rank to each kernel of a frozen model (Hu et al., 2021).

        tuned = mlax.set_up(nn.LoRA(model, rank=8), x, rng=key)   # trains 8 * (n + m) numbers for a kernel of n x m
        plain = tuned.merged()                                    # the model itself, with changed kernels

    A kernel of shape (n, m) becomes `kernel + scale * a @ b`, where b starts at zeros, so that the model starts as it
    was. One with more axes is a matrix with the first axes in its rows and the others in its columns, divided where
    the factors are smallest: one of shape (64, 8, 8), of attention, becomes one of (64, 64). In a `Repeat`, each
    block has factors of its own.

    Args:
        inner: The model. It is frozen, and keeps its arrays, so a step to which the `LoRA` is donated deletes those of
            the model that was wrapped as well.
        rank: Rank of the changes.
        where: A regular expression, or a tuple of them, for paths of the arrays to be changed, such as
            `r"blocks.*\.kernel"`. By default the kernels of all layers, and the weights of attention, `SwiGLU`, and
            recurrent cells.
        scale: Factor of the changes: alpha / rank in the paper.
        a: The first factors, by path, shape (n, rank). By default normal with variance 1 / n.
        b: The second factors, shape (rank, m). By default zeros.
    """

    inner: M
    rank: int
    _: KW_ONLY
    where: str | tuple[str, ...] = r".*\b(kernel|recurrent|query|key|value|output|gate|up|down)"
    scale: float = 1.0
    a: Parameter[dict[str, Array]] = Parameter()
    b: Parameter[dict[str, Array]] = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "rank")
        patterns(self)

    def __post_init__(self) -> None:
        inner: Any = self.inner
        object.__setattr__(self, "inner", freeze(inner))

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model, and make the factors.

        Raises:
            ValueError: No array of the model is to be changed.
        """
        model_key, own_key = jax.random.split(rng)
        new = super().set_up(*args, rng=model_key, **kwargs)
        a: dict[str, Array] = {}
        b: dict[str, Array] = {}
        for i, (name, kernel) in enumerate(matching(self, new.inner).items()):
            blocks, dtype = kernel.array.shape[: kernel.stacked], kernel.array.dtype
            n, m = _rows_and_columns(kernel.array.shape[kernel.stacked :])
            key = jax.random.fold_in(own_key, i)
            a[name] = jax.random.normal(key, (*blocks, n, self.rank), dtype) * n**-0.5
            b[name] = jnp.zeros((*blocks, self.rank, m), dtype)
        return new.replace(a=self._made(self.a, a), b=self._made(self.b, b))

    def _made(self, node: Parameter[Any], data: dict[str, Array]) -> Parameter[Any]:
        return node.with_data(data) if holds_unset(node) else node

    def forward(
        self: "LoRA[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, LoRA[S]]":
        """Return the result of the model with changed kernels."""
        layer: Any = self
        result, layer = layer._called(args, kwargs)
        return result, layer

    def _effective(self) -> M:
        """Return the model with changed kernels, frozen."""

        def changed(kernel: Array, a: Array, b: Array) -> Array:
            return kernel + self.scale * jnp.reshape(a @ b, kernel.shape)

        first, second = self.a.data, self.b.data
        found = kernels(self.inner, first.__contains__)
        new = {name: k.mapped(changed, first[name], second[name]) for name, k in found.items()}
        return with_kernels(self.inner, new)

    def merged(self) -> M:
        """Return the model itself, with the changes in its kernels, still frozen: see `mlax.unfreeze`."""
        refuse_unset("LoRA.merged", "lora", self, "set up the model first")
        return self._effective()


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of the matrix whose factors are smallest, with the first axes in its rows."""
    pairs = [(math.prod(shape[:i]), math.prod(shape[i:])) for i in range(1, len(shape))]
    return min(pairs, key=sum)
