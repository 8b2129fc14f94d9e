"""The operators of equations, as code has them.

`and`, `or` and `not` of conditions of arrays are the operators that arrays have: `&`, `|` and `~`. `a @ b` is a call,
which says how precise the product is. What slices cut is gathered before that on a mesh of devices. The sum of a list
is Python's own `sum`, and not that of the elements of an array.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter

from mlax_codegen.reading.equations import BlockCode, Code
from mlax_codegen.reading.trees import cuts_in

__all__ = ["SUM_OF_LIST", "with_operators"]

SUM_OF_LIST = "sum_of_list"
"""How the text of equations writes the sum of a list; the code has `sum`."""

_Edit = tuple[int, int, str]


def with_operators(code: BlockCode) -> str:
    """Return the text of equations in which only static conditions have `and`, `or` and `not`, and nothing has `@`."""
    text = code.text
    nodes: list[ast.expr] = [*code.of_arrays, *code.products, *cuts_in(code.body, code.of_lists)]
    nodes += [node for node in code.of_lists if isinstance(node, ast.Call)]
    # Of two that begin at one place, the longer one comes first there.
    nodes.sort(key=lambda node: -len(range(*_span(code, node))))
    edits = [edit for node in nodes for edit in _edits(code, node)]
    edits.sort(key=itemgetter(0, 1))
    for start, end, new in reversed(edits):
        text = f"{text[:start]}{new}{text[end:]}"
    return text


def _edits(code: Code, node: ast.expr) -> Iterator[_Edit]:
    match node:
        case ast.BoolOp(op=op, values=values):
            word, operator = ("and", "&") if isinstance(op, ast.And) else ("or", "|")
            for first, second in pairwise(values):
                yield *_between(code, first, second, rf"\b{word}\b"), operator
        case ast.UnaryOp(operand=operand):
            values = [operand]
            start, _ = _span(code, node)
            rest = code.text[start + len("not") :]
            yield start, len(code.text) - len(rest.lstrip(" ")), "~"
        case ast.Call(func=ast.Name(id="sum") as function):
            yield *_span(code, function), SUM_OF_LIST
            return
        case ast.Call(args=[first, second]):
            start, end = _span(code, node)
            yield from [(start, start, "matmul("), (end, end, ")")]
            yield *_between(code, first, second, "@"), ","
            return
        case ast.Subscript(value=value):
            start, end = _span(code, value)
            yield from [(start, start, "gathered("), (end, end, ")")]
            return
        case _:
            return
    for value in values:
        if not isinstance(value, ast.Name | ast.Call):
            start, end = _span(code, value)
            yield start, start, "("
            yield end, end, ")"


def _between(code: Code, first: ast.expr, second: ast.expr, operator: str) -> tuple[int, int]:
    """Return where the operator between two operands is."""
    (_, before), (after, _) = _span(code, first), _span(code, second)
    found = re.compile(rf"(#[^\n]*\n)|{operator}").finditer(code.text, before, after)
    [place] = [each for each in found if not each[1]]
    return place.span()


def _span(code: Code, node: ast.expr) -> tuple[int, int]:
    """Return where a node begins and ends."""
    end = code.offset(node.end_lineno or 0, node.end_col_offset or 0)
    return code.offset(node.lineno, node.col_offset), end
