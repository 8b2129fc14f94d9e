"""Sums of numbers that are not known: `n - 1 - i` is 1 less than `n - i`, whatever these are.

An interval for each number does not say that `i` of `range(n)` is less than `n`. So a run also
keeps intervals of sums and differences, under their texts.
"""

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

__all__ = ["Sum", "named", "shifted", "sum_of"]

_MOST = 4096  # sums that are kept: a run asks for the same ones again and again


@dataclass(frozen=True)
class Sum:
    """Terms with their factors, and a constant.

    Attributes:
        terms: The factor of each term. A term is the text of what is not a sum itself.
        more: The constant.
    """

    terms: Mapping[str, int] = field(default_factory=dict[str, int])
    more: float = 0

    def plus(self, other: "Sum", factor: int = 1) -> "Sum":
        """Return the sum of this and so many times another."""
        terms = Counter(self.terms)
        for term, times in other.terms.items():
            terms[term] += factor * times
        return Sum({t: n for t, n in sorted(terms.items()) if n}, self.more + factor * other.more)

    @property
    def sign(self) -> int:
        """1, or -1 if the first term is subtracted: `i - n` and `n - i` are kept under one text."""
        return -1 if next(iter(self.terms.values()), 1) < 0 else 1

    @cached_property
    def text(self) -> str:
        """The terms, of which the first is added."""
        parts = [_part(term, self.sign * times) for term, times in self.terms.items()]
        return "".join(parts).removeprefix(" + ")


def _part(term: str, times: int) -> str:
    many = "" if abs(times) == 1 else f"{abs(times)} * "
    return f" {'+' if times > 0 else '-'} {many}{term}"


@lru_cache(maxsize=_MOST)
def sum_of(node: ast.expr) -> Sum:
    """Return an expression as a sum."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return Sum(more=number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Sum().plus(sum_of(operand), -1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            return sum_of(left).plus(sum_of(right), -1 if isinstance(op, ast.Sub) else 1)
        case _:
            return Sum({ast.unparse(node): 1})


@lru_cache(maxsize=_MOST)
def named(name: str) -> Sum:
    """Return the name of a number as a sum."""
    return sum_of(ast.parse(name, mode="eval").body)


def shifted(name: str | None, more: int) -> str | None:
    """Return the name of a number that is so many more than one with a name: "n - 1"."""
    if name is None or not more:
        return name
    found = named(name).plus(Sum(more=more))
    sign = "+" if found.more > 0 else "-"
    return f"{found.text} {sign} {abs(found.more):g}" if found.more else found.text
