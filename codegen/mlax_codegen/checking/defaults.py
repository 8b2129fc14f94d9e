"""Whether the defaults of a spec meet its own requirements."""

import ast
from collections.abc import Mapping
from typing import Any

from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in

__all__ = ["check_defaults"]


def check_defaults(spec: Spec) -> None:
    """Record each requirement that the defaults break: `Adam()` would fail."""
    defaults = {h.name: ast.literal_eval(h.default) for h in spec.hyperparameters}
    for requirement in spec.requirements:
        test = requirement.test.expression
        try:
            kept = bool(_value(test, defaults))
        except (ArithmeticError, TypeError):  # None > 0, for example
            kept = False
        if not kept:
            names = dict.fromkeys(names_in([test]))
            given = ", ".join(f"{name} = {defaults[name]!r}" for name in names)
            message = f"the defaults do not meet this requirement: {given}"
            requirement.test.note(test, f"{message}; change the defaults or the requirement")


def _value(node: ast.expr, defaults: Mapping[str, Any]) -> Any:
    """Evaluate a condition of hyperparameters. Its grammar and types have been checked."""
    match node:
        case ast.Name(id=name):
            return defaults[name]
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, defaults)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, defaults)
        case ast.BoolOp(op=op, values=values):
            every = all if isinstance(op, ast.And) else any
            return every(_value(value, defaults) for value in values)
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return _value(body if _value(test, defaults) else otherwise, defaults)
        case ast.BinOp(left=left, op=op, right=right):
            return _operation(op, _value(left, defaults), _value(right, defaults))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _operation(op, _value(left, defaults), _value(right, defaults))
        case _:
            return True


def _operation(operator: ast.operator | ast.cmpop, a: Any, b: Any) -> Any:
    match operator:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div():
            return a / b
        case ast.Pow():
            return a**b
        case ast.Lt():
            return a < b
        case ast.LtE():
            return a <= b
        case ast.Gt():
            return a > b
        case ast.GtE():
            return a >= b
        case ast.Eq() | ast.Is():
            return a == b
        case _:
            return a != b
