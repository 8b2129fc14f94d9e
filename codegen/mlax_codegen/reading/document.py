"""A spec file: its data, the positions of keys and values, and the mistakes found so far."""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from mlax_codegen.reading.mistakes import Mistake, SpecError, is_invisible
from mlax_codegen.reading.positions import DuplicateKeyError, KeyPath, Place, locate, unclosed

__all__ = ["Document", "read_document"]

_LARGEST = 200_000  # characters; the longest spec is a page
_WORD = re.compile(r"[A-Za-z_][\w.-]*")
_WORD_OF_CODE = re.compile(r"[A-Za-z_]\w*")
_OF_EQUATIONS = {"step", "define", "functions"}
_CODE = {"init", "shape", "each", "when", "keeps"}
_CLEAR = re.compile(r"did you mean|^unknown function")
_OF_NAMES = {"hyperparameters", "labels", "arguments", "scalars", "shapes", "slots"}
_CLOSE = {
    "string": "end it with the quotes that it begins with",
    "bracket": "end the list with ], or the table with } on the same line",
}
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Document:
    """The text and data of a spec. It collects mistakes, so that one run shows all of them."""

    def __init__(
        self, file: str, text: str, data: Mapping[str, object], places: dict[KeyPath, Place]
    ) -> None:
        self.file = file
        self.text = text
        self.data = data
        self.places = places
        # The parameters of each definition; None if they are wrong.
        self.definitions: dict[str, tuple[str, ...] | None] = {}
        self.mistakes: list[Mistake] = []
        self.wrong: set[KeyPath] = set()  # where they are
        self.settled: set[int] = set()
        self.meant: set[str] = set()  # names that were probably meant by unknown ones
        self.unknown: set[str] = set()  # names that some block reads in vain
        self.unread = False  # whether a line is left out of the syntax trees
        self.unclear: bool = False  # whether there is one that leaves open which names were meant

    def at_key(self, path: KeyPath, message: str, *, consequence: bool = False) -> None:
        """Record a mistake at a key or, for an item of an array, at the item."""
        place = self.place(path)
        start, end = place.key, place.key_end
        if start == end:
            start, end = place.value, place.value_end
        self.note(start, end, message, () if consequence else path, consequence=consequence)

    def at_value(self, path: KeyPath, message: str) -> None:
        """Record a mistake at a value."""
        place = self.place(path)
        self.note(place.value, place.value_end, message, path)

    def inside(
        self, path: KeyPath, start: int, end: int, message: str, *, consequence: bool = False
    ) -> None:
        """Record a mistake in a string; `start` and `end` are offsets in the string."""
        place = self.place(path)
        value = self.value(path)
        if (
            place.content is None
            or not isinstance(value, str)
            or not self.text.startswith(value, place.content)
        ):
            # The string has escapes, so the offsets of its characters are not known.
            start, end = place.value, place.value_end
        else:
            start, end = place.content + start, place.content + end
        self.note(start, end, message, path, consequence=consequence)

    def place(self, path: KeyPath) -> Place:
        """Return the place of a path, or of its nearest ancestor with a known place."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(0, 0, 0, 0))

    def value(self, path: KeyPath) -> object:
        """Return the value at a path, or None."""
        found: Any = self.data
        for name in path:
            try:
                found = found[name]
            except (KeyError, IndexError, TypeError):
                return None
        return cast("object", found)

    def literal(self, path: KeyPath) -> str:
        """Return the text of a value in the file."""
        place = self.place(path)
        return self.text[place.value : place.value_end]

    def note(
        self,
        start: int,
        end: int,
        message: str,
        path: KeyPath = (),
        *,
        consequence: bool = False,
    ) -> None:
        """Record a mistake between two offsets of the text, on the line of the first."""
        found = mistake(self.file, self.text, start, end, message)
        if found.line in self.settled:
            return
        self.mistakes.append(replace(found, consequence=consequence))
        self.wrong.add(path)
        if path and (path[0] in _OF_EQUATIONS or path[-1] in _CODE):
            self.unclear |= _CLEAR.search(message) is None

    @property
    def broken(self) -> set[str]:
        """The names whose declarations have a mistake. Nothing more is said of them."""
        return {str(path[1]) for path in self.wrong if len(path) > 1 and path[0] in _OF_NAMES}

    @property
    def lost(self) -> bool:
        """Whether a name may be unknown because its declaration has another one, or is not read."""
        return self.unread or any({*path[:1]} & _OF_NAMES for path in self.wrong if len(path) < 3)

    @property
    def mentioned(self) -> set[str]:
        """The words on lines with a mistake, and those that were meant: that they are not used may follow from it."""
        words = (_WORD_OF_CODE.findall(mistake.text) for mistake in self.mistakes)
        return self.meant.union(*words)

    def line_of(self, path: KeyPath, line: int) -> int:
        """Return the line of the file that a line of a string is."""
        place, value = self.place(path), self.value(path)
        content = place.content
        if content is None or not self.text.startswith(str(value), content):
            return self.text.count("\n", 0, place.value) + 1
        return self.text.count("\n", 0, content) + line

    def has_mistakes(self, path: KeyPath) -> bool:
        """Whether anything is wrong at a path, or below it."""
        return any(wrong[: len(path)] == path for wrong in self.wrong)

    def settle(self) -> None:
        """Let the checks that follow say nothing of lines that have a mistake: it may follow from that."""
        self.settled = {mistake.line for mistake in self.mistakes}

    def stop_on_mistakes(self) -> None:
        """Raise the mistakes, if any; omit follow-on mistakes unless there are no others."""
        if self.mistakes:
            causes = [mistake for mistake in self.mistakes if not mistake.consequence]
            raise SpecError(causes or self.mistakes)


def mistake(file: str, text: str, start: int, end: int, message: str) -> Mistake:
    """Return a mistake between two offsets of a text."""
    start = min(start, len(text))
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    return Mistake(
        file,
        text.count("\n", 0, start) + 1,
        start - line_start + 1,
        max(1, min(end, line_end) - start),
        message,
        text[line_start:line_end],
    )


def read_document(path: Path) -> Document:
    """Read a spec file.

    Raises:
        SpecError: It cannot be read, or is not UTF-8 or not TOML.
    """
    file = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError([Mistake(file, 0, 0, 0, f"cannot read the spec: {reason}", "")]) from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        message = f"the file is not UTF-8: byte {raw[error.start]:#04x}"
        shown = before + raw[error.start :].decode("utf-8", "replace")
        raise SpecError([mistake(file, shown, len(before), len(before) + 1, message)]) from None
    return parsed(file, text.replace("\r\n", "\n"))


def parsed(file: str, text: str) -> Document:
    """Return the document for a text."""

    def refuse(start: int, end: int, message: str) -> SpecError:
        return SpecError([mistake(file, text, start, end, message)])

    if text.startswith("\ufeff"):
        raise refuse(0, 1, "the file begins with a byte order mark; save it as UTF-8 without one")
    if len(text) > _LARGEST:
        raise refuse(
            0, 1, f"the file is longer than {_LARGEST:,} characters; a spec is about a page"
        )
    for place, character in enumerate(text):
        if character not in "\n\t" and is_invisible(character):
            raise refuse(place, place + 1, f"invisible character {_name(character)}; delete it")
    try:
        data = tomllib.loads(text)
        places = locate(text)
    except RecursionError:
        raise refuse(0, 1, "brackets are nested too deeply; remove some") from None
    except tomllib.TOMLDecodeError as error:
        start, end, message = _complaint(text, str(error))
        if (opened := unclosed(text, start)) is not None:  # what follows is read as something else
            begin, end = opened
            what = "bracket" if text[begin] in "[{" else "string"
            raise refuse(begin, end, f"this {what} is never closed; {_CLOSE[what]}") from None
        if not text[start : start + 1].isascii():
            message = "write names with a-z, 0-9 and _, and their symbols as LaTeX"
            raise refuse(start, start + 1, f"not TOML: {message}") from None
        try:
            locate(text)
        except DuplicateKeyError as duplicate:
            raise refuse(
                duplicate.start, duplicate.end, f"{duplicate.name!r} is given twice"
            ) from None
        except (IndexError, RecursionError):
            pass
        raise refuse(start, end, f"not TOML: {message}") from None
    except ValueError:  # an integer with more digits than Python allows
        longest = max(re.finditer(r"\d+", text), key=lambda digits: len(digits.group()))
        raise refuse(longest.start(), longest.end(), "this number has too many digits") from None
    return Document(file, text, data, places)


def _name(character: str) -> str:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "").lower()
    return f"{code} ({name})" if name else code


def _complaint(text: str, message: str) -> tuple[int, int, str]:
    """Split a message of tomllib into the offsets that it is about and the rest."""
    place = _PLACE.search(message)
    rest = _PLACE.sub("", message)
    rest = rest[:1].lower() + rest[1:]
    if place is None or place[1] is None:
        end = len(text.rstrip("\n"))
        return end, end + 1, rest
    lines = text.split("\n")
    line, column = int(place[1]), int(place[2])
    start = sum(len(previous) + 1 for previous in lines[: line - 1]) + column - 1
    word = _WORD.match(text, start)
    if "escape" in rest:
        start = max(text.rfind("\\", 0, start + 1), 0)
        return start, start + 1, f"{rest}; write LaTeX in single quotes, as in '\\alpha'"
    if rest == "invalid value" and word is not None:
        return start, word.end(), f"{rest}; {_instead_of(word[0])}"
    return start, start + 1, rest


def _instead_of(word: str) -> str:
    """Return what to write instead of a word that is not a value in TOML."""
    if word.lower() in {"true", "false"}:
        return f"write {word.lower()}"
    if word == "None":
        return "TOML has no None; leave the key out"
    return f'text needs quotes: "{word}"'
