"""Lines of equations, what options change in them, and what a reader gets who makes these changes."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mlax_codegen.formulas.conditions import setting
from mlax_codegen.formulas.latex import Equation
from mlax_codegen.reading.trees import names_in

__all__ = ["GIVEN", "Change", "Edit", "Formulas", "Line", "Place", "Value", "Values", "difference"]

Value = str | bool | float | None
Place = tuple[str, tuple[str, ...]]  # what an equation defines, and its conditions

GIVEN = "given"  # the value of a hyperparameter that is a number and not None


@dataclass(frozen=True)
class Line:
    """One equation.

    Attributes:
        conditions: What the leaf has to be like, in LaTeX, from the outermost to the innermost `if`.
        formula: LaTeX, with & before its sign.
        otherwise: For each condition whether it is the opposite of the one that the lines before stand under.
        equation: Where the line comes from.
    """

    conditions: tuple[str, ...]
    formula: str
    otherwise: tuple[bool, ...] = field(compare=False)
    equation: Equation = field(compare=False)

    @cached_property
    def left(self) -> str:
        """What the equation defines."""
        return self.formula.partition("&")[0].strip()

    @cached_property
    def is_assigned_again(self) -> bool:
        """Whether the equation changes what another one has defined."""
        return r"&\leftarrow" in self.formula

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names that the equation reads, each once."""
        return tuple(dict.fromkeys(names_in([self.equation.value])))

    @property
    def place(self) -> Place:
        """What the equation defines, and for which leaves."""
        return self.left, self.conditions


@dataclass(frozen=True)
class Edit:
    """Equations that are other ones, or new, in one place.

    Attributes:
        lines: The equations.
        before: LaTeX of the next equation, or of what it defines, where their place matters; else "".
        replaced: The equations that stood there.
        following: The equations after them.
    """

    lines: tuple[Line, ...]
    before: str
    replaced: tuple[Line, ...]
    following: tuple[Line, ...]


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
    left_out: tuple[Line, ...]
    anew: frozenset[Place] = frozenset()

    @property
    def options(self) -> tuple[str, ...]:
        """The options in words: `nesterov is True`."""
        return tuple(setting(name, value, given=value == GIVEN) for name, value in self.settings)

    def made(self, lines: Iterable[Line]) -> list[Line]:
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
        begins: LaTeX of what the state begins with, where the first gradient, noise or arithmetic says it.
    """

    lines: tuple[Line, ...]
    changes: tuple[Change, ...]
    begins: tuple[str, ...] = ()

    def composed(self, given: Mapping[str, Value]) -> Iterator[list[Line]]:
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

    def of(self, lines: Iterable[Line]) -> dict[str, int | str]:
        """Return the last value of each name that equations define."""
        known: dict[str, int | str] = {}
        for line in lines:
            name = line.equation.name
            read = (known.get(part, part) for part in line.reads)
            new = self.number(line.formula.partition("&")[2].removeprefix(r"\leftarrow"), *read)
            if line.conditions:
                new = self.number(line.conditions, new, known.get(name, name))
            known[name] = new
        return known

    def number(self, *parts: object) -> int:
        return self.numbers.setdefault(parts, len(self.numbers))


def difference(
    settings: Iterable[tuple[str, Value]],
    before: Sequence[Line],
    after: Sequence[Line],
    anew: Collection[Place] = (),
) -> Change:
    """Return what has to be changed in some equations to get others."""
    edits: list[Edit] = []
    deleted: list[Line] = []
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
                or (line.is_assigned_again and line.left not in {x.left for x in lines[:n]})
                for n, line in enumerate(lines)
            )
            placed = kind == "insert" and again and j_end < len(after)
            following = tuple(after[j_end:])
            told = _next(following) if placed else ""
            edits.append(Edit(lines, told, tuple(before[i:i_end]), following[:1]))
    read = {name for line in after for name in line.reads}
    shown = {line.left for edit in edits for line in edit.lines}
    defined_after = {line.left for line in after}
    defined_after |= {x.left for x in deleted if x.is_assigned_again and x.equation.name in read}
    # What nothing reads any more has gone without a word, if anything else is said.
    left_out = [
        x for x in deleted if x.left not in shown and (x.left in defined_after or not edits)
    ]
    return Change(tuple(settings), tuple(edits), tuple(left_out), frozenset(anew))


def _next(lines: Sequence[Line]) -> str:
    """Return what the first of some equations defines, `each` if others define it too; all of one that changes it."""
    if lines[0].is_assigned_again:
        return lines[0].formula.replace("&", "")
    left = lines[0].left
    again = any(line.left == left and not line.is_assigned_again for line in lines[1:])
    return rf"\text{{each }} {left}" if again else left


def _make(edit: Edit, found: list[Line], before: frozenset[Line]) -> None:
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
            and x.is_assigned_again == line.is_assigned_again
            and (not line.is_assigned_again or x in edit.replaced)
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


def _place(line: Line, following: Sequence[Line], found: Sequence[Line]) -> int:
    """Return where a new equation stands: before what follows it, else before what reads it."""
    for other in following:
        if other in found:
            return found.index(other)
        for at, x in enumerate(found):
            if (x.left, x.is_assigned_again) == (other.left, other.is_assigned_again):
                return at
    reading = (at for at, x in enumerate(found) if line.equation.name in x.reads)
    return next(reading, len(found))
