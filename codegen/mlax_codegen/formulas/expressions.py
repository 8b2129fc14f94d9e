"""Expressions and conditions as formulas, from the same trees as the code.

A slot is written with the time it is of: `m_{t-1}` until an equation assigns it, `m_t` from then on.
"""

import ast
from collections.abc import Collection, Mapping

from mlax_codegen.formulas.parts import (
    ATOM,
    CONDITION,
    OPEN,
    POWER,
    PRODUCT,
    QUOTIENT,
    SUM,
    Formula,
    cases,
    fraction,
    indexed_by,
    listed,
    made,
    number,
    product,
    raised,
    root,
    words,
)
from mlax_codegen.formulas.symbols import called, default_symbol
from mlax_codegen.language import (
    COUNT,
    FUNCTIONS,
    GRADIENT,
    NDIM,
    SHAPE,
    STEP_NUMBER,
    TOTAL,
    TOTAL_COUNT,
    TOTALS,
    UPDATE,
    WEIGHT,
    Type,
)
from mlax_codegen.reading.declarations import Definition
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import (
    arguments_of,
    assignments_in,
    indexed,
    is_list,
    item_at,
    names_in,
)

__all__ = ["Expressions"]

_NOW, _BEFORE = made("t"), made("t-1")

_SUMS = frozenset(["sum", "max", "min", "product"])
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: r"\ne",
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
}


