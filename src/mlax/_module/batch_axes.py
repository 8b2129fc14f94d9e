"""Axes that examples are mapped over, for calls with only shapes that nothing maps."""

from collections.abc import Callable
from typing import Any, cast

import jax

from mlax._jax.trees import class_of
from mlax._module.frames import StaticOptions

__all__ = ["with_batch_axes"]


def with_batch_axes(function: Callable[..., Any], static: StaticOptions) -> Callable[..., Any]:
    """Return a function in which there is each axis that `batch_axis_name` names.

    An axis that nothing around maps over has one example. Results that differ between examples have
    an axis for them in front.
    """
    given = static.batch_axis_name
    names: tuple[object, ...] = given if class_of(given) is tuple else (given,)
    for name in names:
        if isinstance(name, str) and not _is_mapped(name):
            function = jax.vmap(function, in_axes=None, axis_name=name, axis_size=1)
    return function


def _is_mapped(name: str) -> bool:
    try:
        cast("Any", jax.lax).axis_size(name)
    except NameError:
        return False
    return True
