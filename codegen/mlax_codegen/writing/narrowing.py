"""Statements of equations, with an assertion wherever a type checker could not know that something is there.

A slot that an option leaves out is None in a leaf function, and so are weights that are not given. Where equations read
them, the options say that they are there; a type checker does not know about options. So `assert w is not None` stands
before the first equation that reads `w`, in the branch where it does. A comment stands before the equation that it is
at.
"""

import ast
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from mlax_codegen.language import TOTAL
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.trees import loops_of, names_in, parts_of
from mlax_codegen.writing.expressions import Expressions

__all__ = ["Narrowing", "assigned_in"]


def assigned_in(body: Sequence[ast.stmt]) -> list[str]:
    """Return the names that some equations assign, in any branch."""
    parts = [part for statement in body for part in parts_of(statement)]
    names = [p.id for p in parts if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)]
    comprehensions = [part for part in parts if isinstance(part, ast.comprehension)]
    variables = {name for part in comprehensions for name, _ in loops_of(part)}
    return [name for name in dict.fromkeys(names) if name not in variables]


_COMMENT = re.compile(r"""(?:[^#"']|"[^"]*"|'[^']*')*(#.*)""")


class Narrowing:
    """Writes equations as code.

    Attributes:
        code: The equations.
        expressions: Writes their expressions.
        tests: For each name that may not be there, the test that it is.
    """

    def __init__(self, code: BlockCode, names: Mapping[str, str], tests: Mapping[str, str]) -> None:
        self.code = code
        self.expressions: Expressions = Expressions(code, names)
        self.tests = tests
        self.known: set[str] = set()
        lines = enumerate(code.text.split("\n"), 1)
        self.comments: list[tuple[int, str]] = [
            (number, found[1].rstrip()) for number, line in lines if (found := _COMMENT.match(line))
        ]

    def comments_before(self, line: float = math.inf) -> Iterator[str]:
        """Yield the comments up to a line that have not been written yet, each on a line of its own."""
        while self.comments and self.comments[0][0] <= line:
            yield self.comments.pop(0)[1]

    def statements(self, body: Sequence[ast.stmt]) -> Iterator[str]:
        """Yield equations as code, one statement a line."""
        for place, statement in enumerate(body):
            head = statement.test if isinstance(statement, ast.If) else statement
            yield from self.comments_before(head.end_lineno or 0)
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    if self.always_read(value) & set(self.tests) - self.known:
                        yield from self.assertion(self.read_first(body[place:]))
                    yield from self.assignment(name, value)
                    self.known.add(name)
                case ast.If():
                    yield from self.branches(statement)
                case _:
                    pass

    def assignment(self, name: str, value: ast.expr) -> Iterator[str]:
        yield from self.assertion(self.always_read(value))
        choice = self.choice(value)
        if isinstance(value, ast.IfExp) and choice is value:
            branches = (_assignment(name, each) for each in (value.body, value.orelse))
            yield from self.branches(ast.If(value.test, *branches))
            return
        if choice is not None:
            yield from self.split(name, value, choice)
            return
        match value:
            case ast.Call(func=ast.Name(id=function), args=[summed]) if function == TOTAL:
                value = summed
            case _:
                pass
        yield f"{name} = {self.expressions.text(value)}"

    def choice(self, node: ast.expr) -> ast.IfExp | None:
        """Return a conditional expression of which one branch reads what may not be there."""
        node = self.expressions.chosen.get(node, node)
        if isinstance(node, ast.IfExp) and {*names_in([node])} & set(self.tests) - self.known:
            return node
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        return next((found for child in children if (found := self.choice(child))), None)

    def branches(self, statement: ast.If) -> Iterator[str]:
        """Yield an `if` with all that follows it."""
        before = set(self.known)
        after: list[set[str]] = []
        word = "if"
        branch: ast.If | None = statement
        while branch is not None:
            yield f"{word} {self.expressions.text(branch.test)}:"
            yield from (f"    {line}" for line in self.statements(branch.body))
            after.append(self.known)
            self.known = set(before)
            match branch.orelse:
                case [ast.If() as following]:
                    word, branch = "elif", following
                case otherwise:
                    if otherwise:
                        yield "else:"
                        yield from (f"    {line}" for line in self.statements(otherwise))
                    after.append(self.known)
                    branch = None
        self.known = set.intersection(*after)

    def split(self, name: str, value: ast.expr, choice: ast.IfExp) -> Iterator[str]:
        """Yield an `if` that assigns one of two values, for a conditional expression inside of one."""
        before = set(self.known)
        after: list[set[str]] = []
        heads = f"if {self.expressions.text(choice.test)}:", "else:"
        for head, branch in zip(heads, (choice.body, choice.orelse), strict=True):
            self.expressions.chosen[choice] = branch
            self.known = set(before)
            yield head
            yield from (f"    {line}" for line in self.assignment(name, value))
            after.append(self.known)
        del self.expressions.chosen[choice]
        self.known = set.intersection(*after)

    def assertion(self, read: Collection[str]) -> Iterator[str]:
        for name, test in self.tests.items():
            if name in read and name not in self.known:
                yield f"assert {test}"
                self.known.add(name)

    def always_read(self, node: ast.expr) -> set[str]:
        """Return the names that an expression reads whatever the options are."""
        node = self.expressions.chosen.get(node, node)
        if isinstance(node, ast.IfExp):
            return self.always_read(node.test)
        if isinstance(node, ast.Name):
            return {node.id}
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if isinstance(node, ast.ListComp):
            children += [node.generators[0].iter]
        return {name for child in children for name in self.always_read(child)}

    def read_first(self, body: Sequence[ast.stmt]) -> set[str]:
        """Return the names that the assignments of a block read before they assign them."""
        read: set[str] = set()
        assigned: set[str] = set()
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    read |= self.always_read(value) - assigned
                    assigned.add(name)
                case _:
                    assigned |= set(assigned_in([statement]))
        return read


def _assignment(name: str, value: ast.expr) -> list[ast.stmt]:
    return [ast.Assign([ast.Name(name, ast.Store())], value)]
