"""Expressions of a spec as Python code on one line: the text of the spec, with other text for some of its parts.

* Names of hyperparameters and functions become those that the code has: `sqrt(b2)` is `jnp.sqrt(h.b2)`.
* `and`, `or` and `not` of conditions of arrays become the operators that arrays have: `&`, `|` and `~`.
* `a @ b` becomes a call, which says how precise the product is. On a mesh of devices, an array is gathered before
  slices cut it. The sum of a list is Python's own `sum`, and not that of the elements of an array.
* Divisors of quotients that a `where` leaves out are guarded (guards.py).

Brackets stay where the spec has them; spaces are put where `ruff format` puts them.
"""

import ast
import re
from collections.abc import Mapping, Sequence

from mlax_codegen.language import FUNCTIONS, is_of_numbers
from mlax_codegen.reading.document import Document
from mlax_codegen.reading.equations import BlockCode, Code, ExpressionCode
from mlax_codegen.reading.trees import arguments_of
from mlax_codegen.writing.guards import guards_in

__all__ = ["Expressions", "expression_text", "parsed", "tuple_of"]

_TOKEN = re.compile(
    r"""(\#[^\n]*|\\\n|\s)*("[^"]*"|'[^']*'|\.?\d[\w.]*(?:(?<=[eE])[-+]\d+)?|[\w.]+|\*\*|//|[<>=!]=|[^\s\w])"""
)
_WORDS = {"and", "or", "not", "if", "else", "is", "in", "for", "lambda"}
_OPERAND = re.compile(r"[\w.\"']")
_OPENING = {"(", "[", "{"}
_CLOSING = re.compile(r"\s*\)")


def expression_text(code: ExpressionCode, names: Mapping[str, str]) -> str:
    """Return an expression as code, with other names for some of its names."""
    return Expressions(code, names).text(code.expression)


def parsed(text: str, document: Document) -> ExpressionCode:
    """Return an expression that the generator has composed, as code of a spec."""
    return ExpressionCode(document, (), text, expression=ast.parse(text, mode="eval").body)


