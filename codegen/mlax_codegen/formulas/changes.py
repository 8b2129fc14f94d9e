"""Lines of equations, what options change in them, and what a reader gets who makes these changes."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.formulas.conditions import setting
from mlax_codegen.formulas.equations import Condition, Equation
from mlax_codegen.formulas.parts import Formula, made

__all__ = ["GIVEN", "Change", "Edit", "Formulas", "Place", "Value", "Values", "difference"]

Value = str | bool | float | None
Place = tuple[Formula, tuple[Condition, ...]]  # what an equation defines, and its conditions

GIVEN = "given"  # the value of a hyperparameter that is a number and not None


@dataclass(frozen=True)
class Edit:
    """Equations that are other ones, or new, in one place.

    Attributes:
        lines: The equations.
        before: The next equation, or what it defines, where their place matters.
        replaced: The equations that stood there.
        following: The equations after them.
    """

    lines: tuple[Equation, ...]
    before: Formula | None
    replaced: tuple[Equation, ...]
    following: tuple[Equation, ...]


@dataclass(frozen=True)
class Change:
    """What some options change.

    Attributes:
        settings: The options with their values.
        edits: The equations that are other ones, or new.
        left_out: Equations that are not there.
        anew: What is told again from its beginning, because changes by fewer options do not add up to it.
    """

    settings: tuple[tuple[str, Value], ...]
    edits: tuple[Edit, ...]
    left_out: tuple[Equation, ...]
    anew: frozenset[Place] = frozenset()

    @property
    def options(self) -> tuple[str, ...]:
        """The options in words: `nesterov is True`."""
        return tuple(setting(name, value, given=value == GIVEN) for name, value in self.settings)

    def made(self, lines: Iterable[Equation]) -> list[Equation]:
        """Return equations as they are after the change."""
        found = [x for x in lines if x not in self.left_out and x.place not in self.anew]
        before = frozenset(found)
        for edit in self.edits:
            _make(edit, found, before)
        return found


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

    def composed(self, given: Mapping[str, Value]) -> Iterator[list[Equation]]:
        """Yield what a reader gets who makes the changes of some options: in one order, and in the opposite one.

        Changes by more options come after those by fewer in either.
        """
        told = [change for change in self.changes if given.items() >= {*change.settings}]
        for order in (told, told[::-1]):
            found = list(self.lines)
            for change in sorted(order, key=lambda change: len(change.settings)):
                found = change.made(found)
            yield found


class Values:
    """Numbers the values that equations compute: the same number is the same value."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}

    def of(self, lines: Iterable[Equation]) -> dict[str, int | str]:
        """Return the last value of each name that equations define."""
        known: dict[str, int | str] = {}
        for line in lines:
            name = line.name
            read = (known.get(part, part) for part in line.reads)
            new = self.number(line.right, *read)
            if line.conditions:
                new = self.number(line.conditions, new, known.get(name, name))
            known[name] = new
        return known

    def number(self, *parts: object) -> int:
        return self.numbers.setdefault(parts, len(self.numbers))


def difference(
    settings: Iterable[tuple[str, Value]],
    before: Sequence[Equation],
    after: Sequence[Equation],
    anew: Collection[Place] = (),
) -> Change:
    """Return what has to be changed in some equations to get others."""
    edits: list[Edit] = []
    deleted: list[Equation] = []
    before = [line for line in before if line.place not in anew]
    defined_before = {line.left for line in before}
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        lines = tuple(after[j:j_end])
        if kind == "delete":
            deleted += before[i:i_end]
        elif kind != "equal":
            again = any(
                line.left in defined_before
                or (line.again and line.left not in {x.left for x in lines[:n]})
                for n, line in enumerate(lines)
            )
            placed = kind == "insert" and again and j_end < len(after)
            following = tuple(after[j_end:])
            told = _next(following) if placed else None
            edits.append(Edit(lines, told, tuple(before[i:i_end]), following[:1]))
    read = {name for line in after for name in line.reads}
    shown = {line.left for edit in edits for line in edit.lines}
    defined_after = {line.left for line in after}
    defined_after |= {x.left for x in deleted if x.again and x.name in read}
    # What nothing reads any more has gone without a word, if anything else is said.
    left_out = [
        x for x in deleted if x.left not in shown and (x.left in defined_after or not edits)
    ]
    return Change(tuple(settings), tuple(edits), tuple(left_out), frozenset(anew))


def _next(lines: Sequence[Equation]) -> Formula:
    """Return what the first of some equations defines, `each` if others define it too; all of one that changes it."""
    if lines[0].again:
        return made(r"#1 \leftarrow #2", lines[0].left, lines[0].right)
    left = lines[0].left
    again = any(line.left == left and not line.again for line in lines[1:])
    return made(r"\text{each } #1", left) if again else left


def _make(edit: Edit, found: list[Equation], before: frozenset[Equation]) -> None:
    """Make one edit: what is defined takes the place of its definition, and what is new is put in order."""
    after = None
    for i, line in enumerate(edit.lines):
        if line in before and line in found:
            after = found.index(line) + 1
            continue
        old = [
            at
            for at, x in enumerate(found)
            if x.left == line.left
            and (x.conditions[: len(line.conditions)] == line.conditions or x in edit.replaced)
            and x.again == line.again
            and (not line.again or x in edit.replaced)
        ]
        if old and not edit.before:
            at = old[-1]
            found[at] = line
            for other in old[-2::-1]:
                del found[other]
                at -= 1
        else:
            if after is not None and not edit.before:
                at = after
            else:
                following = () if edit.before else edit.lines[i + 1 :]
                at = _place(line, [*following, *edit.following], found)
            found.insert(at, line)
        after = at + 1


def _place(line: Equation, following: Sequence[Equation], found: Sequence[Equation]) -> int:
    """Return where a new equation stands: before what follows it, else before what reads it."""
    for other in following:
        if other in found:
            return found.index(other)
        for at, x in enumerate(found):
            if (x.left, x.again) == (other.left, other.again):
                return at
    reading = (at for at, x in enumerate(found) if line.name in x.reads)
    return next(reading, len(found))
