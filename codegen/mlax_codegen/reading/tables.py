"""Read typed values from the tables of a spec, and record mistakes."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from mlax_codegen.reading.document import Document
from mlax_codegen.reading.keys import TABLES, TOP, Key
from mlax_codegen.reading.mistakes import closest, is_invisible, suggestion
from mlax_codegen.reading.positions import KeyPath

__all__ = ["Table", "check_identifier", "kind_of", "number_text"]

_SCRIPT = r"\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|[^\\{}\s])\s*"
_TWICE = re.compile(
    rf"(?:'|\^{_SCRIPT})\s*(?:_{_SCRIPT})?\^|\^{_SCRIPT}(?:_{_SCRIPT})?'|(?<!\\)_{_SCRIPT}(?:\^{_SCRIPT})?(?<!\\)_"
)
_UNFINISHED = re.compile(r"(?<!\\)[_^]\s*(?:\}|$)|\\$")
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "a list"),
    (dict, "a table"),
)


def kind_of(value: object) -> str:
    """Return the type of a TOML value, in words."""
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "a date or time")


def number_text(literal: str, value: float) -> str:
    """Return a TOML number in Python syntax, with the digits of the spec where possible."""
    if isinstance(value, int):
        return str(value)
    return literal.lower().removeprefix("+")


def check_identifier(
    document: Document, path: KeyPath, name: str, *, what: str, reserved: Mapping[str, str]
) -> None:
    """Record a mistake if a key cannot be a name in the generated code."""
    if not name.isascii() or not name.isidentifier() or name != name.lower():
        article = "an" if what == "argument" else "a"
        example = "gather" if what == "phase" else "b1"
        message = (
            f"{name!r} is not a valid name for {article} {what}: use a-z, 0-9 and _, "
            f"as in {example!r}"
        )
    elif name.startswith("_") or name.endswith("_"):
        message = f"{name!r} begins or ends with an underscore; such names are reserved"
    elif name in reserved:
        message = f"{name!r} is {reserved[name]}; give the {what} another name"
    else:
        return
    document.at_key(path, message)


class Table:
    """A table of a spec. Its methods record a wrong type or a missing key, and then return None."""

    def __init__(self, document: Document, path: KeyPath) -> None:
        self.document = document
        self.path = path
        found = document.value(path) if path else document.data
        self.is_table: bool = isinstance(found, dict)
        self.meant: set[str] = set()  # by keys that are misspelt
        self.data: Mapping[str, object] = (
            cast("Mapping[str, object]", found) if isinstance(found, dict) else {}
        )

    def names(self) -> Sequence[str]:
        """Return the keys in the order of the file."""
        return list(self.data)

    def misplaced(self, example: str) -> None:
        """Record that this is not a table, which a key of another table may be that stands too far below."""
        key = str(self.path[-1])
        message = f"{example}"
        if key in {*TOP, *TABLES}:
            message = f"this belongs to [{self.path[0]}], because it stands below that"
            cure = f"write [{key}]" if key in TABLES else "move it up, above all tables"
            message = f"{message}; {cure}"
        self.document.at_value(self.path, message)

    def check_keys(self, known: Mapping[str, Key], tables: Collection[str] = ()) -> None:
        """Record unknown keys, and strings that are too long."""
        words = [*known, *tables]
        for key, value in self.data.items():
            path = (*self.path, key)
            if key not in words:
                self.meant.add(closest(key, words) or key)
                hint = suggestion(key, words) or f"; expected one of {', '.join(words)}"
                self.document.at_key(path, f"unknown key {key!r}{hint}")
                self.document.unread |= self.path[:1] in {(), ("step",)}
            elif isinstance(value, str) and key in known and 0 < known[key].longest < len(value):
                message = f"{key} must be one line of at most {known[key].longest} characters"
                self.document.at_value(path, message)

    def wrong(self, key: str, expected: str) -> None:
        """Record a value of the wrong type."""
        value = self.data[key]
        message = f"{key} must be {expected}, not {kind_of(value)}"
        if expected == "a string" and isinstance(value, int | float):
            message = f'{message}; write "{self.document.literal((*self.path, key)).lower()}"'
        self.document.at_value((*self.path, key), message)

    def missing(self, key: str) -> None:
        """Record that a required key is missing, unless it is misspelt."""
        if key in self.meant:
            return
        if self.path:
            self.document.at_key(self.path, f"{key!r} is missing")
        else:
            self.document.note(0, 1, f"{key!r} is missing")

    def text(self, key: str, default: str | None = None, *, block: bool = False) -> str | None:
        """Read a string; a `block` may have several lines. It is required if there is no default."""
        if key not in self.data:
            if default is None:
                self.missing(key)
            return default
        value = self.data[key]
        if not isinstance(value, str):
            self.wrong(key, "a string")
            return None
        if not value.strip():
            self.document.at_value((*self.path, key), f"{key} must not be empty")
            return None
        return value if block else self._printable(key, value)

    def _printable(self, key: str, value: str) -> str | None:
        if any(map(is_invisible, value)):
            message = f"{key} must be one line without invisible characters"
            if key == "symbol" or self.path == ("symbols",):
                message = "in double quotes, a backslash begins a control character; write LaTeX in single quotes"
            self.document.at_value((*self.path, key), message)
            return None
        if '"""' in value:
            self.document.at_value(
                (*self.path, key), "three quotes would end the docstring; remove them"
            )
            return None
        return value

    def sentence(self, key: str) -> str | None:
        """Read a line of documentation."""
        value = self.text(key)
        if value is not None and not value.endswith((".", "?", "!")):
            self.document.at_value(
                (*self.path, key), f"{key} must be a sentence and end with a full stop"
            )
        return value

    def paragraphs(self, key: str) -> str:
        """Read documentation of several lines; optional."""
        value = self.text(key, default="", block=True) or ""
        if '"""' in value or value.rstrip().endswith("\\"):
            self.document.at_value(
                (*self.path, key),
                "three quotes, or a backslash at the end, would break the docstring",
            )
        if any(is_invisible(character) and character != "\n" for character in value):
            self.document.at_value(
                (*self.path, key), f"{key} contains invisible characters; remove them"
            )
        return value.strip("\n")

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings; required and not empty."""
        if key not in self.data:
            self.missing(key)
            return ()
        value = self.data[key]
        if not isinstance(value, list):
            self.wrong(key, "a list of strings")
            return ()
        found: list[str] = []
        for index, item in enumerate(cast("list[object]", value)):
            if not isinstance(item, str) or not item.strip():
                message = (
                    f"{key} must contain strings, not {kind_of(item)}"
                    if not isinstance(item, str)
                    else f"an item of {key} is empty"
                )
                self.document.at_value((*self.path, key, index), message)
            elif self._printable(key, item):
                found.append(item)
        if not value:
            self.document.at_value((*self.path, key), f"{key} must not be empty")
        return tuple(found)

    def truth(self, key: str) -> bool:
        """Read a boolean; the default is false."""
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            self.wrong(key, "true or false")
            return False
        return value

    def symbol(self, key: str) -> str | None:
        """Read LaTeX for a name; optional."""
        value = self.text(key, default="")
        if not value:
            return None
        depth = 0
        for character in value.replace(r"\{", "").replace(r"\}", ""):
            depth += (character == "{") - (character == "}")
            if depth < 0:
                break
        if depth or "$" in value or _UNFINISHED.search(value):
            self.document.at_value(
                (*self.path, key),
                f"{key} must be LaTeX for use inside a formula, such as '\\beta_1'",
            )
            return None
        if twice := _TWICE.search(value):
            what = "subscripts" if twice[0].endswith("_") else "superscripts"
            message = f"LaTeX refuses two {what}; put the first into braces, as in '{{x'}}^2'"
            self.document.at_value((*self.path, key), message)
            return None
        return value

    def symbols(self, key: str) -> dict[str, str]:
        """Read a table of LaTeX symbols; optional."""
        table = self.subtable(key)
        return {name: symbol for name in table.names() if (symbol := table.symbol(name))}

    def subtable(self, key: str) -> "Table":
        """Return a table in this one; it is empty if it is not given."""
        if key in self.data and not isinstance(self.data[key], dict):
            self.wrong(key, "a table")
        return Table(self.document, (*self.path, key))

    def count(self, key: str, *, required: bool = False) -> int:
        """Return the number of tables in an array of tables."""
        value = self.data.get(key)
        if value is None:
            if required and key not in self.meant:
                self.document.note(0, 1, f"[[{key}]] is missing")
            return 0
        if not isinstance(value, list):
            path = (*self.path, key)
            self.document.at_key(path, f"{key} must be a list of tables: write [[{key}]]")
            return 0
        for index, item in enumerate(cast("list[object]", value)):
            if not isinstance(item, dict):
                self.document.at_value((*self.path, key, index), f"{key} must contain tables")
                return 0
        if required and not value:
            self.document.at_value((*self.path, key), f"{key} must not be empty")
        return len(cast("list[object]", value))
