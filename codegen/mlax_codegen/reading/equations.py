"""Read equations: a small part of Python's grammar. Nothing is ever executed."""

import ast
import math
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mlax_codegen.language import FUNCTIONS, GRADIENT, OTHER, UPDATE, Function
from mlax_codegen.reading.document import Document
from mlax_codegen.reading.habits import OPERATORS, for_assignment, for_function, for_member
from mlax_codegen.reading.mistakes import either_of
from mlax_codegen.reading.positions import KeyPath
from mlax_codegen.reading.syntax import complaint
from mlax_codegen.reading.trees import SIGNS, in_short, loops_of, names_in, parts_of

__all__ = [
    "BlockCode",
    "Code",
    "ExpressionCode",
    "Origin",
    "ValueCode",
    "hole",
    "holes",
    "is_hole",
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
_MOST_WRONG_LINES = 20  # of one block, after which the rest is not read
_ASSIGNMENT = re.compile(r"(\s*[A-Za-z_]\w*) *:?=(?!=).*")
_HEAD = re.compile(r"(\s*(?:if|elif))\b.*")
_NOWHERE = ast.Constant(None, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)
_LOOPS: dict[str, str] = {
    "range": "[f(x[i]) for i in range(ndim)]",
    "zip": "[b * x for b, x in zip(betas, m)]",
}
_STARRED = "write * only in a list: [*q[1:], g]"
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
    ast.Lambda: "functions cannot be defined in a spec",
    ast.FunctionDef: "functions cannot be defined in a spec",
    ast.ClassDef: "classes cannot be defined in a spec",
    ast.Import: "a spec cannot import anything",
    ast.ImportFrom: "a spec cannot import anything",
    ast.For: "loops are not part of the language; write a comprehension, or the sum of one",
    ast.While: "loops are not part of the language; write a comprehension, or the sum of one",
    ast.GeneratorExp: "write a comprehension in square brackets",
    ast.SetComp: "write a comprehension in square brackets",
    ast.DictComp: "dictionaries are not part of the language",
    ast.Slice: "a slice cannot have a step",
    ast.Dict: "dictionaries are not part of the language",
    ast.Set: "sets are not part of the language",
    ast.JoinedStr: "f-strings are not part of the language",
    ast.NamedExpr: "write the assignment on a line of its own",
    ast.AnnAssign: "write the assignment without a type",
    ast.Expr: "an equation must be an assignment: name = expression",
    ast.Pass: "remove this; a branch must assign something",
    ast.Return: "remove this; a block computes what it assigns, and its end is the end",
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
        self.note_between(*self.span(node), message, consequence=consequence)

    def note_between(
        self, start: int, end: int, message: str, *, consequence: bool = False
    ) -> None:
        """Record a mistake between two offsets of the string."""
        before, after = self.added
        last = len(self.text) - after
        start, end = (min(max(before, place), last) - before for place in (start, end))
        self.document.inside(self.path, start, end, message, consequence=consequence)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the offsets of a node in the string; of an `if`, those of its head, not of its whole body."""
        start, end = self.offset(node.lineno, node.col_offset), len(self.text)
        if node.end_lineno is not None and node.end_col_offset is not None:
            end = self.offset(node.end_lineno, node.end_col_offset)
        return start, start + 2 if isinstance(node, ast.If) else end

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

    A part that cannot be read is a hole.
    """

    expression: ast.expr = field(default_factory=lambda: hole(_NOWHERE))


@dataclass
class ValueCode(ExpressionCode, BlockCode):
    """A value that a step computes, and the equation that gives it the name of its key."""


def read_block(document: Document, path: KeyPath, text: str) -> BlockCode:
    """Read equations."""
    code = BlockCode(document, path, text)
    code.body = _read(code)
    if not code.body and not document.has_mistakes(path):
        document.at_value(path, "there are no equations here")
        document.unread = True
    return code


def read_expression(document: Document, path: KeyPath, text: str) -> ExpressionCode:
    """Read one expression."""
    code = ExpressionCode(document, path, text)
    match _read(code, only_values=True):
        case [ast.Expr(value=ast.Starred() as starred)]:
            code.note(starred, _STARRED)
        case [ast.Expr(value=value)]:
            code.expression = value
        case []:
            if not document.has_mistakes(path):
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


def hole(node: ast.expr | ast.stmt, parts: list[ast.expr] | None = None) -> ast.expr:
    """Return what stands in the place of a mistake: `...(parts)`, of which only the parts are checked."""
    return ast.copy_location(
        ast.Call(ast.copy_location(ast.Constant(...), node), parts or [], []), node
    )


def is_hole(node: ast.expr) -> bool:
    """Whether an expression stands in the place of a mistake."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Constant)


def holes(statement: ast.stmt, parts: list[ast.expr] | None = None) -> list[ast.stmt]:
    """Return what stands in the place of a statement with a mistake: holes have the names that it assigns."""
    names = [part for part in parts_of(statement) if isinstance(part, ast.Name)]
    stored = {name.id: name for name in names if isinstance(name.ctx, ast.Store)}
    found = [ast.Assign([name], hole(statement, parts)) for name in stored.values()]
    return [ast.copy_location(each, statement) for each in found]


def _read(code: Code, *, only_values: bool = False) -> list[ast.stmt]:
    """Return the statements of a string, with holes for what is refused."""
    if _is_too_much(code):
        return _nothing(code)
    lines = code.text.split("\n")
    for number, line in enumerate(lines):
        for column, character in enumerate(_COMMENT.sub("", line)):
            if not character.isascii():
                start = code.offset(number + 1, column)
                message = f"{character!r} is not ASCII; such characters may only be in comments"
                code.note_between(start, start + 1, message)
                lines[number] = _in_place_of(line)
                code.document.unread |= not lines[number]
                break
    tree = _parsed(code, lines)
    if tree is None or _is_too_deep(code, tree):
        return _nothing(code)
    given = code.text.split("\n")
    grammar = _Grammar(code, {n for n, line in enumerate(lines, 1) if line != given[n - 1]})
    if only_values and isinstance(statement := (*tree.body, None)[0], ast.Expr):
        statement.value = grammar.visit(statement.value)
    elif not only_values:
        grammar.generic_visit(tree)
    return tree.body


def _nothing(code: Code) -> list[ast.stmt]:
    """Return no statements, of equations that cannot be read."""
    code.document.unclear = code.document.unread = True
    return []


def _is_too_much(code: Code) -> bool:
    """Record what nobody would write, and what Python may fail to parse."""
    document, path, text = code.document, code.path, code.text
    run = _UNARY_RUN.search(text)
    operators = len(_OPERATOR.findall(text))
    if len(text) > _LONGEST:
        document.at_value(path, f"equations must not be longer than {_LONGEST:,} characters")
    elif any(character in text for character in "\0\f\r"):
        document.at_value(path, "equations must not contain control characters")
    elif run is not None:
        sign = "not" if run[0].startswith("not") else run[0][0]
        code.note_between(*run.span(), f"too many `{sign}` in a row; write at most one")
    elif len(_OPENINGS.findall(text)) > _LONGEST // 10 or operators > _MOST_OPERATORS:
        document.at_value(path, "too many operators or brackets in one block; split it into phases")
    else:
        return False
    return True


def _parsed(code: Code, lines: list[str]) -> ast.Module | None:
    """Return the syntax tree of some lines. A line that Python cannot parse is recorded, and replaced there."""
    first = True
    for _ in range(_MOST_WRONG_LINES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SyntaxWarning)
                return ast.parse("\n".join(lines))
        except SyntaxError as error:
            number, column = error.lineno or 1, (error.offset or 1) - 1
            line = (*lines, "")[number - 1]
            reason = _TOO_DEEP
            if "too many nested" not in error.msg:
                column, reason = complaint(line, column, error.msg)
            start = code.offset(number, column)
            # Mistakes on other lines may follow from the first one, unless those lines are complete.
            alone = _ASSIGNMENT.fullmatch(line) is not None and "indent" not in reason
            code.note_between(start, start + 1, reason, consequence=not (first or alone))
            first = False
            code.document.unclear = True
            if number > len(lines) or not line:
                break
            lines[number - 1] = _in_place_of(line)
            code.document.unread |= not lines[number - 1]
        except (RecursionError, MemoryError, ValueError, OverflowError):
            start = _deepest(code.text)
            code.note_between(start, start + 1, _TOO_DEEP)
            break
    return None


def _in_place_of(line: str) -> str:
    """Return a line with holes in the place of one that has a mistake; "" if that does not help."""
    for pattern, hole_ in ((_HEAD, r"\1 ...:"), (_ASSIGNMENT, r"\1 = ...")):
        if pattern.match(line):
            new = pattern.sub(hole_, line)
            return new if new != line else ""
    return ""


def _is_too_deep(code: Code, tree: ast.Module) -> bool:
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST + 2):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    for node in level:
        if isinstance(node, ast.expr | ast.stmt):
            code.note(node, _TOO_DEEP)
            return True
    return False


def _deepest(text: str) -> int:
    """Return the offset of the most deeply nested bracket."""
    depth, found = 0, (0, 0)
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        found = max(found, (depth, -place))
    return -found[1]


class _Grammar(ast.NodeTransformer):
    """Accepts what belongs to the language, and records everything else.

    Short forms become calls: `a @ b` is matmul(a, b), `min(a, b, c)` is min(min(a, b), c), and `m = 0.0` for a slot is
    `m = filled(m, 0.0)`. A hole, `...(parts)`, takes the place of a part that is refused. Nothing is known of its
    value, but its own parts are checked.
    """

    def __init__(self, code: Code, unread: Collection[int]) -> None:
        self.code = code
        self.unread = unread  # numbers of lines that are recorded already

    def visit(self, node: ast.AST) -> Any:
        """Return a node of the language, or several."""
        node = self.in_full(node)
        wrong = self.wrong(node)
        place, message = wrong or (None, "")
        if place and message and getattr(node, "lineno", 0) not in self.unread:
            span = place if isinstance(place, tuple) else self.code.span(place)
            self.code.note_between(*span, message)
        match node:
            case ast.expr() if wrong is not None:
                return hole(node, [self.visit(part) for part in _parts_of(node)])
            case ast.stmt() if wrong is not None:
                found = holes(node, [self.visit(part) for part in _parts_of(node)])
                self.code.document.unread |= not found
                return found
            case ast.comprehension():
                for _, source in loops_of(node):
                    self.generic_visit(source)  # `range` belongs only here
                node.ifs = [self.visit(each) for each in node.ifs]
                return node
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.generic_visit(node)
                if like := self.filled_by(name, node.value):
                    arguments = [ast.Name(like, ast.Load()), node.value]
                    call = ast.Call(ast.Name("filled", ast.Load()), arguments, [])
                    node.value = ast.fix_missing_locations(ast.copy_location(call, node.value))
                return node
            case _:
                return self.generic_visit(node)

    def filled_by(self, name: str, value: ast.expr) -> str:
        """Return the array whose shape a number fills that is assigned to `update` or to a slot; "" for others."""
        document = self.code.document
        slot = document.value(("slots", name))
        is_array = name == UPDATE or (isinstance(slot, dict) and "each" not in slot)
        options = (
            document.value(("hyperparameters", each, "default")) for each in names_in([value])
        )
        kinds = ast.Constant | ast.Name | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop
        is_number = all(isinstance(part, kinds | ast.expr_context) for part in parts_of(value))
        is_number &= all(type(option) in {int, float} for option in options)
        if self.code.path[-1] != "leaf" or not (is_array and is_number):
            return ""
        return GRADIENT if name == UPDATE else name

    def in_full(self, node: ast.AST) -> ast.AST:
        match node:
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                function = ast.copy_location(ast.Name("matmul", ast.Load()), node)
                call = ast.copy_location(ast.Call(function, [left, right], []), node)
                self.code.products.append(call)
                return call
            case ast.Call(func=ast.Name(id="max" | "min"), args=[_, _, _, *_]):
                *others, last = node.args
                node.args = [ast.copy_location(ast.Call(node.func, others, []), node), last]
                return node
            case _:
                return node

    def wrong(self, node: ast.AST) -> tuple[ast.expr | ast.stmt | tuple[int, int], str] | None:
        """Return what of a node does not belong to the language, and why; None if all does."""
        match node:
            case ast.Assign(value=ast.Starred() as value):
                return value, _STARRED
            case ast.Assign(targets=[ast.Name()]) | ast.If():
                return None
            case ast.Assign(targets=[target, *_]):
                part = "; to change a part of an array, write `x = where(test, a, b)`"
                return (
                    target,
                    f"assign to a single name{part if isinstance(target, ast.Subscript) else ''}",
                )
            case ast.AugAssign(target=ast.Name(id=name), op=op) if type(op) in SIGNS:
                sign = SIGNS[type(op)]
                cure = for_assignment(name) or f"write `{name} = {name} {sign} ...`"
                return node, f"`{sign}=` is not part of the language; {cure}"
            case ast.AugAssign(op=op) if type(op) in _OPERATORS:
                return node, f"`{_OPERATORS[type(op)]}` is not part of the language"
            case ast.Constant():
                return _wrong_constant(node)
            case ast.BinOp(op=ast.Pow()):
                return _wrong_power(node)
            case ast.UnaryOp(op=ast.USub() | ast.Not()) | ast.BoolOp() | ast.IfExp():
                return None
            case ast.BinOp(left=left, op=op) if type(op) in _OPERATORS:
                return self.wrong_operator(_OPERATORS[type(op)], self.code.span(left)[1])
            case ast.BinOp(op=op) if type(op) in SIGNS:
                return None
            case ast.UnaryOp(op=ast.Invert()):
                return self.wrong_operator("~", self.code.span(node)[0])
            case ast.Compare():
                return _wrong_comparison(node)
            case ast.Call(func=ast.Name(id=name)):
                return self.wrong_call(node, name)
            case ast.Call(func=ast.Attribute() as function):
                return (
                    function,
                    f"only functions of the language can be called{for_member(function)}",
                )
            case ast.Call(func=function):
                return function, "only functions of the language can be called"
            case ast.Attribute():
                return node, f"attributes are not part of the language{for_member(node)}"
            case ast.Subscript(value=ast.Attribute() as value):
                return self.wrong(value)
            case ast.Subscript():
                return _wrong_index(node)
            case ast.List(elts=[]):
                return node, "a list must have items"
            case ast.Tuple(elts=items) if starred := [
                x for x in items if isinstance(x, ast.Starred)
            ]:
                return starred[0], _STARRED
            case ast.ListComp():
                return _wrong_comprehension(node)
            case ast.Slice(step=None) | ast.Name() | ast.List() | ast.Tuple() | ast.Starred():
                return None
            case ast.expr() | ast.stmt():
                return node, _FORBIDDEN.get(type(node), "this is not part of the language")
            case _:
                return None

    def wrong_operator(self, sign: str, after: int) -> tuple[tuple[int, int], str]:
        start = self.code.text.find(sign, after)
        cure = f"; write `{OPERATORS[sign]}`" if sign in OPERATORS else ""
        return (start, start + len(sign)), f"`{sign}` is not part of the language{cure}"

    def wrong_call(self, node: ast.Call, name: str) -> tuple[ast.expr, str] | None:
        definitions = self.code.document.definitions
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            return node, "pass the arguments one by one, without *"
        if name in _LOOPS:
            return node, f"use {name} only in a comprehension: {_LOOPS[name]}"
        if name in definitions:
            parameters = definitions[name]
            if parameters is None:
                return node, ""  # its definition has a mistake
            if not node.keywords and len(node.args) == len(parameters):
                return None
            return node, f"write {name}({', '.join(parameters)}), as it is defined"
        if name not in FUNCTIONS:
            return (
                node.func,
                f"unknown function {name!r}{for_function(name, [*FUNCTIONS, *definitions])}",
            )
        function = FUNCTIONS[name]
        optional = [p.name for p in function.parameters if p.optional and p.name != OTHER]
        named = [keyword.arg or "**" for keyword in node.keywords]
        given, fewest, most = len(node.args), function.fewest_arguments, function.most_arguments
        free = [p.name for p in function.parameters[given:] if p.optional]
        wrong = [word for word in named if word not in optional]
        if wrong:
            return node, _wrong_keyword(node, function, wrong[0], optional)
        if any(word not in free for word in named) or len(set(named)) < len(named):
            return node, f"an argument of {name} is given twice"
        if not fewest <= given <= most:
            expected = f"{fewest} to {most}" if fewest < most else f"{most}"
            plural = "argument" if most == 1 else "arguments"
            return node, f"{name} takes {expected} {plural}, not {given}"
        return None


def _parts_of(node: ast.AST) -> list[ast.expr]:
    """Return the parts of what is refused that are checked all the same."""
    match node:
        case ast.Call():
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        case ast.BinOp(left=left, op=ast.Pow()):
            parts = [left]
        case ast.BinOp() | ast.UnaryOp() | ast.Compare():
            parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        case ast.AugAssign(value=value):
            parts = [value]
        case _:
            parts = []
    return [part for part in parts if not isinstance(part, ast.Constant)]


def _wrong_comparison(node: ast.Compare) -> tuple[ast.expr, str] | None:
    op, right = node.ops[0], node.comparators[0]
    none = isinstance(right, ast.Constant) and right.value is None
    if any(
        isinstance(each, ast.BinOp) and type(each.op) in _OPERATORS for each in node.comparators
    ):
        return node, ""  # `a > 0 & b > 0`, of which the operator is recorded
    if len(node.ops) > 1:
        return node, "compare only two values at a time; combine two comparisons with `and`"
    if isinstance(op, ast.Is | ast.IsNot) and not none:
        return right, "use `is` only to compare with None"
    if none and not isinstance(op, ast.Is | ast.IsNot):
        return node, "to compare with None, write `is None` or `is not None`"
    if isinstance(op, ast.In | ast.NotIn):
        return node, f"`{_OPERATORS[type(op)]}` is not part of the language"
    return None


def _wrong_index(node: ast.Subscript) -> tuple[ast.expr, str] | None:
    index = node.slice
    items = index.elts if isinstance(index, ast.Tuple) else [index]
    slices = [item for item in items if isinstance(item, ast.Slice)]
    if not isinstance(node.value, ast.Name):
        return node, "assign this to a name before you index it"
    if len(items) > len(slices) > 0:
        return node, "cut each axis with a slice: `x[:, :1]` in place of `x[:, 0]`"
    if isinstance(index, ast.Tuple) and not slices:
        return node, "an index must be one integer"
    return None


def _wrong_comprehension(node: ast.ListComp) -> tuple[ast.expr, str] | None:
    """Accept `[expression for i in range(ndim)]`, over ranges and lists, with static conditions."""
    generator, *more = node.generators
    loops = [*loops_of(generator)]
    match generator.iter:
        case ast.Call(func=ast.Name(id=name)) if name not in {*_LOOPS, *FUNCTIONS}:
            return generator.iter, f"unknown function {name!r}{for_function(name, _LOOPS)}"
        case _:
            pass
    for _, source in loops:
        match source:
            case ast.Call(func=ast.Name(id="range"), args=[end], keywords=[]) if not isinstance(
                end, ast.Starred
            ):
                pass
            case ast.Name() | ast.Subscript(slice=ast.Slice()):
                pass
            case other:
                message = "a comprehension must iterate over range(ndim), over a list, or over zip"
                return other, f"{message} of these"
    if more:
        return node, "a comprehension can have only one `for`"
    if not loops:
        message = "write one variable, or one for each list of zip: [b * x for b, x in zip(c, m)]"
        return generator.target, message
    return (node, "this is not part of the language") if generator.is_async else None


def _wrong_constant(node: ast.Constant) -> tuple[ast.expr, str] | None:
    value = node.value
    if value is None or isinstance(value, bool | str):
        return None  # the analysis checks whether they are allowed here
    if isinstance(value, int) and abs(value) > 2**31 - 1:
        return node, "this does not fit into a 32-bit integer; write a float"
    if isinstance(value, float) and not math.isfinite(value):
        return node, "this is larger than any float"
    if not isinstance(value, int | float):
        return node, "numbers must be integers or floats"
    return None


def _wrong_power(node: ast.BinOp) -> tuple[ast.expr, str] | None:
    exponent = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    parts = list(parts_of(exponent))
    if isinstance(exponent, ast.Constant):
        value = exponent.value
        large = isinstance(value, int | float) and value > _LARGEST_EXPONENT
        return (node.right, f"an exponent must not exceed {_LARGEST_EXPONENT}") if large else None
    if any(isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow) for part in parts):
        return node.right, "assign a power in an exponent to a name first"
    if not any(isinstance(part, ast.Name) for part in parts):
        return node.right, "write the exponent as one number"
    return None


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
