"""The equations as LaTeX, from the same trees as the code.

A slot is written with the time it is of: `m_{t-1}` until an equation assigns it, `m_t` from then on. The update is
written as what it does: `update = -x` becomes `w_t = w_{t-1} - x`.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from mlax_codegen.declarations import NamedFunction
from mlax_codegen.language import (
    FUNCTIONS,
    GRADIENT,
    NDIM,
    RESULT,
    SHAPE,
    STEP_NUMBER,
    TOTAL,
    UPDATE,
    WEIGHT,
)
from mlax_codegen.spec import Spec

__all__ = ["default_symbol", "equations", "function_equations"]

_GREEK = frozenset(
    """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
    """.split()  # noqa: SIM905
)
_SUMS = frozenset(["sum", "max", "least", TOTAL])
_SUM, _PRODUCT, _POWER, _ATOM = range(1, 5)
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: r"\ne",
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
}
_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def default_symbol(name: str) -> str:
    r"""Return LaTeX for a name: `b1` is b_1, `mu` \mu, `v_max` v_{\text{max}}, a word itself in italics."""
    base, _, rest = name.partition("_")
    numbered = re.fullmatch(r"([a-z]+?)(\d+)", base)
    if numbered and not rest:
        base, rest = numbered.groups()
    if base not in _GREEK and len(base) > 1:
        escaped = name.replace("_", r"\_")
        return rf"\mathit{{{escaped}}}"
    symbol = rf"\{base}" if base in _GREEK else base
    if not rest:
        return symbol
    words = rest.replace("_", " ")
    return f"{symbol}_{rest}" if len(rest) == 1 else rf"{symbol}_{{\text{{{words}}}}}"


def equations(spec: Spec) -> list[str]:
    """Return one aligned line of LaTeX for each equation, in their order."""
    return list(_Equations(spec).lines())


def function_equations(spec: Spec, function: NamedFunction) -> list[str]:
    """Return the equations of a function, after a step: the slots and weights are those of time t."""
    equations = _Equations(spec)
    equations.current |= {*equations.slots, WEIGHT}
    equations.in_leaf = True
    return list(equations.statements(function.leaf.body, []))


class _Equations:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        # What the state holds, which is of one step or of the one before.
        self.slots = {s.name: s.symbol or default_symbol(s.name) for s in spec.slots}
        self.slots |= {s.name: s.symbol or default_symbol(s.name) for s in spec.scalars}
        self.constant = {slot.name for slot in spec.slots} - self.assigned_names()
        self.fixed = {h.name: h.symbol or default_symbol(h.name) for h in spec.hyperparameters}
        self.fixed |= {a.name: a.symbol or default_symbol(a.name) for a in spec.arguments}
        self.fixed |= {name: spec.symbols.get(name, default_symbol(name)) for name in spec.shapes}
        self.fixed |= {STEP_NUMBER: "t", SHAPE: "n", NDIM: r"\operatorname{ndim}"}
        self.choices = {h.name: h.choices for h in spec.hyperparameters}
        self.current: set[str] = set()  # slots that this step has assigned
        self.in_leaf = False
        names = [
            part.id
            for phase in spec.phases
            for statement in phase.leaf.body
            for part in ast.walk(statement)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
        ]
        self.update_is_read = UPDATE in names

    def assigned_names(self) -> set[str]:
        return {
            part.id
            for phase in self.spec.phases
            for statement in phase.leaf.body
            for part in ast.walk(statement)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }

    def lines(self) -> Iterator[str]:
        for name, code in self.spec.shapes.items():
            if code.expression is not None:
                yield f"{self.fixed[name]} &= {self.tex(code.expression, 0)}"
        for phase in self.spec.phases:
            if phase.scalars is not None:
                self.in_leaf = False
                yield from self.statements(phase.scalars.body, [])
            self.in_leaf = True
            yield from self.statements(phase.leaf.body, [])
        if self.update_is_read:
            yield f"w_t &= w_{{t-1}} + {self.local(UPDATE)}"

    def statements(self, body: Sequence[ast.stmt], conditions: list[ast.expr]) -> Iterator[str]:
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    before = set(self.current)
                    yield from self.statements(then, [*conditions, test])
                    after, self.current = self.current, before
                    yield from self.statements(otherwise, [*conditions, _negation(test)])
                    self.current |= after
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    line = self.assignment(name, value)
                    if conditions:
                        words = r" \text{ and } ".join(self.condition(c) for c in conditions)
                        line += rf" \quad \text{{if }} {words}"
                    yield line.replace(r"} \text{", "")
                case _:
                    pass

    def assignment(self, name: str, value: ast.expr) -> str:
        """Return an equation; a list of one for each axis, and work of some steps, say so at the end."""
        match value:
            case ast.Call(func=ast.Name(id="every"), args=[k, new, ast.Name(id=old)]) if (
                old == name
            ):
                return f"{self.assignment(name, new)} {self.every(k)}"
            case ast.ListComp(elt=element, generators=[generator]):
                variable = ast.unparse(generator.target)
                conditions = [self.condition(test) for test in generator.ifs]
                where = r" \text{ with } ".join([variable, *conditions])
                line = self.equation(name, element, axis=variable)
                return rf"{line} \quad \text{{for each axis }} {where}"
            case _:
                return self.equation(name, value)

    def every(self, k: ast.expr) -> str:
        return rf"\quad \text{{every }} {self.tex(k)} \text{{ steps}}"

    def equation(self, name: str, value: ast.expr, axis: str = "") -> str:
        right = self.tex(value)
        if name == UPDATE and not self.update_is_read:
            sign, rest = ("-", right[1:]) if right.startswith("-") else ("+", right)
            return f"w_t &= w_{{t-1}} {sign} {rest}"
        again = name == GRADIENT or any(
            isinstance(part, ast.Name) and part.id == name for part in ast.walk(value)
        )
        if name in self.slots:
            again = name in self.current
            self.current.add(name)
        sign = r"&\leftarrow" if again else "&="
        if name == RESULT:
            return rf"\bar{{w}}_t &= {right}"
        left = self.symbol(name, assigned=True)
        return f"{left}{f'^{{({axis})}}' if axis else ''} {sign} {right}"

    def symbol(self, name: str, *, assigned: bool = False) -> str:
        if name in self.fixed:
            return self.fixed[name]
        if name in self.constant:
            return self.slots[name]
        if name in self.slots:
            now = assigned or name in self.current
            return _with_index(self.slots[name], "t" if now else "t-1")
        if name == GRADIENT:
            return "g_t"
        if name == WEIGHT:
            return "w_t" if WEIGHT in self.current else "w_{t-1}"
        return self.local(name)

    def local(self, name: str) -> str:
        plain = "u" if name == UPDATE else self.spec.symbols.get(name) or default_symbol(name)
        in_scalars = any(
            isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Store)
            for phase in self.spec.phases
            if phase.scalars is not None
            for statement in phase.scalars.body
            for part in ast.walk(statement)
        )
        return plain if in_scalars or not self.is_assigned(name) else _with_index(plain, "t")

    def is_assigned(self, name: str) -> bool:
        """Whether it is assigned at all; the variable of a comprehension is not."""
        functions = [function.leaf for function in self.spec.functions]
        return any(
            isinstance(part, ast.Name) and part.id == name
            for code in [*(phase.leaf for phase in self.spec.phases), *functions]
            for statement in code.body
            for branch in ast.walk(statement)
            if isinstance(branch, ast.Assign)
            for part in branch.targets
        )

    def tex(self, node: ast.expr, level: int = _SUM, *, inline: bool = False) -> str:
        """Return an expression, in parentheses where it binds looser than `level`; inline, without fractions."""
        text, own = self.bare(node, inline=inline)
        return text if own >= level else f"({text})"

    def bare(self, node: ast.expr, *, inline: bool) -> tuple[str, int]:
        match node:
            case ast.Name(id=name):
                return self.symbol(name), _ATOM
            case ast.Constant(value=int() | float() as value):
                return _number(value), _ATOM
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self.tex(operand, _PRODUCT, inline=inline)}", _SUM
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                sign = "+" if isinstance(op, ast.Add) else "-"
                first = self.tex(left, _SUM, inline=inline)
                second = self.tex(right, _SUM if sign == "+" else _PRODUCT, inline=inline)
                return f"{first} {sign} {_after_sign(second)}", _SUM
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.product(left, right, inline=inline)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self.quotient(left, right, inline=inline)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(left, right)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self.cases(body, test, otherwise), _ATOM
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return f"{self.tex(left)} {_COMPARE[type(op)]} {self.tex(right)}", 0
            case ast.Call(func=ast.Name(id="every"), args=[k, new, old]):
                first, second = self.tex(new, inline=True), self.tex(old, inline=True)
                each = rf"\text{{every }} {self.tex(k)} \text{{ steps}}"
                return (
                    rf"\begin{{cases}} {first} & {each} \\ {second} & \text{{otherwise}} \end{{cases}}",
                    _ATOM,
                )
            case ast.Call(func=ast.Name(id=name), args=arguments):
                sums = name in _SUMS and len(arguments) == 1
                given = [self.tex(a, _PRODUCT if sums else 0, inline=True) for a in arguments]
                return FUNCTIONS[name].formula(given), _PRODUCT if sums else _ATOM
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                inner = self.tex(index, inline=True)
                if name in self.fixed:
                    return f"{self.fixed[name]}_{{{inner}}}", _ATOM
                return f"{self.symbol(name)}^{{({inner})}}", _ATOM
            case ast.Tuple(elts=items):
                return f"({', '.join(self.tex(item) for item in items)})", _ATOM
            case ast.ListComp(elt=element, generators=[generator]):
                return (
                    f"({self.tex(element, inline=True)})_{{{ast.unparse(generator.target)}}}",
                    _ATOM,
                )
            case _:
                return "", _ATOM

    def product(self, left: ast.expr, right: ast.expr, *, inline: bool) -> tuple[str, int]:
        first, own = self.bare(left, inline=inline)
        sign = ""
        if isinstance(left, ast.UnaryOp) or (own == _SUM and _is_negative_product(left)):
            sign, first, own = "-", first[1:], _PRODUCT
        if own < _PRODUCT:
            first = f"({first})"
        second = _after_sign(self.tex(right, _PRODUCT, inline=inline))
        dot = r"\cdot " if second[0].isdigit() else ""
        return f"{sign}{first} {dot}{second}", _SUM if sign else _PRODUCT

    def quotient(self, left: ast.expr, right: ast.expr, *, inline: bool) -> tuple[str, int]:
        if inline:
            top, own = self.bare(left, inline=True)
            negative = _is_negative_product(left)
            top = top if own >= _PRODUCT or negative else f"({top})"
            bottom = self.tex(right, _POWER, inline=True)
            return f"{top} / {bottom}", _SUM if negative else _PRODUCT
        below = self.tex(right, inline=True)
        match left:
            case ast.BinOp(left=factor, op=ast.Mult(), right=above):
                first, own = self.bare(factor, inline=False)
                negative = _is_negative_product(factor)
                first = first if own >= _PRODUCT or negative else f"({first})"
                fraction = rf"\frac{{{self.tex(above, inline=True)}}}{{{below}}}"
                return f"{first} {fraction}", _SUM if negative else _PRODUCT
            case ast.UnaryOp(op=ast.USub(), operand=above):
                return rf"-\frac{{{self.tex(above, inline=True)}}}{{{below}}}", _SUM
            case _:
                return rf"\frac{{{self.tex(left, inline=True)}}}{{{below}}}", _PRODUCT

    def power(self, base: ast.expr, exponent: ast.expr) -> tuple[str, int]:
        if isinstance(exponent, ast.Constant) and exponent.value == 0.5:
            return rf"\sqrt{{{self.tex(base, inline=True)}}}", _ATOM
        above = self.tex(exponent, inline=True)
        below = self.tex(base, _ATOM, inline=True)
        bracketed = below.startswith("(")
        if ("^" in below and not bracketed) or isinstance(base, ast.Call | ast.IfExp):
            below = f"({below})"
        return f"{below}^{above}" if len(above) == 1 else f"{below}^{{{above}}}", _POWER

    def cases(self, body: ast.expr, test: ast.expr, otherwise: ast.expr) -> str:
        rows = [rf"{self.tex(body, inline=True)} & \text{{if }} {self.condition(test)}"]
        while isinstance(otherwise, ast.IfExp):
            row = self.tex(otherwise.body, inline=True)
            rows.append(rf"{row} & \text{{if }} {self.condition(otherwise.test)}")
            otherwise = otherwise.orelse
        rows.append(rf"{self.tex(otherwise, inline=True)} & \text{{otherwise}}")
        text = r" \\ ".join(rows).replace(r"} \text{", "")
        return rf"\begin{{cases}} {text} \end{{cases}}"

    def condition(self, node: ast.expr) -> str:
        """Return a static condition, in words where it is no formula."""
        match node:
            case ast.Name(id=name):
                return _words(name)
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name)):
                return _words(f"not {name}")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return rf"\text{{not (}} {self.condition(operand)} \text{{)}}"
            case ast.BoolOp(op=op, values=values):
                word = " and " if isinstance(op, ast.And) else " or "
                return rf" \text{{{word}}} ".join(self.condition(value) for value in values)
            case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot() as op]):
                return _words(f"{name} {'is' if isinstance(op, ast.Is) else 'is not'} None")
            case ast.Compare(
                left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str() as choice)]
            ):
                others = [other for other in self.choices[name] if other != choice]
                if isinstance(op, ast.Eq):
                    return _words(f"{name} is {choice}")
                if len(others) == 1:
                    return _words(f"{name} is {others[0]}")
                return _words(f"{name} is not {choice}")
            case _:
                return self.tex(node, 0)


def _negation(node: ast.expr) -> ast.expr:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=comparators) if type(op) in _NEGATED:
            return ast.Compare(left, [_NEGATED[type(op)]()], comparators)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case _:
            return ast.UnaryOp(ast.Not(), node)


def _words(text: str) -> str:
    return rf"\text{{{text.replace('_', ' ')}}}"


def _with_index(symbol: str, index: str) -> str:
    base, found, given = symbol.partition("_")
    if not found:
        return f"{symbol}_t" if index == "t" else f"{symbol}_{{{index}}}"
    if "{" in base:  # the underscore belongs to an argument, like that of \mathit
        return f"{symbol}_{{{index}}}"
    inner = given[1:-1] if given.startswith("{") else given
    return f"{base}_{{{inner}, {index}}}"


def _after_sign(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _is_negative_product(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp(op=ast.USub()):
            return True
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div()):
            return _is_negative_product(left)
        case _:
            return False


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    digits, _, exponent = text.partition("e")
    digits = digits.removesuffix(".0")
    if not exponent:
        return digits
    power = f"10^{{{int(exponent)}}}"
    return power if digits == "1" else rf"{digits} \cdot {power}"
