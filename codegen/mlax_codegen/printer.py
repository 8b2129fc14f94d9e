"""Prints expressions and statements as `ruff format` does, with names replaced on the way.

Templates write each statement on one line; `fit` breaks the lines that are too long.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.language import FUNCTIONS
from mlax_codegen.layout import (
    SOFT,
    SPACE,
    WIDTH,
    Doc,
    Group,
    IfBroken,
    Indent,
    brackets,
    join,
    render,
)

__all__ = ["expression_text", "fit"]

_OPERATORS: dict[type[ast.AST], tuple[str, int]] = {  # the looser, the larger
    ast.Pow: ("**", 1),
    ast.Mult: ("*", 3),
    ast.Div: ("/", 3),
    ast.Add: ("+", 4),
    ast.Sub: ("-", 4),
    ast.BitOr: ("|", 5),
    ast.Eq: ("==", 6),
    ast.NotEq: ("!=", 6),
    ast.Lt: ("<", 6),
    ast.LtE: ("<=", 6),
    ast.Gt: (">", 6),
    ast.GtE: (">=", 6),
    ast.Is: ("is", 6),
    ast.IsNot: ("is not", 6),
    ast.And: ("and", 8),
    ast.Or: ("or", 9),
}
_CONDITIONAL = 10
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.Not: "not "}


def expression_text(code: str, node: ast.expr, names: Mapping[str, str]) -> str:
    """Return an expression of some code on one line, with other names for some of its names."""
    return render_flat(_Expressions(code, names).top(node))


def render_flat(doc: Doc) -> str:
    """Return a document on one line."""
    match doc:
        case str():
            return doc
        case Group() | Indent():
            return render_flat(doc.body)
        case IfBroken():
            return ""
        case Sequence():
            return "".join(render_flat(part) for part in doc)
        case _:
            return doc.flat


def fit(line: str) -> list[str]:
    """Return a statement (or the head of one) on as many lines as it needs."""
    if len(line) <= WIDTH:
        return [line]
    indent = len(line) - len(line.lstrip())
    text = line.strip()
    head = text.endswith(":")
    source = text
    if text.startswith("elif "):
        source = text[2:]
    statement = ast.parse(source + " pass" if head else source).body[0]
    printer = _Expressions(source, {})
    match statement:
        case ast.FunctionDef():
            return render(_definition(printer, statement, text), indent)
        case ast.If(test=test):
            word = "elif " if text.startswith("elif ") else "if "
            return printer.optional(word, test, ":", indent)
        case ast.Assign(targets=[target], value=value):
            return printer.optional(f"{_slice(source, target)} = ", value, "", indent)
        case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as value):
            start = f"{_slice(source, target)}: {_slice(source, annotation)} = "
            return printer.optional(start, value, "", indent)
        case ast.Return(value=ast.expr() as value):
            return printer.optional("return ", value, "", indent)
        case ast.Raise(exc=ast.expr() as value):
            return printer.optional("raise ", value, "", indent)
        case ast.Expr(value=value):
            return printer.optional("", value, "", indent)
        case ast.ImportFrom(names=names):
            start = text[: text.index(" import ")] + " import "
            items = [alias.name for alias in names]
            return render([start, brackets("(", _one_per_line(items), ")")], indent)
        case _:
            raise NotImplementedError(f"the printer has no layout for: {line}")


def _slice(source: str, node: ast.AST) -> str:
    return ast.get_source_segment(source, node) or ""


def _one_per_line(items: Sequence[Doc]) -> Doc:
    return [join(items, [",", SPACE]), IfBroken(",")]


def _definition(printer: "_Expressions", node: ast.FunctionDef, text: str) -> Doc:
    arguments = node.args
    given: list[Doc] = []
    missing = len(arguments.args) - len(arguments.defaults)
    for index, argument in enumerate(arguments.args):
        default = arguments.defaults[index - missing] if index >= missing else None
        given.append(_parameter(printer, argument, default))
    if arguments.kwonlyargs:
        given.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        given.append(_parameter(printer, argument, default))
    end = text[text.rindex(") ->") + 1 :] if node.returns is not None else ":"
    return [f"def {node.name}", brackets("(", Group(_one_per_line(given)), ")"), end]


def _parameter(printer: "_Expressions", node: ast.arg, default: ast.expr | None) -> Doc:
    parts: list[Doc] = [node.arg]
    if node.annotation is not None:
        parts.append(f": {_slice(printer.code, node.annotation)}")
    if default is not None:
        parts.append(" = " if node.annotation is not None else "=")
        parts.append(_slice(printer.code, default))
    return parts


@dataclass(frozen=True)
class _Operand:
    doc: Doc
    simple: bool


class _Expressions:
    """Makes documents of expressions; `inside` is whether brackets around them let lines break."""

    def __init__(self, code: str, names: Mapping[str, str]) -> None:
        self.code = code
        self.lines = code.split("\n")
        self.names = names

    def optional(self, start: str, node: ast.expr, end: str, indent: int) -> list[str]:
        """Return the lines of a statement whose expression gets parentheses where they help."""
        if isinstance(node, ast.Call | ast.Dict | ast.List | ast.ListComp | ast.Tuple):
            return render([start, self.top(node), end], indent)
        if _can_do_without(node, self):
            bare: Doc = [start, self.top(node, inside=False), end]
            broken = render(bare, indent, every_group_broken=True)
            if all(len(line) <= WIDTH for line in broken):
                return render(bare, indent)
        body = Group(self.top(node))
        return render([start, Group(["(", Indent([SOFT, body]), SOFT, ")"]), end], indent)

    def top(self, node: ast.expr, *, inside: bool = True) -> Doc:
        """Return the document of an expression, without parentheses around it."""
        space = SPACE if inside else " "
        match node:
            case ast.Name(id=name):
                return self.names.get(name, name)
            case ast.Attribute():
                return _slice(self.code, node)
            case ast.Constant(value=value):
                if isinstance(value, str):
                    return f'"{value}"' if '"' not in value else _slice(self.code, node)
                text = _slice(self.code, node)
                return text.lower() if isinstance(value, float) else text
            case ast.UnaryOp(op=ast.USub(), operand=ast.BinOp(op=ast.Pow()) as power):
                return ["-", brackets("(", self.top(power), ")")]
            case ast.UnaryOp(op=op, operand=operand):
                return [_UNARY[type(op)], self.operand(operand, node, inside=inside)]
            case ast.IfExp():
                return Group(self.conditional(node, space, inside=inside))
            case ast.Call(func=func, args=arguments, keywords=keywords):
                given = self.arguments(func, arguments)
                for keyword in keywords:
                    name = f"{keyword.arg}=" if keyword.arg else "**"
                    given.append([name, self.top(keyword.value)])
                called = self.called(func, arguments)
                if not given:
                    return [called, "()"]
                body = given[0] if len(arguments) == len(given) == 1 else _one_per_line(given)
                return [called, brackets("(", Group(body), ")")]
            case ast.List(elts=items):
                return brackets("[", _one_per_line([self.top(item) for item in items]), "]")
            case ast.Tuple(elts=[]):
                return "()"
            case ast.Tuple(elts=[item]):
                return ["(", self.top(item), ",)"]
            case ast.Tuple(elts=items):
                return brackets("(", _one_per_line([self.top(item) for item in items]), ")")
            case ast.Dict(keys=keys, values=values):
                pairs: list[Doc] = [
                    [self.top(key), ": ", self.top(value)]
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                ]
                return brackets("{", _one_per_line(pairs), "}")
            case ast.Subscript(value=value, slice=index):
                return [self.top(value), brackets("[", self.top(index), "]")]
            case ast.Lambda(body=body):
                return ["lambda: ", self.top(body, inside=inside)]
            case ast.ListComp(elt=element, generators=[generator]):
                return self.comprehension(element, generator)
            case ast.BinOp() | ast.BoolOp() | ast.Compare():
                return Group(_sequence(*self.flatten(node, inside=inside), space))
            case _:
                raise NotImplementedError(f"the printer has no layout for: {ast.unparse(node)}")

    def called(self, func: ast.expr, arguments: Sequence[ast.expr]) -> Doc:
        """Return what a call calls, which may depend on the number of arguments."""
        if isinstance(func, ast.Name):
            return self.names.get(f"{func.id}/{len(arguments)}", self.names.get(func.id, func.id))
        return self.top(func)

    def arguments(self, func: ast.expr, arguments: Sequence[ast.expr]) -> list[Doc]:
        """Return the arguments of a call; of a function of the language, also what it is handed besides."""
        given: list[Doc] = [self.top(argument) for argument in arguments]
        function = FUNCTIONS.get(func.id) if isinstance(func, ast.Name) else None
        step = self.names.get("step")
        if step is not None and function is not None and function.step_at is not None:
            given.insert(function.step_at, step)
            if function.name == "every":
                given[2] = ["lambda: ", given[2]]
        return given

    def comprehension(self, element: ast.expr, generator: ast.comprehension) -> Doc:
        parts: list[Doc] = [
            Group(self.top(element)),
            SPACE,
            ["for ", self.top(generator.target), " in ", self.top(generator.iter)],
        ]
        for condition in generator.ifs:
            parts += [SPACE, "if ", self.top(condition)]
        return brackets("[", Group(parts), "]")

    def conditional(self, node: ast.IfExp, space: Doc, *, inside: bool) -> Doc:
        otherwise = node.orelse
        chained = isinstance(otherwise, ast.IfExp) and not self.has_parentheses(otherwise, node)
        last = (
            self.conditional(otherwise, space, inside=inside)
            if isinstance(otherwise, ast.IfExp) and chained
            else self.operand(otherwise, node, inside=inside)
        )
        body = self.operand(node.body, node, inside=inside)
        test = self.operand(node.test, node, inside=inside)
        return [body, space, "if ", test, space, "else ", last]

    def operand(self, node: ast.expr, parent: ast.expr, *, inside: bool = True) -> Doc:
        """Return a part of an expression, in parentheses where the code has them."""
        if self.has_parentheses(node, parent):
            return brackets("(", self.top(node), ")")
        return self.top(node, inside=inside)

    def flatten(
        self, node: ast.expr, parent: ast.expr | None = None, *, inside: bool
    ) -> tuple[list[_Operand], list[tuple[str, int]]]:
        """Return operands, and the operators between them with how loosely they bind."""
        if parent is not None and self.has_parentheses(node, parent):
            return [_Operand(self.operand(node, parent), simple=False)], []
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                parts, between = [left, right], [_OPERATORS[type(op)]]
            case ast.BoolOp(op=bool_op, values=values):
                parts, between = values, [_OPERATORS[type(bool_op)]] * (len(values) - 1)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                parts, between = [left, *comparators], [_OPERATORS[type(op)] for op in ops]
            case _:
                return [_Operand(self.top(node, inside=inside), simple=_is_simple(node))], []
        operands: list[_Operand] = []
        operators: list[tuple[str, int]] = []
        for index, part in enumerate(parts):
            if index:
                operators.append(between[index - 1])
            inner, inner_operators = self.flatten(part, node, inside=inside)
            operands += inner
            operators += inner_operators
        return operands, operators

    def has_parentheses(self, node: ast.expr, parent: ast.expr) -> bool:
        """Whether a part of an expression stands in parentheses of its own.

        The tree does not tell. The character before the part does, where it still belongs to the parent.
        """
        if isinstance(parent, ast.Call):
            return False
        line, column = node.lineno, node.col_offset
        while (line, column) > (parent.lineno, parent.col_offset):
            before = self.lines[line - 1][:column].rstrip()
            if before:
                place = (line, len(before) - 1)
                return before.endswith("(") and place >= (parent.lineno, parent.col_offset)
            line, column = line - 1, len(self.lines[line - 2])
        return False


def _is_simple(node: ast.expr) -> bool:
    """Whether an operand of a power needs no spaces around the operator."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_simple(operand)
        case _:
            return isinstance(node, ast.Name | ast.Constant | ast.Attribute)


