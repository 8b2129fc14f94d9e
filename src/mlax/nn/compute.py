"""`Compute`: mixed precision."""

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import canonical
from mlax._module.module import Module
from mlax._module.nodes import is_parameter
from mlax.nn._effective import Effective, M
from mlax.nn._fields import is_float
from mlax.nn._inside import Model, P, R, S

__all__ = ["Compute"]


class Compute(Effective[M]):
    """Lets a model compute in another dtype than its Parameters are stored in.

        model = nn.Compute(model, jnp.bfloat16)

    Floating-point Parameters and arguments are cast to `dtype` in each call, floating-point results to `result`.
    Gradients have the dtype of the stored Parameters, and so have updates. Variables, such as running statistics, stay
    as they are. The model is set up with its arguments as they are given, so its Parameters are made in their dtype.

    Args:
        inner: The model.
        dtype: Dtype of the computation.
        result: Dtype of the results, by default float32. None to leave them as they are.
    """

    inner: M
    dtype: DTypeLike
    _: KW_ONLY
    result: DTypeLike | None = jnp.float32

    def __check__(self) -> None:
        for name in ("dtype", "result"):
            value: Any = getattr(self, name)
            if value is not None and not _is_float(value):
                raise TypeError(f"Compute.{name} must be a floating-point dtype, got {value!r}")

    def _effective(self) -> M:
        """Return the model with its Parameters cast."""
        inner: Any = self.inner
        parameters, rest = inner.partition(is_parameter)
        model: M = _cast(parameters, self.dtype).combine(rest)
        return model

    def forward(
        self: "Compute[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, Compute[S]]":
        """Return the result of the model for arguments that are cast."""
        layer: Any = self
        result, layer = layer._called(args, kwargs)
        return result, layer

    def _called(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], method: Any = Module.forward
    ) -> tuple[Any, Any]:
        args, kwargs = _cast((args, kwargs), self.dtype)
        result, layer = super()._called(args, kwargs, method)
        return (result if self.result is None else _cast(result, self.result)), layer


def _is_float(given: Any) -> bool:
    try:
        return is_float(canonical(given))
    except TypeError:
        return False


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    def cast(leaf: Any) -> Any:
        if isinstance(leaf, Array) and is_float(leaf.dtype):
            return leaf.astype(dtype)
        return leaf

    return jax.tree.map(cast, tree)
