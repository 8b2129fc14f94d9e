"""Calls of definitions, replaced by what these compute.

All checks see equations in which nothing is called that the language does not have: a definition may be right in one
call and wrong in another. A mistake in one is recorded where it stands, with the call. Code and formulas are written
from the equations as they are.
"""

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from mlax_codegen.reading.declarations import Definition
from mlax_codegen.reading.equations import BlockCode, Code, Origin, ValueCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import in_short

__all__ = ["inlined"]

_Block = TypeVar("_Block", bound=BlockCode)


class _Place(NamedTuple):
    """Where an expression stands: its code, what the parameters are there, and the call of the definition around."""

    code: Code
    arguments: Mapping[str, tuple[ast.AST, "_Place"]]
    call: str


def inlined(spec: Spec) -> Spec:
    """Return a spec whose equations call no definitions."""
    if not spec.definitions:
        return spec
    right = spec.document.definitions
    definitions = {each.name: each for each in spec.definitions if right.get(each.name)}

    def block(code: _Block) -> _Block:
        return _Inliner(definitions).block(code)

    phases = [
        replace(
            phase,
            leaf=block(phase.leaf),
            scalars=phase.scalars and block(phase.scalars),
            unless=phase.unless and block(phase.unless),
            skip=phase.skip and block(phase.skip),
        )
        for phase in spec.phases
    ]
    functions = [replace(function, leaf=block(function.leaf)) for function in spec.functions]
    return replace(spec, phases=tuple(phases), functions=tuple(functions))


class _Inliner:
    """Copies syntax trees, and remembers where each part of them comes from."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions = definitions
        self.origins: dict[ast.AST, Origin] = {}

    def block(self, code: _Block) -> _Block:
        place = _Place(code, {}, "")
        new = replace(code, body=[self.copied(statement, place) for statement in code.body])
        if isinstance(new, ValueCode):
            [statement] = new.body
            assert isinstance(statement, ast.Assign)
            new.expression = statement.value
        new.origins = self.origins
        return new

    def copied(self, node: ast.AST, place: _Place) -> Any:
        match node:
            case ast.Name(id=name) if name in place.arguments:
                argument, there = place.arguments[name]
                return self.copied(argument, there)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in self.definitions:
                found = self.definitions[name]
                call = place.call or in_short(node, f"{name}(...)")
                given = zip(found.parameters, [(each, place) for each in arguments], strict=True)
                return self.copied(found.code.expression, _Place(found.code, dict(given), call))
            case _:
                pass
        fields = {name: self.field(value, place) for name, value in ast.iter_fields(node)}
        new = ast.copy_location(type(node)(**fields), node)
        if isinstance(node, ast.expr | ast.stmt):
            self.origins[new] = Origin(place.code, node, place.call)
        return new

    def field(self, value: object, place: _Place) -> object:
        match value:
            case ast.AST():
                return self.copied(value, place)
            case list():
                return [self.field(item, place) for item in cast("list[object]", value)]
            case _:
                return value
