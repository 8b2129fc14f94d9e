"""Formulas as lines of text, or of LaTeX: the equations at the default options, then a line for each other option."""

import textwrap
from collections.abc import Iterator, Sequence

from mlax_codegen.formulas.changes import Change, Formulas, Line
from mlax_codegen.formulas.plain import plain_text
from mlax_codegen.formulas.symbols import words_joined

__all__ = ["latex_lines", "text_lines"]


def text_lines(formulas: Formulas, width: int) -> list[str]:
    """Return formulas in Unicode, for a docstring or a terminal.

    Args:
        formulas: The formulas.
        width: Longest line.
    """
    lines: list[str] = []
    for line in [*map(plain_text, formulas.begins), *_indented(formulas.lines)]:
        lines += _wrapped(line, width)
    if formulas.changes:
        lines.append("")
    for change in formulas.changes:
        lines += _change(change, width)
    return lines


def latex_lines(formulas: Formulas) -> list[str]:
    """Return formulas in LaTeX, one aligned line for each equation."""
    lines = [*formulas.begins, *map(_with_conditions, formulas.lines)]
    for change in formulas.changes:
        lines.append(rf"\text{{if {' and '.join(change.options)}:}}".replace("_", r"\_"))
        for edit in change.edits:
            end = rf" \quad \text{{before }} {edit.before}" if edit.before else ""
            lines += [_with_conditions(line) for line in edit.lines[:-1]]
            lines.append(_with_conditions(edit.lines[-1]) + end)
        lines += [rf"\text{{leave out }} {_with_conditions(line)}" for line in change.left_out]
    return lines


def _with_conditions(line: Line) -> str:
    if not line.conditions:
        return line.formula
    words = r" \text{ and } ".join(line.conditions)
    return words_joined(rf"{line.formula} \quad \text{{if }} {words}")


def _indented(lines: Sequence[Line]) -> Iterator[str]:
    """Yield equations as text, under headings with their conditions."""
    before: tuple[str, ...] = ()
    for line in lines:
        for depth, condition in enumerate(line.conditions):
            if line.conditions[: depth + 1] != before[: depth + 1]:
                heading = f"if {plain_text(condition)}"
                yield f"{'    ' * depth}{'otherwise' if line.otherwise[depth] else heading}:"
        before = line.conditions
        yield "    " * len(before) + plain_text(line.formula)


def _change(change: Change, width: int) -> Iterator[str]:
    """Yield what some options change: on one line if it is short."""
    parts: list[str] = []
    for edit in change.edits:
        texts = [_said(line) for line in edit.lines]
        if edit.before:
            texts[-1] += f", before {plain_text(edit.before)}"
        parts += texts
    parts += [f"leave out {_said(line)}" for line in change.left_out]
    start = f"if {' and '.join(change.options)}:"
    if len(short := f"{start} {'; '.join(parts)}") <= width:
        yield short
        return
    yield start
    if change.anew:
        parts = ["; ".join(parts)]
    for part in parts:
        yield from (f"    {line}" for line in _wrapped(part, width - 4))


def _said(line: Line) -> str:
    conditions = [plain_text(condition) for condition in line.conditions]
    return plain_text(line.formula) + (f", if {' and '.join(conditions)}" if conditions else "")


def _wrapped(line: str, width: int) -> list[str]:
    indent = len(line) - len(line.lstrip())
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * (indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
