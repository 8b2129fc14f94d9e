"""The equations as LaTeX, from the same trees as the code.

A slot is written with the time it is of: `m_{t-1}` until an equation assigns it, `m_t` from then on. The update is
written as what it does: `update = -x` becomes `w_t = w_{t-1} - x`.
"""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.formulas.conditions import in_formula, negation
from mlax_codegen.formulas.symbols import (
    called,
    default_symbol,
    number,
    raised,
    with_index,
    words,
    words_joined,
)
from mlax_codegen.language import (
    COUNT,
    FUNCTIONS,
    GRADIENT,
    NDIM,
    RESULT,
    SHAPE,
    SKIP,
    STEP_NUMBER,
    TOTAL,
    TOTAL_COUNT,
    UNLESS,
    UPDATE,
    WEIGHT,
    Type,
    is_of_numbers,
)
from mlax_codegen.reading.declarations import Definition, Init
from mlax_codegen.reading.equations import ExpressionCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import (
    arguments_of,
    assignments_in,
    indexed,
    is_list,
    item_at,
    loops_of,
    names_in,
    parts_of,
)

__all__ = ["NEW_WEIGHT", "Equation", "Equations", "symbols"]

NEW_WEIGHT = "w_t"

_SUMS = frozenset(["sum", "max", "min", "product", TOTAL, "total_max", "total_min"])
# How tightly a text binds. What is open would take in a factor written after it: a sum sign, a quotient on one line.
_SUM, _OPEN, _PRODUCT, _POWER, _ATOM = range(1, 6)
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: r"\ne",
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
}


@dataclass(frozen=True)
class Condition:
    """What equations stand under.

    Attributes:
        test: The condition.
        formula: LaTeX of it, with what it reads as it is where it is tested.
        otherwise: Whether it is the opposite of the one that the equations before stand under.
    """

    test: ast.expr
    formula: str
    otherwise: bool


@dataclass(frozen=True)
class Equation:
    """What a line says.

    Attributes:
        conditions: What it stands under, from the outermost to the innermost `if`.
        formula: LaTeX, with & before its sign.
        name: What it defines; `NEW_WEIGHT` for the weights after the step.
        value: What it defines that to be.
    """

    conditions: tuple[Condition, ...]
    formula: str
    name: str
    value: ast.expr


def symbols(spec: Spec) -> Mapping[str, str]:
    """Return how the formulas write each name that they compute with, where a step assigns it after that."""
    equations = Equations(spec)
    codes = spec.blocks.copy()
    codes += [function.leaf for function in spec.functions]
    parts = [part for code in codes for statement in code.body for part in parts_of(statement)]
    found = [part.id for part in parts if isinstance(part, ast.Name)]
    unwritten = {h.name for h in spec.hyperparameters if h.kind in {"flag", "choice"}}
    unwritten |= {scalar.name for scalar in spec.scalars if scalar.is_key} | {
        *FUNCTIONS,
        SKIP,
        UNLESS,
    }
    unwritten |= {
        name for part in parts if isinstance(part, ast.comprehension) for name, _ in loops_of(part)
    }
    unwritten |= {
        name
        for name, code in spec.shapes.items()
        if isinstance(code.expression, ast.Compare | ast.BoolOp)
    }
    unwritten |= set() if equations.update_is_read else {UPDATE}
    names = [name for name in dict.fromkeys(found) if name not in unwritten]
    return {name: equations.symbol(name, assigned=True) for name in names}


