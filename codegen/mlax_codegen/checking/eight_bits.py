"""Which slots can be held in eight bits, in which range, and why others cannot.

In eight bits a block of numbers shares a scale. So each number needs only the precision of the
largest in its block, relative to it. A mean of gradients is such a slot. Weights are not, and a
slot of another shape is small or a matrix.
"""

import ast

from mlax_codegen.checking.following import Following
from mlax_codegen.checking.retention import choices
from mlax_codegen.language import GRADIENT, SHAPE, WEIGHT, facts_of
from mlax_codegen.reading.declarations import Init, Slot
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in

__all__ = ["nonnegative", "not_int8"]


def not_int8(spec: Spec, slot: Slot) -> str | None:
    """Return why a slot cannot be held in eight bits; None if it can."""
    if slot.wide is not None:
        return slot.wide
    if slot.init.word == "copy":
        return "a copy of the weights"
    assigned = [pair for code in spec.blocks for pair in assignments_in(code.body)]
    parts = [part for name, value in assigned if name == slot.name for part in choices(value)]
    if any("basis" in facts_of(part) for part in parts):
        return "a basis, whose columns have to stay orthonormal"
    if slot.shape is None or slot.each:
        return None
    shapes = [ast.unparse(part) for part in choices(slot.shape.expression)]
    always = "always " if SHAPE in shapes else ""
    return f"not {always}of the shape of the weights"


def nonnegative(spec: Spec) -> frozenset[str]:
    """Return the slots in which no number is ever negative, according to the equations or the spec."""
    signs = _Signs(spec)
    negative = signs.follow()
    return frozenset(slot.name for slot in spec.slots if slot.name not in negative)


class _Signs(Following):
    """Follows what may be negative."""

    def __init__(self, spec: Spec) -> None:
        bounds = {h.name: h.bounds for h in spec.hyperparameters}
        positive = {name for name, b in bounds.items() if b.lower and float(b.lower) >= 0}
        self.at_most_1 = {name for name, b in bounds.items() if b.upper and float(b.upper) <= 1}
        given = [*bounds, *spec.shapes, *(argument.name for argument in spec.arguments)]
        super().__init__(spec, {GRADIENT, WEIGHT, *given} - positive)
        self.known = self.begin
        self.begin |= {each.name for each in spec.state if self.begins_so(each.init)}
        # Nothing is asked of slots that the spec states to be nonnegative.
        self.names -= {slot.name for slot in spec.slots if slot.nonnegative}

    def begins_so(self, init: Init) -> bool:
        if init.code and not init.word:
            return self.may(init.code.expression)
        return init.word != "zeros" if init.word else float(init.number) < 0

    def may(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value < 0
            case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
                return name in self.known
            case ast.BinOp(
                left=ast.Constant(value=1),
                op=ast.Sub(),
                right=ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)),
            ):
                return name not in self.at_most_1
            case ast.Compare() | ast.BoolOp():
                return False
            case ast.BinOp(left=left, op=ast.Pow(), right=power):
                return self.may(left) and ast.unparse(power) != "2"
            case ast.BinOp(left=left, op=ast.Add() | ast.Mult() | ast.Div(), right=right):
                return self.may(left) or self.may(right)
            case ast.Call(func=ast.Name(id="maximum"), args=arguments):
                return all(self.may(argument) for argument in arguments)
            case ast.Call() if "nonnegative" in facts_of(node):
                return False
            case _:
                parts = [part for part in choices(node) if part is not node]
                return not parts or any(self.may(part) for part in parts)
