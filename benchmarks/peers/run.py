"""The interface that every library implements."""

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.trees import Arrays

__all__ = ["Build", "Run"]


@dataclass(frozen=True)
class Build:
    """The cost of coming to the first step.

    Args:
        seconds: By stage: "trace", "lower", "trace + lower", "compile", "build" (the three together) and "first call"
            (the build and the first execution), as far as the library separates them.
        bytes: "memory": the peak need of a step, including weights, gradients and state.
        lines: "StableHLO": the length of the program that XLA receives, which has each called function once;
            "instructions": the size of the program that XLA makes of it, over all of its computations.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    bytes: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, float] = field(default_factory=dict[str, float])


class Run(Protocol):
    """One optimizer of one library at work on one tree."""

    def build(self) -> Build:
        """Build the step from scratch, and take it once."""
        ...

    def step(self) -> None:
        """Take one step, and wait until it is done."""
        ...

    def feed(self, gradients: Arrays) -> None:
        """Set the gradients of the next steps."""
        ...

    def weights(self) -> Arrays:
        """Return the current weights."""
        ...
