"""`value_and_grad`: gradients with respect to the unfrozen parameters of a model."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.tracebacks import trimmed
from mlax._module.branches import INode
from mlax._module.printing import shorten
from mlax._module.unset import refuse_unset
from mlax.tree import describe, refuse_shared

__all__ = ["value_and_grad"]

M = TypeVar("M", bound=Any)  # so that checkers take any expression with the parameter of a lambda
P = ParamSpec("P")
R = TypeVar("R", bound=tuple[Any, INode, *tuple[Any, ...]])


def value_and_grad(
    loss_fn: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], tuple[R, M]]:
    """Return a function that returns the result of `loss_fn` and the gradients of the loss.

    Args:
        loss_fn: Takes a model and further arguments, returns `(loss, model, *aux)`: the loss is a
            real scalar, the model is the one that the call of the model returned.

    Returns:
        A function with the same arguments that returns `((loss, model, *aux), gradients)`. The
        gradients have the structure of `model.filter()`: one for each unfrozen parameter, with
        its shape and dtype. For complex parameters they are what `jax.grad` returns: the
        conjugate of the direction of steepest ascent.

    Raises:
        TypeError: The first argument is not a Module or Container, or `loss_fn` returns something
            else.
        ValueError: A node is UNSET, or an array is in two places of the model.
    """
    name = getattr(loss_fn, "__name__", "loss_fn")
    where = f"value_and_grad({name})"

    @trimmed
    @functools.wraps(loss_fn)
    def wrapped(model: M, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, M]:
        _refuse_other(where, model)
        refuse_unset(
            where, "model", model, "set up the model first, model = mlax.set_up(model, x, rng=key)"
        )
        refuse_shared(where, "model", model)
        params, rest = model.partition()

        def loss_of(params: M) -> tuple[Array, R]:
            returned = loss_fn(params.combine(rest), *args, **kwargs)
            return _loss(where, name, returned), returned

        gradients: M
        returned: R
        gradients, returned = cast("Any", jax.grad)(loss_of, has_aux=True)(params)
        return returned, gradients

    return wrapped


def _refuse_other(where: str, model: object) -> None:
    if not isinstance(model, INode):
        raise TypeError(
            f"{where}: the first argument must be a Module or a Container, got {shorten(model)} "
            f"({type(model).__name__})"
        )


def _loss(where: str, name: str, returned: object) -> Array:
    """Return the loss from the result of a loss function; raise an error if there is none."""
    if not isinstance(returned, tuple) or len(cast("tuple[object, ...]", returned)) < 2:
        raise TypeError(f"{where}: {name} must return (loss, model, *aux), got {shorten(returned)}")
    loss, model = cast("tuple[object, ...]", returned)[:2]
    if not isinstance(model, INode):
        raise TypeError(
            f"{where}: {name} must return (loss, model, *aux) with the model that the call returned, "
            f"got {shorten(model)} ({type(model).__name__}) in its place"
        )
    if (
        not isinstance(loss, jax.Array)
        or loss.shape
        or not jnp.issubdtype(loss.dtype, jnp.floating)
    ):
        cure = "Reduce it over the batch, for example with .mean()."
        if not getattr(loss, "shape", None):
            cure = "Compute it from the parameters of the model, as a floating-point number."
        raise TypeError(
            f"{where}: {name} must return a real scalar array as the loss, got {describe(loss)}.\n  {cure}"
        )
    return loss