class Expressions:
    """Writes expressions, and knows which slots have been assigned."""

    def __init__(self, spec: Spec, constant: Collection[str] | None = None) -> None:
        """Begin before a step.

        Args:
            spec: Whose equations they are.
            constant: Slots that no step changes; by default those that these equations assign nowhere.
        """
        self.spec = spec
        leaf = [statement for phase in spec.phases for statement in phase.leaf.body]
        functions = [statement for f in spec.functions for statement in f.leaf.body]
        scalars = [x for phase in spec.phases if phase.scalars for x in phase.scalars.body]

        def symbols(*declared: tuple[str, str | None]) -> dict[str, Formula]:
            return {name: made(symbol or default_symbol(name)) for name, symbol in declared}

        # What the state holds, which is of one step or of the one before.
        self.slots: dict[str, Formula] = symbols(*((x.name, x.symbol) for x in spec.state))
        self.constant: set[str] = (
            {slot.name for slot in spec.slots} - {name for name, _ in assignments_in(leaf)}
            if constant is None
            else {*constant}
        )
        self.definitions: Mapping[str, Definition] = {x.name: x for x in spec.definitions}
        self.parameters: Collection[str] = ()  # of the definition that is written
        self.fixed: dict[str, Formula] = symbols(
            *((x.name, x.symbol) for x in spec.hyperparameters),
            *((x.name, x.symbol) for x in spec.arguments),
            *((x.name, x.symbol or called(x.name)) for x in spec.definitions),
            *((name, spec.symbols.get(name)) for name in spec.shapes),
            (STEP_NUMBER, "t"),
            (SHAPE, "n"),
            (NDIM, called(NDIM)),
            (COUNT, called(COUNT)),
            (TOTAL_COUNT, rf"{called(COUNT)}(\text{{all leaves}})"),
        )
        self.current: set[str] = set()  # what this step has assigned
        self.conditions: set[str] = set()  # which of that is true or false
        assigned = {name for name, _ in assignments_in([*leaf, *functions])}
        # The names that differ between leaves and steps; the variable of a comprehension is assigned nowhere.
        self.of_leaves: set[str] = assigned - {name for name, _ in assignments_in(scalars)}
        shapes = {slot.name: slot.shape.expression for slot in spec.slots if slot.shape}
        shapes = {name: shape for name, shape in shapes.items() if is_list(shape, ())}
        self.of_axes: set[str] = {NDIM, SHAPE, *(x for x, y in shapes.items() if _is_of_axes(y))}
        self.lists: set[str] = {h.name for h in spec.hyperparameters if h.kind == "list"}
        self.lists |= {*shapes}
        for name, value in assignments_in([*leaf, *functions]):
            self.lists |= {name} if is_list(value, self.lists) else set()
        # Of lists that have as many items as an integer says.
        self.lengths: dict[str, Formula] = {
            slot.name: self.fixed[slot.each]
            for slot in spec.slots
            if slot.each in self.fixed and slot.each not in self.lists
        }
        self.update_is_read: bool = UPDATE in names_in(leaf)
        self.sizes: set[str] = {
            name for name, code in spec.shapes.items() if _is_sizes(code.expression)
        }

    def symbol(self, name: str, *, assigned: bool = False) -> Formula:
        """Return what a name is written as; if `assigned`, where an equation defines it."""
        if name in self.parameters:
            return made(default_symbol(name))
        if name in self.fixed:
            return self.fixed[name]
        if name in self.constant:
            return self.slots[name]
        now = assigned or name in self.current
        if name in self.slots:
            return indexed_by(self.slots[name], _NOW if now else _BEFORE)
        if name == GRADIENT:
            return made("g_t")
        if name == WEIGHT:
            return made("w_t" if now else "w_{t-1}")
        symbol = self.spec.symbols.get(name) or default_symbol(name)
        plain = made("u" if name == UPDATE else symbol)
        return indexed_by(plain, _NOW) if name in self.of_leaves else plain

    def tex(self, node: ast.expr, level: int = SUM, *, inline: bool = False) -> Formula:
        """Return an expression, in parentheses where it binds looser than `level`; inline, without fractions."""
        return self.bare(node, inline=inline).at(level)

    def bare(self, node: ast.expr, *, inline: bool = False) -> Formula:
        match node:
            case ast.Name(id=name):
                return self.symbol(name)
            case ast.Constant(value=int() | float() as value):
                return number(value)
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
                return self.condition(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return made("-#1", self.tex(operand, QUOTIENT, inline=inline), level=SUM)
            case ast.BinOp(op=ast.Mult() | ast.Div()) if (
                positive := _without_sign(node)
            ) is not node:
                return made("-#1", self.tex(positive, QUOTIENT, inline=inline), level=SUM)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                sign, level = ("+", SUM) if isinstance(op, ast.Add) else ("-", QUOTIENT)
                first = self.tex(left, SUM, inline=inline)
                second = self.tex(right, level, inline=inline)
                second = second.at(ATOM) if second.is_negative else second
                return made(f"#1 {sign} #2", first, second, level=SUM)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return product(self.factor(left, inline=inline), self.bare(right, inline=inline))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self.quotient(left, right, inline=inline)
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return made(r"\lfloor #1 \rfloor", self.quotient(left, right, inline=True))
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                parts = (self.tex(part, POWER, inline=True) for part in (left, right))
                return made(r"#1 \operatorname{mod} #2", *parts, level=QUOTIENT)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(left, right)
            case ast.IfExp() | ast.Call(func=ast.Name(id="where" | "every")):
                return self.cases(node)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                parts = (self.tex(part, inline=True) for part in (left, right))
                return made(f"#1 {_COMPARE[type(op)]} #2", *parts, level=CONDITION)
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name, inline=inline)
            case ast.Subscript(slice=ast.Slice()) | ast.List() if is_list(node, self.lists):
                return made("(#1)", self.items(node))
            case ast.Subscript(value=array, slice=ast.Slice() | ast.Tuple() as index):
                items = index.elts if isinstance(index, ast.Tuple) else [index]
                return made("#1[#2]", self.tex(array, ATOM), self.listed(items))
            case ast.Slice(lower=lower, upper=upper):
                ends = (self.tex(x, inline=True) if x else made("") for x in (lower, upper))
                return made("#1{:}#2", *ends)
            case ast.Subscript(value=ast.Name(id=name), slice=index) if name in self.fixed:
                return indexed_by(self.fixed[name], self.tex(index, inline=True))
            case ast.Subscript(
                value=ast.Name(id=name) as value, slice=ast.UnaryOp(operand=back)
            ) if name in self.lengths:
                end = made("(#1 - #2)", self.lengths[name], self.tex(back, QUOTIENT))
                return raised(self.tex(value, ATOM), end)
            case ast.Subscript(value=value, slice=index):
                return raised(self.tex(value, ATOM), made("(#1)", self.tex(index, inline=True)))
            case ast.Tuple(elts=items):
                return made("(#1)", self.listed(items))
            case ast.ListComp():
                element, letter = indexed(node)
                return made(f"(#1)_{letter}", self.tex(element, inline=True))
            case _:
                return made("")

    def listed(self, nodes: Collection[ast.expr]) -> Formula:
        return listed([self.tex(node, CONDITION, inline=True) for node in nodes])

    def call(self, node: ast.Call, name: str, *, inline: bool) -> Formula:
        """Return a call of a function of the language, or of the spec."""
        arguments = node.args
        match name, arguments:
            case _ if name in self.definitions:
                return made("#1(#2)", self.fixed[name], self.listed(arguments))
            case "sqrt" | "cbrt", [inside]:
                return root(self.tex(inside, inline=True), "[3]" if name == "cbrt" else "")
            case "trust_ratio", [w, d, *more]:
                optional = dict(zip(("coefficient", "eps"), more, strict=False))
                optional |= {k.arg or "": k.value for k in node.keywords}
                return self.trust_ratio(w, d, optional, inline=inline)
            case "outer_mean", [row, column, _, *_]:
                rows, columns = (self.tex(x, POWER, inline=True) for x in (row, column))
                smallest = [x for p, x in FUNCTIONS[name].given(node) if p.name == "min_mean"]
                mean = made(r"\operatorname{mean}(#1)", rows)
                for least in smallest:
                    mean = made(r"\max(#1, #2)", mean, self.tex(least, inline=True))
                return fraction(made(r"#1 \otimes #2", rows, columns, level=OPEN), mean)
            case "inverse_root", [matrix, p, added]:
                eps = self.tex(added, PRODUCT, inline=True)
                shifted = made("(#1 + #2 I)", self.tex(matrix, inline=True), eps)
                return raised(shifted, made("-#1", fraction(made("1"), self.tex(p))))
            case "matmul", [_, _]:
                # A product of elements stands in brackets.
                levels = (POWER if isinstance(x, ast.BinOp) else PRODUCT for x in arguments)
                pairs = zip(arguments, levels, strict=True)
                return made("#1 #2", *(self.tex(*x, inline=inline) for x in pairs), level=PRODUCT)
            case "transpose", [matrix]:
                return raised(self.tex(matrix, ATOM, inline=True), made(r"\top"))
            case _, [first, *_] if FUNCTIONS[name].latex == "{0}":
                return self.bare(first, inline=inline)
            case "sum", [ast.IfExp(test, one, other)]:
                branches = (ast.Call(node.func, [each], node.keywords) for each in (one, other))
                return self.bare(ast.IfExp(test, *branches), inline=inline)
            case "sum", [items] if is_list(items, self.lists):
                item, index = item_at(items, "i"), "i"
                if isinstance(items, ast.ListComp):
                    item, index = indexed(items)
                return made(rf"\sum_{index} #1", self.tex(item, OPEN, inline=True), level=OPEN)
            case "max" | "min", [_, _]:
                return made(rf"\{name}(#1)", self.listed(arguments_of(node)))
            case _:
                return self.template(node, name)

    def template(self, node: ast.Call, name: str) -> Formula:
        """Return a call as the language writes it; a total is what reduces a leaf, over all leaves."""
        function = FUNCTIONS[name]
        given = {parameter.name: value for parameter, value in function.given(node)}
        over = self.axes(node) if function.reduces else None
        if name in TOTALS:
            over = made(r"\text{ over all leaves}")
            function = FUNCTIONS["sum" if name == TOTAL else name.removeprefix("total_")]
        sums, is_condition = function.name in _SUMS, function.result is Type.CONDITION
        level = SUM if over or is_condition else OPEN if sums else CONDITION
        parts = [
            self.tex(given[p.name], level, inline=True) if p.name in given else made("")
            for p in function.parameters
        ]
        if over:
            parts[0] = made("(#1 #2)" if sums else "#1 #2", parts[0], over)
        level = OPEN if sums else CONDITION if is_condition else ATOM
        level = POWER if function.latex.endswith("^2") else level
        return made(function.formula, *parts, level=level)

    def axes(self, call: ast.Call) -> Formula | None:
        """Return the axes that a call reduces, in words; None if it reduces all of them."""
        given = {p.name: value for p, value in FUNCTIONS["sum"].given(call) if p.name != "x"}
        for word, axis in given.items():
            number = "" if isinstance(axis, ast.Subscript) else "axis "
            over = " over all axes but " if word == "but" else f" over {number}"
            return made(rf"\text{{{over}}} #1", self.tex(axis, inline=True))
        return None

    def factor(self, node: ast.expr, *, inline: bool) -> Formula:
        """Return a factor before others: its own last factor is in parentheses if it is a quotient."""
        match node:
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                last = self.tex(right, PRODUCT, inline=inline)
                return product(self.factor(left, inline=inline), last)
            case _:
                return self.bare(node, inline=inline)

    def quotient(self, left: ast.expr, right: ast.expr, *, inline: bool) -> Formula:
        above, below = self.bare(left, inline=True), self.bare(right, inline=True)
        shown = fraction(above, below)
        match left:
            case ast.BinOp(left=factor, op=ast.Mult(), right=numerator):
                last = self.bare(numerator, inline=True)
                above = product(self.factor(factor, inline=True), last.at(PRODUCT))
                shown = product(self.factor(factor, inline=False), fraction(last, below))
            case _:
                pass
        on_a_line = made("#1 / #2", above.at(PRODUCT), below.at(POWER), level=QUOTIENT)
        if inline or r"\begin{cases}" in on_a_line.latex:  # cases are too high for a fraction
            return on_a_line
        return Formula(shown.latex, on_a_line.text, PRODUCT, QUOTIENT)

    def power(self, base: ast.expr, exponent: ast.expr) -> Formula:
        below = self.bare(base, inline=True)
        if isinstance(exponent, ast.Constant) and exponent.value == 0.5:
            return root(below)
        if isinstance(base, ast.Call) and below.level == ATOM:
            below = made("(#1)", below)
        return raised(below, self.tex(exponent, inline=True))

    def trust_ratio(
        self, w: ast.expr, d: ast.expr, optional: Mapping[str, ast.expr], *, inline: bool
    ) -> Formula:
        above, below = (made(r"\lVert #1 \rVert", self.tex(x, inline=True)) for x in (w, d))
        if (eps := optional.get("eps")) is not None:
            below = made("#1 + #2", below, self.tex(eps, inline=True), level=SUM)
        ratio = fraction(above, below)
        if inline:
            ratio = made("#1 / #2", above, below.at(POWER), level=QUOTIENT)
        coefficient = optional.get("coefficient")
        return ratio if coefficient is None else product(self.tex(coefficient, PRODUCT), ratio)

    def cases(self, node: ast.expr) -> Formula:
        """Return one row for each branch, also of a choice in the last branch."""
        rows: list[tuple[Formula, Formula]] = []
        while True:
            match node:
                case ast.IfExp(test=test, body=body, orelse=otherwise):
                    when = self.condition(test)
                case ast.Call(func=ast.Name(id="where"), args=[test, body, otherwise]):
                    when = self.condition(test)
                case ast.Call(func=ast.Name(id="every"), args=[k, body, otherwise]):
                    when = self.at_steps(k, ast.Constant(1))
                case _:
                    return cases(rows, self.tex(node, inline=True))
            rows.append((self.tex(body, inline=True), when))
            node = otherwise

    def condition(self, node: ast.expr) -> Formula:
        """Return a condition; what is either true or false goes by its name, if no equation defines it."""
        match node:
            case ast.Name(id=name) if name in self.sizes:
                return words(f"there are {name}")
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name)) if name in self.sizes:
                return words(f"there are no {name}")
            case ast.Name(id=name) if name not in self.conditions:
                return words(name)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.condition(operand)
                return made(
                    r"\text{not } #1" if isinstance(operand, ast.Name) else r"\text{not } (#1)",
                    inner,
                    level=CONDITION,
                )
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                first, *more = (
                    made("(#1)" if isinstance(value, ast.BoolOp) else "#1", self.condition(value))
                    for value in values
                )
                for part in more:
                    first = made(rf"#1 \text{{ {word} }} #2", first, part, level=CONDITION)
                return first
            case ast.Call(func=ast.Name(id="at_steps"), args=[every, first]):
                return self.at_steps(every, first)
            case _:
                return self.tex(node, CONDITION, inline=True)

    def at_steps(self, every: ast.expr, first: ast.expr) -> Formula:
        """Return the steps at which a phase is computed."""
        k, one = self.tex(every, PRODUCT), self.tex(first)
        twice, thrice = (product(number(times), k) for times in (2, 3))
        later = (twice, thrice) if k == one else (made("#1 + #2", one, x) for x in (k, twice))
        return made(r"t = #1, #2, #3, \dots", one, *later, level=CONDITION)

    def items(self, node: ast.expr) -> Formula:
        """Return the items of a list: the first and the last of a slice."""
        match node:
            case ast.List(elts=elements):
                return listed(map(self.items, elements))
            case ast.Starred(value=value):
                return self.items(value)
            case ast.Subscript(value=value, slice=ast.Slice(lower, upper)):
                ends = [lower or ast.Constant(0), *([_before(upper)] if upper else [])]
                first, *last = (self.bare(ast.Subscript(value, end, ast.Load())) for end in ends)
                return listed([first, made(r"\dots"), *last])
            case ast.Name(id=name) if name in self.lists:
                return self.items(ast.Subscript(node, ast.Slice(), ast.Load()))
            case _:
                return self.tex(node, inline=True)


def _is_sizes(node: ast.expr) -> bool:
    """Whether a value is axes or a shape, which formulas name and do not compute."""
    match node:
        case ast.IfExp(body=body):
            return _is_sizes(body)
        case ast.Call(func=ast.Name(id=name)):
            return FUNCTIONS[name].result in {Type.SIZES, Type.SHAPES}
        case _:
            return isinstance(node, ast.Tuple | ast.ListComp)


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


def _without_sign(node: ast.expr) -> ast.expr:
    """Return a product or a quotient without the minus sign that its first factor begins with."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return operand
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
            first = _without_sign(left)
            return node if first is left else ast.BinOp(first, op, right)
        case _:
            return node
