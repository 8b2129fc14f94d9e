"""Statements on as many lines as they need, as `ruff format` breaks them."""

import ast

from mlax_codegen.writing.expressions import OPERATORS, Expressions, one_per_line, source_of
from mlax_codegen.writing.layout import (
    SOFT,
    WIDTH,
    Doc,
    Group,
    Indent,
    brackets,
    render,
)

__all__ = ["fit", "fit_item"]

_CONDITIONAL = 10  # looser than all operators


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
    printer = Expressions(source, {})
    match statement:
        case ast.FunctionDef():
            return render(_definition(printer, statement, text), indent)
        case ast.If(test=test):
            word = "elif " if text.startswith("elif ") else "if "
            return _optional(printer, word, test, ":", indent)
        case ast.Assign(targets=[target], value=value):
            return _optional(printer, f"{source_of(source, target)} = ", value, "", indent)
        case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as value):
            name, kind = source_of(source, target), source_of(source, annotation)
            start = f"{name}: {kind} = "
            if indent + len(start) > WIDTH:
                long: Doc = [f"{name}: ", printer.top(annotation), " = ", printer.top(value)]
                return render(long, indent)
            return _optional(printer, start, value, "", indent)
        case ast.Return(value=ast.expr() as value):
            return _optional(printer, "return ", value, "", indent)
        case ast.Raise(exc=ast.expr() as value):
            return _optional(printer, "raise ", value, "", indent)
        case ast.Expr(value=value):
            return _optional(printer, "", value, "", indent)
        case ast.ImportFrom(names=names):
            start = text[: text.index(" import ")] + " import "
            items = [alias.name for alias in names]
            return render([start, brackets("(", one_per_line(items), ")")], indent)
        case _:
            raise NotImplementedError(f"the printer has no layout for: {line}")


def fit_item(line: str) -> list[str]:
    """Return an item on a line of its own, a keyword argument with a comma, on as many lines as it needs."""
    name, sign, value = line.strip().removesuffix(",").partition("=")
    if len(line) <= WIDTH or not (sign and name.isidentifier()):
        return [line]
    node = ast.parse(value, mode="eval").body
    indent = len(line) - len(line.lstrip())
    return render([f"{name}=", Expressions(value, {}).top(node), ","], indent)


def _definition(printer: Expressions, node: ast.FunctionDef, text: str) -> Doc:
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
    written = text[text.rindex(") ->") + 1 :] if node.returns is not None else ":"
    end: Doc = written
    if node.returns is not None and len(written) >= WIDTH:
        end = [" -> ", printer.top(node.returns), ":"]
    return [f"def {node.name}", brackets("(", Group(one_per_line(given)), ")"), end]


def _parameter(printer: Expressions, node: ast.arg, default: ast.expr | None) -> Doc:
    parts: list[Doc] = [node.arg]
    if node.annotation is not None:
        parts.append(f": {source_of(printer.code, node.annotation)}")
    if default is not None:
        parts.append(" = " if node.annotation is not None else "=")
        parts.append(source_of(printer.code, default))
    return parts


def _optional(printer: Expressions, start: str, node: ast.expr, end: str, indent: int) -> list[str]:
    """Return the lines of a statement whose expression gets parentheses where they help."""
    if isinstance(node, ast.Call | ast.Dict | ast.List | ast.ListComp | ast.Tuple):
        return render([start, printer.top(node), end], indent)
    if _can_do_without(node, printer):
        bare: Doc = [start, printer.top(node, inside=False), end]
        broken = render(bare, indent, every_group_broken=True)
        if all(len(line) <= WIDTH for line in broken):
            return render(bare, indent)
    body = Group(printer.top(node))
    return render([start, Group(["(", Indent([SOFT, body]), SOFT, ")"]), end], indent)


def _can_do_without(node: ast.expr, printer: Expressions) -> bool:
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
                precedence = OPERATORS[type(op)][1]
                counts[precedence] = counts.get(precedence, 0) + 1
            case ast.BoolOp(op=op, values=values):
                counts[8] = counts.get(8, 0) + len(values) - 1
            case ast.Compare(ops=ops):
                counts[7] = counts.get(7, 0) + len(ops)
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


def _edge(node: ast.expr, printer: Expressions, *, last: bool) -> tuple[ast.expr, bool]:
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
