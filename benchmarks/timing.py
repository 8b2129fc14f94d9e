"""Timing by turns: candidates run one after the other, round after round, so that noise meets all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Timings", "compare", "report"]

Timings = Mapping[str, list[float]]
"""Seconds for one call, by candidate, one for each round."""


def compare(
    candidates: Mapping[str, Callable[[], Any]], *, calls: int, rounds: int = 25
) -> Timings:
    """Time each candidate `calls` times a round, after a first round that does not count."""
    timings: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.freeze()  # or each candidate pays for looking through what all others keep
    for number in range(rounds + 1):
        for name, function in candidates.items():
            gc.collect()  # or one candidate pays for what another left
            start = time.perf_counter()
            for _ in range(calls):
                function()
            seconds = (time.perf_counter() - start) / calls
            if number:
                timings[name].append(seconds)
    return timings


def report(
    title: str, timings: Timings, *, targets: Mapping[str, float], first: str = "mlax"
) -> None:
    """Print medians, and the ratio of the first candidate to each other with its spread over the rounds.

    Args:
        title: What was timed.
        timings: From `compare`.
        targets: The largest ratio that is accepted, by the candidate it is measured against.
        first: The candidate that all others are compared with.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("", "median", f"{first} / this", "quartiles", "to reach"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in timings.items():
        ratios = [a / b for a, b in zip(timings[first], seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        target = targets.get(name)
        table.add_row(
            name,
            f"{statistics.median(seconds) * 1e6:,.2f} us",
            "" if name == first else f"{middle:.2f}",
            "" if name == first else f"{low:.2f} to {high:.2f}",
            "" if target is None else f"{target:.2f} {'ok' if middle <= target else 'MISSED'}",
        )
    Console().print(table)
