"""Tracers, and a conditional that does not trace if its condition is known."""

from collections.abc import Callable
from typing import TypeVar, cast

import jax
from jax.core import Tracer
from jaxtyping import Array

__all__ = ["Tracer", "cond", "is_tracer"]

T = TypeVar("T")


def cond(condition: Array, then: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """Return the result of one of two functions. The other does not run, except under `vmap`.

    If the condition is known, it is decided in Python: an eager `lax.cond` would compile both
    closures anew in each step.
    """
    if not is_tracer(condition):
        return then() if condition else otherwise()
    return cast("T", jax.lax.cond(condition, then, otherwise))


def is_tracer(leaf: object) -> bool:
    """Return whether a leaf is a tracer: the value of the array is not known yet."""
    return isinstance(leaf, Tracer)
