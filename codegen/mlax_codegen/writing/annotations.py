"""The annotations of leaf functions: what slots, weights and scalars are under some options."""

import ast
from collections.abc import Collection, Iterable, Mapping, Sequence

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.language import STEP_NUMBER, TOTAL_COUNT, is_of_numbers
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import parts_of

__all__ = ["Annotations", "in_order"]

_ARRAY, _FLOAT, _NONE = "Array", "float", "None"


class Annotations:
    """Says what the arguments of leaf functions are.

    Attributes:
        weights: The annotation of the weights of a leaf, in a step.
    """

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.analysis = analysis
        self.conditional: set[str] = {slot.name for slot in spec.slots if slot.when}
        self.conditional |= {argument.name for argument in spec.arguments if argument.when}
        self.weights = _ARRAY if analysis.requires_weights else f"{_ARRAY} | {_NONE}"
        self.scalars: _Scalars = _Scalars(spec, analysis)
        # What each definition is given, by the calls of it.
        self.parameters: dict[str, dict[str, set[str]]] = {
            each.name: {name: set[str]() for name in each.parameters} for each in spec.definitions
        }
        codes = [*spec.blocks, *(function.leaf for function in spec.functions)]
        self.calls([statement for code in codes for statement in code.body], {})
        for each in reversed(spec.definitions):
            self.calls([each.code.expression], self.parameters[each.name])

    def calls(self, nodes: Sequence[ast.AST], types: "Types") -> None:
        """Remember what definitions are given."""
        known = {**self.scalars.types, **types}
        for call in (part for node in nodes for part in parts_of(node)):
            match call:
                case ast.Call(func=ast.Name(id=name), args=arguments) if name in self.parameters:
                    pairs = zip(self.parameters[name].values(), arguments, strict=True)
                    for kinds, argument in pairs:
                        kinds.update(self.scalars.of(argument, known) - {_NONE})
                case _:
                    pass

    def slot(self, name: str) -> str:
        """Return what a leaf function is given for a slot."""
        plain = "Sequence[Array]" if name in self.analysis.several else _ARRAY
        if name in self.analysis.per_leaf:
            return f"{plain} | tuple[()]"
        return f"{plain} | {_NONE}" if name in self.conditional else plain

    def test(self, name: str) -> str | None:
        """Return the test that a slot or an argument is there, where it may not be."""
        if name in self.analysis.per_leaf and name not in self.analysis.several:
            return f"isinstance({name}, {_ARRAY})"
        return f"{name} is not None" if name in self.conditional else None

    def other(self, name: str) -> str:
        """Return what a leaf function is given for an argument of the step, or for what is computed once a step."""
        return in_order(self.scalars.types.get(name, {_ARRAY}))


def in_order(kinds: Collection[str]) -> str:
    """Return the annotation of what may be of several kinds."""
    return " | ".join(kind for kind in (_ARRAY, _FLOAT, _NONE) if kind in kinds)


Types = Mapping[str, set[str]]


class _Scalars:
    """Finds out which of an array, a float and None each scalar of a step may be."""

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.types: dict[str, set[str]] = {STEP_NUMBER: {_ARRAY}, TOTAL_COUNT: {_ARRAY}}
        for h in spec.hyperparameters:
            kinds = {_ARRAY} if h.schedulable else {_FLOAT}
            if h.kind == "float" and h.name not in analysis.decisive:
                kinds.add(_ARRAY)
            self.types[h.name] = {*kinds, _NONE} if h.optional else kinds
        arrays = [scalar.name for scalar in spec.scalars]
        arrays += [name for plan in analysis.phases for name in plan.totals]
        self.types |= {name: {_ARRAY} for name in arrays}
        self.types |= {a.name: {_ARRAY, *([_NONE] if a.when else [])} for a in spec.arguments}
        for phase in spec.phases:
            if phase.scalars is not None:
                self.statements(phase.scalars.body)

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.types[name] = self.of(value, self.types)
                case ast.If(body=then, orelse=otherwise):
                    before = dict(self.types)
                    self.statements(then)
                    after, self.types = self.types, before
                    self.statements(otherwise)
                    for name, found in after.items():
                        self.types[name] = self.types.get(name, set()) | found
                case _:
                    pass

    def of(self, node: ast.expr, types: Types) -> set[str]:
        match node:
            case ast.Name(id=name):
                return set(types.get(name, {_ARRAY}))
            case ast.Constant():
                return {_FLOAT}
            case ast.UnaryOp(operand=operand):
                return self.of(operand, types)
            case ast.BinOp(left=left, right=right):
                return _combined([self.of(left, types), self.of(right, types)])
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                found = self.of(body, _narrowed(types, test, holds=True))
                return found | self.of(otherwise, _narrowed(types, test, holds=False))
            case ast.Call(args=arguments) if is_of_numbers(node):
                return _combined(self.of(argument, types) for argument in arguments)
            case _:
                return {_ARRAY}


def _combined(operands: Iterable[set[str]]) -> set[str]:
    """Return what arithmetic makes of its operands: an array, unless all of them are floats."""
    found = [operand - {_NONE} for operand in operands]
    kinds = {_FLOAT} if all(_FLOAT in operand for operand in found) else set[str]()
    return kinds | ({_ARRAY} if any(_ARRAY in operand for operand in found) else set())


def _narrowed(types: Types, test: ast.expr, *, holds: bool) -> Types:
    """Return the types where a test holds or does not: a hyperparameter is None, or it is not."""
    match test:
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot() as op]):
            absent = isinstance(op, ast.Is) is holds
            known = types.get(name, {_ARRAY})
            return {**types, name: {_NONE} if absent else known - {_NONE}}
        case _:
            return types
