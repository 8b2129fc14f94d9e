"""The performance targets of mlax, as medians of ratios over interleaved rounds, and whether it reaches them."""

from dataclasses import dataclass

import numpy as np

from benchmarks import calls, code, devices, half_precision, networks, optimizers, sweeps
from benchmarks.algorithms import ALGORITHMS
from benchmarks.results import Results, Spread
from benchmarks.trees import large_leaves, small_leaves

__all__ = ["TARGETS", "Target", "exponents", "missed"]

MANY = small_leaves(1_000).case


@dataclass(frozen=True)
class Target:
    """A ratio that should not be exceeded.

    Args:
        text: What tables call it.
        area: Where it is measured, as in `Measurement`.
        case: On what; the beginning of its name is enough.
        quantity: What is compared.
        of: Who should be fast.
        to: Who it is compared with, or several: then the one with the smallest median counts.
        at_most: The largest ratio.
    """

    text: str
    area: str
    case: str
    quantity: str
    of: str
    to: str | tuple[str, ...]
    at_most: float

    def measured(self, results: Results) -> Spread | None:
        """Return the ratio with its quartiles; None if this run has not measured it."""
        for case in results.cases(self.area):
            if case.startswith(self.case):
                to = results.fastest(self.area, case, self.quantity, self.to)
                return results.ratio(self.area, case, self.quantity, self.of, to)
        return None

    def verdict(self, results: Results) -> str:
        """Return "ok", "MISSED" or "not measured"; the median decides."""
        ratio = self.measured(results)
        if ratio is None:
            return "not measured"
        return "ok" if ratio.median <= self.at_most else "MISSED"


TARGETS = (
    Target("packed Adam step, 1,000 x 1 kB", "steps", MANY, "step", "mlax packed", "Optax", 0.06),
    Target(
        "packed trace + lower + compile, 1,000 x 1 kB",
        "steps",
        MANY,
        "build",
        "mlax packed",
        "Optax",
        0.08,
    ),
    Target("plain Adam step, 1,000 x 1 kB", "steps", MANY, "step", "mlax", "Optax", 1.05),
    Target(
        "plain trace + lower, 1,000 x 1 kB", "steps", MANY, "trace + lower", "mlax", "Optax", 0.35
    ),
    *(
        Target(
            f"{name} step, {optimizers.tree_of(algorithm, large_leaves()).name}",
            "optimizers",
            f"{name}, ",
            "step",
            "mlax",
            "Optax",
            1.05,
        )
        for name, algorithm in ALGORITHMS.items()
    ),
    *(
        Target(
            f"trace of {name} with checks",
            "checks",
            f"{name} of",
            "trace",
            "with checks",
            "without checks",
            1.1,
        )
        for name in ("step", "apply_gradients")
    ),
    Target("flatten and unflatten modules", "modules", "flatten", "time", "mlax", "Equinox", 0.9),
    Target("read a field", "modules", "read", "time", "mlax", "plain class", 1.05),
    Target("call with a model", "modules", "call", "time", "mlax", "Equinox, jax.jit", 1.05),
    Target("call with a model", "modules", "call", "time", "mlax", "Equinox, filter_jit", 0.5),
    *(
        Target(text, "calls", case, "time", of, to, at_most)
        for text, case, of, to, at_most in (
            ("call one module", calls.ONE, "mlax", "mlax, without checks", 2),
            ("call ten modules, without checks", calls.TEN, "mlax, without checks", "Equinox", 5),
            ("call ten modules", calls.TEN, "mlax", "Equinox", 10),
            ("call each of many", calls.EAGER, "mlax", f"mlax, of {calls.FEW}", 1.1),
            ("trace each of many", calls.TRACED, "mlax", f"mlax, of {calls.FEW}", 1.1),
            ("trace 24 blocks", calls.BLOCKS, "mlax", "flax.nnx", 1.05),
            ("trace 24 blocks", calls.BLOCKS, "mlax", "Equinox", 0.65),
        )
    ),
    *(
        Target(f"step, {case}", "networks", case, "step", "mlax", networks.UNROLLED, 1.05)
        for case in (
            "MLP",
            "convolutional net",
            "transformer, 4",
            "transformer, 24",
        )
    ),
    *(
        Target(f"step, {case}", "networks", case, "step", networks.DEEP, networks.PEERS, 1.1)
        for case in ("transformer, 24", "transformer, 48")
    ),
    *(
        Target(f"trace, {case}", "networks", case, "trace", "mlax", "flax.nnx", 1.05)
        for case in ("MLP", "convolutional net", "transformer, 4", "transformer, 24")
    ),
    Target(
        "trace, transformer, 24",
        "networks",
        "transformer, 24",
        "trace",
        networks.DEEP,
        "flax.nnx, scan with remat",
        1.05,
    ),
    Target(
        networks.DEPTHS, "networks", networks.DEPTHS, "first call", "48 blocks", "4 blocks", 1.1
    ),
    Target(
        networks.DEPTHS,
        "networks",
        networks.DEPTHS,
        "first call",
        "48 blocks",
        networks.MANY_UNROLLED,
        0.3,
    ),
    *(
        Target(f"lines of code, {case}", "code", case, "lines", "mlax", to, at_most)
        for case in tuple(code.FILES)[:3]
        for to, at_most in (("Equinox", 0.99), ("flax.nnx", 1))
    ),
    *(
        Target(
            f"{quantity}, moments in int8",
            "half precision",
            "Adam",
            quantity,
            half_precision.EIGHT_BITS,
            "float32",
            at_most,
        )
        # 0.345 of 12 bytes a weight are 4.14.
        for quantity, at_most in (("step", 4), ("kept for each weight", 0.345), ("memory", 0.6))
    ),
    Target("step of a sweep", "sweeps", "", "step", sweeps.PAIRS, sweeps.RATES, 1.1),
    *(
        Target(f"{quantity}, {case}", "devices", case, quantity, "mlax", "Optax", 1)
        for case in devices.CASES
        for quantity in ("collectives", "bytes")
    ),
    Target("import", "imports", "import", "time", "mlax", "jax", 1.2),
)


def missed(results: Results) -> list[str]:
    """Return the targets that were measured and missed."""
    return [target.text for target in TARGETS if target.verdict(results) == "MISSED"]


def exponents(results: Results) -> dict[tuple[str, str], float]:
    """Return the exponents with which quantities grow with the number of leaves, from 100 on: 1 is linear.

    Returns:
        Exponents by candidate and quantity: least squares on the logarithms of the medians.
    """
    found = dict[tuple[str, str], float]()
    for candidate in ("mlax", "mlax packed", "Optax"):
        for quantity in ("trace + lower", "compile", "step"):
            points = [
                (tree.leaves, one.spread.median)
                for tree in map(small_leaves, (100, 1_000, 3_000))
                if (one := results.find("steps", tree.case, candidate, quantity)) is not None
            ]
            if len(points) > 1:
                found[candidate, quantity] = _slope(points)
    return found


def _slope(points: list[tuple[int, float]]) -> float:
    """Return the slope of the line through the logarithms, by least squares."""
    x, y = np.log([float(x) for x, _ in points]), np.log([y for _, y in points])
    return float(np.cov(x, y, bias=True)[0, 1] / np.var(x))
