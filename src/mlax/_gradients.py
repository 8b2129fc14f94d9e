"""`value_and_grad`: gradients with respect to the unfrozen parameters of a model."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
from jaxtyping import Array

from mlax._set_up import refuse_unset
from mlax.branch import INode
from mlax.tree import refuse_shared

__all__ = ["value_and_grad"]

M = TypeVar("M", bound=INode)
P = ParamSpec("P")
R = TypeVar("R", bound=tuple[Any, ...])


def value_and_grad(
    loss_fn: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], tuple[R, M]]:
    """Return a function that gives what `loss_fn` returns, and the gradients of the loss.

    Args:
        loss_fn: From a model and further arguments to `(loss, model, *aux)`; the loss is a real scalar, and the model
            the one that came back from the call.

    Returns:
        A function of the same arguments that returns `((loss, model, *aux), gradients)`. The gradients have the
        structure of `model.filter()`: those of unfrozen parameters, with the shapes and dtypes of these.

    Raises:
        TypeError: The first argument is no Module or Container, or `loss_fn` returns something else.
        ValueError: A node is UNSET, or an array is in two places of the model.
    """

    @functools.wraps(loss_fn)
    def wrapped(model: M, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, M]:
        name = getattr(loss_fn, "__name__", "loss_fn")
        if not isinstance(model, INode):
            raise TypeError(
                f"value_and_grad({name}): the first argument must be a Module or a Container, got {model!r}"
            )
        refuse_unset(
            f"value_and_grad({name})", model, "set up first: model = mlax.set_up(model, x, rng=key)"
        )
        refuse_shared(f"value_and_grad({name})", "model", model)
        params, rest = model.partition()

        def loss_of(params: M) -> tuple[Array, R]:
            returned = loss_fn(params.combine(rest), *args, **kwargs)
            if not (
                isinstance(returned, tuple)
                and len(returned) >= 2
                and isinstance(returned[1], INode)
            ):
                raise TypeError(
                    f"value_and_grad({name}): {name} must return (loss, model, *aux), got {returned!r}"
                )
            return returned[0], returned

        gradients, returned = jax.grad(loss_of, has_aux=True)(params)
        return returned, gradients

    return wrapped
