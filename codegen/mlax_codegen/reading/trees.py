"""Names, assignments and calls in the syntax trees of equations, and how these are written."""

import ast
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import cast

from mlax_codegen.language import FUNCTIONS, TOTALS, Type, is_of_numbers

__all__ = [
    "SIGNS",
    "arguments_of",
    "assignments_in",
    "calls_in",
    "cuts_in",
    "in_short",
    "indexed",
    "is_list",
    "is_total",
    "item_at",
    "loops_of",
    "mentions",
    "names_in",
    "parts_of",
    "target_of",
    "values_in",
]

SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.MatMult: "@",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
"""How the operators of the language are written."""

_LONGEST = 60  # characters of an expression in a message


def parts_of(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all that is in it, but for whether names are read: `ast.walk`, in a third of the time."""
    parts: list[ast.AST] = [node]
    for part in parts:  # which grow meanwhile
        yield part
        for field in part._fields:
            value: object = getattr(part, field, None)
            if isinstance(value, list):
                items = cast("list[object]", value)
                parts += [item for item in items if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST) and field != "ctx":
                parts.append(value)


def names_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that are read."""
    for node in nodes:
        for part in parts_of(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                yield part.id


def values_in(node: ast.AST) -> Iterator[str]:
    """Yield the names whose values are read; a test whether one is None does not read its value."""
    parts = [*parts_of(node)]
    tests = [part for part in parts if isinstance(part, ast.Compare)]
    about_none = [test.left for test in tests if isinstance(test.ops[0], ast.Is | ast.IsNot)]
    return names_in(part for part in parts if isinstance(part, ast.Name) and part not in about_none)


def mentions(node: ast.AST, name: str) -> bool:
    """Whether equations read or assign a name."""
    return any(isinstance(part, ast.Name) and part.id == name for part in parts_of(node))


def is_total(node: ast.expr) -> bool:
    """Whether a value is computed over all leaves, and so known to the phases that follow."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TOTALS


def in_short(node: ast.expr, instead: str) -> str:
    """Return an expression for a message; `instead` if it is long."""
    text = ast.unparse(node)
    return text if len(text) <= _LONGEST else instead


def arguments_of(call: ast.Call) -> list[ast.expr]:
    """Return the arguments of a call; of `min(min(a, b), c)`, all three."""
    found: list[ast.expr] = []
    for argument in call.args:
        match argument:
            case ast.Call(func=inner) if is_of_numbers(call) and is_of_numbers(argument):
                same = ast.dump(inner) == ast.dump(call.func)
                found += arguments_of(argument) if same else [argument]
            case _:
                found.append(argument)
    return found


def loops_of(generator: ast.comprehension) -> Iterator[tuple[str, ast.expr]]:
    """Yield each variable of a comprehension with what its values come from: several for `zip`."""
    match generator.target, generator.iter:
        case ast.Name(), ast.Call(func=ast.Name(id="zip")):
            return  # which needs several variables
        case ast.Name(id=name), source:
            yield name, source
        case ast.Tuple(elts=targets), ast.Call(func=ast.Name(id="zip"), args=sources, keywords=[]):
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if len(names) == len(targets) == len(sources):
                yield from zip(names, sources, strict=True)
        case _:
            pass


def indexed(node: ast.ListComp) -> tuple[ast.expr, str]:
    """Return the items of a comprehension as a function of an index, with that: `x` of `for x in m` is `m[i]`."""
    loops = [*loops_of(node.generators[0])]
    ranges = [name for name, source in loops if isinstance(source, ast.Call)]
    free = (letter for letter in "ijklpqrs" if letter not in {*names_in([node])})
    index = ranges[0] if ranges else next(free, "i")
    values = {name: item_at(source, index) for name, source in loops}
    return _Replaced(values).visit(copy.deepcopy(node.elt)), index


def is_list(node: ast.expr, known: Collection[str]) -> bool:
    """Whether a value is a list of arrays or shapes.

    Args:
        node: The value.
        known: The names that are such lists.
    """
    match node:
        case ast.Name(id=name):
            return name in known
        case ast.IfExp(body=body):
            return is_list(body, known)
        case ast.Call(func=ast.Name(id="every"), args=[_, new, _]):
            return is_list(new, known)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return FUNCTIONS[name].result is Type.SHAPES
        case ast.Subscript(value=value, slice=ast.Slice()):
            return is_list(value, known)
        case _:
            return isinstance(node, ast.ListComp | ast.List)


def item_at(source: ast.expr, index: str) -> ast.expr:
    """Return an item of a list, or of a part of one; of a range, its index."""
    place: ast.expr = ast.Name(index, ast.Load())
    match source:
        case ast.Call():
            return place
        case ast.Subscript(value=value, slice=ast.Slice(lower=lower)):
            source = value
            place = place if lower is None else ast.BinOp(place, ast.Add(), lower)
        case _:
            pass
    return ast.Subscript(source, place, ast.Load())


class _Replaced(ast.NodeTransformer):
    """Puts values in the places of names."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = copy.deepcopy(self.values.get(node.id, node))
        return ast.fix_missing_locations(ast.copy_location(value, node))


def target_of(statement: ast.AST) -> str:
    """Return the name that an assignment assigns; "" for anything else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return ""


def assignments_in(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Yield each name that is assigned, with its value; those under an `if` too."""
    for node in nodes:
        if isinstance(node, ast.If):
            yield from assignments_in([*node.body, *node.orelse])
        elif isinstance(node, ast.Assign) and (name := target_of(node)):
            yield name, node.value


def cuts_in(nodes: Iterable[ast.AST], but: Collection[ast.AST] = ()) -> Iterator[ast.Subscript]:
    """Yield what cuts an array: `x[:, :n]`.

    Args:
        nodes: The equations.
        but: Slices that do not count.
    """
    for part in (part for node in nodes for part in parts_of(node)):
        match part:
            case ast.Subscript(slice=ast.Slice() | ast.Tuple() as index) if index not in but:
                yield part
            case _:
                pass


def calls_in(nodes: Iterable[ast.AST], but: Collection[ast.AST] = ()) -> Iterator[str]:
    """Yield the functions of the language that are called; `max` and `min` of two numbers are Python's own.

    Args:
        nodes: The equations.
        but: Calls that do not count.
    """
    for node in nodes:
        for part in parts_of(node):
            match part:
                case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS and part not in but:
                    if not is_of_numbers(part):
                        yield name
                case _:
                    pass
