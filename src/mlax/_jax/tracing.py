"""Values that JAX is still to compute, and a branch between two computations."""

from collections.abc import Callable
from typing import TypeVar, cast

import jax
from jax.core import Tracer
from jaxtyping import Array

__all__ = ["Tracer", "cond", "is_tracer"]

T = TypeVar("T")


def cond(condition: Array, then: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """Return what one of two functions computes; the other does not run, except under `vmap`.

    A condition that is known decides here and now: `lax.cond` would compile two closures again in each eager step.
    """
    if not is_tracer(condition):
        return then() if condition else otherwise()
    return cast("T", jax.lax.cond(condition, then, otherwise))


def is_tracer(leaf: object) -> bool:
    """Return whether a leaf stands for an array that is not there yet."""
    return isinstance(leaf, Tracer)
