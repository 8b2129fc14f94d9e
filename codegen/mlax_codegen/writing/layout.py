"""Code on as many lines as it needs, broken where `ruff format` breaks it, which is not run.

All functions are given code on one line, and look no deeper than its text: at brackets, commas and operators. What is
in brackets is broken at its commas, otherwise before its loosest operators, otherwise in the brackets that it has.
"""

import re
from collections.abc import Iterator, Sequence

__all__ = ["WIDTH", "laid_out"]

WIDTH = 100

_RANKS = {
    ",": 12,
    "for": 11,  # of a comprehension, and its conditions
    "if": 10,
    "else": 10,
    "or": 9,
    "and": 8,
    **dict.fromkeys(["==", "!=", "<", "<=", ">", ">=", "is", "is not"], 7),
    "|": 6,
    "&": 5,
    **dict.fromkeys(["+", "-"], 4),
    **dict.fromkeys(["*", "/", "//", "%"], 3),
    "**": 1,
}
"""What code may be broken at: the looser, the larger."""
_SIGNS = "|".join(re.escape(sign) for sign in sorted(_RANKS, reverse=True))
_MARK = re.compile(rf"""("(?:\\.|[^"\\])*"|'[^']*')|[(\[{{]|[)\]}}]|,(?: |$)| (?:{_SIGNS}) |\*\*""")
_NAMED = re.compile(r'\w+=|\w+: |"\w+": ')  # how an item begins that has a name
_STATEMENT = re.compile(r"((?:return|raise|if|elif) |[\w., ()]+(?:: .+?)? = )?(.*?)(:?)")


def laid_out(text: str) -> str:
    """Put each statement of a module on as many lines as it needs; docstrings come broken already.

    A statement that the text has on several lines is joined first, unless a comma ends its last item, or it is a
    string in parts.
    """
    lines: list[str] = []
    statement: list[str] = []
    in_docstring = False
    for line in text.split("\n"):
        start = line.lstrip()[:1]
        quotes = line.count('"""')
        if statement:
            statement.append(line)
            if line.startswith(f"{_margin(statement[0])})"):
                lines.extend(_joined(statement))
                statement = []
        elif start == "#" and not in_docstring:
            lines.append(line)  # a comment of the spec may say anything
        elif in_docstring or quotes or start in {'"', "'"}:  # or an item of a dict: a string
            lines.append(line)
            in_docstring ^= quotes % 2 == 1
        elif line.endswith("("):
            statement.append(line)
        else:
            lines.extend(_fitted(line))
    return "\n".join(lines)


def _joined(statement: Sequence[str]) -> list[str]:
    """Return the lines of a statement that has several."""
    first, *inside, last = statement
    strings = len(inside) > 1 and all(line.lstrip().startswith(('"', "'")) for line in inside)
    if not inside[-1].endswith(",") and not strings:
        return _fitted(first + " ".join(line.strip() for line in inside) + last.strip())
    lines = [first]
    for line in inside:
        item = line.strip().removesuffix(",")
        is_keyword = _NAMED.match(item) and line.endswith(",")
        lines += _lines(item, len(_margin(line)), end=",") if is_keyword else [line]
    return [*lines, last]


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _fitted(line: str) -> list[str]:
    """Return a statement (or the head of one) on as many lines as it needs."""
    if len(line) <= WIDTH:
        return [line]
    text = line.strip()
    indent = len(line) - len(text)
    if text.startswith("def "):
        parameters, *returned = _brackets(text)
        broken = _broken(text, indent, [parameters], width=0)
        too_long = len(broken[-1]) > WIDTH
        return _broken(text, indent, [parameters, *returned] if too_long else [parameters])
    if text.startswith("from "):
        module, names = text.split(" import ")
        return _broken(f"{module} import ({names})", indent)
    found = _STATEMENT.fullmatch(text)
    start, value, end = found.groups("") if found else ("", text, "")
    marks = [mark.strip() for _, mark in _marks(value)]
    if "," in marks:  # a tuple without brackets
        return _broken(f"{start}({value}){end}", indent)
    is_bracketed = value[-1] in ")]}" and not any(mark in _RANKS for mark in marks)
    if is_bracketed or indent + len(start) > WIDTH:
        return _broken(text, indent)
    if _can_do_without(value, marks) and _longest(_broken(text, indent, width=0)) <= WIDTH:
        return _broken(text, indent)
    return _broken(f"{start}({value}){end}", indent)


def _longest(lines: Sequence[str]) -> int:
    return max(map(len, lines))


def _can_do_without(value: str, marks: Sequence[str]) -> bool:
    """Whether a statement may break in the brackets that its value has, without new ones around it.

    It may if the value has one operator, or several of which one is looser than all others, beside a bracket.
    """
    ranks = [_RANKS[mark] for mark in marks if mark in _RANKS]
    if ranks.count(max(ranks, default=0)) > 1 or not {"(", "["} & {*marks}:
        return False
    at_end = value[-1] in ")]" and not value.endswith("()")
    return not ranks or at_end or value[0] in "(["


