"""What a reader computes from a formula is what the equation computes, for random expressions.

A product has no sign, and it binds tighter than a quotient; what follows a sum sign, up to the next +, - or closing
bracket, is summed. A divisor is a single factor: nobody knows what `a / b c` is.
"""

import ast
import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mlax_codegen.formulas.expressions import Expressions
from tests.codegen.formulas.probes import spec_with

pytestmark = pytest.mark.one_python

NAMES = {"g": 1.7, "w": -0.6, "v": 2.3, "b2": 0.9}
SYMBOLS = {"gₜ": 1.7, "wₜ₋₁": -0.6, "vₜ₋₁": 2.3, "b₂": 0.9}


def root(x: float) -> float:
    return math.sqrt(abs(x)) + x


def cube_root(x: float) -> float:
    return 2 * x - 1


def summed(x: float) -> float:
    return x * x + 0.3 * x


def magnitude(x: float) -> float:
    return abs(x) + 0.1


def chosen(test: float, a: float, b: float) -> float:
    return a if test else b


# They tell x from -x, and x y from x + y.
CALLS: dict[str, Callable[..., float]] = {
    "sqrt": root,
    "cbrt": cube_root,
    "tanh": math.tanh,
    "sum": summed,
    "abs": magnitude,
    "maximum": max,
    "where": chosen,
}
TOKEN = re.compile(r"10⁻⁸|⁻¹|[²³]|gₜ|wₜ₋₁|vₜ₋₁|b₂|[a-z]+|[\d.]+|\S")
POWERS = {"²": 2, "³": 3, "⁻¹": -1}


def expression(choose: random.Random, depth: int) -> str:
    def inner() -> str:
        return expression(choose, depth - 1)

    if depth == 0:
        return choose.choice([*NAMES, "2.0", "0.5", "1e-8"])
    match choose.randrange(9):
        case 0 | 1:
            return f"({inner()}) {choose.choice('+-')} ({inner()})"
        case 2 | 3:
            return f"({inner()}) {choose.choice('*/')} ({inner()})"
        case 4:
            return f"-({inner()})"
        case 5:
            return f"({inner()}) ** {choose.choice(['2', '3', '-1'])}"
        case 6:
            return f"where(({inner()}) > ({inner()}) {choose.choice(['and', 'or'])} g < w, {inner()}, {inner()})"
        case 7:
            return f"maximum({inner()}, {inner()})"
        case _:
            return f"{choose.choice(['sqrt', 'cbrt', 'tanh', 'sum', 'abs'])}({inner()})"


class Reader:
    """Computes a formula."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = [*TOKEN.findall(text), ""]
        self.bars = 0

    def take(self, *expected: str) -> str:
        assert not expected or self.tokens[0] in expected, self.tokens
        return self.tokens.pop(0)

    def choice(self) -> float:
        value = self.sum()
        if self.tokens[0] != "if":
            return value
        self.take("if")
        test = self.test()
        self.take("else")
        otherwise = self.choice()
        return value if test else otherwise

    def test(self) -> bool:
        holds = self.comparison()
        if self.tokens[0] in {"and", "or"}:
            word, other = self.take(), self.comparison()
            return (holds and other) if word == "and" else (holds or other)
        return holds

    def comparison(self) -> bool:
        left, sign, right = self.sum(), self.take("<", ">"), self.sum()
        return left < right if sign == "<" else left > right

    def sum(self) -> float:
        sign = -1.0 if self.tokens[0] == "-" and self.take() else 1.0
        value = sign * self.quotient()
        while self.tokens[0] in {"+", "-"}:
            value += self.quotient() if self.take() == "+" else -self.quotient()
        return value

    def quotient(self) -> float:
        value = self.product()
        if self.tokens[0] == "/":
            self.take("/")
            value /= self.power()
            assert self.tokens[0] in {
                "",
                ")",
                "|",
                ",",
                "+",
                "-",
                "<",
                ">",
                "if",
                "else",
                "and",
                "or",
            }
        return value

    def product(self) -> float:
        if self.tokens[0] == "Σ":
            self.take("Σ")
            value = CALLS["sum"](self.product())
            assert self.tokens[0] != "/"
            return value
        value = self.power()
        while self.begins():
            if self.tokens[0] == "·":
                self.take("·")
            value *= self.product() if self.tokens[0] == "Σ" else self.power()
        return value

    def begins(self) -> bool:
        token = self.tokens[0]
        closes = token == "|" and self.bars
        words = {"if", "else", "and", "or"}
        return not closes and bool(re.match(r"[\w(√∛|·Σ]", token)) and token not in words

    def power(self) -> float:
        value = self.factor()
        return value ** POWERS[self.take()] if self.tokens[0] in POWERS else value

    def factor(self) -> float:
        match self.take():
            case "(":
                bars, self.bars = self.bars, 0
                value = self.choice()
                self.take(")")
                self.bars = bars
            case "|":
                self.bars += 1
                value = CALLS["abs"](self.sum())
                self.take("|")
                self.bars -= 1
            case "√" | "∛" as root:
                value = CALLS["sqrt" if root == "√" else "cbrt"](self.factor())
            case "max" | "tanh" as name:
                self.take("(")
                values = [self.choice()]
                while self.tokens[0] == ",":
                    self.take(",")
                    values.append(self.choice())
                self.take(")")
                value = CALLS["maximum" if name == "max" else name](*values)
            case "10⁻⁸":
                value = 1e-8
            case token:
                value = SYMBOLS[token] if token in SYMBOLS else float(token)
        return value


def on_one_line(latex: str) -> str:
    """Return LaTeX in the signs that are used in text, with brackets for braces."""
    for old, new in {
        r"\begin{cases}": "(",
        r"& \text{otherwise} \end{cases}": ")",
        r"\\": "else",
        r"& \text{if }": " if ",
        r"\sqrt[3]": "∛",
        r"\sqrt": "√",
        r"\sum": "Σ",
        r"\lvert": "|",
        r"\rvert": "|",
        r"\cdot": "·",
        r"\max": "max",
        r"\tanh": "tanh",
        "10^{-8}": "10⁻⁸",
        "^{-1}": "⁻¹",
        "^2": "²",
        "^3": "³",
        "b_2": "b₂",
        "g_t": "gₜ",
        "w_{t-1}": "wₜ₋₁",
        "v_{t-1}": "vₜ₋₁",
    }.items():
        latex = latex.replace(old, new)
    latex = re.sub(r"\\text\{ (and|or) \}", r"\1", latex)
    while "{" in latex:  # from the innermost ones
        latex, fractions = re.subn(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1) / (\2))", latex)
        latex, roots = re.subn(r"([√∛])\{([^{}]*)\}", r"\1(\2)", latex)
        assert fractions or roots
    return latex


def test_a_reader_computes_what_the_equation_does(tmp_path: Path) -> None:
    spec = spec_with("v = g", tmp_path)
    choose = random.Random(1)
    for _ in range(1500):
        code = expression(choose, choose.randint(1, 4))
        if code.count("abs") > 1:
            continue  # whether a bar opens or closes is not clear then
        try:
            value = eval(code, {}, {**NAMES, **CALLS})
        except (OverflowError, ZeroDivisionError):
            continue
        equations = Expressions(spec, constant=())
        formula = equations.bare(ast.parse(code, mode="eval").body)
        for text in (formula.text, on_one_line(formula.latex)):
            reader = Reader(text)
            assert reader.choice() == pytest.approx(value, rel=1e-9, abs=1e-12), (code, text)
            assert reader.tokens == [""], (code, text)
