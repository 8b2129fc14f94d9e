"""Read equations: a small part of Python's grammar. Nothing is ever executed."""

import ast
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mlax_codegen.language import FUNCTIONS, OTHER, Function
from mlax_codegen.reading.document import Document
from mlax_codegen.reading.mistakes import either_of, suggestion
from mlax_codegen.reading.positions import KeyPath
from mlax_codegen.reading.syntax import complaint
from mlax_codegen.reading.trees import SIGNS, in_short, loops_of, parts_of

__all__ = [
    "BlockCode",
    "Code",
    "ExpressionCode",
    "Origin",
    "ValueCode",
    "read_block",
    "read_expression",
    "read_value",
]

_LONGEST = 10_000  # characters of one block
_DEEPEST = 40  # levels of one expression
_LARGEST_EXPONENT = 64
_OPENINGS = re.compile(r"[(\[{]")
_COMMENT = re.compile(r"#[^\n]*")
_OPERATOR = re.compile(r"[-+*/%<>=@&|^~]+|\b(?:and|or|not|if|is|in)\b")
_MOST_OPERATORS = 500
_LOOPS: dict[str, str] = {
    "range": "[f(x[i]) for i in range(ndim)]",
    "zip": "[b * x for b, x in zip(betas, m)]",
}
_TOO_DEEP = "nested too deeply; assign parts of this to names"
_UNARY_RUN = re.compile(r"(?:[-+~]\s*|not\s+){20,}")

_OPERATORS: dict[type[ast.AST], str] = {
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Invert: "~",
    ast.In: "in",
    ast.NotIn: "not in",
}
_FORBIDDEN: dict[type[ast.AST], str] = {
    ast.Attribute: "attributes are not part of the language",
    ast.Lambda: "functions cannot be defined in a spec",
    ast.FunctionDef: "functions cannot be defined in a spec",
    ast.ClassDef: "classes cannot be defined in a spec",
    ast.Import: "a spec cannot import anything",
    ast.ImportFrom: "a spec cannot import anything",
    ast.For: "loops are not part of the language",
    ast.While: "loops are not part of the language",
    ast.GeneratorExp: "write a comprehension in square brackets",
    ast.SetComp: "write a comprehension in square brackets",
    ast.DictComp: "dictionaries are not part of the language",
    ast.Slice: "a slice cannot have a step",
    ast.Starred: "write * only in a list: [*q[1:], g]",
    ast.Dict: "dictionaries are not part of the language",
    ast.Set: "sets are not part of the language",
    ast.JoinedStr: "f-strings are not part of the language",
    ast.NamedExpr: "write the assignment on a line of its own",
    ast.AnnAssign: "write the assignment without a type",
    ast.Expr: "an equation must be an assignment: name = expression",
    ast.Pass: "remove this; a branch must assign something",
}


