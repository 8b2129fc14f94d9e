"""Facts about slots that let `init` warn when their dtype is too narrow.

A mean `b * m + (1 - b) * g` keeps the part `b` of its slot in each step. If `b` is near 1, a narrow
dtype rounds each change away, and the slot never changes. If the part is a hyperparameter or a
number, as in most built-in specs, it is read off the equations. Otherwise, the spec states it as
`keeps`.
"""

import ast
from collections.abc import Collection, Iterator, Sequence

from mlax_codegen.checking.following import Following, computed_from
from mlax_codegen.language import FUNCTIONS, facts_of, values_of
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, indexed, names_in

__all__ = ["choices", "retained", "scales", "squares"]


def retained(spec: Spec) -> dict[str, tuple[str, ...]]:
    """Return the parts of each slot that a step may keep, as expressions of hyperparameters.

    A slot that changes otherwise, is replaced or is only passed on has none.
    """
    floats = [h.name for h in spec.hyperparameters if h.kind in {"float", "list"}]
    found: dict[str, tuple[str, ...]] = {}
    for slot in spec.slots:
        parts = [slot.keeps.text] if slot.keeps else _parts_in_equations(spec, slot, floats)
        if parts:
            found[slot.name] = tuple(parts)
    return found


def _parts_in_equations(spec: Spec, slot: Slot, floats: Sequence[str]) -> list[str]:
    found = {
        part
        for phase in spec.phases
        for name, value in assignments_in(phase.leaf.body)
        if name == slot.name
        for choice in choices(value)
        # What is the old value itself is stored without a change, so nothing is rounded.
        if not _is_slot(choice, name) and (part := _part(choice, name, floats))
    }
    return [part for part in [*floats, *sorted(found - {*floats})] if part in found]


def choices(node: ast.expr) -> Iterator[ast.expr]:
    """Yield what a value may be selected from."""
    match node:
        case ast.IfExp(body=body, orelse=otherwise):
            yield from choices(body)
            yield from choices(otherwise)
        case ast.ListComp():
            yield from choices(indexed(node)[0])
        case ast.List(elts=items):
            for item in items:
                yield from choices(item.value if isinstance(item, ast.Starred) else item)
        case ast.Call() if "passes" in facts_of(node):
            for argument in values_of(node):
                yield from choices(argument)
        case _:
            yield node


def _is_slot(node: ast.expr, slot: str) -> bool:
    match node:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return name == slot  # or an item, or a part, of that list
        case _:
            return False


def _part(node: ast.expr, slot: str, floats: Collection[str]) -> str | None:
    """Return the part of a slot in a value; "" for none, None if that cannot be read off."""
    match node:
        case _ if _is_slot(node, slot):
            return "1.0"
        case ast.BinOp(  # m + (1 - b) * (g - m)
            left=old,
            op=ast.Add(),
            right=ast.BinOp(
                left=ast.BinOp(
                    left=ast.Constant(value=1),
                    op=ast.Sub(),
                    right=ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)),
                ),
                op=ast.Mult(),
                right=ast.BinOp(op=ast.Sub(), right=again),
            ),
        ) if name in floats and _is_slot(old, slot) and _is_slot(again, slot):
            return name
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            first, second = _part(left, slot, floats), _part(right, slot, floats)
            if second == "":
                return first
            return second if first == "" and isinstance(op, ast.Add) else None
        case ast.BinOp(left=left, op=op, right=right):
            for factor, value in ((left, right), (right, left)):
                if isinstance(op, ast.Mult) and _is_slot(value, slot):
                    return _factor(factor, floats)
            is_elsewhere = _part(left, slot, floats) == "" == _part(right, slot, floats)
            return "" if is_elsewhere else None
        case ast.Call():
            return ""  # a sign or a norm of the slot is not part of it
        case _:
            return None if slot in names_in([node]) else ""


def _factor(node: ast.expr, floats: Collection[str]) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) if name in floats:
            return name
        case ast.Constant(value=int() | float() as value):
            return repr(float(value))
        case _:
            return None


def scales(spec: Spec) -> dict[str, str]:
    """Return the first value of the scalar of the state that is multiplied into a slot.

    A scalar that begins at zero is a sum, not a scale.
    """
    begins = {
        scalar.name: scalar.init.code.text if scalar.init.code else scalar.init.number
        for scalar in spec.scalars
        if not scalar.is_key and (scalar.init.code or float(scalar.init.number) != 0)
    }
    reads: dict[str, set[str]] = {}
    for name, value in _assignments(spec):
        reads.setdefault(name, set()).update(names_in([value]))
    found: dict[str, str] = {}
    for slot in spec.slots:
        read = computed_from([slot.name], reads, but={slot.name for slot in spec.slots})
        if scaled := [begins[name] for name in begins if name in read]:
            found[slot.name] = scaled[0]
    return found


def squares(spec: Spec) -> frozenset[str]:
    """Return the slots that squares go into: they leave float16 before gradients do."""
    return frozenset(_Squares(spec, ()).follow() & {slot.name for slot in spec.slots})


class _Squares(Following):
    """Follows what is a square, or a sum, mean or selection that has one in it."""

    def may(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
                return name in self.known
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
                return True
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
                return self.may(left) or self.may(right)
            case ast.Call() if "square" in facts_of(node):
                return True
            case ast.Call(func=ast.Name(id="matmul"), args=[a, b]):
                names = [set(names_in([x])) - {*FUNCTIONS} for x in (a, b)]
                return names[0] == names[1]  # g @ transpose(g)
            case _:
                parts = [part for part in choices(node) if part is not node]
                return any(self.may(part) for part in parts)


def _assignments(spec: Spec) -> Iterator[tuple[str, ast.expr]]:
    """Yield what a step assigns."""
    for code in spec.blocks:
        yield from assignments_in(code.body)
