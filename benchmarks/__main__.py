"""Compare mlax with other libraries (`make bench`)."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

# Otherwise JAX reserves most of a GPU's memory, and none is left for the others.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from benchmarks import (
    calls,
    checks,
    code,
    devices,
    half_precision,
    imports,
    limits,
    memory,
    modules,
    networks,
    optimizers,
    page,
    picture,
    splits,
    steps,
    sweeps,
    targets,
)
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.peers import available, versions
from benchmarks.results import Results
from benchmarks.tables import Table, tables
from benchmarks.timing import Progress, within

# Areas that measure Python's time come first: in a process that has compiled much, small objects cost more, and
# not the same for all.
AREAS: Mapping[str, Callable[[Results, Effort, Progress], None]] = {
    "modules": modules.measure,
    "calls": calls.measure,
    "checks": checks.measure,
    "imports": imports.measure,
    "steps": steps.measure,
    "networks": networks.measure,
    "code": code.measure,
    "limits": limits.measure,
    "optimizers": optimizers.measure,
    "splits": splits.measure,
    "half": half_precision.measure,
    "sweeps": sweeps.measure,
    "memory": memory.measure,
    "devices": devices.measure,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and store the results.

    A missed target is reported prominently, but is not a failure: on a shared machine, one run proves nothing.

    Returns:
        1 if an area failed, 130 if the run was interrupted, 0 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="measure fewer rounds and sizes, in two minutes"
    )
    parser.add_argument(
        "--only", action="append", choices=AREAS, help="measure only this area; may be repeated"
    )
    parser.add_argument("--output", type=Path, default=Path("out/benchmarks"), metavar="DIR")
    parser.add_argument(
        "--docs", action="store_true", help="also renew the measured areas of docs/benchmarks.md"
    )
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else FULL
    areas = given.only or [area for area in AREAS if area not in effort.on_demand]
    name = "-".join([effort.name, *dict.fromkeys(given.only or ())])
    path, unfinished = (given.output / f"{name}{end}.json" for end in ("", ".unfinished"))
    try:
        writable(given.output)
        if given.docs:
            page.check()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 170)
    # Otherwise programs compiled in an earlier run would be read from files.
    jax.config.update("jax_enable_compilation_cache", False)
    results = start(effort)
    try:
        failed = run(results, effort, areas, unfinished)
    except KeyboardInterrupt:
        results.save(unfinished)
        console.print(f"Interrupted. Results so far: {unfinished}")
        return 130
    results.save(path)
    unfinished.unlink(missing_ok=True)
    show(results, console)
    console.print(f"All figures: {path}")
    if results.cases("steps"):
        image = path.with_suffix(".png")
        picture.draw(results, image)
        console.print(f"Picture: {image}")
    if given.docs:
        page.write(results)
        console.print(f"Updated: {page.PAGE}")
    return 1 if failed else 0


def writable(folder: Path) -> None:
    """Create the folder if it does not exist, and a file in it.

    Raises:
        OSError: That is not possible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def start(effort: Effort) -> Results:
    """Return results without figures, with everything that is known before measuring."""
    _, missing = available()
    if reason := memory.can_be_measured():
        missing["memory"] = f"memory is left out: {reason}"
    return Results(effort.name, jax.devices()[0].device_kind, versions(), missing)


def run(results: Results, effort: Effort, areas: Iterable[str], path: Path) -> bool:
    """Measure some areas, show progress, and store the results after each.

    Returns:
        Whether one failed; the others are measured nevertheless.
    """
    failed = False
    areas = [area for area in areas if area not in results.missing]
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        for number, area in enumerate(areas, start=1):
            place = f"[{number}/{len(areas)}] {area}"
            task = bar.add_task(place, total=None)
            start = time.perf_counter()
            try:
                AREAS[area](results, effort, within(partial(_describe, bar, task), place))
            except Exception as error:  # measure the other areas nevertheless
                failed = True
                results.missing[area] = f"{area} is incomplete: it failed with {_short(error)}"
                bar.console.print_exception(max_frames=4)
            bar.remove_task(task)
            results.save(path)
            bar.console.print(f"{place}: {time.perf_counter() - start:.0f} s")
    return failed


def _short(error: Exception) -> str:
    """Return the error's name and the first line of its message."""
    return f"{type(error).__name__}: {f'{error}'.partition(chr(10))[0]}"


def _describe(bar: Bar, task: TaskID, text: str) -> None:
    bar.update(task, description=text)


def show(results: Results, console: Console) -> None:
    """Print all tables, with remarks."""
    for table in tables(results):
        console.print(rich(table))
    console.print(page.circumstances(results))
    for line in results.missing.values():
        console.print(line, style="yellow")
    if lines := targets.missed(results):
        console.print(f"MISSED: {'; '.join(lines)}", style="bold red")


def rich(table: Table) -> RichTable:
    """Return a table for the terminal."""
    shown = RichTable(title=table.title, title_justify="left", title_style="bold")
    for number, column in enumerate(table.head):
        shown.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        style = "bold red" if "MISSED" in row else None
        shown.add_row(*row, style=style)
    return shown


if __name__ == "__main__":
    sys.exit(main())
