"""The positions of keys and values in the text of a TOML document.

`tomllib` returns data without positions. The scanner here walks a document that `tomllib` has accepted, so it need not
check the grammar, and records the positions. A path lists the keys from the top; the tables of an array of tables are
numbered from 0: `("step", 0, "leaf")`.
"""

import re
from dataclasses import dataclass

__all__ = ["DuplicateKeyError", "KeyPath", "Place", "locate", "unclosed"]

KeyPath = tuple[str | int, ...]

_STRING = re.compile(
    r"'''.*?''''{0,2}"
    r'|"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'[^'\n]*'"
    r'|"(?:\\.|[^"\\\n])*"',
    re.DOTALL,
)
_MARK = re.compile(r"#[^\n]*|'{3}|\"{3}|['\"\[\]{}]|\n")
_KEY_FOLLOWS = re.compile(r"\s*(?:[\w.-]+[ \t]*=|\[[\w.]+\]|\[\[)")
_ENDS_IN_KEY = re.compile(r"(?:^|\n)[ \t]*[\w.-]+[ \t]*=[ \t]*$")
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]+|[^\s,\]}#]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Place:
    """Offsets of a key and its value; `content` is the offset of the first character of a string."""

    key: int
    key_end: int
    value: int
    value_end: int
    content: int | None = None


class DuplicateKeyError(Exception):
    """Raised if a key is given twice in one table."""

    def __init__(self, name: str, start: int, end: int) -> None:
        super().__init__(name)
        self.name: str = name
        self.start: int = start
        self.end: int = end


def locate(text: str) -> dict[KeyPath, Place]:
    """Return the place of every key and array item of a document that `tomllib` accepts.

    Raises:
        DuplicateKeyError: A key is given twice. `tomllib` reports this without a position.
    """
    return _Scanner(text).document()


def unclosed(text: str, wrong: int) -> tuple[int, int] | None:
    """Return where a string or bracket begins that is never closed; None if there is none.

    A string of several lines that somebody forgot to close ends at the quotes that open the next one. On one line, what
    follows a forgotten quote is read as outside of strings, and the other way round.

    Args:
        text: A document that `tomllib` refuses.
        wrong: Where it gave up.
    """
    at = 0
    last: tuple[int, int] = (-1, -1)
    brackets: list[int] = []
    glued = wrong if text[wrong : wrong + 1].strip() else None  # to the end of a string
    while (found := _MARK.search(text, at)) is not None and last[1] != glued:
        start, at = found.span()
        mark = found[0]
        if mark == "\n":
            ended = [each for each in brackets if text[each] == "{" or _KEY_FOLLOWS.match(text, at)]
            if ended:
                return ended[-1], ended[-1] + 1
        elif mark in "[{":
            header = mark == "[" and not text[text.rfind("\n", 0, start) + 1 : start].strip()
            brackets += [] if header and not brackets else [start]
        elif mark in "]}":
            del brackets[-1:]
        elif start > wrong:
            if brackets and text[brackets[-1]] == "[" and _KEY_FOLLOWS.match(text, wrong):
                return brackets[-1], brackets[-1] + 1
            return None
        elif not mark.startswith("#"):
            whole = _STRING.match(text, start)
            if whole is None or len(whole[0]) < 2 * len(mark):
                return start, at
            at = whole.end()
            if len(mark) == 3 and _ENDS_IN_KEY.search(text, start + 3, at - 3):
                return start, start + 3
            last = (start, at)
    if last[1] == glued:
        return last
    return (brackets[-1], brackets[-1] + 1) if brackets else None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[KeyPath, Place] = {}
        self.tables: dict[KeyPath, int] = {}  # how many tables an array of tables has so far

    def skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        matched = found.group() if found else ""
        self.at += len(matched)
        return matched

    def document(self) -> dict[KeyPath, Place]:
        table: KeyPath = ()
        headers: set[KeyPath] = set()
        while True:
            self.skip(_BLANK)
            if self.at >= len(self.text):
                return self.places
            if self.text[self.at] != "[":
                self.pair(table)
                continue
            start = self.at
            is_array = self.text.startswith("[[", start)
            self.at += 2 if is_array else 1
            self.skip(_SPACE)
            names, *_ = self.key()
            self.skip(_SPACE)
            self.at += 2 if is_array else 1
            table = self.resolved(names)
            if is_array:
                number = self.tables.get(table, 0)
                self.tables[table] = number + 1
                self.places.setdefault(table, Place(start, self.at, start, self.at))
                table = (*table, number)
            elif table in headers:
                raise DuplicateKeyError(".".join(names), start, self.at)
            headers.add(table)
            for length in range(1, len(table)):
                self.places.setdefault(table[:length], Place(start, self.at, start, self.at))
            self.places.setdefault(table, Place(start, self.at, start, self.at))

    def resolved(self, names: list[str]) -> KeyPath:
        """Return the path of a header; one inside an array of tables refers to its last table."""
        path: KeyPath = ()
        for index, name in enumerate(names):
            path = (*path, name)
            if path in self.tables and index < len(names) - 1:
                path = (*path, self.tables[path] - 1)
        return path

    def key(self) -> tuple[list[str], int, int]:
        """Read a key, dotted or not; return its names and the offsets of the last one."""
        names: list[str] = []
        while True:
            self.skip(_SPACE)
            start = self.at
            if self.text[self.at] in "\"'":
                names.append(self.skip(_STRING)[1:-1])
            else:
                names.append(self.skip(_BARE_KEY))
            end = self.at
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return names, start, end
            self.at += 1

    def pair(self, table: KeyPath) -> None:
        names, start, end = self.key()
        path = (*table, *names)
        if path in self.places:
            raise DuplicateKeyError(names[-1], start, end)
        for length in range(1, len(names)):
            inner = (*table, *names[:length])
            self.places.setdefault(inner, Place(start, end, start, end))
        self.at += 1  # the equals sign
        self.skip(_SPACE)
        self.value(path, start, end)

    def value(self, path: KeyPath, key: int, key_end: int) -> None:
        start = self.at
        content: int | None = None
        opening = self.text[start]
        if opening in "\"'":
            literal = self.skip(_STRING)
            quotes = 3 if literal[:3] in ("'''", '"""') else 1
            content = start + quotes
            if quotes == 3 and self.text.startswith("\n", content):
                content += 1
        elif opening == "[":
            self.at += 1
            for index in range(len(self.text)):
                self.skip(_BLANK)
                if self.text[self.at] == "]":
                    break
                self.value((*path, index), self.at, self.at)
                self.skip(_BLANK)
                if self.text[self.at] == ",":
                    self.at += 1
            self.at += 1
        elif opening == "{":
            self.at += 1
            while True:
                self.skip(_BLANK)
                if self.text[self.at] == "}":
                    break
                self.pair(path)
                self.skip(_BLANK)
                if self.text[self.at] == ",":
                    self.at += 1
            self.at += 1
        else:
            self.skip(_SCALAR)
        self.places[path] = Place(key, key_end, start, self.at, content)
