"""Static conditions in words: in docstrings and in messages."""

import ast

from mlax_codegen.reading.trees import parts_of

__all__ = ["in_prose", "negation", "otherwise", "setting"]

_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}


def setting(name: str, value: str | float | bool | None, *, given: bool = False) -> str:
    """Return in words that an option has a value, or, if `given`, that it has any value but None."""
    if given:
        return f"{name} is given"
    return f'{name} is "{value}"' if isinstance(value, str) else f"{name} is {value}"


def in_prose(node: ast.expr) -> str:
    """Return a condition on options in words: `nesterov is True and momentum is given`."""
    match node:
        case ast.Name(id=name):
            return setting(name, True)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name)):
            return setting(name, False)
        case ast.BoolOp(op=op, values=values):
            word = " and " if isinstance(op, ast.And) else " or "
            inner = [
                f"({in_prose(v)})" if isinstance(v, ast.BoolOp) else in_prose(v) for v in values
            ]
            return word.join(inner)
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot() as op]):
            return setting(name, None, given=isinstance(op, ast.IsNot))
        case ast.Compare(
            left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str() as choice)]
        ):
            word = "is" if isinstance(op, ast.Eq) else "is not"
            return f'{name} {word} "{choice}"'
        case _:
            return ast.unparse(node).replace("'", '"')


def negation(node: ast.expr) -> ast.expr:
    """Return the opposite of a condition."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=comparators) if type(op) in _NEGATED:
            return ast.Compare(left, [_NEGATED[type(op)]()], comparators)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case _:
            return ast.UnaryOp(ast.Not(), node)


def otherwise(node: ast.expr, text: str) -> str:
    """Return in words when a condition does not hold, with as few negations as may be.

    Args:
        node: The condition.
        text: How the spec writes it.
    """
    opposite = _spread(negation(node))
    if isinstance(node, ast.BoolOp) and _negations(opposite) > _negations(node):
        return f"unless {text}"
    return f"if {ast.unparse(opposite)}".replace("'", '"')


def _spread(node: ast.expr) -> ast.expr:
    """Return a condition in which only single tests are negated."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=ast.BoolOp(op=op, values=values)):
            parts = [_spread(negation(value)) for value in values]
            return ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), parts)
        case _:
            return node


def _negations(node: ast.expr) -> int:
    return sum(isinstance(part, ast.Not | ast.NotEq | ast.IsNot) for part in parts_of(node))
