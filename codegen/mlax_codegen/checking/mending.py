"""A spec without its mistakes, so that the checks that follow find what is wrong elsewhere.

An equation with a mistake assigns a hole, of which nothing is known. A declaration with one is left out, and so is what
is computed from it. So no later message follows from an earlier one.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mlax_codegen.reading.declarations import Argument, Scalar, Slot
from mlax_codegen.reading.equations import Code, ExpressionCode, holes
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Phase, Spec
from mlax_codegen.reading.trees import names_in, parts_of, target_of

__all__ = ["mended"]

_Code = TypeVar("_Code", bound=ExpressionCode)
_Declared = TypeVar("_Declared", Hyperparameter, Argument, Scalar, Slot)


def mended(spec: Spec) -> Spec:
    """Return a spec without what has a mistake, and settle the lines that have one.

    Equations are changed in place: nobody writes them any more.
    """
    document = spec.document
    if not document.mistakes:
        return spec
    document.settle()
    return _Mender(spec).mended(spec)


class _Mender:
    """Leaves out what has a mistake, or is computed from what is left out: from a name that is `gone`."""

    def __init__(self, spec: Spec) -> None:
        self.document = spec.document
        self.slots: set[str] = {slot.name for slot in spec.slots}
        self.gone: set[str] = spec.document.broken | spec.document.unknown

    def mended(self, spec: Spec) -> Spec:
        hyperparameters = self.declared(spec.hyperparameters)
        shapes = {name: code for name, code in spec.shapes.items() if self.shape(name, code)}
        arguments, scalars = self.declared(spec.arguments), self.declared(spec.scalars)
        slots = self.declared(spec.slots)
        for code in [*spec.blocks, *(function.leaf for function in spec.functions)]:
            code.body = self.statements(code, code.body)
        return replace(
            spec,
            hyperparameters=hyperparameters,
            shapes=shapes,
            requirements=tuple(x for x in spec.requirements if self.right(x.test)),
            arguments=arguments,
            scalars=scalars,
            slots=slots,
            phases=tuple(map(self.phase, spec.phases)),
        )

    def declared(self, declarations: Sequence[_Declared]) -> tuple[_Declared, ...]:
        """Return the declarations that have no mistake."""
        for each in declarations:
            given: Mapping[str, object] = vars(each)
            codes = [*given.values(), getattr(given.get("init"), "code", None)]
            if not all(self.right(code) for code in codes if isinstance(code, ExpressionCode)):
                self.gone.add(each.name)
        return tuple(x for x in declarations if x.name not in self.gone)

    def shape(self, name: str, code: ExpressionCode) -> bool:
        """Whether a name of [shapes] has no mistake."""
        if not self.right(code):
            self.gone.add(name)
        return name not in self.gone

    def phase(self, phase: Phase) -> Phase:
        every = self.right(phase.every)
        return replace(
            phase,
            every=every,
            first=every and self.right(phase.first),
            unless=self.right(phase.unless),
            skip=self.right(phase.skip),
        )

    def right(self, code: _Code | None) -> _Code | None:
        """Return an expression that has no mistake."""
        if code is None or self.document.has_mistakes(code.path):
            return None
        return None if self.gone & {*names_in([code.expression])} else code

    def statements(self, code: Code, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Return statements, with holes in the place of those that have a mistake."""
        found: list[ast.stmt] = []
        for statement in body:
            checked = statement.test if isinstance(statement, ast.If) else statement
            if self.is_wrong(code, checked):
                # A slot has the shape that it is declared with, whatever is assigned.
                found += [hole for hole in holes(statement) if target_of(hole) not in self.slots]
                continue
            if isinstance(statement, ast.If):
                statement.body = self.statements(code, statement.body)
                statement.orelse = self.statements(code, statement.orelse)
            found.append(statement)
        return found

    def is_wrong(self, code: Code, node: ast.AST) -> bool:
        """Whether a part of a statement is on a line with a mistake, or reads what is gone."""
        for part in parts_of(node):
            if isinstance(part, ast.Name) and part.id in self.gone:
                return True
            if isinstance(part, ast.expr | ast.stmt):
                origin = code.origins.get(part)
                place, line = (origin.code, origin.node.lineno) if origin else (code, part.lineno)
                if self.document.line_of(place.path, line) in self.document.settled:
                    return True
        return False
