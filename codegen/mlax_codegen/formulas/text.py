"""Formulas as lines of text, or of LaTeX: the equations at the default options, then a line for each other option."""

import textwrap
from collections.abc import Iterator, Sequence

from mlax_codegen.formulas.changes import Change, Formulas
from mlax_codegen.formulas.equations import Equation
from mlax_codegen.formulas.parts import Formula, made

__all__ = ["latex_lines", "text_lines"]


def text_lines(formulas: Formulas, width: int) -> list[str]:
    """Return formulas in Unicode, for a docstring or a terminal.

    Args:
        formulas: The formulas.
        width: Longest line.
    """
    lines: list[str] = []
    for depth, line in _under_headings(formulas):
        lines += _wrapped("    " * depth + line.text, width)
    if formulas.changes:
        lines.append("")
    for change in formulas.changes:
        lines += _change(change, width)
    return lines


def latex_lines(formulas: Formulas) -> list[str]:
    """Return formulas in LaTeX, one aligned line for each equation."""
    lines = [r"\quad " * depth + line.latex for depth, line in _under_headings(formulas)]
    for change in formulas.changes:
        lines.append(rf"\text{{if {' and '.join(change.options)}:}}".replace("_", r"\_"))
        lines += [line.latex for place in _places(change) for line in place]
    return lines


def _under_headings(formulas: Formulas) -> Iterator[tuple[int, Formula]]:
    """Yield equations, and headings with their conditions, each with its depth."""
    yield from ((0, line) for line in formulas.begins)
    before: Sequence[Formula] = ()
    for line in formulas.lines:
        conditions = [condition.formula for condition in line.conditions]
        for depth, condition in enumerate(line.conditions):
            if conditions[: depth + 1] != before[: depth + 1]:
                otherwise = made(r"\text{otherwise:}")
                yield (
                    depth,
                    otherwise
                    if condition.otherwise
                    else made(r"\text{if } #1:", condition.formula),
                )
        before = conditions
        yield len(before), line.formula


def _places(change: Change) -> Iterator[list[Formula]]:
    """Yield what some options change, place by place."""
    for edit in change.edits:
        *lines, last = map(_with_conditions, edit.lines)
        if edit.before is not None:
            last = made(r"#1\text{, before } #2", last, edit.before)
        yield [*lines, last]
    yield from ([made(r"\text{leave out } #1", _with_conditions(x))] for x in change.left_out)


def _with_conditions(line: Equation) -> Formula:
    formula, word = line.formula, ", if"
    for condition in line.conditions:
        formula = made(rf"#1\text{{{word} }} #2", formula, condition.formula)
        word = " and"
    return formula


def _change(change: Change, width: int) -> Iterator[str]:
    """Yield the changes that some options make: on one line, or with a line for each place, or for each equation."""
    parts = ["; ".join(line.text for line in place) for place in _places(change)]
    start = f"if {' and '.join(change.options)}:"
    if len(short := f"{start} {'; '.join(parts)}") <= width:
        yield short
        return
    yield start
    for part, place in zip(parts, _places(change), strict=True):
        for text in [part] if len(part) <= width - 4 else [line.text for line in place]:
            yield from (f"    {line}" for line in _wrapped(text, width - 4))


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
