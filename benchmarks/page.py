"""The page in docs/ that keeps one run: its tables and its picture, the text around them written by hand."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks import picture
from benchmarks.results import Results
from benchmarks.tables import Table, tables

__all__ = ["PAGE", "PICTURE", "circumstances", "write"]

PAGE = Path("docs/benchmarks.md")
PICTURE = Path("docs/benchmarks.png")
BEGIN, END = "[begin tables]: #", "[end tables]: #"  # which readers of the page do not see


def circumstances(results: Results) -> str:
    """Return when and where and with what it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"{results.date[:10]}, {results.device} ({results.machine}, load {results.busy} at the start), "
        f"{results.effort} form, {versions}"
    )


def write(results: Results) -> None:
    """Put the tables between the page's marks, and draw its picture.

    Raises:
        ValueError: The page has no such marks.
    """
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected {BEGIN} and, after it, {END}")
    PAGE.write_text(before + begin + "\n\n" + "\n".join(_body(results)) + "\n\n" + end + after)
    picture.draw(results, PICTURE)


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
