"""Quotients that a `where` chooses only where their divisor is not 0, with another divisor where it is.

The value of `where(s > 0, a / s, 0.0)` is right where `s` is 0. But its derivative is NaN there: 0 times the derivative
of the quotient, which is infinite. So the code divides by `where(s > 0, s, 1.0)`. The test may have a name, and stand
among others that hold as well.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

from mlax_codegen.reading.trees import assignments_in, parts_of

__all__ = ["guarded"]


def guarded(text: str) -> str:
    """Return equations in which no divisor of a quotient that a `where` leaves out is 0."""
    while (found := next(_unguarded(text), None)) is not None:
        test, divisor, holds = found
        start, end = _span(text, divisor)
        values = (text[start:end], "1.0") if holds else ("1.0", text[start:end])
        while text[:start].endswith("(") and text[end:].startswith(")"):
            start, end = start - 1, end + 1
        condition = slice(*_span(text, test))
        text = f"{text[:start]}where({text[condition]}, {', '.join(values)}){text[end:]}"
    return text


def _unguarded(text: str) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """Yield each divisor that may be 0 where it is left out, with the test, and whether that holds where it is used."""
    tree = ast.parse(text)
    assigned = [*assignments_in([tree])]
    once = Counter(name for name, _ in assigned)
    named = {name: value for name, value in assigned if once[name] == 1}
    for part in parts_of(tree):
        match part:
            case ast.Call(func=ast.Name(id="where"), args=[test, *branches]):
                for tested, holds in _tested(test, named):
                    used = branches[0] if holds else branches[-1]
                    yield from ((test, divisor, holds) for divisor in _divisors(used, tested))
            case _:
                pass


def _tested(test: ast.expr, named: Mapping[str, ast.expr]) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what a test compares with 0, and whether it is not 0 where the test holds, or where it does not."""
    match test:
        case ast.Name(id=name) if name in named:
            yield from _tested(named[name], {})
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            both = [*_tested(left, named), *_tested(right, named)]
            yield from ((tested, True) for tested, holds in both if holds)
        case ast.Compare(left=tested, ops=[op], comparators=[ast.Constant(value=0)]):
            if isinstance(op, ast.Gt | ast.NotEq | ast.LtE | ast.Eq):
                yield tested, isinstance(op, ast.Gt | ast.NotEq)
        case _:
            pass


def _divisors(node: ast.expr, tested: ast.expr) -> Iterator[ast.expr]:
    """Yield the divisors in an expression that depend on what is tested and do not test it themselves."""
    for part in parts_of(node):
        match part:
            case ast.BinOp(op=ast.Div(), right=divisor):
                own = isinstance(divisor, ast.Call) and ast.unparse(divisor.func) == "where"
                same = (ast.dump(each) == ast.dump(tested) for each in parts_of(divisor))
                if not own and any(same):
                    yield divisor
            case _:
                pass


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    """Return where the text of a node begins and ends."""
    lines = text.split("\n")

    def offset(line: int, column: int) -> int:
        before = sum(len(each) + 1 for each in lines[: line - 1])
        return before + len(lines[line - 1].encode()[:column].decode())

    start = offset(node.lineno, node.col_offset)
    return start, start + len(ast.get_source_segment(text, node) or "")
