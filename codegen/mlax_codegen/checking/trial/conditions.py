"""What a condition says of the names in it: `ndim > 1` leaves `ndim` from 2 on where it holds.

A spec guards what would fail, as in `mean(g, 1) if ndim > 1 else g` and `1 / k if k > 0 else 0`. A
run that did not learn from conditions would refuse such a spec; among the built-in ones, Adafactor
and Muon.
"""

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from mlax_codegen.checking.options import holds as holds_in
from mlax_codegen.checking.options import option_of
from mlax_codegen.checking.trial.intervals import Interval, arithmetic, gap
from mlax_codegen.checking.trial.run import Known, Run
from mlax_codegen.checking.trial.sums import Sum, named, sum_of
from mlax_codegen.checking.trial.values import List
from mlax_codegen.reading.trees import assignments_in

__all__ = ["Conditions"]

_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_DIFFERENCES: dict[type[ast.cmpop], tuple[float, float]] = {
    ast.Lt: (-math.inf, -1),
    ast.LtE: (-math.inf, 0),
    ast.Gt: (1, math.inf),
    ast.GtE: (0, math.inf),
    ast.Eq: (0, 0),
}
"""What left less right is, in the smallest steps."""

_WORD = re.compile(r"\w+")


class Conditions(Run):
    """A run that learns from conditions."""

    @cached_property
    def assigned(self) -> frozenset[str]:
        """All names that an equation assigns."""
        blocks = [*self.spec.blocks, *(function.leaf for function in self.spec.functions)]
        body = (statement for code in blocks for statement in code.body)
        return frozenset(name for name, _ in assignments_in(body))

    def under(self, test: ast.expr, *, holds: bool) -> Known | None:
        """Return what is known where a condition holds, or does not; None if that cannot be."""
        before = self._known
        try:
            return self._known if self.assume(test, holds=holds) else None
        finally:
            self._known = before

    def assume(self, test: ast.expr, *, holds: bool) -> bool:
        """Add to what is known that a condition holds, or does not; return whether that can be."""
        is_decided = self.answers and option_of(test) in self.answers
        if is_decided and holds_in(test, self.configuration) is not holds:
            return False
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.assume(operand, holds=not holds)
            case ast.BoolOp(op=op, values=values):
                if isinstance(op, ast.And) is holds:
                    return all(self.assume(value, holds=holds) for value in values)
                return self.assume_one(values, holds=holds)
            case ast.Name(id=name):
                return self.assume_name(name, holds=holds)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPPOSITE:
                sign = type(op) if holds else _OPPOSITE[type(op)]
                return self.assume_order(left, sign, right)
            case _:
                return True

    def assume_one(self, values: Sequence[ast.expr], *, holds: bool) -> bool:
        """Assume that one part of a condition decides it, and that those before it do not.

        `ndim < 2 or shape[1] > 8` holds because of its first part, or because of its second part
        where `ndim >= 2`. What is known then is what both ways have in common.
        """
        before = self._known
        found: list[Known] = []
        for value in values:
            states = self.under(value, holds=holds)
            if states is not None:
                found.append(states)
            rest = self.under(value, holds=not holds)
            if rest is None:
                break
            self._known = rest
        self._known = before
        if not found:
            return False
        merged = found[0]
        for other in found[1:]:
            merged = self.either([merged, other])
        self._known = merged
        return True

    def assume_name(self, name: str, *, holds: bool) -> bool:
        """Assume that a boolean is true, a tuple is not empty, or a condition of [shapes] holds."""
        value = self._known.get(name)
        if isinstance(value, bool):
            return value is holds
        if isinstance(value, List):
            lengths = frozenset(n for n in value.lengths if bool(n) is holds)
            self._known = {**self._known, name: replace(value, lengths=lengths)}
            if not lengths:
                return False
        definition = self.spec.shapes.get(name)
        if definition is None or isinstance(value, List):
            return True
        code, self._code = self._code, definition
        possible = self.assume(definition.expression, holds=holds)
        self._code = code
        return possible

    def assume_order(self, left: ast.expr, sign: type[ast.cmpop], right: ast.expr) -> bool:
        """Narrow both sides of a comparison to where it holds, and their difference."""
        value, limit = self.value(left), self.value(right)
        if not isinstance(value, Interval) or not isinstance(limit, Interval):
            return True
        step = gap(limit, whole=value.whole and limit.whole)
        low, high = _DIFFERENCES.get(sign, (-math.inf, math.inf))
        difference = self.sum(left).plus(self.sum(right), -1)
        between = arithmetic("-", value, limit)[0].within(*self.range_of(difference)[:2])
        between = between and between.within(low * step, high * step)
        if between is None or (sign is ast.NotEq and between[:2] == (0, 0)):
            return False
        self.learn(difference, between)
        self.learn(self.sum(left), arithmetic("+", limit, between)[0])
        self.learn(self.sum(right), arithmetic("-", value, between)[0])
        return self.narrow_lists(left) and self.narrow_lists(right)

    def narrow_lists(self, number: ast.expr) -> bool:
        """Narrow the lists that have so many items; return whether that can be."""
        found, text = self.value(number), sum_of(number).text
        for name, items in self._known.items():
            if not isinstance(items, List) or not isinstance(found, Interval):
                continue
            same = items.name is not None and items.name == found.name
            if same or text == f"len({name})":
                lengths = frozenset(n for n in items.lengths if found.low <= n <= found.high)
                self._known = {**self._known, name: replace(items, lengths=lengths)}
                if not lengths:
                    return False
        return True

    def sum(self, node: ast.expr) -> Sum:
        """Return an expression as a sum. A length that a hyperparameter says, `len(q)`, has the name of that."""
        total = sum_of(node)
        for term, times in total.terms.items():
            known = self._known.get(term.removeprefix("len(").removesuffix(")"))
            name = known.name if isinstance(known, List | Interval) else None
            if name is not None:
                total = total.plus(Sum({term: 1}), -times).plus(named(name), times)
        return total

    def range_of(self, total: Sum) -> Interval:
        """Return what is known of a sum: as a whole, or else of its terms."""
        low = high = total.more
        parts = {total.text: total.sign} if total.text in self._known else total.terms
        for part, times in parts.items():
            known = self._known.get(part)
            ends = known[:2] if isinstance(known, Interval) else (-math.inf, math.inf)
            low += min(times * end for end in ends)
            high += max(times * end for end in ends)
        return Interval(low, high, whole=False)

    def learn(self, total: Sum, found: Interval) -> None:
        """Remember the interval of a sum, unless it is of names that may be assigned again."""
        text, sign = total.text, total.sign
        if not text or (not text.isidentifier() and self.assigned & {*_WORD.findall(text)}):
            return
        low, high = sorted(sign * (end - total.more) for end in found[:2])
        known = self._known.get(text)
        value = Interval(low, high, found.whole)
        if isinstance(known, Interval):
            value = known.within(low, high) or known
        self._known = {**self._known, text: value}
