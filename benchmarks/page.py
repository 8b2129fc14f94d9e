"""The page docs/benchmarks.md: the tables and picture of one run are written here, the text around them by hand."""

import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks import picture
from benchmarks.results import Results
from benchmarks.tables import Table, tables

__all__ = ["PAGE", "PICTURE", "check", "circumstances", "write"]

PAGE = Path("docs/benchmarks.md")
PICTURE = Path("docs/benchmarks.png")
BEGIN, END = "[begin tables]: #", "[end tables]: #"  # invisible in the rendered page


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
    """Put the tables between the page's marks, and draw its picture.

    Raises:
        ValueError: As `check` does.
    """
    before, after = _parts()
    body = "\n".join(_body(results))
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")
    picture.draw(results, PICTURE)


def _parts() -> tuple[str, str]:
    """Return the text before the tables and the text after them."""
    if not PAGE.is_file():
        raise ValueError(f"{PAGE} is not there: run this in the root of the repository")
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected {BEGIN} and, after it, {END}")
    return before, after


def _body(results: Results) -> Iterator[str]:
    yield f"Measured on {circumstances(results)}."
    for line in results.missing.values():
        yield f"{line[0].upper()}{line[1:]}."
    for table in tables(results):
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
