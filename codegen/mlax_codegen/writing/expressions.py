"""Prints expressions as `ruff format` does, with names replaced on the way."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.language import FUNCTIONS
from mlax_codegen.reading.trees import arguments_of
from mlax_codegen.writing.layout import (
    SPACE,
    Doc,
    Group,
    IfBroken,
    Indent,
    brackets,
    join,
)

__all__ = [
    "OPERATORS",
    "Expressions",
    "expression_text",
    "one_per_line",
    "source_of",
]

OPERATORS: dict[type[ast.AST], tuple[str, int]] = {  # the looser, the larger
    ast.Pow: ("**", 1),
    ast.Mult: ("*", 3),
    ast.Div: ("/", 3),
    ast.FloorDiv: ("//", 3),
    ast.Mod: ("%", 3),
    ast.Add: ("+", 4),
    ast.Sub: ("-", 4),
    ast.BitAnd: ("&", 5),
    ast.BitOr: ("|", 6),
    ast.Eq: ("==", 7),
    ast.NotEq: ("!=", 7),
    ast.Lt: ("<", 7),
    ast.LtE: ("<=", 7),
    ast.Gt: (">", 7),
    ast.GtE: (">=", 7),
    ast.Is: ("is", 7),
    ast.IsNot: ("is not", 7),
    ast.And: ("and", 8),
    ast.Or: ("or", 9),
}
_LONGEST = 88  # of a string in one part, with its quotes: that much fits three levels deep
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.Not: "not ", ast.Invert: "~"}


def expression_text(code: str, node: ast.expr, names: Mapping[str, str]) -> str:
    """Return an expression of some code on one line, with other names for some of its names."""
    return render_flat(Expressions(code, names).top(node))


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


def source_of(source: str, node: ast.AST) -> str:
    """Return a part of some code as it is written there."""
    return ast.get_source_segment(source, node) or ""


def one_per_line(items: Sequence[Doc]) -> Doc:
    """Return items in brackets: in one line, or in one each."""
    return [join(items, [",", SPACE]), IfBroken(",")]


def _in_parts(string: str) -> Doc:
    """Return a string literal as several, which Python joins."""
    quote, words = string[0], string[1:-1].split(" ")
    parts = [""]
    for word in words:
        if len(parts[-1]) + len(word) > _LONGEST - 3:
            parts.append("")
        parts[-1] += f"{word} "
    parts[-1] = parts[-1][:-1]
    return join([f"{quote}{part}{quote}" for part in parts], SPACE)


@dataclass(frozen=True)
class _Operand:
    doc: Doc
    simple: bool


class Expressions:
    """Makes documents of expressions; `inside` is whether brackets around them let lines break."""

    def __init__(self, code: str, names: Mapping[str, str]) -> None:
        self.code = code
        self.lines: list[str] = code.split("\n")
        self.names = names

    def top(self, node: ast.expr, *, inside: bool = True) -> Doc:
        """Return the document of an expression, without parentheses around it."""
        space = SPACE if inside else " "
        match node:
            case ast.Name(id=name):
                return self.names.get(name, name)
            case ast.Attribute():
                return source_of(self.code, node)
            case ast.Constant(value=value):
                if isinstance(value, str):
                    whole = f'"{value}"' if '"' not in value else source_of(self.code, node)
                    return whole if len(whole) <= _LONGEST else _in_parts(whole)
                text = source_of(self.code, node)
                return text.lower() if isinstance(value, float) else text
            case ast.UnaryOp(op=ast.USub(), operand=ast.BinOp(op=ast.Pow()) as power):
                return ["-", brackets("(", self.top(power), ")")]
            case ast.UnaryOp(op=op, operand=operand):
                return [_UNARY[type(op)], self.operand(operand, node, inside=inside)]
            case ast.IfExp():
                return Group(self.conditional(node, space, inside=inside))
            case ast.Call(func=func, keywords=keywords):
                arguments = arguments_of(node)
                given = self.arguments(func, arguments)
                for keyword in keywords:
                    name = f"{keyword.arg}=" if keyword.arg else "**"
                    given.append([name, self.top(keyword.value)])
                called = self.called(func, arguments)
                if called == "zip" and not keywords:
                    given.append("strict=True")
                if not given:
                    return [called, "()"]
                body = given[0] if len(arguments) == len(given) == 1 else one_per_line(given)
                return [called, brackets("(", Group(body), ")")]
            case ast.List(elts=items):
                return brackets("[", one_per_line([self.top(item) for item in items]), "]")
            case ast.Starred(value=value):
                return ["*", self.top(value)]
            case ast.Tuple(elts=[]):
                return "()"
            case ast.Tuple(elts=[item]):
                return ["(", self.top(item), ",)"]
            case ast.Tuple(elts=items):
                return brackets("(", one_per_line([self.top(item) for item in items]), ")")
            case ast.Dict(keys=keys, values=values):
                pairs: list[Doc] = [
                    [self.top(key), ": ", self.top(value)]
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                ]
                return brackets("{", one_per_line(pairs), "}")
            case ast.Subscript(value=value, slice=ast.Tuple(elts=[_, *_] as items)):
                inner = one_per_line([self.top(item) for item in items])
                return [self.top(value), brackets("[", inner, "]")]
            case ast.Subscript(value=value, slice=index):
                return [self.top(value), brackets("[", self.top(index), "]")]
            case ast.Slice(lower=lower, upper=upper):
                low, high = ("" if x is None else render_flat(self.top(x)) for x in (lower, upper))
                plain = (x.removeprefix("-") for x in (low, high))
                tight = all(not x or x.isalnum() or x.isidentifier() for x in plain)
                space = "" if tight else " "
                return f"{low}{space if low else ''}:{space if high else ''}{high}"
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
            return self.names.get(
                f"{func.id}/{min(len(arguments), 2)}", self.names.get(func.id, func.id)
            )
        return self.top(func)

    def arguments(self, func: ast.expr, arguments: Sequence[ast.expr]) -> list[Doc]:
        """Return the arguments of a call; of a function of the language, also what it is handed besides."""
        given: list[Doc] = [self.top(argument) for argument in arguments]
        if isinstance(func, ast.Name) and (held := self.names.get(f"{func.id}/h")):
            given.insert(0, held)
        function = FUNCTIONS.get(func.id) if isinstance(func, ast.Name) else None
        count = self.names.get(function.count) if function is not None else None
        if function is not None and count is not None:
            given.insert(function.count_at, count)
            if function.name == "every":
                given[2] = ["lambda: ", given[2]]
        return given

    def comprehension(self, element: ast.expr, generator: ast.comprehension) -> Doc:
        target = generator.target
        variables = join(
            [*map(self.top, target.elts)] if isinstance(target, ast.Tuple) else [self.top(target)],
            ", ",
        )
        parts: list[Doc] = [
            Group(self.top(element)),
            SPACE,
            ["for ", variables, " in ", self.top(generator.iter)],
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
                parts, between = [left, right], [OPERATORS[type(op)]]
            case ast.BoolOp(op=bool_op, values=values):
                parts, between = values, [OPERATORS[type(bool_op)]] * (len(values) - 1)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                parts, between = [left, *comparators], [OPERATORS[type(op)] for op in ops]
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
        if isinstance(parent, ast.Call) or isinstance(node, ast.Call):
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
