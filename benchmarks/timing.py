"""Interleaved timing: candidates take turns, round after round, so that noise affects all of them alike."""

import gc
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "Timings", "garbage_of_its_own", "take_turns", "within"]

Timings = dict[str, list[float]]
"""Seconds for one call, by candidate, one for each round."""

Progress = Callable[[str], None]
"""Called with a description of the current work."""

MOST_CALLS = 1_000


def take_turns(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    turn: float,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time each candidate once a round, in turns of several calls.

    Args:
        candidates: Functions that return only when their work is done.
        rounds: Number of rounds, after a warm-up.
        turn: Seconds that a turn should take; it has at least one call.
        progress: Called with a description of the current work.
        clock: What counts seconds: those of the wall, or of the processor where other load is not to matter.

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
                gc.collect()  # otherwise one candidate pays for the garbage of another
                start = clock()
                for _ in range(calls[name]):
                    function()
                timings[name].append((clock() - start) / calls[name])
    return timings


@contextmanager
def garbage_of_its_own() -> Generator[None, None, None]:
    """Restrict the garbage collector to objects made from here on, so that no candidate pays for those of others."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def within(progress: Progress, place: str) -> Progress:
    """Return a function that reports progress with a prefix."""
    return lambda text: progress(f"{place}: {text}")
