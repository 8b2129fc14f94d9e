"""Plots of schedules. Matplotlib is imported when the first one is made."""

import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mlax.optim.schedules._arithmetic import is_real
from mlax.optimizer._hyperparameters import Schedule, integer, is_schedule
from mlax.optimizer._specified import normalised
from mlax.optimizer._stepping import asked
from mlax.tree import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

_MOST_POINTS = 2_000  # more than a figure has pixels across


def plot(
    schedule: Schedule | Sequence[Schedule] | Mapping[str, Schedule], steps: float
) -> "Figure":
    """Return a matplotlib figure of a schedule's values at the steps 0 to `steps`.

    The figure is not registered with pyplot, so it need not be closed. Save it with
    `figure.savefig("schedule.png")`, or make it the value of a notebook cell.

    Args:
        schedule: A schedule; a list of schedules, which are labelled by their reprs; or a dict of
            schedules by name.
        steps: The last step, a whole number of at least 1. If there are more than 2,000 steps, not every one is
            drawn.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: A value given is not a schedule, or does not return a real scalar.
        ValueError: `steps` is below 1 or above 2**31 - 1.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    except ImportError as error:
        raise ImportError('plot needs matplotlib: pip install "mlax[plot]"') from error
    last = normalised("plot: steps", steps, integer(at_least=1))
    named = _named(schedule)

    at = np.unique(np.linspace(0, last, _MOST_POINTS + 1, dtype=np.int32))
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, each in named.items():
        axes.plot(at, _values(each, at), label=_lines(name), linewidth=1.8)
    axes.set_xlabel("step")
    axes.set_ylabel("value")
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    # Few enough that long labels do not overlap, and at whole steps.
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    if len(named) == 1:
        axes.set_title(_lines(next(iter(named))), fontsize="medium")
    else:
        axes.legend(fontsize="small", frameon=False)
    return figure


def _lines(name: str) -> str:
    """Return a long name on several lines, cut off after three."""
    return textwrap.fill(name, 80, max_lines=3, placeholder=" ...")


def _named(schedule: object) -> dict[str, Schedule]:
    several: Any = schedule
    named: dict[str, Any]
    if isinstance(schedule, Mapping):
        named = {str(name): each for name, each in several.items()}
    elif isinstance(schedule, Sequence):
        named = {repr(each): each for each in several}
    else:
        named = {repr(several): several}
    if not named:
        raise ValueError("plot: expected at least one schedule, got none")
    for each in named.values():
        if not is_schedule(each):
            raise TypeError(f"plot: expected a schedule, got {describe(each)}")
    return named


def _values(schedule: Any, at: Any) -> Any:
    """Return the values at many steps, computed in one call."""
    every_step: Any = jax.jit(jax.vmap(functools.partial(asked, schedule)))
    value: Any = every_step(jnp.asarray(at, jnp.int32))
    if getattr(value, "shape", None) != at.shape or not is_real(value):
        raise TypeError(
            f"plot: a schedule must return a real scalar, got {describe(value)} "
            f"for {len(at)} steps from {schedule!r}"
        )
    return np.asarray(value)
