"""What the four checkers see in the corpus, programs of users that are wrong or right.

A comment on a line says what the checkers must do there:

    net.widht  # wrong
    state.inner.mm  # wrong: unseen by ty
    net.replace(wdth=3)  # wrong: unseen by mypy, ty before 3.13
    mlax.grad(lambda m: m(x)[0])  # false alarm: pyright

`wrong` alone is: all of them report something, for all Pythons. Each other line must get no diagnosis. So a checker
that learns to see a mistake fails the test just as one that no longer sees it, until the comment says so.

A right program is a function of the corpus in which no line is wrong.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.typed.checkers import CHECKERS, VERSIONS, Checker, Reports, Version
from tests.typed.expectations import Finding

FILES = sorted((Path(__file__).parent / "programs").glob("*.py"))

_WRONG = re.compile(
    r"#\s*wrong(?:: unseen by (?P<names>[\w, ]+?)(?: before (?P<since>3\.\d+))?)?\s*$"
)
_FALSE_ALARM = re.compile(r"#\s*false alarm: (?P<names>[\w, ]+?)\s*$")
_MENTIONED = re.compile(r"#\s*(wrong|false)\b")


@dataclass(frozen=True)
class Mark:
    """What a comment says about its line."""

    wrong: bool
    seen: Mapping[Version, frozenset[Checker]]  # which report something there


def marks(source: str) -> dict[int, Mark]:
    """Return what the comments say, by line number.

    Raises:
        ValueError: A comment cannot be read.
    """
    result: dict[int, Mark] = {}
    for number, line in enumerate(source.splitlines(), 1):
        wrong, alarm = _WRONG.search(line), _FALSE_ALARM.search(line)
        if wrong:
            every = frozenset(CHECKERS)
            seen, since = every - _checkers(number, wrong["names"]), wrong["since"]
            result[number] = Mark(
                True, {v: every if since and v >= since else seen for v in VERSIONS}
            )
        elif alarm:
            result[number] = Mark(False, dict.fromkeys(VERSIONS, _checkers(number, alarm["names"])))
        elif _MENTIONED.search(line):
            raise ValueError(f"line {number}: not a mark: {line.strip()}")
    return result


def _checkers(number: int, names: str | None) -> frozenset[Checker]:
    given = {name.strip() for name in names.split(",")} if names else set[str]()
    if unknown := given - set(CHECKERS):
        raise ValueError(f"line {number}: not a checker: {', '.join(sorted(unknown))}")
    return frozenset(checker for checker in CHECKERS if checker in given)


def right_programs(source: str) -> int:
    """Return how many functions have no wrong line."""
    wrong = [number for number, mark in marks(source).items() if mark.wrong]
    return sum(
        not any(node.lineno <= number <= (node.end_lineno or 0) for number in wrong)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    )


def disagreements(
    source: str, findings: Iterable[Finding], checker: Checker, version: Version
) -> list[str]:
    """Return a line for each place where a checker and the comments disagree."""
    said: dict[int, str] = {}
    for finding in findings:
        said.setdefault(finding.line, f"{finding.rule}: {finding.text.splitlines()[0]}")
    marked = marks(source)
    expected = {number for number, mark in marked.items() if checker in mark.seen[version]}
    lines = source.splitlines()
    result: list[str] = []
    for number in sorted(said.keys() ^ expected):
        what = f"reports {said[number]}" if number in said else "reports nothing"
        result.append(f"line {number}: {checker} {what}\n    {lines[number - 1].strip()}")
    return result


def table(reports: Reports) -> str:
    """Return how many wrong lines each checker sees in each file, and how many others it reports."""
    rows: list[list[str]] = []
    for version in VERSIONS:
        rows.append([f"Python {version}", "wrong", *CHECKERS, "right", *CHECKERS])
        counted: list[list[int]] = []
        for file in FILES:
            source = file.read_text()
            wrong = {number for number, mark in marks(source).items() if mark.wrong}
            said = [
                {finding.line for finding in reports[checker, version].get(file, [])}
                for checker in CHECKERS
            ]
            seen = [len(lines & wrong) for lines in said]
            alarms = [len(lines - wrong) for lines in said]
            counted.append([len(wrong), *seen, right_programs(source), *alarms])
            rows.append([file.stem, *map(str, counted[-1])])
        rows.append(["all", *(str(sum(column)) for column in zip(*counted, strict=True))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
