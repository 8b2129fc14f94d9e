"""Quotients that a `where` leaves out have a divisor that is not 0 there."""

import ast

import pytest

from mlax_codegen.reading.document import read_document
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.narrowing import Narrowing

pytestmark = pytest.mark.one_python
DOCUMENT = read_document(built_in_specs()[0])


def guarded(text: str) -> str:
    """Return equations as the generator writes them."""
    code = BlockCode(DOCUMENT, (), text, ast.parse(text).body)
    parts = [part for statement in code.body for part in ast.walk(statement)]
    code.of_arrays |= {part for part in parts if isinstance(part, ast.BoolOp)}
    return "\n".join(Narrowing(code, {"where": "where"}, {}).statements(code.body))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = where(s > 0, a / s, 0.0)", "x = where(s > 0, a / where(s > 0, s, 1.0), 0.0)"),
        ("x = where(s != 0, a / (s + e) / s, b)", None),
        (
            "x = where(s == 0, 1.0, b / s**2 + 1)",
            "x = where(s == 0, 1.0, b / where(s == 0, 1.0, s**2) + 1)",
        ),
        ("x = where(s <= 0, 1.0, sqrt(b / ((s))))", None),
        ("c = 1\nx = where(\n    norm(g) > 0,\n    a / (norm(g) + e),  # e\n    b,\n)", None),
        (
            "x = where(s > 0, a / where(s > 0, s, 1.0), 0.0)",
            "x = where(s > 0, a / where(s > 0, s, 1.0), 0.0)",
        ),
        ("x = where(s > 0, a / r, b / s)", "x = where(s > 0, a / r, b / s)"),
        (
            "c = s > 0\nx = where(c, a / s, 0.0)",
            "c = s > 0\nx = where(c, a / where(c, s, 1.0), 0.0)",
        ),
        ("c = s > 0\nx = where(r > 0 and c, a / s, 0.0)", None),
        ("x = where(s == 0 and r > 0, 1.0, a / s)", "x = where((s == 0) & (r > 0), 1.0, a / s)"),
        ("x = where(s > 1, a / s, b / s)", "x = where(s > 1, a / s, b / s)"),
        ("x = where(s < 0, a / s, b)", "x = where(s < 0, a / s, b)"),
        ("x = a / s", "x = a / s"),
    ],
)
def test_divisors_are_guarded(text: str, expected: str | None) -> None:
    found = guarded(text)
    if expected is not None:
        assert found == expected
    names = {
        "a": 2.0, "b": 3.0, "c": 1.0, "e": 0.0, "g": 0.0, "s": 0.0, "r": 1.0,
        "norm": abs, "sqrt": abs, "where": lambda test, a, b: a if test else b,
    }  # fmt: skip
    if expected is None:
        values: list[float] = []
        for s in (0.0, 4.0):  # without the guard, Python would refuse to divide by 0
            scope = {**names, "s": s, "g": s}
            exec(compile(ast.parse(found), "found", "exec"), scope)
            values.append(scope["x"])
        assert len(set(values)) == 2