def _marks(text: str) -> Iterator[tuple[int, str]]:
    """Yield commas, operators and brackets with their places, but for those in brackets."""
    depth = 0
    for found in _MARK.finditer(text):
        mark = found[0]
        depth -= mark in ")]}"
        if depth == 0 and not found[1]:
            yield found.start(), mark
        depth += mark in "([{"


def _brackets(text: str) -> list[tuple[int, int]]:
    """Return where each pair of brackets begins and ends that has something in it."""
    places = [place for place, mark in _marks(text) if mark in "()[]{}"]
    pairs = zip(places[::2], places[1::2], strict=True)
    return [(start, end) for start, end in pairs if end > start + 1]


def _broken(
    text: str,
    indent: int,
    brackets: Sequence[tuple[int, int]] | None = None,
    *,
    width: int = WIDTH,
) -> list[str]:
    """Return code broken in brackets, from left to right, if it is too long up to the next bracket."""
    lines: list[str] = [" " * indent]
    place = 0
    pairs = _brackets(text) if brackets is None else brackets
    following = [start + 1 for start, _ in pairs[1:]]
    for (start, end), after in zip(pairs, [*following, len(text)], strict=False):
        if len(lines[-1]) + after - place > width:
            lines[-1] += text[place : start + 1]
            before = text[start - 1 : start]
            follows = before.isalnum() or before in {"_", ")", "]"}
            lines += _inside(text[start + 1 : end], indent + 4, text[start], width, follows=follows)
            lines.append(" " * indent)
            place = end
        lines[-1] += text[place : end + 1]
        place = end + 1
    lines[-1] += text[place:]
    return lines


def _inside(text: str, indent: int, opening: str, width: int, *, follows: bool) -> list[str]:
    """Return the content of broken brackets, with each item on a line, or all on one if they are arguments.

    Args:
        text: What they have in them.
        indent: Where it begins.
        opening: The first bracket.
        width: The longest line.
        follows: Whether the bracket follows a name, and so is that of a call or of an index.
    """
    marks = [mark.strip() for _, mark in _marks(text)]
    is_list = opening != "(" and not follows and "for" not in marks
    if not (is_list or "," in marks or _NAMED.match(text)):
        return _lines(text, indent, width=width)
    if opening == "(" and follows and indent + len(text) <= width:
        return [" " * indent + text]
    items = _split(text) if "," in marks else [text]
    return [line for item in items for line in _lines(item, indent, end=",", width=width)]


def _lines(
    text: str, indent: int, *, start: str = "", end: str = "", width: int = WIDTH
) -> list[str]:
    """Return code that is in brackets, after an operator and before a comma that belong to it."""
    whole = f"{start}{text}{end}"
    if indent + len(whole) <= width:
        return [" " * indent + whole]
    if text[0] in "\"'" and _MARK.fullmatch(text):
        parts = _in_parts(text, WIDTH - indent - len("''") - len(end))
        return [" " * indent + part for part in [*parts[:-1], parts[-1] + end]]
    first, *others = _split(text)
    if others and first.startswith("lambda: "):
        whole = f"{start}lambda: ({text.removeprefix('lambda: ')}){end}"
    if not others or first.startswith("lambda: "):
        return _broken(whole, indent, width=width)
    lines = _lines(first, indent, start=start, width=width)
    for number, part in enumerate(others, 1):
        [(_, sign), *_] = _marks(f" {part}")
        last = end if number == len(others) else ""
        lines += _lines(part[len(sign) - 1 :], indent, start=sign[1:], end=last, width=width)
    return lines


def _split(text: str) -> list[str]:
    """Return the items between commas, or the parts of code that begin at its loosest operators."""
    marks = [(place, mark) for place, mark in _marks(text) if mark[0] in " ,"]
    loop = next((place for place, mark in marks if mark == " for "), len(text))
    ranks = [
        _RANKS["for" if mark == " if " and place > loop else mark.strip()] for place, mark in marks
    ]
    cuts = [place for (place, _), rank in zip(marks, ranks, strict=True) if rank == max(ranks)]
    skipped = 1 if max(ranks, default=0) < _RANKS[","] else 2
    starts = [0, *(place + skipped for place in cuts)]
    parts = [text[i:j] for i, j in zip(starts, [*cuts, len(text)], strict=True)]
    return [part for part in parts if part]


def _in_parts(string: str, room: int) -> list[str]:
    """Return a string literal as several, which Python joins; each but the last ends with a space."""
    parts = [""]
    for word in re.findall(r"\S* *", string[1:-1]):
        if len(parts[-1]) + len(word) > room:
            parts.append("")
        parts[-1] += word
    return [f"{string[0]}{part}{string[0]}" for part in parts]
