"""Quotients that a `where` chooses only where their divisor is not 0, with another divisor where it is.

The value of `where(s > 0, a / s, 0.0)` is right where `s` is 0. But its derivative is NaN there: 0 times the derivative
of the quotient, which is infinite. So the code divides by `where(s > 0, s, 1.0)`. The test may have a name, and stand
among others that hold as well.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mlax_codegen.reading.trees import assignments_in, parts_of

__all__ = ["guards_in"]


def guards_in(body: Sequence[ast.stmt]) -> dict[ast.expr, tuple[ast.expr, bool]]:
    """Return each divisor that may be 0 where a `where` leaves it out.

    With each, the test, and whether the divisor is used where that holds.
    """
    assigned = [*assignments_in(body)]
    once = Counter(name for name, _ in assigned)
    named = {name: value for name, value in assigned if once[name] == 1}
    found: dict[ast.expr, tuple[ast.expr, bool]] = {}
    for part in (part for statement in body for part in parts_of(statement)):
        match part:
            case ast.Call(func=ast.Name(id="where"), args=[test, *branches]):
                for tested, holds in _tested(test, named):
                    for divisor in _divisors(branches[0] if holds else branches[-1], tested):
                        found.setdefault(divisor, (test, holds))
            case _:
                pass
    return found


def _tested(test: ast.expr, named: Mapping[str, ast.expr]) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what a test compares with 0, and whether it is not 0 where the test holds, or where it does not."""
    match test:
        case ast.Name(id=name) if name in named:
            yield from _tested(named[name], {})
        case ast.BoolOp(op=ast.And(), values=values):
            found = [each for value in values for each in _tested(value, named)]
            yield from ((tested, True) for tested, holds in found if holds)
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
