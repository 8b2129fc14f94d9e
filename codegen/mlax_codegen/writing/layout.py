"""Lays out text that may break over several lines: groups that are flat where they fit, as in Wadler's printer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "SOFT",
    "SPACE",
    "WIDTH",
    "Doc",
    "Group",
    "IfBroken",
    "Indent",
    "brackets",
    "join",
    "render",
]

WIDTH = 100


@dataclass(frozen=True)
class Line:
    """A place for a line break; `flat` is what stands there without one."""

    flat: str


@dataclass(frozen=True)
class Group:
    """Breaks all of its own lines, or none where the group fits."""

    body: "Doc"


@dataclass(frozen=True)
class Indent:
    """Indents the lines in it by four."""

    body: "Doc"


@dataclass(frozen=True)
class IfBroken:
    """Text that stands only where the group around it is broken."""

    text: str


Doc: TypeAlias = "str | Line | Group | Indent | IfBroken | Sequence[Doc]"

SPACE = Line(" ")
SOFT = Line("")


def join(docs: Iterable[Doc], between: Doc) -> Doc:
    """Return documents with another between each two."""
    joined: list[Doc] = []
    for doc in docs:
        joined += [between, doc] if joined else [doc]
    return joined


def brackets(opening: str, body: Doc, closing: str) -> Doc:
    """Return a body in brackets, on lines of its own where it does not fit."""
    return Group([opening, Indent([SOFT, body]), SOFT, closing])


def render(doc: Doc, indent: int = 0, *, every_group_broken: bool = False) -> list[str]:
    """Return the lines of a document that begins at some indent."""
    lines: list[str] = [" " * indent]
    stack: list[tuple[int, bool, Doc]] = [(indent, False, doc)]
    while stack:
        level, flat, part = stack.pop()
        match part:
            case str():
                lines[-1] += part
            case Line():
                if flat:
                    lines[-1] += part.flat
                else:
                    lines[-1] = lines[-1].rstrip()
                    lines.append(" " * level)
            case IfBroken():
                lines[-1] += "" if flat else part.text
            case Indent():
                stack.append((level + 4, flat, part.body))
            case Group():
                fits = flat or (
                    not every_group_broken and _fits(part, stack, WIDTH - len(lines[-1]))
                )
                stack.append((level, fits, part.body))
            case _:
                stack.extend((level, flat, item) for item in reversed(part))
    return lines


def _fits(group: Group, rest: list[tuple[int, bool, Doc]], room: int) -> bool:
    """Whether a flat group, and what follows it up to the next possible line break, fits into a line."""
    pending: list[tuple[bool, Doc]] = [(flat, part) for _, flat, part in rest]
    pending.append((True, group.body))
    while pending:
        flat, part = pending.pop()
        match part:
            case str():
                room -= len(part)
            case Line():
                if not flat:
                    return True
                room -= len(part.flat)
            case IfBroken():
                room -= 0 if flat else len(part.text)
            case Group() | Indent():
                pending.append((flat, part.body))
            case _:
                pending.extend((flat, item) for item in reversed(part))
        if room < 0:
            return False
    return True
