"""Which floats a step has to know before it runs, so that they cannot be arrays."""

import ast
from collections.abc import Iterator

from mlax_codegen.checking.following import computed_from
from mlax_codegen.checking.options import tests_in
from mlax_codegen.language import FUNCTIONS, called, is_of_numbers
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, parts_of, values_in

__all__ = ["decisive"]


def decisive(spec: Spec) -> frozenset[str]:
    """Return the floats that an `if`, a `when`, a shape or a static argument of a function reads.

    A test whether one is None does not read its value.
    """
    blocks = [*spec.blocks, *(function.leaf for function in spec.functions)]
    statements = [statement for code in blocks for statement in code.body]
    shapes = [code.expression for code in spec.shapes.values()]
    shapes += [slot.shape.expression for slot in spec.slots if slot.shape]
    shapes += [slot.when.expression for slot in spec.slots if slot.when]
    shapes += [argument.when.expression for argument in spec.arguments if argument.when]
    begins = [x.init.code.expression for x in spec.state if x.init.code]
    found: set[str] = set()
    for node in [
        *tests_in([*statements, *shapes, *begins]),
        *shapes,
        *_static_arguments(statements),
    ]:
        found |= {*values_in(node)}
    reads: dict[str, set[str]] = {}
    for name, value in assignments_in(statements):
        reads.setdefault(name, set()).update(values_in(value))
    found |= computed_from(found, reads)
    return frozenset(h.name for h in spec.hyperparameters if h.kind == "float" and h.name in found)


def _static_arguments(nodes: list[ast.stmt]) -> Iterator[ast.expr]:
    for call in (part for node in nodes for part in parts_of(node) if isinstance(part, ast.Call)):
        if is_of_numbers(call):
            yield from call.args
        elif called(call) in FUNCTIONS:
            given = FUNCTIONS[called(call)].given(call)
            yield from (argument for parameter, argument in given if parameter.static)
