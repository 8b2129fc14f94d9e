"""Timing by turns: candidates run one after the other, round after round, so that noise meets all of them alike."""

import gc
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "Timings", "garbage_of_its_own", "take_turns", "within"]

Timings = dict[str, list[float]]
"""Seconds for one call, by candidate, one for each round."""

Progress = Callable[[str], None]
"""Called with what is being done."""

MOST_CALLS = 1_000


def take_turns(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    turn: float,
    progress: Progress,
) -> Timings:
    """Time each candidate once a round, in turns of several calls.

    Args:
        candidates: Functions that return when their work is done.
        rounds: How many rounds count, after a first that does not.
        turn: How many seconds a turn should take; one call is the least.
        progress: Called with what is being done.

    Returns:
        The mean time of a call in each turn.
    """
    timings: Timings = {name: [] for name in candidates}
    calls = dict[str, int]()
    for name, function in candidates.items():
        progress(f"warming up {name}")
        function()
        start = time.perf_counter()
        if turn:
            function()
        calls[name] = min(MOST_CALLS, max(1, round(turn / (time.perf_counter() - start))))
    with garbage_of_its_own():
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name, function in candidates.items():
                gc.collect()  # or one candidate pays for what another left
                start = time.perf_counter()
                for _ in range(calls[name]):
                    function()
                timings[name].append((time.perf_counter() - start) / calls[name])
    return timings


@contextmanager
def garbage_of_its_own() -> Generator[None, None, None]:
    """Keep the collector to what is made from here on, or each candidate pays for looking through what others keep."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def within(progress: Progress, place: str) -> Progress:
    """Return a function that says where it is before it says what is being done."""
    return lambda text: progress(f"{place}: {text}")
