"""Slots that start from the first gradient.

Such a slot holds zeros until the first step, and is read as `g` there. `g` may change in the equations, so it counts as
it is before the first statement that names the slot. There the code has `m = where(t == 1, g, m)`, as if the
spec had it.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence

from mlax_codegen.language import GRADIENT, STEP_NUMBER
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.equations import BlockCode, read_block
from mlax_codegen.reading.spec import Phase, Spec
from mlax_codegen.reading.trees import assignments_in, mentions, names_in, parts_of

__all__ = ["check_starts", "starts", "with_starts"]


def check_starts(spec: Spec) -> None:
    """Record slots that nothing reads as they start, and those of which it is not known what `g` they start from."""
    for slot in _starting(spec):
        phase, number = spec.first_named(slot.name)
        if phase.unless:
            message = (
                f"{slot.name!r} starts as `g` in step 1, but this phase may leave it out there"
            )
            cure = "read it in a phase without `unless` first"
            spec.document.at_key(phase.unless.path, f"{message}; {cure}")
        found = [*_first_named(phase.leaf.body[number : number + 1], slot.name)]
        read = [statement for statement, _ in found if slot.name in names_in([statement])]
        if found and not read:
            message = f"{slot.name!r} is assigned before it is read, so it never starts"
            path = ("slots", slot.name, "init")
            spec.document.at_value(path, f'{message}; write init = "zeros"')
        for statement in [statement for statement, changed in found if changed][:1]:
            message = f"{slot.name!r} starts as `g`, which only one branch has changed"
            phase.leaf.note(statement, f"{message}; change `g` in an `if` of its own, before this")


def starts(spec: Spec, phase: Phase) -> Mapping[int, BlockCode]:
    """Return the equations that let slots start in a phase, by the number of the statement that they precede."""
    found: dict[int, list[Slot]] = {}
    for slot in _starting(spec):
        first, number = spec.first_named(slot.name)
        if first is phase:
            found.setdefault(0 if phase.is_partial else number, []).append(slot)
    return {number: _start(phase.leaf, slots) for number, slots in sorted(found.items())}


def with_starts(spec: Spec, phase: Phase) -> Iterator[BlockCode]:
    """Yield the leaf equations of a phase in parts, the last of which is never a start."""
    done, code = 0, phase.leaf
    for place, start in starts(spec, phase).items():
        if place > done:
            yield _part(code, done, place)
        done = place
        yield start
    yield _part(code, done, len(code.body)) if done else code


def _starting(spec: Spec) -> list[Slot]:
    """Return the slots that start from the gradient."""
    return [slot for slot in spec.slots if slot.init.word == "gradient"]


def _first_named(
    body: Sequence[ast.stmt], name: str, *, changed: bool = False
) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield what names a slot first, in each branch, and whether that branch has changed `g` before."""
    for statement in body:
        if isinstance(statement, ast.If) and mentions(statement, name):
            for branch in (statement.body, statement.orelse):
                yield from _first_named(branch, name, changed=changed)
            return
        if mentions(statement, name):
            yield statement, changed
            return
        changed = changed or GRADIENT in dict(assignments_in([statement]))


def _start(code: BlockCode, slots: Sequence[Slot]) -> BlockCode:
    """Return the equations that let slots start."""
    lines: list[str] = []
    for slot in slots:
        line = f"{slot.name} = where({STEP_NUMBER} == 1, {GRADIENT}, {slot.name})"
        when = " ".join(slot.when.text.split()) if slot.when else ""
        lines += [f"if {when}:", f"    {line}"] if when else [line]
    return read_block(code.document, code.path, "\n".join(lines))


def _part(code: BlockCode, start: int, end: int) -> BlockCode:
    """Return some statements of a block; the lines of the others are empty, so that positions stay."""
    lines = code.text.split("\n")
    first = code.body[start - 1].end_lineno or 0 if start else 0
    last = code.body[end - 1].end_lineno if end < len(code.body) else len(lines)
    kept = ["" if not first <= n < (last or 0) else line for n, line in enumerate(lines)]
    part = BlockCode(code.document, code.path, "\n".join(kept), code.body[start:end])
    inside = {node for statement in part.body for node in parts_of(statement)}
    part.of_arrays |= code.of_arrays & inside
    part.of_lists |= code.of_lists & inside
    part.products += [product for product in code.products if product in inside]
    return part
