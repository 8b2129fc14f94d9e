"""Which answers to the questions of a spec's conditions go together: `ndim >= 2` and `ndim < 2` do not.

A question is a flag, a choice, whether something is None, or a comparison. All comparisons of one number with constants
are decided together: the constants cut the line of numbers into points and gaps, and one number of each, if it can
occur, shows which answers go together. What can occur is what bounds and requirements leave of a hyperparameter, and
what the abstract run knows of a shape with so many axes. A name of [shapes] that stands for a condition has the answer
of its definition.
"""

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, TypeAlias

from mlax_codegen.checking.options import Configuration, decide, holds, options_in
from mlax_codegen.language import NDIM, SHAPE
from mlax_codegen.reading.trees import names_in

__all__ = ["MOST", "Facts", "Range", "configurations_of", "is_possible", "value_of"]

MOST = 4096
"""Combinations of options in one spec. Adafactor has the most among the built-in ones, 768."""

_AXES = (0, 1, 2)  # numbers of axes that may decide what else can be
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
Answers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Range:
    """The numbers that something may be: those from `low` to `high`, or a few."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    few: frozenset[int] | None = None

    def numbers(self, cuts: Collection[float]) -> list[float]:
        """Return a number of each part that some constants cut it into."""
        if self.few is not None:
            return sorted(self.few)
        ends = (*cuts, self.low, self.high)
        edges = sorted({x for x in ends if math.isfinite(x)}) or [0.0]
        if self.whole:
            near = {float(math.floor(x) + i) for x in edges for i in (-1, 0, 1, 2)}
        else:
            near = {*edges, *((a + b) / 2 for a, b in pairwise(edges))}
            near |= {edges[0] - 1, edges[-1] + 1}
        return sorted(x for x in near if self.low <= x <= self.high)


@dataclass(frozen=True)
class Facts:
    """What a spec says of the names in its conditions.

    Attributes:
        choices: The values of each choice.
        conditions: The names of [shapes] that stand for a condition, with their definitions.
        of_shape: Names that depend on the shape of a leaf.
        sizes: Those of them that are tuples: as conditions they say that there are items.
        range_of: What a number may be, for leaves with so many axes.
    """

    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    conditions: Mapping[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    of_shape: Collection[str] = ()
    sizes: Collection[str] = ()
    range_of: Callable[[ast.expr, int], Range] = lambda node, axes: Range()


@dataclass(frozen=True)
class _Comparison:
    """A question about a number: how it compares with a constant."""

    option: str
    subject: str
    sign: type[ast.cmpop]
    limit: float

    def answer(self, number: float) -> tuple[str, str]:
        return self.option, str(_COMPARE[self.sign](number, self.limit))


def is_possible(configuration: Configuration, facts: Facts) -> bool:
    """Whether some answers go together."""
    tests = [ast.parse(option, mode="eval").body for option, _ in configuration.answers]
    wanted = {*configuration.answers}
    found = configurations_of(tests, facts)
    return found is None or any(wanted <= {*each.answers} for each in found)


def configurations_of(tests: Iterable[ast.expr], facts: Facts) -> list[Configuration] | None:
    """Return all answers that go together to what some tests ask; None if they are too many."""
    given = [*tests]
    asked = {*names_in(given)}
    conditions: dict[str, ast.expr] = {}
    for name, definition in reversed([*facts.conditions.items()]):
        if name in asked:
            conditions = {name: definition, **conditions}
            asked |= {*names_in([definition])}
    options = dict(options_in([*given, *conditions.values()], facts.choices))
    free: list[list[Answers]] = []
    comparisons: list[_Comparison] = []
    for option, answers in options.items():
        question = _comparison(option, facts)
        if question is not None:
            comparisons.append(question)
        elif option not in conditions:
            free.append([((option, answer),) for answer in answers])
    of_numbers = _of_numbers(comparisons, facts)
    if of_numbers is None:
        return None
    groups = [*free, *of_numbers]
    if math.prod(map(len, groups)) > MOST:
        return None
    found: list[Configuration] = []
    for parts in product(*groups):
        known = dict(pair for part in parts for pair in part)
        for name, definition in conditions.items():
            known[name] = str(holds(definition, Configuration(tuple(known.items()))))
        found.append(Configuration(tuple((option, known[option]) for option in options)))
    found.sort(key=lambda each: [options[option].index(answer) for option, answer in each.answers])
    return found


def _of_numbers(comparisons: Sequence[_Comparison], facts: Facts) -> list[list[Answers]] | None:
    """Return the answers that go together about each number, and about all that depend on a shape."""
    by_subject: dict[str, list[_Comparison]] = {}
    for comparison in comparisons:
        by_subject.setdefault(comparison.subject, []).append(comparison)
    nodes = {subject: ast.parse(subject, mode="eval").body for subject in by_subject}
    shaped = [s for s, node in nodes.items() if {*facts.of_shape} & {*names_in([node])}]

    def answers(subject: str, axes: int) -> dict[Answers, None]:
        asked = by_subject[subject]
        numbers = facts.range_of(nodes[subject], axes).numbers([each.limit for each in asked])
        return dict.fromkeys(tuple(each.answer(number) for each in asked) for number in numbers)

    groups = [[*answers(subject, 0)] for subject in by_subject if subject not in shaped]
    if shaped:
        cuts = {*_AXES, *(each.limit for each in by_subject.get(NDIM, []))}
        together: dict[Answers, None] = {}
        for axes in Range(low=0, whole=True).numbers(cuts):
            each = [[*answers(subject, int(axes))] for subject in shaped]
            if math.prod(map(len, each)) > MOST:
                return None
            together |= dict.fromkeys(sum(parts, ()) for parts in product(*each))
        groups.append([*together])
    return groups


def _comparison(option: str, facts: Facts) -> _Comparison | None:
    """Return the question about a number that an option is; None for any other."""
    node = ast.parse(option, mode="eval").body
    match node:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return None
        case ast.Name(id=name) if name in facts.sizes:
            return _Comparison(option, _subject(f"len({name})"), ast.Gt, 0)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            sign, limit = type(op), _constant(right)
            if limit is None and (limit := _constant(left)) is not None:
                left, sign = right, _MIRRORED.get(sign, sign)
            if limit is None:  # of two numbers: their difference, in one order
                limit = 0
                if ast.unparse(left) > ast.unparse(right):
                    left, right, sign = right, left, _MIRRORED.get(sign, sign)
                left = ast.BinOp(left, ast.Sub(), right)
            return _Comparison(option, *_alone(left, sign, limit))
        case _:
            return None


def _alone(
    node: ast.expr, sign: type[ast.cmpop], limit: float
) -> tuple[str, type[ast.cmpop], float]:
    """Return a comparison with a number without the constants that are added to it: `ndim - 1 > 0` as `ndim > 1`."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right) if (
            added := _constant(right)
        ) is not None:
            return _alone(left, sign, limit + (added if isinstance(op, ast.Sub) else -added))
        case ast.BinOp(left=left, op=ast.Add(), right=right) if (
            added := _constant(left)
        ) is not None:
            return _alone(right, sign, limit - added)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _alone(operand, _MIRRORED.get(sign, sign), -limit)
        case _:
            return _subject(ast.unparse(node)), sign, limit


def _subject(text: str) -> str:
    return NDIM if text == f"len({SHAPE})" else text


def _constant(node: ast.expr) -> float | None:
    """Return the value of an expression of numbers only; None for any other."""
    try:
        value: float = value_of(node, {})
        is_real = not math.isnan(value)
    except (KeyError, ArithmeticError, TypeError):  # a root of a negative number is complex
        return None
    return value if is_real else None


def value_of(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of static arithmetic, or of a comparison.

    Raises:
        KeyError: It has other names, or is neither.
        ArithmeticError: There is no such number.
    """
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)  # an integer might grow without bounds
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.Call(func=ast.Name(id="len"), args=[items]):
            return len(value_of(items, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value_of(operand, names)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](value_of(left, names), value_of(right, names))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](value_of(left, names), value_of(right, names))
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            holding = decide(test, lambda part: value_of(part, names))
            return value_of(body if holding else otherwise, names)
        case _:
            raise KeyError(ast.unparse(node))