@dataclass
class Code:
    """A string of the spec that holds code, and where it is.

    Attributes:
        document: The spec that it is from.
        path: Where it is there.
        text: The string.
        added: How many characters of the string the reader has added, at its beginning and at its end.
        of_arrays: Each `and`, `or` and `not` of conditions of arrays, once the types are checked.
        of_lists: Each `sum` and each slice of a list of arrays, likewise.
        products: Each call of `matmul` that the text has as `a @ b`.
        origins: Where the parts of the syntax tree come from, if definitions are inlined in it.
        noted: Mistakes that are recorded, of a definition.
    """

    document: Document
    path: KeyPath
    text: str
    added: tuple[int, int] = field(default=(0, 0), kw_only=True)
    of_arrays: set[ast.expr] = field(default_factory=set[ast.expr], init=False)
    of_lists: set[ast.expr] = field(default_factory=set[ast.expr], init=False)
    products: list[ast.Call] = field(default_factory=list[ast.Call], init=False)
    origins: "dict[ast.AST, Origin]" = field(
        default_factory=dict["ast.AST", "Origin"], init=False, compare=False
    )

    noted: set[tuple[str, ast.AST]] = field(
        default_factory=set[tuple[str, ast.AST]], init=False, compare=False
    )

    def remember(self, what: Literal["of_arrays", "of_lists"], node: ast.expr) -> None:
        """Remember that a node is `of_arrays` or `of_lists`, here and where it comes from."""
        places: list[tuple[Code, ast.expr]] = [(self, node)]
        if (origin := self.origins.get(node)) and isinstance(origin.node, ast.expr):
            places.append((origin.code, origin.node))
        for code, place in places:
            (code.of_arrays if what == "of_arrays" else code.of_lists).add(place)

    def note(self, node: ast.expr | ast.stmt, message: str, *, consequence: bool = False) -> None:
        """Record a mistake at a node; one in a definition, once, with the first call that has it."""
        if (origin := self.origins.get(node)) and origin.call:
            if (message, origin.node) not in origin.code.noted:
                origin.code.noted.add((message, origin.node))
                origin.code.note(origin.node, f"{message} (in `{origin.call}`)")
            return
        start, end = self.offset(node.lineno, node.col_offset), len(self.text)
        if node.end_lineno is not None and node.end_col_offset is not None:
            end = self.offset(node.end_lineno, node.end_col_offset)
        if isinstance(node, ast.If):  # point at its head, not at its whole body
            end = start + 2
        before, after = self.added
        last = len(self.text) - after
        start, end = (min(max(before, place), last) - before for place in (start, end))
        self.document.inside(self.path, start, end, message, consequence=consequence)

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position from `ast`; code outside of comments is ASCII."""
        lines = self.text.split("\n")
        return sum(len(previous) + 1 for previous in lines[: line - 1]) + column


class Origin(NamedTuple):
    """Where a part of a syntax tree comes from.

    Attributes:
        code: The string that has it.
        node: The part of its tree.
        call: If that is a definition, the call of it; otherwise "".
    """

    code: Code
    node: ast.expr | ast.stmt
    call: str


@dataclass
class BlockCode(Code):
    """Equations: assignments and `if` statements."""

    body: list[ast.stmt] = field(default_factory=list[ast.stmt])


@dataclass
class ExpressionCode(Code):
    """One expression.

    If it cannot be read, a placeholder stands for it. Nobody sees that: `read_spec` refuses the spec.
    """

    expression: ast.expr = field(default_factory=lambda: ast.Constant(None))


@dataclass
class ValueCode(ExpressionCode, BlockCode):
    """A value that a step computes, and the equation that gives it the name of its key."""


def read_block(document: Document, path: KeyPath, text: str) -> BlockCode:
    """Read equations."""
    code = BlockCode(document, path, text)
    tree = _parse(code)
    if tree is not None:
        _check_block(code, tree.body)
        code.body = tree.body
        if not tree.body:
            document.at_value(path, "there are no equations here")
    return code


def read_expression(document: Document, path: KeyPath, text: str) -> ExpressionCode:
    """Read one expression."""
    code = ExpressionCode(document, path, text)
    tree = _parse(code)
    if tree is None:
        return code
    match tree.body:
        case [ast.Expr(value=value)]:
            _check_expression(code, value)
            code.expression = value
        case []:
            document.at_value(path, "expected an expression")
        case body:
            code.note(body[-1], "expected one expression, not a statement")
    return code


def read_value(document: Document, path: KeyPath, text: str) -> ValueCode:
    """Read a value that a step computes."""
    value = read_expression(document, path, text).expression
    code = ValueCode(document, path, text, expression=value)
    name = ast.copy_location(ast.Name(str(path[-1]), ast.Store()), value)
    code.body = [ast.copy_location(ast.Assign([name], value), value)]
    return code


def _parse(code: Code) -> ast.Module | None:
    """Return the syntax tree; if there is none, record why."""
    document, path, text = code.document, code.path, code.text
    if len(text) > _LONGEST:
        document.at_value(path, f"equations must not be longer than {_LONGEST:,} characters")
        return None
    if "\0" in text or "\f" in text or "\r" in text:
        document.at_value(path, "equations must not contain control characters")
        return None
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(_COMMENT.sub("", line)):
            if not character.isascii():
                start = code.offset(number, column)
                message = f"{character!r} is not ASCII; such characters may only be in comments"
                document.inside(path, start, start + 1, message)
                return None
    run = _UNARY_RUN.search(text)
    if run is not None:
        sign = "not" if run[0].startswith("not") else run[0][0]
        message = f"too many `{sign}` in a row; write at most one"
        document.inside(path, run.start(), run.end(), message)
        return None
    if (
        len(_OPENINGS.findall(text)) > _LONGEST // 10
        or len(_OPERATOR.findall(text)) > _MOST_OPERATORS
    ):
        document.at_value(path, "too many operators or brackets in one block; split it into phases")
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            tree = ast.parse(text)
    except SyntaxError as error:
        number, column = error.lineno or 1, (error.offset or 1) - 1
        reason = _TOO_DEEP
        if "too many nested" not in error.msg:
            shown = (*text.split("\n"), "")[number - 1]
            column, reason = complaint(shown, column, error.msg)
        start = code.offset(number, column)
        document.inside(path, start, start + 1, reason)
        return None
    except (RecursionError, MemoryError, ValueError, OverflowError):
        start = _deepest(text)
        document.inside(path, start, start + 1, _TOO_DEEP)
        return None
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST + 2):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    for node in level:
        if isinstance(node, ast.expr | ast.stmt):
            code.note(node, _TOO_DEEP)
            return None
    short = _InFull()
    short.visit(tree)
    code.products = short.products
    return tree


class _InFull(ast.NodeTransformer):
    """Replaces what is short for calls: `a @ b` for matmul(a, b), and `min(a, b, c)` for min(min(a, b), c)."""

    def __init__(self) -> None:
        self.products: list[ast.Call] = []

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        function = ast.copy_location(ast.Name("matmul", ast.Load()), node)
        call = ast.copy_location(ast.Call(function, [node.left, node.right], []), node)
        self.products.append(call)
        return call

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node.func) in {"max", "min"} and len(node.args) > 2:
            *others, last = node.args
            first = ast.copy_location(ast.Call(node.func, others, []), node)
            node.args = [self.visit_Call(first), last]
        return node


def _deepest(text: str) -> int:
    """Return the offset of the most deeply nested bracket."""
    depth, found = 0, (0, 0)
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        found = max(found, (depth, -place))
    return -found[1]


def _check_block(code: Code, body: list[ast.stmt]) -> None:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name()], value=value):
                _check_expression(code, value)
            case ast.Assign():
                code.note(statement.targets[0], "assign to a single name")
            case ast.AugAssign(target=ast.Name(id=name)):
                sign = SIGNS.get(type(statement.op))
                cure = f"`{sign}=` is not part of the language; write `{name} = {name} {sign} ...`"
                code.note(statement, cure if sign else _refusal(statement))
            case ast.If(test=test, body=then, orelse=otherwise):
                _check_expression(code, test)
                _check_block(code, then)
                _check_block(code, otherwise)
            case _:
                code.note(statement, _refusal(statement))


def _check_expression(code: Code, node: ast.expr) -> None:
    """Accept what belongs to the language; record everything else."""
    match node:
        case ast.Name():
            return
        case ast.Constant():
            _check_constant(code, node)
        case ast.UnaryOp(op=ast.USub() | ast.Not()) | ast.BoolOp() | ast.IfExp():
            pass
        case ast.BinOp(op=ast.Pow(), left=base):
            if not _check_power(code, node):
                _check_expression(code, base)
                return
        case ast.BinOp(op=op) if type(op) in SIGNS:
            pass
        case ast.Compare(ops=[op], comparators=[right]):
            none = isinstance(right, ast.Constant) and right.value is None
            if isinstance(op, ast.Is | ast.IsNot) and not none:
                code.note(right, "use `is` only to compare with None")
            elif none and not isinstance(op, ast.Is | ast.IsNot):
                code.note(node, "to compare with None, write `is None` or `is not None`")
            elif isinstance(op, ast.In | ast.NotIn):
                code.note(node, f"`{_OPERATORS[type(op)]}` is not part of the language")
        case ast.Compare():
            code.note(node, "compare only two values at a time")
        case ast.Call(func=ast.Name(id=name)):
            _check_call(code, node, name)
            return
        case ast.Call():
            code.note(node.func, "only functions of the language can be called")
            return
        case ast.Subscript(value=ast.Name(), slice=index):
            items = index.elts if isinstance(index, ast.Tuple) else [index]
            slices = [item for item in items if isinstance(item, ast.Slice)]
            if len(items) > len(slices) > 0:
                code.note(node, "cut each axis with a slice: `x[:, :1]` in place of `x[:, 0]`")
                return
            if isinstance(index, ast.Tuple) and not slices:
                code.note(node, "an index must be one integer")
                return
        case ast.Subscript():
            code.note(node, "assign this to a name before you index it")
            return
        case ast.Slice(step=None):
            pass
        case ast.List(elts=[]):
            code.note(node, "a list must have items")
            return
        case ast.Tuple(elts=items):
            for item in items:
                _check_expression(code, item)
            return
        case ast.List(elts=items):
            for item in items:
                _check_expression(code, item.value if isinstance(item, ast.Starred) else item)
            return
        case ast.ListComp():
            _check_comprehension(code, node)
            return
        case _:
            code.note(node, _refusal(node))
            return
    for child in _operands(node):
        _check_expression(code, child)


def _check_call(code: Code, node: ast.Call, name: str) -> None:
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        code.note(node, "pass the arguments one by one, without *")
        return
    if name in _LOOPS:
        code.note(node, f"use {name} only in a comprehension: {_LOOPS[name]}")
        return
    if name in code.document.definitions:
        parameters = code.document.definitions[name]
        if parameters and (node.keywords or len(node.args) != len(parameters)):
            code.note(node, f"write {name}({', '.join(parameters)}), as it is defined")
        for argument in node.args:
            _check_expression(code, argument)
        return
    if name not in FUNCTIONS:
        known = [*FUNCTIONS, *code.document.definitions]
        hint = suggestion(name, known) or "; docs/specs.md lists the functions"
        code.note(node.func, f"unknown function {name!r}{hint}")
        return
    function = FUNCTIONS[name]
    optional = [p.name for p in function.parameters if p.optional and p.name != OTHER]
    named = [keyword.arg or "**" for keyword in node.keywords]
    given = len(node.args)
    free = [p.name for p in function.parameters[given:] if p.optional]
    wrong = [word for word in named if word not in optional]
    if wrong:
        code.note(node, _wrong_keyword(node, function, wrong[0], optional))
        return
    if any(word not in free for word in named) or len(set(named)) < len(named):
        code.note(node, f"an argument of {name} is given twice")
        return
    most = function.most_arguments
    if not function.fewest_arguments <= given <= most:
        fewest = function.fewest_arguments
        expected = f"{fewest} to {most}" if fewest < most else f"{most}"
        plural = "argument" if most == 1 else "arguments"
        code.note(node, f"{name} takes {expected} {plural}, not {given}")
    for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
        _check_expression(code, argument)


def _wrong_keyword(node: ast.Call, function: Function, word: str, optional: list[str]) -> str:
    """Return the complaint about an argument that cannot be passed by name."""
    if word == "**":
        return "pass the arguments one by one, without **"
    required = {parameter.name for parameter in function.parameters} - {*optional}
    if word in required:
        values = [keyword.value for keyword in node.keywords if keyword.arg in required]
        others = [keyword for keyword in node.keywords if keyword.arg not in required]
        call = in_short(ast.Call(node.func, [*node.args, *values], others), f"{function.name}(...)")
        return f"{word} of {function.name} cannot be passed by name; write `{call}`"
    only = f"only {either_of(optional)} can be" if optional else "none of its arguments can be"
    return f"{function.name} has no argument {word!r}; {only} passed by name"


def _check_comprehension(code: Code, node: ast.ListComp) -> None:
    """Accept `[expression for i in range(ndim)]`, over ranges and lists, with static conditions."""
    generator, *more = node.generators
    loops = [*loops_of(generator)]
    for _, source in loops:
        match source:
            case ast.Call(func=ast.Name(id="range"), args=[end], keywords=[]) if not isinstance(
                end, ast.Starred
            ):
                _check_expression(code, end)
            case ast.Name() | ast.Subscript(slice=ast.Slice()):
                _check_expression(code, source)
            case other:
                message = "a comprehension must iterate over range(ndim), over a list, or over zip"
                code.note(other, f"{message} of these")
                return
    if more:
        code.note(node, "a comprehension can have only one `for`")
    elif not loops:
        message = "write one variable, or one for each list of zip: [b * x for b, x in zip(c, m)]"
        code.note(generator.target, message)
    elif generator.is_async:
        code.note(node, "this is not part of the language")
    else:
        for part in [node.elt, *generator.ifs]:
            _check_expression(code, part)


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child


def _check_constant(code: Code, node: ast.Constant) -> None:
    value = node.value
    if value is None or isinstance(value, bool | str):
        return  # the analysis checks whether they are allowed here
    if isinstance(value, int) and abs(value) > 2**31 - 1:
        code.note(node, "this does not fit into a 32-bit integer; write a float")
    elif isinstance(value, float) and not math.isfinite(value):
        code.note(node, "this is larger than any float")
    elif not isinstance(value, int | float):
        code.note(node, "numbers must be integers or floats")


def _check_power(code: Code, node: ast.BinOp) -> bool:
    """Return whether an exponent is small enough; record a mistake if it is not."""
    exponent = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    parts = list(parts_of(exponent))
    if isinstance(exponent, ast.Constant):
        value = exponent.value
        if not isinstance(value, int | float) or value <= _LARGEST_EXPONENT:
            return True
        message = f"an exponent must not exceed {_LARGEST_EXPONENT}"
    elif any(isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow) for part in parts):
        message = "assign a power in an exponent to a name first"
    elif not any(isinstance(part, ast.Name) for part in parts):
        message = "write the exponent as one number"
    else:
        return True
    code.note(node.right, message)
    return False


def _refusal(node: ast.AST) -> str:
    op = getattr(node, "op", None)
    if op is not None and type(op) in _OPERATORS:
        return f"`{_OPERATORS[type(op)]}` is not part of the language"
    return _FORBIDDEN.get(type(node), "this is not part of the language")