def _sequence(
    operands: Sequence[_Operand], operators: Sequence[tuple[str, int]], space: Doc
) -> Doc:
    """Return operands with operators between them, broken before the loosest ones."""
    if not operators:
        return operands[0].doc
    loosest = max(precedence for _, precedence in operators)
    parts: list[Doc] = []
    start = 0
    for index, (text, precedence) in enumerate([*operators, ("", loosest)]):
        if precedence != loosest:
            continue
        inner = _sequence(operands[start : index + 1], operators[start:index], space)
        parts.append(Group(inner) if index > start else inner)
        start = index + 1
        if index == len(operators):
            break
        tight = text == "**" and operands[index].simple and operands[index + 1].simple
        parts += [text] if tight else [space, text, " "]
    return parts


def _can_do_without(node: ast.expr, printer: _Expressions) -> bool:
    """Whether a statement may break in the brackets that its expression has, without new parentheses."""
    counts: dict[int, int] = {}
    bracketed = False

    def visit(part: ast.expr, parent: ast.expr | None) -> None:
        nonlocal bracketed
        if parent is not None and printer.has_parentheses(part, parent):
            bracketed = True
            return
        match part:
            case ast.Call(func=func):
                bracketed = True
                visit(func, part)
                return
            case ast.Subscript(value=value):
                bracketed = True
                visit(value, part)
                return
            case ast.ListComp():
                bracketed = True
                return
            case ast.IfExp():
                counts[_CONDITIONAL] = counts.get(_CONDITIONAL, 0) + 2
            case ast.BinOp(op=op):
                precedence = _OPERATORS[type(op)][1]
                counts[precedence] = counts.get(precedence, 0) + 1
            case ast.BoolOp(op=op, values=values):
                counts[8] = counts.get(8, 0) + len(values) - 1
            case ast.Compare(ops=ops):
                counts[6] = counts.get(6, 0) + len(ops)
            case _:
                pass
        for child in ast.iter_child_nodes(part):
            if isinstance(child, ast.expr):
                visit(child, part)

    visit(node, None)
    if not bracketed:
        return False
    if not counts:
        return True
    if counts[max(counts)] > 1:
        return False
    last, in_parentheses = _edge(node, printer, last=True)
    called = isinstance(last, ast.Call) and bool(last.args or last.keywords)
    first, from_parentheses = _edge(node, printer, last=False)
    ends = in_parentheses or called or isinstance(last, ast.ListComp | ast.Subscript)
    return ends or from_parentheses or isinstance(first, ast.ListComp)


def _edge(node: ast.expr, printer: _Expressions, *, last: bool) -> tuple[ast.expr, bool]:
    """Return the first or last operand of an expression, and whether it stands in parentheses."""
    while True:
        match node:
            case ast.BinOp(left=left, right=right):
                child = right if last else left
            case ast.Compare(left=left, comparators=[*_, right]):
                child = right if last else left
            case ast.BoolOp(values=[left, *_, right]):
                child = right if last else left
            case ast.UnaryOp(operand=operand) if last:
                child = operand
            case _:
                return node, False
        if printer.has_parentheses(child, node):
            return child, True
        node = child
