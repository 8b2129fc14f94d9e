"""Results as tables of plain text cells: for the terminal and for the page in docs/."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.devices import KINDS
from benchmarks.networks import DEEP, DEPTHS, PEERS
from benchmarks.results import Measurement, Results, Spread
from benchmarks.sweeps import RATES
from benchmarks.targets import TARGETS, Target, exponents

__all__ = ["AREAS", "Table", "of_area", "tables"]


@dataclass(frozen=True)
class Table:
    """A table of text cells, with a title and a head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables of each measured area, and the targets last."""
    for area, make in AREAS.items():
        if results.cases(area):
            yield from make(results)
    yield _targets(results, TARGETS)


def of_area(results: Results, area: str) -> Iterator[Table]:
    """Yield the tables of one measured area, its targets last."""
    yield from AREAS[area](results)
    if targets := tuple(target for target in TARGETS if target.area == area):
        yield _targets(results, targets)


def quantity(one: Measurement | None) -> str:
    """Return the median in a readable unit."""
    if one is None:
        return "-"
    value = one.spread.median
    match one.unit:
        case "s":
            scale, unit = next(
                ((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= s),
                (1e-9, "ns"),
            )
            return f"{_digits(value / scale)} {unit}"
        case "B":
            scale, unit = (1e6, "MB") if value >= 1e6 else (1e3, "kB")
            return f"{value / scale:,.1f} {unit}"
        case "B/s":
            return f"{value / 1e9:.1f} GB/s"
        case _:
            return f"{value:,.0f}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(found: Spread | None) -> str:
    """Return a ratio with its quartiles."""
    if found is None:
        return "-"
    places = 2 if found.median >= 0.095 else 3
    text = f"{found.median:.{places}f}"
    if found.low == found.high:
        return f"{text} (once)"
    return f"{text} ({found.low:.{places}f} to {found.high:.{places}f})"


def _limits(results: Results) -> Iterator[Table]:
    (case,) = results.cases("limits")
    one = results.find("limits", case, "triad", "bandwidth")
    assert one is not None
    low, high = (f"{x / 1e9:.1f}" for x in (one.spread.low, one.spread.high))
    yield Table(
        "Limit of the memory",
        ("", "median", "quartiles"),
        ((case, quantity(one), f"{low} to {high} GB/s"),),
    )


def _steps(results: Results) -> Iterator[Table]:
    stages = ("trace", "lower", "trace + lower", "compile", "first call", "step")
    for case in results.cases("steps"):
        rows = list[tuple[str, ...]]()
        for candidate in results.candidates("steps", case):
            cells = [
                quantity(results.find("steps", case, candidate, name))
                for name in (*stages, "memory", "StableHLO", "instructions")
            ]
            for name in ("build", "step"):
                found = results.ratio("steps", case, name, candidate, "Optax")
                cells.append("1" if candidate == "Optax" else ratio(found))
            rows.append((candidate, *cells))
        sizes = "XLA's memory", "StableHLO lines", "XLA's instructions"
        head = ("", *stages, *sizes, "build / Optax's", "step / Optax's")
        yield Table(f"Adam, {case}", head, tuple(rows))
    if exponents(results):
        yield _growth(results)


def _optimizers(results: Results) -> Iterator[Table]:
    rows = list[tuple[str, ...]]()
    for case in results.cases("optimizers"):
        limits = {
            name: results.find("optimizers", case, name, "of the memory's limit")
            for name in ("mlax", "Optax")
        }
        rows.append(
            (
                case,
                *(quantity(results.find("optimizers", case, n, "step")) for n in limits),
                ratio(results.ratio("optimizers", case, "step", "mlax", "Optax")),
                *(f"{one.spread.median:.0%}" if one else "-" for one in limits.values()),
                *(quantity(results.find("optimizers", case, n, "memory")) for n in limits),
            )
        )
    head = (
        "",
        "mlax",
        "Optax",
        "mlax / Optax",
        "mlax, share of the limit",
        "Optax, share of the limit",
        "mlax, XLA's memory",
        "Optax, XLA's memory",
    )
    yield Table("Optimizers on few large leaves, float32", head, tuple(rows))


def _splits(results: Results) -> Iterator[Table]:
    first = results.cases("splits")[0]
    names = results.candidates("splits", first)
    rows = [
        (case, *(quantity(results.find("splits", case, name, "step")) for name in names))
        for case in results.cases("splits")
    ]
    yield Table("Adam on the same weights in few leaves or many", ("", *names), tuple(rows))


def _half(results: Results) -> Iterator[Table]:
    area = "half precision"
    for case in results.cases(area):
        rows = list[tuple[str, ...]]()
        for candidate in results.candidates(area, case):
            cells = list[str]()
            for what in ("step", "memory"):
                found = results.ratio(area, case, what, candidate, "float32")
                cells.append(quantity(results.find(area, case, candidate, what)))
                cells.append("1" if candidate == "float32" else ratio(found))
            kept = results.find(area, case, candidate, "kept for each weight")
            rows.append((candidate, *cells, f"{kept.spread.median:.2f} B" if kept else "-"))
        compared = "step", "step / float32's", "XLA's memory", "memory / float32's"
        yield Table(
            f"Number formats, {case}", ("", *compared, "stored for each weight"), tuple(rows)
        )


def _sweeps(results: Results) -> Iterator[Table]:
    for case in results.cases("sweeps"):
        rows = [
            (
                name,
                quantity(results.find("sweeps", case, name, "first call")),
                quantity(results.find("sweeps", case, name, "step")),
                "1" if name == RATES else ratio(results.ratio("sweeps", case, "step", name, RATES)),
            )
            for name in results.candidates("sweeps", case)
        ]
        head = ("", "first call", "step", "step / that of learning rates")
        yield Table(f"Sweeps with Adam in one program, {case}", head, tuple(rows))


def _memory(results: Results) -> Iterator[Table]:
    for case in results.cases("memory"):
        rows = [
            (
                candidate,
                quantity(results.find("memory", case, candidate, "peak")),
                ratio(results.ratio("memory", case, "peak", candidate, "Optax")).split(" ")[0],
            )
            for candidate in results.candidates("memory", case)
        ]
        head = ("", "peak", "peak / Optax's")
        yield Table(f"Memory growth of a separate process, {case}", head, tuple(rows))


def _networks(results: Results) -> Iterator[Table]:
    for case in results.cases("networks"):
        names = results.candidates("networks", case)
        if case == DEPTHS:
            calls = (quantity(results.find("networks", case, name, "first call")) for name in names)
            yield Table("First call in processor time", ("", *names), ((DEEP, *calls),))
            continue
        fastest = results.fastest("networks", case, "step", PEERS)
        compared = (("trace", "flax.nnx"), ("first call", "Equinox"), ("step", fastest))
        rows = list[tuple[str, ...]]()
        for name in names:
            cells = [quantity(results.find("networks", case, name, what)) for what, _ in compared]
            for what, to in compared:
                found = results.ratio("networks", case, what, name, to)
                cells.append("1" if name == to else ratio(found))
            rows.append((name, *cells))
        head = ("trace", "first call", "step", *(f"{what} / {to}'s" for what, to in compared))
        yield Table(f"Loss and gradient, {case}", ("", *head), tuple(rows))


def _code(results: Results) -> Iterator[Table]:
    names = results.candidates("code", results.cases("code")[0])
    rows = [
        (
            case,
            *(
                quantity(results.find("code", case, name, what))
                for what in ("lines", "characters")
                for name in names
            ),
        )
        for case in results.cases("code")
    ]
    head = (*(f"{name}, lines" for name in names), *(f"{name}, characters" for name in names))
    yield Table("Code that users write", ("", *head), tuple(rows))


def _devices(results: Results) -> Iterator[Table]:
    rows = list[tuple[str, ...]]()
    for case in results.cases("devices"):
        names = results.candidates("devices", case)
        kinds = (
            ", ".join(
                f"{quantity(one)} {kind}"
                for kind in KINDS
                if (one := results.find("devices", case, name, kind)) is not None
            )
            for name in names
        )
        sizes = (results.find("devices", case, name, "bytes") for name in names)
        rows.append((case, *kinds, *(f"{one.spread.median:,.0f}" for one in sizes if one)))
    head = ("", "mlax", "Optax", "mlax, bytes", "Optax, bytes")
    yield Table("What one training step sends between 8 devices", head, tuple(rows))


def _against(area: str, name: str, first: str) -> Callable[[Results], Iterator[Table]]:
    """Return a function that makes tables of one quantity, comparing one candidate with all others."""

    def make(results: Results) -> Iterator[Table]:
        for case in results.cases(area):
            rows = [
                (
                    candidate,
                    quantity(results.find(area, case, candidate, name)),
                    ""
                    if candidate == first
                    else ratio(results.ratio(area, case, name, first, candidate)),
                )
                for candidate in results.candidates(area, case)
            ]
            head = ("", name, f"{first} / this")
            yield Table(f"{name.capitalize()}: {case}", head, tuple(rows))

    return make


AREAS: dict[str, Callable[[Results], Iterator[Table]]] = {
    "limits": _limits,
    "steps": _steps,
    "optimizers": _optimizers,
    "splits": _splits,
    "half precision": _half,
    "sweeps": _sweeps,
    "memory": _memory,
    "checks": _against("checks", "trace", "with checks"),
    "modules": _against("modules", "time", "mlax"),
    "calls": _against("calls", "time", "mlax"),
    "networks": _networks,
    "code": _code,
    "devices": _devices,
    "imports": _against("imports", "time", "mlax"),
}


def _growth(results: Results) -> Table:
    found = exponents(results)
    quantities = ("trace + lower", "compile", "step")
    rows = tuple(
        (name, *(f"{found[name, q]:.2f}" if (name, q) in found else "-" for q in quantities))
        for name in dict.fromkeys(candidate for candidate, _ in found)
    )
    sizes = [
        case.split(" ")[0] for case in results.cases("steps") if case.endswith("x 1 kB, float32")
    ]
    title = f"Growth with the number of leaves, 100 to {sizes[-1]} (exponents: 1 is linear)"
    return Table(title, ("", *quantities), rows)


def _targets(results: Results, targets: tuple[Target, ...]) -> Table:
    rows = tuple(
        (
            target.text,
            f"{target.of} / {target.to if isinstance(target.to, str) else 'the fastest peer'}",
            ratio(target.measured(results)),
            f"{target.at_most:.2f}",
            target.verdict(results),
        )
        for target in targets
    )
    return Table("Targets", ("", "ratio of", "measured (quartiles)", "at most", ""), rows)
