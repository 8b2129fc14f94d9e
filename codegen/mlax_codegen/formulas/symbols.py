"""How names and numbers are written in LaTeX."""

import re

__all__ = ["called", "default_symbol", "number", "raised", "with_index", "words", "words_joined"]

_INDEX = re.compile(r"(?<!\\)_(\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+(?:\{[^{}]*\})?|.)")
_WORDS_TWICE = re.compile(r"(\\text\{[^{}]*)\} \\text\{")
_GREEK = frozenset(
    """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
    """.split()  # noqa: SIM905
)


def default_symbol(name: str) -> str:
    r"""Return LaTeX for a name.

    `b1` is b_1, `mu` \mu, `v_max` v_{\text{max}}, any other word in italics.
    """
    base, _, rest = name.partition("_")
    numbered = re.fullmatch(r"([a-z]+?)(\d+)", base)
    digits = ""
    if numbered:
        base, digits = numbered.groups()
    if base not in _GREEK and len(base) > 1:
        escaped = name.replace("_", r"\_")
        return rf"\mathit{{{escaped}}}"
    symbol = rf"\{base}" if base in _GREEK else base
    parts = [digits, rest if len(rest) < 2 else words(rest)]
    index = ", ".join(part for part in parts if part)
    if not index:
        return symbol
    return f"{symbol}_{index}" if len(index) == 1 else f"{symbol}_{{{index}}}"


def called(name: str) -> str:
    """Return the name of a function."""
    escaped = name.replace("_", r"\_")
    return rf"\operatorname{{{escaped}}}"


def words(text: str) -> str:
    """Return a name, or a few, as words in a formula."""
    return rf"\text{{{text.replace('_', ' ')}}}"


def words_joined(latex: str) -> str:
    """Return LaTeX in which words that follow words are in the same braces."""
    return _WORDS_TWICE.sub(r"\1", latex)


def with_index(symbol: str, index: str) -> str:
    """Return a symbol with one more index, after those that it has."""
    depth = 0
    for place, character in enumerate(symbol):
        depth += (character == "{") - (character == "}")
        found = _INDEX.match(symbol, place) if depth == 0 else None
        if found is not None:  # not an underscore in an argument, like that of \mathit
            own = found[1][1:-1] if found[1].startswith("{") else found[1]
            return f"{symbol[:place]}_{{{own}, {index}}}{symbol[found.end() :]}"
    return f"{symbol}_t" if index == "t" else f"{symbol}_{{{index}}}"


def raised(text: str, above: str) -> str:
    """Return a text with a superscript; LaTeX refuses a second one, and a prime is one."""
    if ("^" in text or "'" in text) and not text.startswith("("):
        text = f"({text})"
    return f"{text}^{above}" if len(above) == 1 else f"{text}^{{{above}}}"


def number(value: float) -> str:
    """Return a number in LaTeX: 1.0 as 1, 1e-3 as 10^{-3}."""
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    digits, _, exponent = text.partition("e")
    digits = digits.removesuffix(".0")
    if not exponent:
        return digits
    power = f"10^{{{int(exponent)}}}"
    return power if digits == "1" else rf"{digits} \cdot {power}"
