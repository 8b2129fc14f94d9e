"""What a snippet says a type checker must find in it, against what the checker found.

Each line of a snippet says in a trailing comment what pyright and mypy must report there:

    layer.width = 3  # error: reportAttributeAccessIssue // misc
    reveal_type(layer.kernel.data)  # reveals: Array

Pyright's side stands left of the `//`, mypy's right of it. Several rules are separated by commas, and `-` says that
this checker reports nothing on the line. One side is enough where both print the same type. A line without a comment
must get no diagnosis at all, and a checker must report exactly the rules named, so that an error that comes for
another reason (a failed import, say) never passes for the one that was meant.
"""

import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

SnippetChecker: TypeAlias = Literal["pyright", "mypy"]
SNIPPET_CHECKERS: tuple[SnippetChecker, ...] = ("pyright", "mypy")

_ERROR = re.compile(r"#\s*error:\s*(?P<pyright>.+?)\s*//\s*(?P<mypy>.+?)\s*$")
_REVEALS = re.compile(r"#\s*reveals:\s*(?P<pyright>.+?)(?:\s*//\s*(?P<mypy>.+?))?\s*$")
_MENTIONED = re.compile(r"#\s*(error|reveals?)\b")


@dataclass(frozen=True)
class Finding:
    """One thing that a checker said about one line; `rule` is None for a revealed type."""

    line: int
    rule: str | None
    text: str


@dataclass
class Line:
    """What one checker says, or should say, on one line."""

    rules: set[str] = field(default_factory=set[str])
    revealed: list[str] = field(default_factory=list[str])
    texts: list[str] = field(default_factory=list[str])


def expected(source: str, checker: SnippetChecker) -> dict[int, Line]:
    """Return what the comments of `source` ask of one checker, by line number.

    Raises:
        ValueError: A comment looks like an expectation and cannot be read as one.
    """
    lines: dict[int, Line] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        if match := _ERROR.match(token.string):
            rules = {rule.strip() for rule in match[checker].split(",")} - {"-"}
            lines[number] = Line(rules=rules)
        elif match := _REVEALS.match(token.string):
            lines[number] = Line(revealed=[match[checker] or match["pyright"]])
        elif _MENTIONED.match(token.string):
            raise ValueError(f"line {number}: not an expectation: {token.string}")
    return lines


def found(findings: Iterable[Finding]) -> dict[int, Line]:
    """Return findings by line number."""
    lines: dict[int, Line] = {}
    for finding in findings:
        line = lines.setdefault(finding.line, Line())
        if finding.rule is None:
            line.revealed.append(_named(_unqualified(finding.text)))
        else:
            line.rules.add(finding.rule)
            line.texts.append(finding.text)
    return lines


def complaints(source: str, findings: Iterable[Finding], checker: SnippetChecker) -> list[str]:
    """Return one line for each place where the checker and the snippet's comments disagree."""
    want, got = expected(source, checker), found(findings)
    result: list[str] = []
    for number in sorted(want.keys() | got.keys()):
        wanted, given = want.get(number, Line()), got.get(number, Line())
        place = f"line {number}: {checker}"
        if wanted.rules != given.rules:
            said = "".join(f"\n    {text}" for text in given.texts)
            result.append(
                f"{place} reports {_listed(given.rules)}, not {_listed(wanted.rules)}{said}"
            )
        if wanted.revealed != given.revealed:
            result.append(
                f"{place} reveals {_listed(given.revealed)}, not {_listed(wanted.revealed)}"
            )
    return result


def _unqualified(text: str) -> str:
    """Return a type without the modules that mypy spells out: jax.Array is Array."""
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _named(text: str) -> str:
    """Return a type with NamedTuples by name, which mypy spells out: tuple[int, fallback=State] is State."""
    while (end := text.find(", fallback=")) >= 0:
        start = _opening(text, end)
        stop = end + len(", fallback=")
        close = stop
        depth = 0
        while depth or text[close] != "]":
            depth += {"[": 1, "]": -1}.get(text[close], 0)
            close += 1
        text = text[:start] + text[stop:close] + text[close + 1 :]
    return text


def _opening(text: str, end: int) -> int:
    """Return where the `tuple[` begins that is still open at `end`."""
    depth = 1
    while depth:
        end -= 1
        depth += {"]": 1, "[": -1}.get(text[end], 0)
    return end - len("tuple")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
