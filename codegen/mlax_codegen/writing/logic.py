"""`and`, `or` and `not` of conditions of arrays, as the operators that arrays have: `&`, `|` and `~`."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from mlax_codegen.reading.equations import Code

__all__ = ["with_operators"]

_Edit = tuple[int, int, str]


def with_operators(code: Code) -> str:
    """Return the text of equations in which only static conditions have `and`, `or` and `not`."""
    text = code.text
    edits = [edit for node in code.of_arrays for edit in _edits(code, node)]
    for start, end, new in sorted(edits, reverse=True):
        text = f"{text[:start]}{new}{text[end:]}"
    return text


def _edits(code: Code, node: ast.expr) -> Iterator[_Edit]:
    match node:
        case ast.BoolOp(op=op, values=values):
            word, operator = ("and", "&") if isinstance(op, ast.And) else ("or", "|")
            spans = [_span(code, value) for value in values]
            for (_, before), (after, _) in pairwise(spans):
                found = re.compile(rf"(#[^\n]*\n)|\b{word}\b")
                [place] = [x for x in found.finditer(code.text, before, after) if not x[1]]
                yield *place.span(), operator
        case ast.UnaryOp(operand=operand):
            values = [operand]
            start, _ = _span(code, node)
            rest = code.text[start + len("not") :]
            yield start, len(code.text) - len(rest.lstrip(" ")), "~"
        case _:
            return
    for value in values:
        if not isinstance(value, ast.Name | ast.Call):
            start, end = _span(code, value)
            yield start, start, "("
            yield end, end, ")"


def _span(code: Code, node: ast.expr) -> tuple[int, int]:
    """Return where a node begins and ends."""
    end = code.offset(node.end_lineno or 0, node.end_col_offset or 0)
    return code.offset(node.lineno, node.col_offset), end
