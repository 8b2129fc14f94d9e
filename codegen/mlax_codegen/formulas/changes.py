"""What options change in equations."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlax_codegen.formulas.conditions import setting
from mlax_codegen.formulas.equations import Equation
from mlax_codegen.formulas.parts import Formula, made

__all__ = ["GIVEN", "Change", "Edit", "Formulas", "Value", "difference", "in_doubt", "together"]

Value = str | bool | float | None

GIVEN = "given"  # the value of a hyperparameter that is a number and not None


@dataclass(frozen=True)
class Edit:
    """Equations that are other ones, or new, in one place.

    Attributes:
        lines: The equations.
        before: The next equation, or what it defines, where their place matters.
    """

    lines: tuple[Equation, ...]
    before: Formula | None


@dataclass(frozen=True)
class Change:
    """What some options change.

    Attributes:
        settings: The options with their values.
        edits: The equations that are other ones, or new.
        gone: All equations that are not there any more.
        left_out: Those of them that have to be named: nothing else takes their place.
    """

    settings: tuple[tuple[str, Value], ...]
    edits: tuple[Edit, ...]
    gone: tuple[Equation, ...]
    left_out: tuple[Equation, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The options in words: `nesterov is True`."""
        return tuple(setting(name, value, given=value == GIVEN) for name, value in self.settings)

    @property
    def lines(self) -> list[Equation]:
        """The equations that are other ones, or new."""
        return [line for edit in self.edits for line in edit.lines]

    def is_nested(self, other: "Change") -> bool:
        """Whether one of two changes has all options of the other one."""
        mine, others = {*self.settings}, {*other.settings}
        return mine <= others or others <= mine

    def adds(self, line: Equation) -> bool:
        """Whether an equation is new, and not another one in the place of one that is gone."""
        return line in self.lines and not any(line.defines_as(x) for x in self.gone)


@dataclass(frozen=True)
class Formulas:
    """The equations at the default options, and what other options change.

    Attributes:
        lines: The equations.
        changes: What options change.
        begins: What the state begins with, where the first gradient, noise or arithmetic says it.
    """

    lines: tuple[Equation, ...]
    changes: tuple[Change, ...]
    begins: tuple[Formula, ...] = ()


def difference(
    settings: Iterable[tuple[str, Value]], before: Sequence[Equation], after: Sequence[Equation]
) -> Change:
    """Return what has to be changed in some equations to get others."""
    edits: list[Edit] = []
    gone: list[Equation] = []
    defined = {line.left for line in before}
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind != "equal":
            gone += before[i:i_end]
        if kind in {"insert", "replace"}:
            lines = after[j:j_end]
            again = any(
                line.left in defined
                or (line.again and line.left not in {x.left for x in lines[:number]})
                for number, line in enumerate(lines)
            )
            placed = kind == "insert" and again and j_end < len(after)
            edits.append(Edit(tuple(lines), _next(after[j_end:]) if placed else None))
    shown = {line.left for edit in edits for line in edit.lines}
    read = {name for line in after for name in line.reads}
    defined_after = {line.left for line in after}
    defined_after |= {x.left for x in gone if x.again and x.name in read}
    # What nothing reads any more has gone without a word, if anything else is said.
    left_out = (x for x in gone if x.left not in shown and (x.left in defined_after or not edits))
    return Change(tuple(settings), tuple(edits), tuple(gone), tuple(left_out))


def together(lines: Iterable[Equation], changes: Iterable[Change]) -> list[Equation]:
    """Return which equations there are after changes, in no particular order. Those by more options come later."""
    found = [*lines]
    for change in sorted(changes, key=lambda change: len(change.settings)):
        new = change.lines
        kept = (x for x in found if x not in change.gone and x not in new)
        found = [x for x in kept if not any(line.replaces(x) for line in new)] + new
    return found


def in_doubt(changes: Sequence[Change], after: Sequence[Equation]) -> list[Equation]:
    """Return equations whose order somebody who makes several changes does not know.

    Two changes add them in the same place, and one of them changes what the other one reads or changes.
    """
    found: list[Equation] = []
    run: list[Equation] = []
    for line in (*after, None):
        if line is not None and any(line in change.lines for change in changes):
            run.append(line)
            continue
        at = [i for i, x in enumerate(run) if any(_depend(x, y, changes) for y in run)]
        found += run[min(at) : max(at) + 1] if at else []
        run = []
    return found


def _depend(one: Equation, other: Equation, changes: Sequence[Change]) -> bool:
    """Whether two changes, of which none presupposes the other one, add equations whose order matters."""
    reads = one.again and one.name in {other.name, *other.reads}
    read = other.again and other.name in {one.name, *one.reads}
    if one is other or not (reads or read):
        return False
    if any(one in change.lines and other in change.lines for change in changes):
        return False
    return any(
        first.adds(one) and second.adds(other) and not first.is_nested(second)
        for first in changes
        for second in changes
    )


def _next(lines: Sequence[Equation]) -> Formula:
    """Return what the first of some equations defines, `each` if others define it too; all of one that changes it."""
    if lines[0].again:
        return made(r"#1 \leftarrow #2", lines[0].left, lines[0].right)
    left = lines[0].left
    again = any(line.left == left and not line.again for line in lines[1:])
    return made(r"\text{each } #1", left) if again else left
