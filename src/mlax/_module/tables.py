"""Tables: as text with aligned columns, cut to the width of a terminal, and as HTML."""

import html
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Column", "as_html", "as_text", "with_unit"]

_GAP = "  "
_NARROWEST = 12


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its heading.
        cells: A text for each row.
        is_text: Whether it is on the left, and may be cut off. Otherwise the cells are numbers.
    """

    title: str
    cells: Sequence[str]
    is_text: bool = False


def as_text(columns: Sequence[Column], room: int) -> str:
    """Return a table as lines of text.

    Args:
        columns: Its columns.
        room: How wide it should be at most.
    """
    widths = [max(map(_width, (column.title, *column.cells))) for column in columns]
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - room
    flexible = [number for number, column in enumerate(columns) if column.is_text]
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda number: widths[number])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
        excess -= 1
    lines = [
        [column.title for column in columns],
        ["─" * width for width in widths],
        *map(list, zip(*(column.cells for column in columns), strict=True)),
    ]
    return "\n".join(
        _GAP.join(_fitted(*cell) for cell in zip(line, widths, columns, strict=True)).rstrip()
        for line in lines
    )


def _fitted(text: str, width: int, column: Column) -> str:
    while _width(text) > width:
        text = f"{text[:-2]}…"
    padding = " " * (width - _width(text))
    return text + padding if column.is_text else padding + text


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def as_html(columns: Sequence[Column]) -> str:
    """Return a table as HTML."""
    sides = ["left" if column.is_text else "right" for column in columns]

    def row(tag: str, texts: Sequence[str]) -> str:
        cells = (
            f'<{tag} style="text-align: {side}; white-space: pre">{html.escape(text)}</{tag}>'
            for text, side in zip(texts, sides, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    heading = row("th", [column.title for column in columns])
    rows = zip(*(column.cells for column in columns), strict=True)
    body = "\n".join(row("td", texts) for texts in rows)
    return f"<table>\n<thead>{heading}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def with_unit(number: float, unit: str) -> str:
    """Return a number with three digits and a prefix: `1.54 MB`."""
    if number < 1000:
        return f"{number} {unit}".strip()
    prefixes = "kMGT"
    while (number := number / 1000) >= 999.5 and len(prefixes) > 1:
        prefixes = prefixes[1:]
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {prefixes[0]}{unit}"
