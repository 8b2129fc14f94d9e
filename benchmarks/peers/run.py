"""What every library has to be able to do."""

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.trees import Arrays

__all__ = ["Build", "Run"]


@dataclass(frozen=True)
class Build:
    """What it took to come to the first step.

    Args:
        seconds: By stage: "trace", "lower", "trace + lower", "compile", "build" (the three together) and "first call"
            (the build and the first execution), as far as the library tells them apart.
        bytes: "memory": what a step needs at its peak, weights, gradients and state included.
        lines: "StableHLO": lines of the program that XLA is given, where what is called twice stands once;
            "instructions": of the program that XLA makes of it, in all of its computations.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    bytes: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, float] = field(default_factory=dict[str, float])


class Run(Protocol):
    """One optimizer of one library at work on one tree."""

    def build(self) -> Build:
        """Build the step from nothing, and do it once."""
        ...

    def step(self) -> None:
        """Do one step, and wait until it is done."""
        ...

    def feed(self, gradients: Arrays) -> None:
        """Give the gradients of the steps to come."""
        ...

    def weights(self) -> Arrays:
        """Return the weights as they are now."""
        ...
