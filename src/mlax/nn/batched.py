"""`Batched`: a model of one example, called with a batch."""

from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY
from typing import Any, Concatenate, Generic, Self, TypeVar, cast

import jax
import numpy as np
from jaxtyping import Array

from mlax._jax.trees import leaves, leaves_with_path, map_leaves
from mlax._module.frames import NOT_GIVEN, static_options
from mlax._module.module import Module
from mlax._module.nodes import is_variable
from mlax._module.set_up import set_up as set_up_model
from mlax._module.unset import holds_unset
from mlax.nn import _inside
from mlax.nn._fields import axis_names
from mlax.nn._inside import Model, P, R, S
from mlax.nn._methods import as_call, method_of
from mlax.tree import describe, path_text

__all__ = ["Batched"]

M = TypeVar("M", covariant=True)


class Batched(Module, Generic[M]):
    """Calls a model with each example of a batch, by `jax.vmap` over an axis with a name.

        ys, batched = mlax.training(nn.Batched(model), rng=key)(xs)

    The first axis of every array in the arguments is that of the examples; arguments without arrays are the same
    for all. BatchNorm computes statistics over the axis, and Dropout draws for each example.

    Args:
        inner: The model.
        axis_name: Name of the axis.
    """

    inner: M
    _: KW_ONLY
    axis_name: str = "batch"

    @property
    def is_set_up(self) -> bool:
        """Whether the model is."""
        return not holds_unset(self.inner)

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model from one example."""
        _check_examples(args, kwargs)
        given, named = _inside.sample((args, kwargs), first=True)
        return self.replace(inner=set_up_model(cast("Any", self.inner), *given, rng=rng, **named))

    def forward(
        self: "Batched[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, Batched[S]]":
        """Return the results of all examples, stacked.

        The model that comes back has the Variables that are the same for all examples, such as statistics of the batch.
        """
        layer: Any = self
        y, layer = layer._mapped(args, kwargs)
        return y, layer

    @as_call
    def run(  # noqa: D417 - **kwargs with *args
        self, method: Callable[Concatenate[M, P], tuple[R, Any]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, Self]:
        """Call another method of the model with each example: `batched.run(Model.decode, xs, caches)`.

        Args:
            method: A method of the model's class that returns `(result, self)`, or a function of the model that does.
            *args: Passed to it, as are `**kwargs`.

        Returns:
            The results, stacked, and this module.
        """
        return self._mapped(args, kwargs, method)

    def _mapped(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], method: Any = Module.forward
    ) -> tuple[Any, Any]:
        _check_examples(args, kwargs)
        method = method_of("Batched.run", self.inner, method)
        key = _inside.key_of_call()
        names = (*_outer_names(self.axis_name), self.axis_name)
        changed: list[str] = []

        def one(model: Any, key: Any, args: Any, kwargs: Any) -> Any:
            y, after = _inside.call(
                self,
                "inner",
                model,
                args,
                kwargs,
                key=key,
                batch_axis_name=names,
                method=method,
            )
            before, after = model.filter(is_variable), after.filter(is_variable)
            pairs = zip(leaves_with_path(after), leaves(before), strict=True)
            changed.extend(path_text(path) for (path, new), old in pairs if new is not old)
            return y, after

        axes = map_leaves(lambda leaf: 0 if _is_array(leaf) else None, (args, kwargs))
        mapped = jax.vmap(
            one, in_axes=(None, None, *axes), out_axes=(0, None), axis_name=self.axis_name
        )
        try:
            y, variables = mapped(self.inner, key, args, kwargs)
        except ValueError as error:
            if "out_axes is None" not in str(error):
                raise
            raise ValueError(
                f"Batched: a Variable has a value for each example, but there is one for all: {', '.join(changed)}.\n"
                f"  Reduce it over the axis of the examples, such as jax.lax.pmean(value, batch_axis_name)."
            ) from None
        return y, self.replace(inner=variables.combine(self.inner))


def _outer_names(name: str) -> tuple[Hashable, ...]:
    """Return the names of the axes that examples are mapped over already. Raise an error if this is one of them."""
    around = static_options().batch_axis_name
    names = () if around is NOT_GIVEN else axis_names(around)
    if name in names:
        raise ValueError(
            f"Batched: an axis {name!r} of examples is mapped over already, around this one.\n"
            f"  Give this one another name: nn.Batched(model, axis_name=...)."
        )
    return names


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "shape") and not isinstance(leaf, np.generic)  # which is a number


def _check_examples(args: Any, kwargs: Any) -> None:
    """Raise an error unless all arrays have a first axis, of one size."""
    arrays: list[Any] = [leaf for leaf in leaves((args, kwargs)) if _is_array(leaf)]
    sizes = {leaf.shape[:1] for leaf in arrays}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"Batched takes arrays whose first axis is that of the examples, got "
            f"{', '.join(map(describe, arrays)) or 'none'}"
        )
