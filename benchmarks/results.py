"""The results of a run, which can be stored: the figure of every round, with machine, versions and date."""

import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Measurement", "Results", "Spread", "spread"]


@dataclass(frozen=True)
class Spread:
    """The median of several rounds and its quartiles. If there was one round, all three are the same."""

    low: float
    median: float
    high: float


def spread(figures: Iterable[float]) -> Spread:
    """Return median and quartiles."""
    rounds = sorted(figures)
    if len(rounds) == 1:
        return Spread(rounds[0], rounds[0], rounds[0])
    low, median, high = statistics.quantiles(rounds, n=4, method="inclusive")
    return Spread(low, median, high)


@dataclass(frozen=True)
class Measurement:
    """One quantity of one candidate.

    Args:
        area: The benchmark that it belongs to: "steps".
        case: The tree or task: "1,000 x 1 kB, float32".
        candidate: The library, or a way of using it: "mlax packed".
        quantity: The measured quantity: "step".
        unit: "s", "B", "lines", "B/s", or "" for plain numbers.
        rounds: One figure for each round. Candidates of one case were interleaved: their n-th rounds belong together.
    """

    area: str
    case: str
    candidate: str
    quantity: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """Median and quartiles of the rounds."""
        return spread(self.rounds)


def _environment() -> dict[str, str]:
    """Return the variables that change how libraries run."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name == "XLA_FLAGS" or name.startswith(("JAX_", "OMP_", "MLAX_"))
    }


def _commit() -> str | None:
    """Return the commit of the code, with "-dirty" if files differ from it; None outside of a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@dataclass
class Results:
    """All measurements of one run.

    Args:
        effort: "full" or "quick".
        device: What JAX ran on.
        versions: Of Python and the libraries.
        missing: What was left out, and why.
        environment: Variables that change how libraries run, as far as they are set.
        commit: Of the code; None outside of a repository.
        machine: Its cores and its system.
        busy: Processes that wanted to run in the minute before: near 0 on an idle machine.
        date: When it began.
        measurements: The figures.
    """

    effort: str
    device: str
    versions: Mapping[str, str]
    missing: dict[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=_environment)
    commit: str | None = field(default_factory=_commit)
    machine: str = field(
        default_factory=lambda: f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    )
    busy: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )
    measurements: list[Measurement] = field(default_factory=list[Measurement])

    def add(
        self,
        area: str,
        case: str,
        quantity: str,
        unit: str,
        rounds: Mapping[str, Iterable[float]],
    ) -> None:
        """Add one quantity of several candidates."""
        self.measurements += [
            Measurement(area, case, candidate, quantity, unit, tuple(figures))
            for candidate, figures in rounds.items()
        ]

    def find(self, area: str, case: str, candidate: str, quantity: str) -> Measurement | None:
        """Return one measurement, or None if there is none."""
        for one in self.measurements:
            if (one.area, one.case, one.candidate, one.quantity) == (
                area,
                case,
                candidate,
                quantity,
            ):
                return one
        return None

    def fastest(self, area: str, case: str, quantity: str, of: str | tuple[str, ...]) -> str:
        """Return the candidate with the smallest median, of those that were measured."""
        names = (of,) if isinstance(of, str) else of
        medians = {
            name: one.spread.median
            for name in names
            if (one := self.find(area, case, name, quantity)) is not None
        }
        return min(medians, key=medians.__getitem__, default=names[0])

    def ratio(self, area: str, case: str, quantity: str, of: str, to: str) -> Spread | None:
        """Return the ratio of `of` to `to`, round by round; None if either was not measured.

        If `to` was measured once, that figure counts in each round.
        """
        one, other = self.find(area, case, of, quantity), self.find(area, case, to, quantity)
        if one is None or other is None:
            return None
        repeats = len(one.rounds) if len(other.rounds) == 1 else 1
        return spread(a / b for a, b in zip(one.rounds, [*other.rounds] * repeats, strict=True))

    def cases(self, area: str) -> list[str]:
        """Return the cases of an area, in the order in which they were measured."""
        return list(dict.fromkeys(one.case for one in self.measurements if one.area == area))

    def candidates(self, area: str, case: str) -> list[str]:
        """Return the candidates that were measured on a case."""
        return list(
            dict.fromkeys(
                one.candidate for one in self.measurements if (one.area, one.case) == (area, case)
            )
        )

    def save(self, path: Path) -> None:
        """Write everything as JSON: to a temporary file first, which then replaces this one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f"{path.name}.new")
        whole.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        whole.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read a file written by `save`."""
        read: dict[str, Any] = json.loads(path.read_text())
        measurements = list[Measurement]()
        for one in read.pop("measurements"):
            rounds = tuple(one.pop("rounds"))
            measurements.append(Measurement(**one, rounds=rounds))
        return cls(**read, measurements=measurements)
