"""What `make bench` runs."""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

# Or JAX takes most of a GPU's memory for itself, and the others get none.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from benchmarks import (
    checks,
    half_precision,
    imports,
    limits,
    memory,
    modules,
    optimizers,
    page,
    picture,
    splits,
    steps,
    targets,
)
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.peers import available, versions
from benchmarks.results import Results
from benchmarks.tables import Table, tables
from benchmarks.timing import Progress, within

AREAS: Mapping[str, Callable[[Results, Effort, Progress], None]] = {
    "limits": limits.measure,
    "steps": steps.measure,
    "optimizers": optimizers.measure,
    "splits": splits.measure,
    "half": half_precision.measure,
    "memory": memory.measure,
    "checks": checks.measure,
    "modules": modules.measure,
    "imports": imports.measure,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep what was measured.

    A target that is missed is said loudly and is no failure: on a machine that others use too, one run proves nothing.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: two minutes")
    parser.add_argument("--only", action="append", choices=AREAS, help="an area; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("out/benchmarks"), metavar="DIR")
    parser.add_argument(
        "--docs", action="store_true", help="put tables and picture into docs/, too"
    )
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else FULL
    areas = given.only or [area for area in AREAS if area not in effort.on_demand]
    results = run(effort, areas)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 150)
    show(results, console)
    path = given.output / f"{results.effort}.json"
    results.save(path)
    console.print(f"Every figure: {path}")
    if results.cases("steps"):
        image = given.output / f"{results.effort}.png"
        picture.draw(results, image)
        console.print(f"Picture: {image}")
    if given.docs:
        page.write(results)
        console.print(f"Written anew: {page.PAGE} and {page.PICTURE}")


def run(effort: Effort, areas: list[str]) -> Results:
    """Measure some areas, and show what is being done."""
    _, missing = available()
    if reason := memory.can_be_measured():
        missing["memory"] = f"memory is left out: {reason}"
        areas = [area for area in areas if area != "memory"]
    device = jax.devices()[0]
    results = Results(effort.name, device.device_kind, versions(), missing)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        for number, area in enumerate(areas, start=1):
            place = f"[{number}/{len(areas)}] {area}"
            task = bar.add_task(place, total=None)
            start = time.perf_counter()
            AREAS[area](results, effort, within(partial(_describe, bar, task), place))
            bar.remove_task(task)
            bar.console.print(f"{place}: {time.perf_counter() - start:.0f} s")
    return results


def _describe(bar: Bar, task: TaskID, text: str) -> None:
    bar.update(task, description=text)


def show(results: Results, console: Console) -> None:
    """Print all tables, and what has to be said about them."""
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
    main()
