"""What a step keeps of each slot: `b` of `b * m + (1 - b) * g`, 1 of a sum. Near 1, a narrow dtype rounds changes away.

A slot is followed through the equations of the leaves, where what is linear in it counts: of `maximum(b * u, x)` and
`where(test, x, b * v + y)` that is `b`, of `v - c * sign(v - x) * x` it is 1. A slot that is only handed on or replaced
is rounded once, and stays out.
"""

import ast
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from mlax_codegen.checking.flow import target_of
from mlax_codegen.language import STEP_NUMBER
from mlax_codegen.reading.spec import Spec

__all__ = ["retained", "scales", "squares"]

# Which arguments the result of a function is selected from, or linear in.
_PASSED_ON: dict[str, slice] = {
    **dict.fromkeys(("maximum", "minimum"), slice(2)),
    **dict.fromkeys(("where", "every"), slice(1, 3)),
    **dict.fromkeys(("least", "along", "max", "max_except", "mean", "sum"), slice(1)),
    **dict.fromkeys(("reshape", "as_matrix", "rotate", "rotate_back"), slice(1)),
}
_SQUARES = {"abs2", "gram"}

_LATE = 1e15  # more steps than anyone does
_ONE_ARGUMENT: dict[str, Callable[[float], float]] = {
    "abs": math.fabs,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
}
_TWO_ARGUMENTS: dict[str, Callable[[float, float], float]] = {
    "maximum": max,
    "minimum": min,
}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}
_MOST = 16  # shares of one value, and what each is made of: beyond that nothing is known


@dataclass(frozen=True)
class _Share:
    """How often the old slot is in a value: `constant + sign * factor` times.

    Attributes:
        factor: An expression as the spec writes it; "" for none.
        whole: Whether the value is the old slot itself.
        under: The static conditions of it, and whether they hold.
    """

    constant: float
    sign: int = 0
    factor: str = ""
    whole: bool = False
    under: tuple[tuple[str, bool], ...] = ()

    @property
    def text(self) -> str:
        if not self.factor:
            return repr(self.constant)
        if self.constant == 0 and self.sign == 1:
            return self.factor
        return f"{self.constant!r} {'+' if self.sign > 0 else '-'} ({self.factor})"


_UNKNOWN = _Share(0.0, 1, "_")  # no equation has that name


