"""Which slots can be held in eight bits, in which range, and why others cannot.

In eight bits a block of numbers shares a scale. So each number needs only the precision of the
largest in its block, relative to it. A mean of gradients is such a slot. Weights are not, and a
slot of another shape is small or a matrix.
"""

import ast
from collections.abc import Collection

from mlax_codegen.checking.retention import choices
from mlax_codegen.reading.declarations import Scalar, Slot
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, indexed

__all__ = ["nonnegative", "not_int8"]

_ALWAYS = {"abs", "abs2", "norm", "rms", "sigmoid", "softplus", "std", "uniform"}
_IF_ARGUMENTS_ARE: dict[str, slice] = {
    **dict.fromkeys(("sqrt", "cbrt", "mean", "sum", "max", "min"), slice(1)),
    **dict.fromkeys(("where", "every"), slice(1, 3)),
    "minimum": slice(2),
}
_BASES = {"eigenbasis", "orthonormal", "refreshed_basis", "singular_vectors"}


def not_int8(spec: Spec, slot: Slot) -> str | None:
    """Return why a slot cannot be held in eight bits; None if it can."""
    if slot.wide is not None:
        return slot.wide
    if slot.init.word == "copy":
        return "a copy of the weights"
    assigned = [pair for code in spec.blocks for pair in assignments_in(code.body)]
    parts = [part for name, value in assigned if name == slot.name for part in choices(value)]
    if any(isinstance(part, ast.Call) and ast.unparse(part.func) in _BASES for part in parts):
        return "a basis, whose columns have to stay orthonormal"
    return None if slot.shape is None or slot.each else "not of the shape of the weights"


def nonnegative(spec: Spec) -> frozenset[str]:
    """Return the slots in which no number is ever negative, according to the equations or the spec."""
    signs = _Signs(spec)
    stated = {slot.name for slot in spec.slots if slot.nonnegative}
    found = {slot.name for slot in spec.slots if signs.begins_so(slot)}
    while True:  # those that the equations keep so, as long as all of them are
        kept = {name for name in found if name in stated or signs.stays_so(name, found)}
        if kept == found:
            return frozenset(found)
        found = kept


class _Signs:
    """Finds out whether what a step assigns may be negative."""

    def __init__(self, spec: Spec) -> None:
        self.values: dict[str, list[ast.expr]] = {}
        for block in spec.blocks:
            for name, value in assignments_in(block.body):
                self.values.setdefault(name, []).append(value)
        bounds = {h.name: h.bounds for h in spec.hyperparameters}
        self.positive = {name for name, b in bounds.items() if b.lower and float(b.lower) >= 0}
        self.at_most_1 = {name for name, b in bounds.items() if b.upper and float(b.upper) <= 1}
        # What may be negative when equations read it before they assign it.
        self.given = {"g", "w", *(argument.name for argument in spec.arguments)}
        self.given |= {x.name for x in spec.state if not self.begins_so(x)}

    def begins_so(self, slot: Scalar | Slot) -> bool:
        init = slot.init
        if init.word or init.code is None:
            return init.word == "zeros" or (not init.word and float(init.number) >= 0)
        return self.is_so(init.code.expression, set())

    def stays_so(self, name: str, slots: Collection[str]) -> bool:
        """Whether all that is assigned to a name is not negative, if these slots are not.

        What it was before does not count, unless it was given: a name may be assigned from itself.
        """
        values = [] if name in self.given else self.values.get(name, [])
        return bool(values) and all(self.is_so(value, {*slots, name}) for value in values)

    def is_so(self, node: ast.expr, known: Collection[str]) -> bool:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value >= 0
            case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
                return name in known or name in self.positive or self.stays_so(name, known)
            case ast.BinOp(
                left=ast.Constant(value=1),
                op=ast.Sub(),
                right=ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)),
            ):
                return name in self.at_most_1
            case (
                ast.Compare() | ast.BoolOp() | ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2))
            ):
                return True
            case ast.BinOp(left=left, op=ast.Pow()):
                return self.is_so(left, known)
            case ast.BinOp(left=left, op=ast.Add() | ast.Mult() | ast.Div(), right=right):
                return self.is_so(left, known) and self.is_so(right, known)
            case ast.ListComp():
                return self.is_so(indexed(node)[0], known)
            case ast.List(elts=items):
                parts = [item.value if isinstance(item, ast.Starred) else item for item in items]
                return all(self.is_so(part, known) for part in parts)
            case ast.IfExp(body=body, orelse=otherwise):
                return self.is_so(body, known) and self.is_so(otherwise, known)
            case ast.Call(func=ast.Name(id="maximum"), args=arguments):
                return any(self.is_so(argument, known) for argument in arguments)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                part = _IF_ARGUMENTS_ARE.get(name)
                chosen = arguments[part] if part else []
                return name in _ALWAYS or (
                    bool(chosen) and all(self.is_so(argument, known) for argument in chosen)
                )
            case _:
                return False