def tuple_of(items: Sequence[str]) -> str:
    """Return code for a tuple."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


class Expressions:
    """Writes the expressions of some code.

    Attributes:
        code: The code.
        names: How some of its names are written.
        chosen: What is written in place of some conditional expressions: one of their branches.
    """

    def __init__(self, code: Code, names: Mapping[str, str]) -> None:
        self.code = code
        self.names = names
        self.chosen: dict[ast.expr, ast.expr] = {}
        self.guards: Mapping[ast.expr, tuple[ast.expr, bool]] = (
            guards_in(code.body) if isinstance(code, BlockCode) else {}
        )

    def text(self, node: ast.expr) -> str:
        """Return an expression as code."""
        return _spaced(self._text(node))

    def _text(self, node: ast.expr) -> str:
        """Return the text of a part, in which some parts are replaced."""
        match node:
            case ast.Name(id=name):
                return self.names.get(name, name)
            case ast.IfExp() if node in self.chosen:
                return self._text(self.chosen[node])
            case ast.BoolOp(op=op, values=values) if node in self.code.of_arrays:
                sign = " & " if isinstance(op, ast.And) else " | "
                return sign.join(map(self._operand, values))
            case ast.UnaryOp(operand=operand) if node in self.code.of_arrays:
                return f"~{self._operand(operand)}"
            case ast.UnaryOp(op=ast.USub(), operand=ast.BinOp(op=ast.Pow()) as power):
                return f"-({self._text(power)})"
            case ast.Call():
                return self._call(node)
            case ast.List(elts=items):
                return f"[{self._items(items)}]"
            case ast.Tuple(elts=items):
                return tuple_of([self._text(item) for item in items])
            case ast.Subscript(value=value, slice=index):
                items = index.elts if isinstance(index, ast.Tuple) and index.elts else [index]
                whole = self._text(value)
                cuts = isinstance(index, ast.Slice | ast.Tuple) and index not in self.code.of_lists
                if cuts and isinstance(self.code, BlockCode):  # not of sizes, which are static
                    whole = f"gathered({whole})"
                return f"{whole}[{self._items(items)}]"
            case ast.Slice(lower=lower, upper=upper):
                ends = [self.text(end) if end else "" for end in (lower, upper)]
                is_tight = all(re.fullmatch(r"-?\w*", end) for end in ends)
                return ":".join(ends) if is_tight else " : ".join(ends).strip()
            case ast.ListComp(elt=element, generators=[loop]):
                target = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
                head = f"{self._text(element)} for {self._items(target)} in {self._text(loop.iter)}"
                return f"[{head}{''.join(f' if {self._text(test)}' for test in loop.ifs)}]"
            case _:
                return self._copied(node)

    def _items(self, items: list[ast.expr]) -> str:
        return ", ".join(map(self._text, items))

    def _operand(self, node: ast.expr) -> str:
        """Return an operand, in parentheses if its own operators might be looser."""
        text = self._text(node)
        is_plain = isinstance(node, ast.Name | ast.Constant | ast.Call | ast.Subscript)
        return text if is_plain else f"({text})"

    def _call(self, node: ast.Call) -> str:
        """Return a call; functions get what else they need: the count of steps, or the hyperparameters."""
        name = ast.unparse(node.func)
        code = self.names.get(name, name)
        given = [self._text(argument) for argument in arguments_of(node)]
        count = FUNCTIONS[name].count if name in FUNCTIONS else ""
        if name == "zip" and isinstance(node.args[0], ast.Call) and len(given) == 2:
            return f"enumerate({given[1]})"  # a range is as long as the list beside it
        if name == "zip":
            given.append("strict=True")
        elif is_of_numbers(node) or node in self.code.of_lists:
            code = name
        elif count:
            given.insert(FUNCTIONS[name].count_at, self.names[count])
        elif held := self.names.get(f"{name}/h"):
            given.insert(0, held)
        if name == "every":
            given[2] = f"lambda: {given[2]}"
        given += [f"{keyword.arg}={self._text(keyword.value)}" for keyword in node.keywords]
        return f"{code}({', '.join(given)})"

    def _copied(self, node: ast.expr) -> str:
        """Return the text that the spec has, with that of the operands in it."""
        whole, (place, end) = self.code.text, self._span(node)
        text = ""
        operands = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        for operand in sorted(operands, key=self._span):
            first, last = self._span(operand)
            text, place = text + whole[place:first], last
            chosen = self.chosen.get(operand)
            if chosen or operand in self.guards or operand in self.code.products:
                while text.rstrip().endswith("(") and (found := _CLOSING.match(whole, place)):
                    text, place = text.rstrip()[:-1], found.end()
            if operand in self.guards:
                text += self._guarded(operand)
            else:
                text += self._operand(chosen) if chosen else self._text(operand)
        return text + whole[place:end]

    def _guarded(self, divisor: ast.expr) -> str:
        """Return a divisor that is 1 where the quotient is left out."""
        test, is_used = self.guards[divisor]
        values = [self._text(divisor), "1.0"] if is_used else ["1.0", self._text(divisor)]
        return f"{self.names['where']}({self._text(test)}, {', '.join(values)})"

    def _span(self, node: ast.expr) -> tuple[int, int]:
        """Return where the text of a node begins and ends."""
        end = self.code.offset(node.end_lineno or 0, node.end_col_offset or 0)
        return self.code.offset(node.lineno, node.col_offset), end


def _spaced(text: str) -> str:
    """Return an expression on one line, without comments, and spaced as `ruff format` does.

    Around the colon of a slice spaces stay as they are.
    """
    found = [*_TOKEN.finditer(text)]
    tokens = [each[2] for each in found] + [""]
    line = ""
    after_operand = after_sign = False  # after_sign: after one that has a single operand
    for number, token in enumerate(tokens[:-1]):
        before = tokens[number - 1] if number else "("
        is_operand = _OPERAND.match(token) is not None and token not in _WORDS
        if before in _OPENING or token in ")]},=" or before == "=" or after_sign:
            gap = ""
        elif ":" in {before, token}:
            gap = " " if found[number][1] else ""
        elif token in _OPENING and after_operand:
            gap = ""
        elif "**" in {before, token}:
            gap = "" if _is_tight(tokens, number - (before == "**")) else " "
        else:
            gap = " "
        after_sign = token in {"-", "+", "~", "*"} and not after_operand
        after_operand = is_operand or token in {")", "]"}
        if token[0] == "'" and '"' not in token:
            token = f'"{token[1:-1]}"'  # noqa: PLW2901
        line += gap + (token.lower() if token[0].isdigit() else token)
    return line


def _is_tight(tokens: Sequence[str], place: int) -> bool:
    """Whether the operands of a power are so simple that no spaces are around its operator."""
    after = place + 1 + (tokens[place + 1] == "-")
    simple = all(_OPERAND.match(tokens[each]) for each in (place - 1, after))
    return simple and tokens[after + 1] not in {"(", "["}
