"""What is wrong with equations that Python cannot parse, in the words of the language."""

import keyword
import re

__all__ = ["complaint"]

# Python counts these lines in the block, not in the file.
_PYTHONS_LINE = re.compile(r" \(detected at line \d+\)| (?:at|on) line \d+")
_SKIPPED = re.compile(r"#.*|\"[^\"]*\"|'[^']*'")
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[^\s\w]")
_WORDS = frozenset(["and", "or", "not", "if", "elif", "else", "True", "False", "None"])
_BETWEEN = frozenset(["is", "in", "for"])  # words of the language too, but only after a value
_SLIPS: dict[str, str] = {
    "&&": "write `and`",
    "||": "write `or`",
    "!": "write `not`",
    ":=": "write the assignment on a line of its own, with =",
    "=<": "write `<=`",
    "=>": "write `>=`",
    "<>": "write `!=`",
    "?": "write `a if condition else b`",
    "++": "write `x = x + 1`",
    "\\": "write names without a backslash, and their LaTeX as `symbol` or under [symbols]",
    "$": "write names without dollar signs, and their LaTeX as `symbol` or under [symbols]",
    "else if": "write `elif`",
}
_SLIP = re.compile(r"&&|\|\||!(?!=)|:=|=<|=>|<>|\?|\+\+|\\|\$|\belse if\b")
_EQUALS = re.compile(r"(?<![=<>!:])=(?!=)")
_PRODUCT = re.compile(r"(\b\d[\d.]*|\b[A-Za-z_]\w*(?= )|\)) *([A-Za-z_]\w*|\()")  # 2m, g g, (a) (b)


def complaint(line: str, column: int, message: str) -> tuple[int, str]:
    """Return where on a line a syntax error is, counted from 0, and what to say of it.

    Args:
        line: The line that Python could not parse.
        column: Where it gave up, which may be after the mistake.
        message: Its message, which differs between its versions.
    """
    if "integer" in message and "digits" in message:
        return column, "this number has too many digits"
    own = _PYTHONS_LINE.sub("", message.split(". ", maxsplit=1)[0])
    if not ("closed" in own or "match" in own or "indent" in own):
        code = _SKIPPED.sub(lambda skipped: " " * len(skipped[0]), line)
        found = _word_of_python(code) or _slip(code) or _equals(code) or _product(code, column)
        if found is not None:
            return found
    return column, f"this is not a valid equation ({own})"


def _word_of_python(code: str) -> tuple[int, str] | None:
    before = ""
    for token in _TOKEN.finditer(code):
        word = token[0]
        is_value = before == "not" or (
            (before[-1:].isalnum() or before in {")", "]"}) and not keyword.iskeyword(before)
        )
        if keyword.iskeyword(word) and word not in (_WORDS | _BETWEEN if is_value else _WORDS):
            return token.start(), f"{word!r} is a Python keyword; choose another name"
        before = word
    return None


def _slip(code: str) -> tuple[int, str] | None:
    found = _SLIP.search(code)
    if found is None:
        return None
    return found.start(), f"`{found[0]}` is not part of the language; {_SLIPS[found[0]]}"


def _equals(code: str) -> tuple[int, str] | None:
    """Return the complaint about `=` in a condition: in brackets, or after `if`."""
    for found in _EQUALS.finditer(code):
        before = code[: found.start()]
        if before.count("(") > before.count(")") or re.search(r"\b(?:el)?if\b", before):
            return found.start(), "`=` assigns; to compare, write `==`"
    return None


def _product(code: str, column: int) -> tuple[int, str] | None:
    """Return the complaint about two values beside each other, as formulas write products."""
    for found in _PRODUCT.finditer(code):
        words = any(map(keyword.iskeyword, found.groups()))
        if not words and found.start() <= column <= found.end():
            return found.start(2), "an operator is missing here; write products as `a * b`"
    return None
