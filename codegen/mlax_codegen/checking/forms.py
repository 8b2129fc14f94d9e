"""Which values are one number for each leaf and which are like the leaf, in one world: what cannot fit is found."""

import ast
from collections.abc import Iterable, Mapping
from enum import IntEnum

from mlax_codegen.checking.options import World, holds
from mlax_codegen.language import FUNCTIONS, GRADIENT, NDIM, RESULT, SHAPE, UPDATE, WEIGHT, Function
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.spec import Spec

__all__ = ["Form", "Forms"]


class Form(IntEnum):
    """What is known of a value's shape; of two that meet in an operation the larger is that of the result."""

    NUMBER = 0  # shape ()
    LEAF = 1  # the shape of the leaf
    OTHER = 2  # not followed


class Forms:
    """Follows the values of leaf equations.

    Under a condition that asks about shapes, one number may well be like the leaf: there it is not followed.

    Attributes:
        known: Of each name with more than one number, what is known of it here.
    """

    def __init__(self, spec: Spec) -> None:
        self.declared: Mapping[str, Form] = {
            GRADIENT: Form.LEAF,
            WEIGHT: Form.LEAF,
            **{slot.name: _declared(slot) for slot in spec.slots},
        }
        self.slots: frozenset[str] = frozenset(slot.name for slot in spec.slots)
        self.of_shape: frozenset[str] = frozenset([SHAPE, NDIM, *spec.shapes])
        self.known: dict[str, Form] = {}

    def begin(self) -> None:
        """Forget what other equations have assigned."""
        self.known = dict(self.declared)

    def asks_shapes(self, test: ast.expr) -> bool:
        """Whether a condition depends on the shape of the leaf."""
        names = (part.id for part in ast.walk(test) if isinstance(part, ast.Name))
        return not self.of_shape.isdisjoint(names)

    def assign(self, name: str, value: ast.expr, world: World, *, shaped: bool) -> str | None:
        """Take note of an assignment; return why the value does not fit, or None.

        Args:
            name: What is assigned.
            value: To which it is assigned.
            world: Where it is.
            shaped: Whether it is under a condition that asks about shapes.
        """
        form = self.of(value, world)
        if shaped and form is Form.NUMBER:
            form = Form.OTHER
        if name in self.slots:
            wanted = self.declared[name]
        else:
            wanted = Form.LEAF if name in {UPDATE, RESULT} else Form.OTHER
            self.known[name] = form
        if Form.OTHER in {form, wanted} or form is wanted or (shaped and wanted is Form.NUMBER):
            return None
        if wanted is Form.NUMBER:
            return f"{name!r} has the shape (), and this has that of the leaf"
        hint = '; give the slot shape = "()"' if name in self.slots else ""
        return f"{name!r} has the shape of the leaf, and this is one number{hint}"

    def of(self, node: ast.expr, world: World) -> Form:
        """Return what is known of an expression."""
        match node:
            case ast.Name(id=name):
                return self.known.get(name, Form.NUMBER)
            case ast.UnaryOp(operand=operand):
                return self.of(operand, world)
            case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
                return self.widest([left, right], world)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                form = self.of(body if holds(test, world) else otherwise, world)
                return Form.OTHER if form is Form.NUMBER and self.asks_shapes(test) else form
            case ast.Call(func=ast.Name(id=name)):
                return self.result(FUNCTIONS[name], node, world)
            case ast.Subscript(value=value):
                return Form.OTHER if self.of(value, world) is not Form.NUMBER else Form.NUMBER
            case ast.ListComp():
                return Form.OTHER
            case _:
                return Form.NUMBER

    def widest(self, nodes: Iterable[ast.expr], world: World) -> Form:
        return max(self.of(node, world) for node in nodes)

    def result(self, function: Function, node: ast.Call, world: World) -> Form:
        """Return what is known of the result of a call."""
        if function.elementwise:
            return self.widest(node.args, world)
        if function.shape == "()":
            with_axis = any(p.name == "axis" for p in function.parameters[: len(node.args)])
            return Form.OTHER if with_axis or node.keywords else Form.NUMBER
        for parameter, argument in zip(function.parameters, node.args, strict=False):
            if parameter.name == function.shape:
                return self.of(argument, world)
        return Form.OTHER


def _declared(slot: Slot) -> Form:
    """Return what is known of a slot from its declaration."""
    match slot.shape.expression if slot.shape else ast.Name(SHAPE):
        case ast.Name(id=name) if name == SHAPE:
            return Form.LEAF
        case ast.Tuple(elts=[]):
            return Form.NUMBER
        case _:
            return Form.OTHER
