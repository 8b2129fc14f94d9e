"""Formulas in two ways of writing at once, LaTeX and text on one line, from templates and the formulas in them.

A template is LaTeX with #1, #2 and so on in the places of formulas: `\\lVert #1 \\rVert`. Only templates and symbols
are ever read as LaTeX, never a formula that has been written.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mlax_codegen.formulas.plain import plain_text
from mlax_codegen.formulas.symbols import with_index

__all__ = [
    "ATOM",
    "CASES",
    "CONDITION",
    "OPEN",
    "POWER",
    "PRODUCT",
    "QUOTIENT",
    "SUM",
    "Formula",
    "cases",
    "fraction",
    "indexed_by",
    "listed",
    "made",
    "number",
    "product",
    "raised",
    "root",
    "words",
]

# How tightly a formula binds. What is open, like a sum sign, would take in a factor written after it.
CASES, CONDITION, SUM, QUOTIENT, OPEN, PRODUCT, POWER, ATOM = range(8)
_PART = re.compile(r"#(\d)")
_WORDS_TWICE = re.compile(r"(\\text\{[^{}]*)\} \\text\{")


@dataclass(frozen=True)
class Formula:
    """A formula, or a part of one.

    Attributes:
        latex: LaTeX of it.
        text: The same in Unicode.
        level: How tightly the LaTeX binds.
        level_of_text: How tightly the text does: a fraction is a quotient there.
    """

    latex: str
    text: str
    level: int = ATOM
    level_of_text: int = ATOM

    def at(self, level: int) -> "Formula":
        """Return the formula in parentheses if it binds looser than a level."""
        latex = (self.latex, self.level) if self.level >= level else (f"({self.latex})", ATOM)
        text = (self.text, self.level_of_text)
        text = text if self.level_of_text >= level else (f"({self.text})", ATOM)
        return Formula(latex[0], text[0], latex[1], text[1])

    @property
    def is_negative(self) -> bool:
        """Whether it begins with a minus sign."""
        return self.text.startswith("-")

    def without_sign(self) -> "Formula":
        """Return the formula without the minus sign that it begins with."""
        return replace(self, latex=self.latex[1:], text=self.text[1:])


@cache
def made(template: str, *parts: Formula, level: int = ATOM) -> Formula:
    """Return a template with formulas in the places of #1, #2 and so on."""
    latex = _PART.sub(lambda found: parts[int(found[1]) - 1].latex, template)
    text = plain_text(template, [part.text for part in parts])
    return Formula(_WORDS_TWICE.sub(r"\1", latex), text, level, level)


def product(first: Formula, second: Formula) -> Formula:
    """Return a product. The quotient `a (b / c)` is written as a b / c, unless b is a number."""
    first, second = first.at(PRODUCT), second.at(QUOTIENT)
    if second.level_of_text == QUOTIENT and second.text[0].isdigit():
        second = second.at(OPEN)
    latex, text = (
        rf"{one} \cdot {two}" if two[:1].isdigit() else f"{one} {two}"
        for one, two in ((first.latex, second.latex), (first.text, second.text))
    )
    levels = min(second.level, PRODUCT), min(second.level_of_text, PRODUCT)
    return Formula(latex, text.replace(r"\cdot", "·"), *levels)


def words(text: str) -> Formula:
    """Return a name, or a few, as words in a formula."""
    text = text.replace("_", " ")
    return Formula(rf"\text{{{text}}}", text)


def number(value: float) -> Formula:
    """Return a number: 1.0 as 1, 1e-3 as a power of ten."""
    digits, _, exponent = repr(value).partition("e")
    digits = digits.removesuffix(".0")
    if not exponent:
        return Formula(digits, digits)
    power = made(f"10^{{{int(exponent)}}}", level=POWER)
    return power if digits == "1" else made(rf"{digits} \cdot #1", power, level=PRODUCT)


def listed(items: Iterable[Formula]) -> Formula:
    """Return formulas with commas between them."""
    parts = list(items)
    return Formula(", ".join(x.latex for x in parts), ", ".join(x.text for x in parts))


def indexed_by(symbol: Formula, index: Formula) -> Formula:
    """Return a symbol with one more index."""
    text = plain_text("#1_{#2}", [symbol.text, index.text])
    return Formula(with_index(symbol.latex, index.latex), text)


def raised(base: Formula, above: Formula) -> Formula:
    """Return a power. LaTeX refuses a second superscript, and a prime is one."""
    base = base.at(ATOM)
    if ("^" in base.latex or "'" in base.latex) and not base.latex.startswith("("):
        base = made("(#1)", base)
    template = "#1^#2" if len(above.latex) == 1 else "#1^{#2}"
    return made(template, base, above, level=POWER)


def root(inside: Formula, degree: str = "") -> Formula:
    """Return a root, of the second or the third degree."""
    sign = "∛" if degree else "√"
    return Formula(rf"\sqrt{degree}{{{inside.latex}}}", f"{sign}{inside.at(ATOM).text}")


def fraction(above: Formula, below: Formula) -> Formula:
    """Return a fraction, which is a quotient on one line of text."""
    text = f"{above.at(PRODUCT).text} / {below.at(POWER).text}"
    return Formula(rf"\frac{{{above.latex}}}{{{below.latex}}}", text, PRODUCT, QUOTIENT)


def cases(rows: Sequence[tuple[Formula, Formula]], otherwise: Formula) -> Formula:
    """Return values that depend on conditions: each with its condition, and the one if none holds."""
    made_rows = [made(r"#1 & \text{if } #2", *row).latex for row in rows]
    latex = r" \\ ".join([*made_rows, rf"{otherwise.latex} & \text{{otherwise}}"])
    text = " else ".join(
        [*(f"{value.text} if {test.text}" for value, test in rows), otherwise.text]
    )
    return Formula(rf"\begin{{cases}} {latex} \end{{cases}}", text, CASES, CASES)
