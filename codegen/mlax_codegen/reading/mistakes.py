"""How mistakes in a spec are reported."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

__all__ = ["Mistake", "SpecError", "closest", "either_of", "is_invisible", "suggestion"]

_SHOWN = 160  # characters of a line


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake and its place. `line` and `column` count from 1; they are 0 if it concerns the whole file."""

    file: str
    line: int
    column: int
    length: int
    message: str
    text: str
    consequence: bool = False  # it may disappear when another one is corrected

    def __str__(self) -> str:
        """Return the place and the message, then the line, with carets under the mistake."""
        if not self.line:
            return f"{_visible(self.file)}: {self.message}"
        start = max(0, self.column - 1 - _SHOWN // 2)
        shown = _visible(self.text[start : start + _SHOWN])
        before = shown[: self.column - 1 - start]
        margin = "".join("\t" if character == "\t" else " " for character in before)
        carets = "^" * max(1, min(self.length, len(shown) - len(before)))
        return (
            f"{_visible(self.file)}:{self.line}:{self.column}: {self.message}\n"
            f"    {shown}\n"
            f"    {margin}{carets}"
        )


def is_invisible(character: str) -> bool:
    """Whether a character is invisible: control characters, formatting (also of text direction), unassigned ones."""
    return unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"


def _visible(text: str) -> str:
    """Return text with its invisible characters replaced, which could hide or reverse other text."""
    return "".join("\ufffd" if is_invisible(c) and c != "\t" else c for c in text)


class SpecError(Exception):
    """Raised for a spec with mistakes; `mistakes` has all that were found, in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: Sequence[Mistake] = sorted(set(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    def __reduce__(self) -> tuple[type["SpecError"], tuple[Sequence[Mistake]]]:
        """Pickle the mistakes rather than their text."""
        return type(self), (self.mistakes,)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'momentum'?", or "" if no known name is close."""
    close = closest(name, known)
    return f", did you mean {close!r}?" if close else ""


def either_of(items: Iterable[object]) -> str:
    """Return items in words: "0, 1 or 2"."""
    *others, last = map(str, items)
    return f"{', '.join(others)} or {last}" if others else last


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, or None if none is close."""
    candidates = sorted(set(known))
    by_case = [word for word in candidates if word.lower() == name.lower()]
    close = by_case or get_close_matches(name, candidates, n=1, cutoff=0.7)
    return close[0] if close else None
