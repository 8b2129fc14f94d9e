"""When a condition does not hold, in words: with as few negations as may be."""

import ast
from pathlib import Path

import pytest

from mlax_codegen.formulas.conditions import in_prose, negation, otherwise
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module

SPECS = Path(__file__).parents[1] / "specs"


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("momentum is not None", "if momentum is None"),
        ("momentum is None", "if momentum is not None"),
        ("nesterov", "if not nesterov"),
        ("not nesterov", "if nesterov"),
        ("factored and axes", "unless factored and axes"),
        ("not (factored and axes)", "if factored and axes"),
        ("not (factored or axes)", "if factored or axes"),
        ('not matrix and others == "adam"', 'if matrix or others != "adam"'),
        ("not a and not (b and c)", "if a or (b and c)"),
        ("ndim < 2", "if ndim >= 2"),
    ],
)
def test_otherwise(test: str, words: str) -> None:
    assert otherwise(ast.parse(test, mode="eval").body, test) == words


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("nesterov", "nesterov is True"),
        ("not nesterov", "nesterov is False"),
        ("momentum is None", "momentum is None"),
        ("a or b is not None", "a is True or b is given"),
        ("a and (b or c)", "a is True and (b is True or c is True)"),
        ("order == 'last'", 'order is "last"'),
        ("order != 'last'", 'order is not "last"'),
        ("n > 2", "n > 2"),
    ],
)
def test_in_prose(test: str, words: str) -> None:
    assert in_prose(ast.parse(test, mode="eval").body) == words


@pytest.mark.parametrize("test", ["n < 2", "n <= 2", "n > 2", "n >= 2", "n == 2", "n != 2"])
def test_a_negation_is_the_opposite(test: str) -> None:
    node = ast.parse(test, mode="eval").body
    opposite = ast.unparse(negation(node))
    assert "not" not in opposite
    assert all(eval(opposite, {"n": n}) is not eval(test, {"n": n}) for n in (1, 2, 3))


def test_a_docstring_says_what_does_not_hold() -> None:
    text = " ".join(render_module(read_spec(SPECS / "adafactor.toml")).split())
    assert "unless not" not in text
    assert "() for a leaf if" in text