def retained(spec: Spec) -> dict[str, tuple[str, ...]]:
    """Return for each slot that changes little by little the factors that a step may keep of it.

    They are expressions of hyperparameters; "1.0" also where a factor nears 1 as the steps go on. Those that depend on
    anything else are left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    scalars = _Scalars(spec)
    for slot in spec.slots:
        walk = _Walk(slot.name)
        for phase in spec.phases:
            walk.statements(phase.leaf.body)
        if texts := _texts(walk.shares.get(slot.name, []), scalars):
            found[slot.name] = tuple(texts)
    return found


def scales(spec: Spec) -> dict[str, str]:
    """Return for each slot that a scalar of the state is multiplied into where that scalar begins.

    A scalar that begins at zero is a sum of what comes, and no scale.
    """
    begins = {
        scalar.name: scalar.init.number or scalar.init.hyperparameter
        for scalar in spec.scalars
        if not scalar.is_key and (scalar.init.hyperparameter or float(scalar.init.number) != 0)
    }
    found: dict[str, str] = {}
    read_by = _dependencies(spec)
    for slot in spec.slots:
        if scaled := [begins[name] for name in begins if name in read_by(slot.name)]:
            found[slot.name] = scaled[0]
    return found


def squares(spec: Spec) -> frozenset[str]:
    """Return the slots that squares go into: they leave the range of float16 where gradients do not."""
    assigned = list(_assigned(spec))
    found: set[str] = set()
    while more := {name for name, value in assigned if _is_square(value, found)} - found:
        found |= more
    return frozenset(slot.name for slot in spec.slots if slot.name in found)


def _is_square(node: ast.expr, squared: Collection[str]) -> bool:
    """Whether a value is a square, or a sum, mean or selection that has one in it."""
    match node:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return name in squared
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
            return True
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
            return _is_square(left, squared) or _is_square(right, squared)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            passed = arguments[_PASSED_ON[name]] if name in _PASSED_ON else []
            return name in _SQUARES or any(_is_square(each, squared) for each in passed)
        case ast.IfExp(body=a, orelse=b):
            return _is_square(a, squared) or _is_square(b, squared)
        case ast.ListComp(elt=element):
            return _is_square(element, squared)
        case _:
            return False


def _texts(shares: Iterable[_Share], scalars: "_Scalars") -> list[str]:
    """Return the factors that are known, as one expression where a static condition decides."""
    known: dict[str, tuple[tuple[str, bool], ...]] = {}
    for share in shares:
        if not share.whole and (text := scalars.known(share)) is not None:
            known.setdefault(text, share.under)
    if len(known) == 2:
        (text, under), (other, otherwise) = known.items()
        match under, otherwise:
            case ((test, True),), ((same, False),) if test == same:
                if scalars.is_static(test):
                    return [f"{text} if {test} else {other}"]
            case _:
                pass
    return list(known)


class _Scalars:
    """What equations compute without the gradients, in terms of hyperparameters and the number of the step."""

    def __init__(self, spec: Spec) -> None:
        self.hyperparameters = {h.name: h for h in spec.hyperparameters}
        self.kept = {scalar.name for scalar in spec.scalars} | {slot.name for slot in spec.slots}
        self.computed: dict[str, ast.expr | None] = {}
        for name, value in _assigned(spec):
            once = name not in self.computed and name not in self.kept and name not in _names(value)
            self.computed[name] = value if once else None

    def is_static(self, test: str) -> bool:
        """Whether a condition is one of hyperparameters alone."""
        return set(_names(_parsed(test))) <= set(self.hyperparameters)

    def known(self, share: _Share) -> str | None:
        """Return a factor as hyperparameters say it, or as it is once the steps are many; None of any other."""
        if not share.factor:
            return share.text
        expansion = _Expansion(self.computed, {*self.hyperparameters, STEP_NUMBER})
        factor = expansion.visit(_parsed(share.factor))
        if expansion.failed:
            return None
        names = set(_names(factor))
        if STEP_NUMBER in names:
            values = {name: self._default(name) for name in names} | {STEP_NUMBER: _LATE}
            limit = share.constant + share.sign * _value(factor, values)
            return "1.0" if abs(1 - limit) < 1e-6 else None
        share = replace(share, factor=ast.unparse(factor))
        changing = any(self.hyperparameters[name].schedulable for name in names)
        return share.text if share.text in names or not changing else None

    def _default(self, name: str) -> float:
        h = self.hyperparameters.get(name)
        return float(h.default) if h is not None and h.kind in {"float", "integer"} else math.nan


class _Expansion(ast.NodeTransformer):
    """Puts what names stand for in their place."""

    def __init__(self, computed: dict[str, ast.expr | None], known: Collection[str]) -> None:
        self.computed = computed
        self.known = known
        self.visited = 0
        self.failed = False

    def visit_Call(self, node: ast.Call) -> ast.expr:  # the name that is called is none of these
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])

    def visit_Name(self, node: ast.Name) -> ast.expr:
        self.visited += 1
        value = self.computed.get(node.id)
        if node.id in self.known:
            return node
        if value is None or self.visited > _MOST:
            self.failed = True
            return node
        expanded: ast.expr = self.visit(_parsed(ast.unparse(value)))
        return expanded


class _Walk:
    """Follows one slot through the equations: which values have how much of it in them."""

    def __init__(self, slot: str) -> None:
        self.shares: dict[str, list[_Share]] = {slot: [_Share(1.0, whole=True)]}
        self.under: tuple[tuple[str, bool], ...] = ()

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Assign) and (name := target_of(statement)):
                self.shares[name] = self.of(statement.value)
            elif isinstance(statement, ast.If):
                self.branch(statement)

    def branch(self, statement: ast.If) -> None:
        test, before, outer = ast.unparse(statement.test), dict(self.shares), self.under
        self.under = (*outer, (test, True))
        self.statements(statement.body)
        after, self.shares, self.under = self.shares, before, (*outer, (test, False))
        self.statements(statement.orelse)
        self.under = outer
        for name in {*after, *self.shares}:
            self.shares[name] = _few([*after.get(name, []), *self.shares.get(name, [])])

    def of(self, node: ast.expr) -> list[_Share]:
        """Return what shares of the slot a value may have; none where it does not depend on it, or not linearly.

        What is not linear does not decay a slot by a part of it: a sign, or a norm.
        """
        match node:
            case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
                return self.shares.get(name, [])
            case ast.ListComp(elt=element):
                return self.of(element)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return [_times(share, -1) for share in self.of(operand)]
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                return self.sum(self.of(left), self.of(right), -1 if isinstance(op, ast.Sub) else 1)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = self.of(left), self.of(right)
                if a and b:
                    return [_UNKNOWN]
                return self.product(a or b, ast.unparse(right if a else left))
            case ast.BinOp(left=left, op=ast.Div(), right=right) if not self.of(right):
                return self.product(self.of(left), f"1 / ({ast.unparse(right)})")
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                outer, text = self.under, ast.unparse(test)
                self.under = (*outer, (text, True))
                shares = self.of(body)
                self.under = (*outer, (text, False))
                shares = _few([*shares, *self.of(otherwise)])
                self.under = outer
                return shares
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _PASSED_ON:
                passed = arguments[_PASSED_ON[name]]
                return _few([share for argument in passed for share in self.of(argument)])
            case _:
                return []

    def sum(self, left: list[_Share], right: list[_Share], sign: int) -> list[_Share]:
        nothing = [_Share(0.0)]
        if not (left or right):
            return []
        return _few(
            [
                _UNKNOWN
                if a.factor and b.factor
                else _Share(
                    a.constant + b.constant,
                    a.sign + b.sign,
                    a.factor or b.factor,
                    under=self.under,
                )
                for a in left or nothing
                for b in [_times(share, sign) for share in right or nothing]
            ]
        )

    def product(self, shares: list[_Share], factor: str) -> list[_Share]:
        return [
            _UNKNOWN
            if share.factor or share.constant not in {1, -1}
            else _Share(0.0, int(share.constant), factor, under=self.under)
            for share in shares
        ]


def _times(share: _Share, sign: int) -> _Share:
    return replace(
        share,
        constant=sign * share.constant,
        sign=sign * share.sign,
        whole=share.whole and sign > 0,
    )


def _few(shares: list[_Share]) -> list[_Share]:
    """Return shares without repetition, as far as they can be followed."""
    distinct = list(dict.fromkeys(shares))
    return distinct if len(distinct) <= _MOST else [_UNKNOWN]


def _value(node: ast.expr, values: dict[str, float]) -> float:
    """Return the value of an expression in floats; NaN where it has none."""
    try:
        match node:
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                return values[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_value(operand, values)
            case ast.BinOp(left=a, op=op, right=b):
                return _OPERATORS[type(op)](_value(a, values), _value(b, values))
            case ast.Call(func=ast.Name(id=name), args=[a]):
                return _ONE_ARGUMENT[name](_value(a, values))
            case ast.Call(func=ast.Name(id=name), args=[a, b]):
                return _TWO_ARGUMENTS[name](_value(a, values), _value(b, values))
            case _:
                return math.nan
    except (ArithmeticError, KeyError, ValueError):
        return math.nan


def _assigned(spec: Spec) -> Iterator[tuple[str, ast.expr]]:
    """Yield what a step assigns, in order, whether under a condition or not."""
    for phase in spec.phases:
        for code in (phase.scalars, phase.leaf):
            for statement in code.body if code else []:
                for part in ast.walk(statement):
                    if isinstance(part, ast.Assign) and (name := target_of(part)):
                        yield name, part.value


def _dependencies(spec: Spec) -> Callable[[str], set[str]]:
    """Return a function that says which names the new value of a slot is computed from, directly or not."""
    reads: dict[str, set[str]] = {}
    for name, value in _assigned(spec):
        reads.setdefault(name, set()).update(_names(value))
    slots = {slot.name for slot in spec.slots}

    def read_by(slot: str) -> set[str]:
        found: set[str] = set()
        pending = {slot}
        while pending:
            read = {other for name in pending for other in reads.get(name, set())}
            pending = read - found - slots
            found |= read
        return found

    return read_by


def _names(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield part.id


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
