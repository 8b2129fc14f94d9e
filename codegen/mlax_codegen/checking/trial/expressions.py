"""What is known of the value of an expression, and what cannot work in it."""

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from mlax_codegen.checking.trial.conditions import Conditions
from mlax_codegen.checking.trial.functions import Call
from mlax_codegen.checking.trial.intervals import (
    SIZE,
    TOO_LARGE,
    Interval,
    arithmetic,
    exactly,
    negative,
)
from mlax_codegen.checking.trial.sums import named
from mlax_codegen.checking.trial.values import (
    ANY_ARRAY,
    ANY_SHAPE,
    Array,
    Dims,
    List,
    Value,
    agree,
    count,
    dims_of,
    dims_text,
    is_of_arrays,
    least,
    legend,
    listed,
    name_of,
    number_of,
    part_of,
    same_length,
    together,
)
from mlax_codegen.language import GRADIENT, NDIM, SHAPE, WEIGHT
from mlax_codegen.reading.trees import SIGNS, in_short, loops_of, names_in, parts_of

__all__ = ["MOST_AXES", "Expressions"]

MOST_AXES = 64  # as many as NumPy allows


class Expressions(Conditions):
    """A run that evaluates expressions."""

    def value(self, node: ast.expr) -> Value:
        """Return what is known of an expression, recording what cannot work in it."""
        found = self.computed(node)
        if isinstance(found, Interval) and not isinstance(node, ast.Name | ast.Constant):
            return found.within(*self.range_of(self.sum(node))[:2]) or found
        return found

    def computed(self, node: ast.expr) -> Value:
        """Return what follows from the parts of an expression."""
        match node:
            case ast.Name(id=name):
                return self._known.get(name)
            case ast.Constant(value=bool() | str() | None):
                return None
            case ast.Constant(value=int() | float() as number):
                return exactly(number)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = self.value(operand)
                return negative(found) if isinstance(found, Interval) else found
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(node, left, SIGNS[type(op)], right)
            case ast.UnaryOp(operand=operand) if node in self._code.of_arrays:
                return self.value(operand)
            case ast.BoolOp(values=values) if node in self._code.of_arrays:
                parts = [self.value(value) for value in values]
                return self.elementwise(node, [part for part in parts if isinstance(part, Array)])
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.value(test)
                return self.branches(test, body, otherwise)
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]) | ast.UnaryOp() | ast.BoolOp():
                return self.decided(node)
            case ast.Compare(left=left, comparators=[right]):
                sides = self.value(left), self.value(right)
                is_of_array = any(isinstance(side, Array) for side in sides)
                return self.elementwise(node, sides) if is_of_array else self.decided(node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                given = [self.value(argument) for argument in arguments]
                passed = {k.arg or "": self.value(k.value) for k in keywords}
                return Call(self, node, given, passed).result(name)
            case ast.Subscript(value=value, slice=ast.Slice() | ast.Tuple() as index):
                found = self.value(value)
                if isinstance(index, ast.Slice) and index in self._code.of_lists:
                    return self.part(found, index)
                return self.cut(node, dims_of(found), index)
            case ast.Subscript(value=value, slice=index):
                return self.item(node, value, index)
            case ast.Tuple(elts=items):
                return List.of([self.size(item) for item in items])
            case ast.List(elts=items):
                return self.items(items)
            case ast.ListComp(elt=element, generators=[generator]):
                return self.comprehension(element, generator)
            case _:
                return None

    def operation(self, node: ast.expr, left: ast.expr, sign: str, right: ast.expr) -> Value:
        a, b = self.value(left), self.value(right)
        if sign in {"/", "//", "%"} and isinstance(b, Interval) and b.low <= 0 <= b.high:
            # The lengths of axes are 0 only in a leaf without elements: in an array, none is divided then.
            if b.is_one or isinstance(a, Interval) or not self.of_leaf & {*names_in([right])}:
                self.divided_by_0(node, right, b)
            return None if isinstance(a, Interval) else a
        if isinstance(a, Interval) and isinstance(b, Interval):
            found, wrong = arithmetic(sign, a, b)
            if wrong is None or (wrong == TOO_LARGE and node in self.counts):
                return found
            self.wrong(node, wrong)
            return None
        return self.elementwise(node, [a, b])

    def divided_by_0(self, node: ast.expr, divisor: ast.expr, value: Interval) -> None:
        """Record a divisor that is or may be 0."""
        cure = "`if` or max(1, ...)"
        if not value.is_one:
            self.wrong(node, f"this divisor may be 0; exclude that with bounds, {cure}")
        elif {*names_in([divisor])} - (self.options - {SHAPE}):  # so it depends on the leaf
            self.wrong_here(divisor, "this divisor is 0", f"exclude that with {cure}")
        else:
            self.wrong(divisor, "this divisor is 0")

    def decided(self, test: ast.expr) -> bool | None:
        """Return whether a static condition holds; None if it may or may not."""
        can = self.under(test, holds=True) is not None
        can_not = self.under(test, holds=False) is not None
        return None if can and can_not else can

    def branches(self, test: ast.expr, body: ast.expr, otherwise: ast.expr) -> Value:
        found: list[Value] = []
        before = self._known
        for holds, branch in ((True, body), (False, otherwise)):
            known = self.under(test, holds=holds)
            if known is not None:
                self._known = known
                found.append(self.value(branch))
            self._known = before
        if len(found) == 2:
            return self.one_of(found[0], found[1], test)
        return found[0] if found else None

    def item(self, node: ast.expr, of: ast.expr, at: ast.expr) -> Value:
        value, index = self.value(of), self.value(at)
        if not isinstance(value, List) or not isinstance(index, Interval):
            return None
        if not index.whole:
            self.wrong(node, "an index must be an integer")
            return None
        fewest = min(value.lengths)
        high, low = index.high >= fewest, index.low < -fewest
        if value.name is not None:  # the index may be less than a length that is not known
            length, place = named(value.name), self.sum(at)
            high = high and self.range_of(length.plus(place, -1)).low < 1
            low = low and self.range_of(length.plus(place)).low < 0
        if high or low:
            self.missing(node, in_short(of, "x"), value, index)
            return None
        return self.at(value, index)

    def missing(self, node: ast.expr, name: str, value: List, index: Interval) -> None:
        """Record an item that a tuple or list does not have, or may not have."""
        item = in_short(node, f"{name}[i]")
        last = int(index.low if index.low >= 0 else -index.low - 1)
        own = value.name is not None or not is_of_arrays(value)
        enough = f"{f'len({name})' if own else NDIM} > {last}"
        cure = f"test `{enough}` first"
        if name == SHAPE:
            cure = f"write `{item} if {NDIM} > {last} else 1`"
        if not index.is_one:
            cure = "test the index with `if` first"
        elif len(value.lengths) == 1:
            self.wrong(node, f"`{item}` does not exist {self.where}; {cure}")
            return
        items = "item" if value.lengths == frozenset({1}) else "items"
        has = f"{name!r} has {number_of(value)} {items}"
        self.wrong_list(node, value, f"`{item}` may not exist: {has}", cure)

    def size(self, node: ast.expr, what: str = "an item of a tuple") -> Interval:
        """Return what is known of an item of a tuple: the length of an axis, or its number."""
        found = self.value(node)
        if not isinstance(found, Interval):
            return SIZE
        if found.low < 0 or not found.whole:
            hint = '; for a hyperparameter, write bounds = "0 <= x"' if found.whole else ""
            self.wrong(node, f"{what} must be an integer of at least 0{hint}")
            return SIZE
        return found

    def cut(self, node: ast.expr, dims: Dims, index: ast.Slice | ast.Tuple) -> Value:
        """Return what slices leave of an array: of an axis of length n, `:r` leaves min(n, r)."""
        slices = index.elts if isinstance(index, ast.Tuple) else [index]
        lengths: list[str | None] = []
        for place, part in enumerate(slices):
            if not isinstance(part, ast.Slice):
                return ANY_ARRAY
            start, end = (
                self.size(x, "a bound of a slice") if x else None for x in (part.lower, part.upper)
            )
            length = dims[place] if dims is not None and place < len(dims) else None
            length = length if end is None else least(length, name_of(end))
            lengths.append(length if start is None or start == exactly(0) else None)
        if dims is None:
            return ANY_ARRAY
        if len(lengths) > len(dims):
            needs = f"this needs {count(len(lengths), 'axis', 'axes')}"
            but = f"but the array has {count(len(dims), 'axis', 'axes')}"
            self.wrong_here(node, f"{needs}, {but}", f"test `ndim >= {len(lengths)}` first")
            return ANY_ARRAY
        return Array((*lengths, *dims[len(lengths) :]))

    def part(self, value: Value, index: ast.Slice) -> Value:
        """Return what is known of a part of a list."""
        bounds: list[int | None] = []
        for bound in (index.lower, index.upper):
            found = None if bound is None else self.value(bound)
            if bound is not None and not (isinstance(found, Interval) and found.whole):
                self.wrong(bound, "a slice needs integers")
                return None
            if isinstance(found, Interval) and not found.is_one:
                return None
            bounds.append(int(found.low) if isinstance(found, Interval) else None)
        return part_of(value, *bounds) if isinstance(value, List) else None

    def items(self, items: Sequence[ast.expr]) -> Value:
        """Return what is known of a list that is written out."""
        found = [
            self.value(item.value) if isinstance(item, ast.Starred) else listed([self.value(item)])
            for item in items
        ]
        parts = [part for part in found if isinstance(part, List)]
        if len(parts) < len(found):
            return None
        first = next((x.any for x in parts if is_of_arrays(x) and x.items is None), None)
        for item, part in zip(items, parts, strict=True):
            one, other = dims_of(part.any), dims_of(first)
            if first is not None and is_of_arrays(part) and not agree(other, one):
                shapes = f"{dims_text(one)}, and others {dims_text(other)}"
                message = f"the arrays of a list must be alike, but this has shape {shapes}"
                self.wrong_here(item, message, legend(one, other))
        return reduce(together, parts)

    def comprehension(self, element: ast.expr, generator: ast.comprehension) -> Value:
        loops = {variable: self.loop(source) for variable, source in loops_of(generator)}
        lists = {variable: found for variable, found in loops.items() if found is not None}
        if len(lists) < len(loops):
            return None
        first, *others = lists.values()
        for other in others:
            if not same_length(other, first):
                numbers = f"{number_of(first)} and {number_of(other)}"
                message = f"zip needs lists of one length, but these have {numbers} items"
                self.wrong_list(generator.iter, first, message)
                return None
        sources = dict(loops_of(generator))
        ends = {
            v: named(x.name)
            for v, x in lists.items()
            if x.name and isinstance(sources[v], ast.Call)
        }
        lengths = first.lengths
        if max(lengths) == 0:
            if isinstance(element, ast.Tuple | ast.ListComp):
                return List.of([], ANY_SHAPE)
            of_leaf = GRADIENT in self._known or WEIGHT in self._known
            return List.of([], ANY_ARRAY if of_leaf else SIZE)
        # One item after the other, if it is known how many there are.
        one_by_one = first.name is None and len(lengths) == 1
        rounds, items, certain = max(lengths) if one_by_one else 1, list[Value](), 0
        before, blamed = self._known, len(self.blamed)
        for place in range(rounds):
            at = exactly(place) if one_by_one else Interval(0, max(lengths) - 1, whole=True)
            self._known = {**before, **{name: self.at(x, at) for name, x in lists.items()}}
            for variable, end in ends.items():  # `i` of `range(n)` is less than `n`
                self.learn(named(variable).plus(end, -1), Interval(-math.inf, -1, whole=True))
            holds = [self.value(condition) for condition in generator.ifs]
            rest = [self.under(condition, holds=True) for condition in generator.ifs]
            if None not in rest:
                self._known = next(filter(None, reversed(rest)), self._known)
                items.append(self.value(element))
                certain += all(held is True for held in holds)
            if len(self.blamed) > blamed:  # other items would mostly have the same mistake
                self._known = before
                return None
        self._known = before
        found = listed(items) if items else None
        if found is None or (one_by_one and certain == len(items)):
            return found
        most = len(items) if one_by_one else max(lengths)
        if generator.ifs:
            return replace(found, items=None, lengths=frozenset(range(certain, most + 1)))
        return replace(found, items=None, lengths=lengths, name=first.name)

    @staticmethod
    def at(items: List, place: Interval) -> Value:
        """Return an item of a list."""
        if place.is_one and items.items is not None:
            return items.items[int(place.low)]
        return items.any

    def loop(self, source: ast.expr) -> List | None:
        """Return what a comprehension iterates over; None if that is not known."""
        if not isinstance(source, ast.Call):
            value = self.value(source)
            return value if isinstance(value, List) else None
        # Of a range with more than 2**31 numbers, nothing is computed.
        self.counts.update(parts_of(source.args[0]))
        end = self.value(source.args[0])
        if not isinstance(end, Interval):
            return None
        name = end.name if end.name and self.options.issuperset(named(end.name).terms) else None
        if not end.whole or (end.high > MOST_AXES and name is None):
            message = f"`range(n)` needs an integer n <= {MOST_AXES}"
            if end.whole:
                message += ", but this may be larger; use `range(ndim)` for one item per axis, or give tighter bounds"
            self.wrong(source.args[0], message)
            return None
        if end.is_one:
            return List.of(exactly(place) for place in range(int(end.low)))
        most = max(0, min(int(end.high), MOST_AXES))
        place = Interval(0, max(0, most - 1), whole=True)
        lengths = frozenset(range(max(0, min(int(end.low), most)), most + 1))
        return List(None, lengths, place, name)
