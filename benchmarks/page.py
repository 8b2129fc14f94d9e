"""The page docs/benchmarks.md: tables and picture are written here, the text around them by hand.

Each area stands below a mark and names its run, so that a run of some areas leaves the others as they are.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import picture
from benchmarks.results import Results
from benchmarks.tables import AREAS, Table, of_area

__all__ = ["PAGE", "PICTURE", "check", "circumstances", "write"]

PAGE = Path("docs/benchmarks.md")
PICTURE = Path("docs/benchmarks.png")
BEGIN, END = "[begin tables]: #", "[end tables]: #"  # invisible in the rendered page
AREA = "[area]: # ({})"  # likewise


def circumstances(results: Results) -> str:
    """Return when, where and with which versions the run was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"{results.date[:10]}, {results.device} ({results.machine}, load {results.busy} at the start), "
        f"{results.effort} run, {versions}"
        + "".join(f", {name}={value}" for name, value in results.environment.items())
    )


def check() -> None:
    """Check that the page exists, can be written, and has the marks between which the tables are put.

    Raises:
        ValueError: One of these does not hold.
    """
    _parts()
    for path in (PAGE, PICTURE):
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ValueError(f"{path} cannot be written")


def write(results: Results) -> None:
    """Renew the areas that were measured, and the picture if all that it shows was.

    Raises:
        ValueError: As `check` does.
    """
    before, old, after = _parts()
    mark = re.escape(AREA).replace(r"\{\}", "(.+)")
    _, *pieces = re.split(rf"^{mark}$", old, flags=re.MULTILINE)
    texts = dict(zip(pieces[::2], map(str.strip, pieces[1::2]), strict=True))
    for area in AREAS:
        if results.cases(area):
            texts[area] = "\n".join(_body(results, area))
    body = "\n\n".join(f"{AREA.format(area)}\n\n{texts[area]}" for area in AREAS if area in texts)
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")
    if results.cases("steps") and results.cases("optimizers"):
        picture.draw(results, PICTURE)


def _parts() -> tuple[str, str, str]:
    """Return the text before the tables, the tables, and the text after them."""
    if not PAGE.is_file():
        raise ValueError(f"{PAGE} is not there: run this in the root of the repository")
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected {BEGIN} and, after it, {END}")
    return before, old, after


def _body(results: Results, area: str) -> Iterator[str]:
    yield f"Measured on {circumstances(results)}."
    elsewhere = {name for one in AREAS if one != area for name in (one, *results.cases(one))}
    for name, line in results.missing.items():
        if name in results.cases(area) or name not in elsewhere:
            yield f"{line[0].upper()}{line[1:]}."
    for table in of_area(results, area):
        yield ""
        yield f"**{table.title}**"
        yield ""
        yield from _markdown(table)


def _markdown(table: Table) -> Iterator[str]:
    yield _row(table.head)
    yield _row(["---", *["---:" for _ in table.head[1:]]])
    yield from map(_row, table.rows)


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