class Equations:
    """Writes equations one after the other, and so knows which slots have been assigned."""

    def __init__(self, spec: Spec, constant: Collection[str] | None = None) -> None:
        """Begin before a step.

        Args:
            spec: Whose equations they are.
            constant: Slots that no step changes; by default those that these equations assign nowhere.
        """
        self.spec = spec
        leaf = [statement for phase in spec.phases for statement in phase.leaf.body]
        # What the state holds, which is of one step or of the one before.
        self.slots: dict[str, str] = {
            s.name: s.symbol or default_symbol(s.name) for s in spec.slots
        }
        self.slots |= {s.name: s.symbol or default_symbol(s.name) for s in spec.scalars}
        self.constant: set[str] = (
            {slot.name for slot in spec.slots} - {name for name, _ in assignments_in(leaf)}
            if constant is None
            else {*constant}
        )
        self.fixed: dict[str, str] = {
            h.name: h.symbol or default_symbol(h.name) for h in spec.hyperparameters
        }
        self.fixed |= {a.name: a.symbol or default_symbol(a.name) for a in spec.arguments}
        self.definitions: Mapping[str, Definition] = {x.name: x for x in spec.definitions}
        self.fixed |= {x.name: x.symbol or called(x.name) for x in spec.definitions}
        self.parameters: Collection[str] = ()  # of the definition that is written
        self.fixed |= {name: spec.symbols.get(name, default_symbol(name)) for name in spec.shapes}
        self.fixed |= {STEP_NUMBER: "t", SHAPE: "n", NDIM: r"\operatorname{ndim}"}
        self.fixed |= {COUNT: r"\operatorname{count}"}
        self.fixed |= {TOTAL_COUNT: r"\operatorname{count}_{\text{all leaves}}"}
        self.current: set[str] = set()  # what this step has assigned
        self.result: str = r"\bar{w}_t"
        self.conditions: set[str] = set()  # which of that is true or false
        # The opposite of the condition of the `if` that has just ended, and what was assigned before it.
        self.opposite: str = ""
        self.before: set[str] = set()
        functions = [statement for f in spec.functions for statement in f.leaf.body]
        scalars = [x for phase in spec.phases if phase.scalars for x in phase.scalars.body]
        assigned = {name for name, _ in assignments_in([*leaf, *functions])}
        # What differs between leaves and steps; the variable of a comprehension is assigned nowhere.
        self.of_leaves: set[str] = assigned - {name for name, _ in assignments_in(scalars)}
        shapes = {slot.name: slot.shape.expression for slot in spec.slots if slot.shape}
        shapes = {name: shape for name, shape in shapes.items() if is_list(shape, ())}
        self.of_axes: set[str] = {NDIM, SHAPE, *(x for x, y in shapes.items() if _is_of_axes(y))}
        self.lists: set[str] = {h.name for h in spec.hyperparameters if h.kind == "list"}
        self.lists |= {*shapes}
        for name, value in assignments_in([*leaf, *functions]):
            self.lists |= {name} if is_list(value, self.lists) else set()
        self.update_is_read: bool = UPDATE in names_in(leaf)
        self.sizes: set[str] = {
            name
            for name, code in spec.shapes.items()
            if code.expression and is_sizes(code.expression)
        }

    def placed(self) -> Iterator[Equation]:
        """Yield the equations of a step, after the definitions that they call."""
        for each in self.spec.definitions:
            self.parameters = each.parameters
            given = ", ".join(map(default_symbol, each.parameters))
            value = each.code.expression
            sign = r"&\Leftrightarrow" if self.is_condition(value) else "&="
            formula = f"{self.fixed[each.name]}({given}) {sign} {self.tex(value, 0)}"
            yield Equation((), formula, each.name, value)
        self.parameters = ()
        for name, code in self.spec.shapes.items():
            if name in self.sizes:  # as the spec writes it
                right = ast.unparse(code.expression).replace("_", r"\_")
                formula = rf"{words(name)} &= \text{{{right}}}"
            else:
                flag = isinstance(code.expression, ast.Compare | ast.BoolOp)
                left = words(name) if flag else self.fixed[name]
                sign = r"&\Leftrightarrow" if flag else "&="
                right = self.condition(code.expression) if flag else self.tex(code.expression)
                formula = f"{left} {sign} {right}"
            yield Equation((), formula, name, code.expression)
        for phase in self.spec.phases:
            for block in filter(None, (phase.scalars, phase.skip, phase.leaf)):
                yield from self.statements(block.body)
        if self.update_is_read:
            formula = f"w_t &= w_{{t-1}} + {self.local(UPDATE)}"
            yield Equation((), formula, NEW_WEIGHT, ast.Name(UPDATE, ast.Load()))

    def begins(self) -> Iterator[str]:
        """Yield what the state begins with, where that is more than a number, a hyperparameter or a word."""
        for each in self.spec.state:
            symbol = self.slots[each.name]
            left = symbol if each.name in self.constant else with_index(symbol, "0")
            match each.init:
                case Init(word="gradient"):
                    phase, number = self.spec.first_named(each.name)
                    changed = GRADIENT in dict(assignments_in(phase.leaf.body[:number]))
                    yield f"{left} &= g_1" + (r" \text{ after its changes}" if changed else "")
                case Init(word="normal", code=ExpressionCode(expression=deviation)):
                    variance = raised(self.tex(deviation, _ATOM, inline=True), "2")
                    variance = "1" if self.tex(deviation) == "1" else variance
                    yield rf"{left} &\sim \mathcal{{N}}(0, {variance})"
                case Init(code=ExpressionCode(expression=value)) if not isinstance(value, ast.Name):
                    yield f"{left} &= {self.tex(value)}"
                case _:
                    pass

    def statements(
        self, body: Sequence[ast.stmt], conditions: tuple[Condition, ...] = ()
    ) -> Iterator[Equation]:
        """Yield the equations of a block."""
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    formula, opposite = self.condition(test), self.condition(negation(test))
                    before = set(self.current)
                    follows = formula == self.opposite
                    self.current = set(self.before if follows else before)
                    self.opposite = ""
                    given = Condition(test, formula, follows)
                    yield from self.statements(then, (*conditions, given))
                    after, self.current, self.opposite = self.current, set(before), ""
                    given = Condition(negation(test), opposite, bool(then))
                    yield from self.statements(otherwise, (*conditions, given))
                    self.current |= after
                    self.opposite, self.before = opposite, before
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    formula = self.assignment(name, value)
                    self.opposite = ""
                    moves = name == UPDATE and not self.update_is_read
                    yield Equation(conditions, formula, NEW_WEIGHT if moves else name, value)
                case _:
                    pass

    def assignment(self, name: str, value: ast.expr) -> str:
        """Return an equation; a list of one for each axis, and work of some steps, say so at the end."""
        match value:
            case ast.Call(func=ast.Name(id="every"), args=[k, new, ast.Name(id=old)]) if (
                old == name
            ):
                return f"{self.assignment(name, new)} {self.every(k)}"
            case ast.ListComp(generators=[generator]):
                element, index = indexed(value)
                conditions = [self.condition(test) for test in generator.ifs]
                where = r" \text{ with } ".join([index, *conditions])
                line = self.equation(name, element, axis=index)
                axis = "axis " if self.of_axes & {*names_in([generator.iter])} else ""
                return rf"{line} \quad \text{{for each {axis}}} {where}"
            case _:
                return self.equation(name, value)

    def is_condition(self, value: ast.expr) -> bool:
        match value:
            case ast.Name(id=name):
                return name in self.conditions
            case ast.IfExp(body=body):
                return self.is_condition(body)
            case ast.Call(func=ast.Name(id=name)) if name in self.definitions:
                return self.is_condition(self.definitions[name].code.expression)
            case ast.Call(func=ast.Name(id=name)):
                return FUNCTIONS[name].result is Type.CONDITION
            case ast.UnaryOp(op=ast.Not()):
                return True
            case _:
                return isinstance(value, ast.Compare | ast.BoolOp)

    def every(self, k: ast.expr) -> str:
        return rf"\quad \text{{every }} {self.tex(k)} \text{{ steps}}"

    def equation(self, name: str, value: ast.expr, axis: str = "") -> str:
        if name == SKIP:
            return rf"\text{{all stays as it was}} &\text{{ if }} {self.tex(value, 0)}"
        if self.is_condition(value):
            right = self.tex(value, 0)
            self.current.add(name)
            self.conditions.add(name)
            return rf"{self.symbol(name, assigned=True)} &\Leftrightarrow {right}"
        right = self.tex(value)
        if name == UPDATE and not self.update_is_read:
            sign, rest = ("-", right[1:]) if right.startswith("-") else ("+", right)
            return f"w_t &= w_{{t-1}} {sign} {rest}"
        again = name == GRADIENT or name in self.current
        self.current.add(name)
        sign = r"&\leftarrow" if again else "&="
        if name == RESULT:
            return rf"{self.result} &= {right}"
        left = self.symbol(name, assigned=True)
        return f"{raised(left, f'({axis})') if axis else left} {sign} {right}"

    def symbol(self, name: str, *, assigned: bool = False) -> str:
        if name in self.parameters:
            return default_symbol(name)
        if name in self.fixed:
            return self.fixed[name]
        if name in self.constant:
            return self.slots[name]
        if name in self.slots:
            now = assigned or name in self.current
            return with_index(self.slots[name], "t" if now else "t-1")
        if name == GRADIENT:
            return "g_t"
        if name == WEIGHT:
            return "w_t" if WEIGHT in self.current else "w_{t-1}"
        return self.local(name)

    def local(self, name: str) -> str:
        plain = "u" if name == UPDATE else self.spec.symbols.get(name) or default_symbol(name)
        return with_index(plain, "t") if name in self.of_leaves else plain

    def tex(self, node: ast.expr, level: int = _SUM, *, inline: bool = False) -> str:
        """Return an expression, in parentheses where it binds looser than `level`; inline, without fractions."""
        text, own = self.bare(node, inline=inline)
        return text if own >= level else f"({text})"

    def bare(self, node: ast.expr, *, inline: bool) -> tuple[str, int]:
        match node:
            case ast.Name(id=name):
                return self.symbol(name), _ATOM
            case ast.Constant(value=int() | float() as value):
                return number(value), _ATOM
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self.condition(node), 0
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self.tex(operand, _OPEN, inline=inline)}", _SUM
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                sign = "+" if isinstance(op, ast.Add) else "-"
                first = self.tex(left, _SUM, inline=inline)
                second = self.tex(right, _SUM if sign == "+" else _OPEN, inline=inline)
                return f"{first} {sign} {_after_sign(second)}", _SUM
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.product(left, right, inline=inline)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self.quotient(left, right, inline=inline)
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return rf"\lfloor {self.quotient(left, right, inline=True)[0]} \rfloor", _ATOM
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                first, second = (self.tex(part, _POWER, inline=True) for part in (left, right))
                return rf"{first} \operatorname{{mod}} {second}", _OPEN
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(left, right)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self.cases(body, test, otherwise), _ATOM
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return f"{self.tex(left)} {_COMPARE[type(op)]} {self.tex(right)}", 0
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in self.definitions:
                given = [self.tex(argument, inline=True) for argument in arguments]
                return f"{self.fixed[name]}({', '.join(given)})", _ATOM
            case ast.Call(func=ast.Name(id="every"), args=[k, new, old]):
                first, second = self.tex(new, inline=True), self.tex(old, inline=True)
                each = rf"\text{{every }} {self.tex(k)} \text{{ steps}}"
                return (
                    rf"\begin{{cases}} {first} & {each} \\ {second} & \text{{otherwise}} \end{{cases}}",
                    _ATOM,
                )
            case ast.Call(func=ast.Name(id="where"), args=[test, body, otherwise]):
                return self.cases(body, test, otherwise, of_arrays=True), _ATOM
            case ast.Call(func=ast.Name(id="trust_ratio"), args=[w, d, *more], keywords=named):
                optional = dict(zip(("coefficient", "eps"), more, strict=False))
                optional |= {k.arg or "": k.value for k in named}
                ratio = self.trust_ratio(w, d, optional, inline=inline)
                return ratio, _OPEN if inline else _PRODUCT
            case ast.Call(func=ast.Name(id="matmul"), args=factors):
                # A product of elements stands in brackets.
                levels = [_POWER if isinstance(x, ast.BinOp) else _PRODUCT for x in factors]
                pairs = zip(factors, levels, strict=True)
                given = [self.tex(factor, level, inline=inline) for factor, level in pairs]
                return " ".join(given), _PRODUCT
            case ast.Call(func=ast.Name(id="transpose"), args=[matrix]):
                return raised(self.tex(matrix, _ATOM, inline=True), r"\top"), _POWER
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if (
                FUNCTIONS[name].latex == "{0}"
            ):
                return self.bare(first, inline=inline)
            case ast.Call(func=ast.Name(id="sum") as total, args=[ast.IfExp(test, one, other)]):
                branches = (ast.Call(total, [each], []) for each in (one, other))
                return self.bare(ast.IfExp(test, *branches), inline=inline)
            case ast.Call(func=ast.Name(id="sum"), args=[items]) if is_list(items, self.lists):
                item, index = item_at(items, "i"), "i"
                if isinstance(items, ast.ListComp):
                    item, index = indexed(items)
                return rf"\sum_{index} {self.tex(item, _OPEN, inline=True)}", _OPEN
            case ast.Call(func=ast.Name(id=name), args=arguments):
                function = FUNCTIONS[name]
                if is_of_numbers(node):
                    given = [self.tex(a, 0, inline=True) for a in arguments_of(node)]
                    return rf"\{name}({', '.join(given)})", _ATOM
                if function.result is Type.CONDITION:
                    return function.formula([self.tex(a, inline=True) for a in arguments]), 0
                sums = name in _SUMS
                axes = self.axes(node) if function.reduces else ""
                level = _SUM if axes else _OPEN if sums else 0
                given = [self.tex(a, level, inline=True) for a in arguments]
                if axes:
                    given = [f"({given[0]} {axes})" if sums else f"{given[0]} {axes}"]
                return function.formula(given), _OPEN if sums else _ATOM
            case ast.Subscript(slice=ast.Slice()) | ast.List() if is_list(node, self.lists):
                return f"({self.part(node)})", _ATOM
            case ast.Subscript(value=array, slice=ast.Slice() | ast.Tuple() as index):
                items = index.elts if isinstance(index, ast.Tuple) else [index]
                return f"{self.tex(array)}[{', '.join(map(self.tex, items))}]", _ATOM
            case ast.Slice(lower=lower, upper=upper):
                low, high = (self.tex(x, inline=True) if x else "" for x in (lower, upper))
                return f"{low}{{:}}{high}", _ATOM
            case ast.Subscript(value=value, slice=index):
                name = value.id if isinstance(value, ast.Name) else ""
                inner = self.tex(index, inline=True)
                if name in self.fixed:
                    return with_index(self.fixed[name], inner), _ATOM
                return raised(self.tex(value, _ATOM), f"({inner})"), _ATOM
            case ast.Tuple(elts=items):
                return f"({', '.join(self.tex(item) for item in items)})", _ATOM
            case ast.ListComp():
                element, index = indexed(node)
                return f"({self.tex(element, inline=True)})_{{{index}}}", _ATOM
            case _:
                return "", _ATOM

    def part(self, node: ast.expr) -> str:
        """Return the items of a list: the first and the last of a slice."""
        match node:
            case ast.List(elts=items):
                return ", ".join(map(self.part, items))
            case ast.Starred(value=value):
                return self.part(value)
            case ast.Subscript(value=value, slice=ast.Slice(lower, upper)):
                ends = [lower or ast.Constant(0)]
                ends += [_before(upper)] if upper else []
                first, *last = (self.tex(ast.Subscript(value, end, ast.Load())) for end in ends)
                return ", ".join([first, r"\dots", *last])
            case ast.Name(id=name) if name in self.lists:
                return self.part(ast.Subscript(node, ast.Slice(), ast.Load()))
            case _:
                return self.tex(node, inline=True)

    def axes(self, call: ast.Call) -> str:
        """Return the axes that a call reduces, in words; "" if it reduces all of them."""
        given = {p.name: value for p, value in FUNCTIONS["sum"].given(call) if p.name != "x"}
        for word, axis in given.items():
            number = "" if isinstance(axis, ast.Subscript) else "axis "
            over = " over all axes but " if word == "but" else f" over {number}"
            return rf"\text{{{over}}} {self.tex(axis, inline=True)}"
        return ""

    def product(self, left: ast.expr, right: ast.expr, *, inline: bool) -> tuple[str, int]:
        first, own = self.bare(left, inline=inline)
        sign = ""
        if isinstance(left, ast.UnaryOp):
            sign, (first, own) = "-", self.bare(left.operand, inline=inline)
        elif own == _SUM and _is_negative_product(left):
            sign, first, own = "-", first[1:], _PRODUCT
        if own < _PRODUCT:
            first = f"({first})"
        second, last = self.bare(right, inline=inline)
        if last < _OPEN:
            second, last = f"({second})", _ATOM
        dot = r"\cdot " if second[0].isdigit() else ""
        return f"{sign}{first} {dot}{second}", _SUM if sign else min(last, _PRODUCT)

    def quotient(self, left: ast.expr, right: ast.expr, *, inline: bool) -> tuple[str, int]:
        above, below = self.tex(left, inline=True), self.tex(right, inline=True)
        if inline or r"\begin{cases}" in above + below:  # cases are too high for a fraction
            negative = _is_negative_product(left)
            top = above if negative else self.tex(left, _PRODUCT, inline=True)
            return f"{top} / {self.tex(right, _POWER, inline=True)}", _SUM if negative else _OPEN
        match left:
            case ast.BinOp(left=factor, op=ast.Mult(), right=numerator):
                first, own = self.bare(factor, inline=False)
                negative = _is_negative_product(factor)
                first = first if own >= _PRODUCT or negative else f"({first})"
                fraction = rf"\frac{{{self.tex(numerator, inline=True)}}}{{{below}}}"
                return f"{first} {fraction}", _SUM if negative else _PRODUCT
            case ast.UnaryOp(op=ast.USub(), operand=numerator):
                return rf"-\frac{{{self.tex(numerator, inline=True)}}}{{{below}}}", _SUM
            case _:
                return rf"\frac{{{above}}}{{{below}}}", _PRODUCT

    def power(self, base: ast.expr, exponent: ast.expr) -> tuple[str, int]:
        if isinstance(exponent, ast.Constant) and exponent.value == 0.5:
            return rf"\sqrt{{{self.tex(base, inline=True)}}}", _ATOM
        above = self.tex(exponent, inline=True)
        below = self.tex(base, _ATOM, inline=True)
        if isinstance(base, ast.Call | ast.IfExp) and not below.startswith("("):
            below = f"({below})"
        return raised(below, above), _POWER

    def trust_ratio(
        self, w: ast.expr, d: ast.expr, optional: Mapping[str, ast.expr], *, inline: bool
    ) -> str:
        above, below = (rf"\lVert {self.tex(x, 0, inline=True)} \rVert" for x in (w, d))
        eps, coefficient = optional.get("eps"), optional.get("coefficient")
        if eps is not None:
            below = f"{below} + {self.tex(eps, inline=True)}"
        if inline:
            ratio = f"{above} / ({below})" if eps is not None else f"{above} / {below}"
        else:
            ratio = rf"\frac{{{above}}}{{{below}}}"
        return ratio if coefficient is None else f"{self.tex(coefficient, _PRODUCT)} {ratio}"

    def cases(
        self, body: ast.expr, test: ast.expr, otherwise: ast.expr, *, of_arrays: bool = False
    ) -> str:
        """Return one row for each branch, also of a choice in the last branch."""
        rows: list[str] = []
        chosen: tuple[ast.expr, ast.expr, ast.expr] | None = (body, test, otherwise)
        while chosen is not None:
            body, test, otherwise = chosen
            when = self.tex(test, 0, inline=True) if of_arrays else self.condition(test)
            rows.append(rf"{self.tex(body, inline=True)} & \text{{if }} {when}")
            match otherwise:
                case ast.IfExp(test=test, body=body, orelse=last):
                    chosen, of_arrays = (body, test, last), False
                case ast.Call(func=ast.Name(id="where"), args=[test, body, last]):
                    chosen, of_arrays = (body, test, last), True
                case _:
                    chosen = None
        rows.append(rf"{self.tex(otherwise, inline=True)} & \text{{otherwise}}")
        text = words_joined(r" \\ ".join(rows))
        return rf"\begin{{cases}} {text} \end{{cases}}"

    def condition(self, node: ast.expr) -> str:
        """Return a static condition, in words if it is not a formula."""
        match node:
            case ast.Name(id=name) if name in self.sizes:
                return words(f"there are {name}")
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name)) if name in self.sizes:
                return words(f"there are no {name}")
            case _:
                pass
        return in_formula(node, self.test)

    def test(self, node: ast.expr) -> str:
        """Return a part of a condition; what is either true or false goes by its name, if no equation defines it."""
        match node:
            case ast.Name(id=name) if name not in self.conditions:
                return words(name)
            case ast.Call(func=ast.Name(id="at_steps"), args=[every, first]):
                k, one = self.tex(every, _PRODUCT), self.tex(first)
                times = (rf"2 {k}", rf"3 {k}") if k == one else (rf"{one} + {k}", rf"{one} + 2 {k}")
                return rf"t = {one}, {times[0]}, {times[1]}, \dots"
            case _:
                return self.tex(node, 0, inline=True)


def _is_of_axes(shapes: ast.expr) -> bool:
    """Whether a list of shapes has one for each axis."""
    if not isinstance(shapes, ast.ListComp):
        return True
    return bool({NDIM, SHAPE} & {*names_in([shapes.generators[0].iter])})


def _before(index: ast.expr) -> ast.expr:
    """Return the index before another."""
    match index:
        case ast.Constant(value=int() as value):
            return ast.Constant(value - 1)
        case ast.UnaryOp(operand=ast.Constant(value=int() as value)):
            return ast.UnaryOp(ast.USub(), ast.Constant(value + 1))
        case _:
            return ast.BinOp(index, ast.Sub(), ast.Constant(1))


def is_sizes(node: ast.expr) -> bool:
    """Whether a value is axes or a shape, which formulas name and do not compute."""
    match node:
        case ast.IfExp(body=body):
            return is_sizes(body)
        case ast.Call(func=ast.Name(id=name)):
            return FUNCTIONS[name].result in {Type.SIZES, Type.SHAPES}
        case _:
            return isinstance(node, ast.Tuple | ast.ListComp)


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
