"""How names are written in LaTeX."""

import re

__all__ = ["called", "default_symbol", "with_index"]

_INDEX = re.compile(r"(?<!\\)_(\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+(?:\{[^{}]*\})?|.)")
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
    parts = [digits, rest if len(rest) < 2 else rf"\text{{{rest.replace('_', ' ')}}}"]
    index = ", ".join(part for part in parts if part)
    if not index:
        return symbol
    return f"{symbol}_{index}" if len(index) == 1 else f"{symbol}_{{{index}}}"


def called(name: str) -> str:
    """Return the name of a function."""
    escaped = name.replace("_", r"\_")
    return rf"\operatorname{{{escaped}}}"


def with_index(symbol: str, index: str) -> str:
    """Return a symbol with one more index, after those that it has."""
    depth = 0
    for place, character in enumerate(symbol):
        depth += (character == "{") - (character == "}")
        found = _INDEX.match(symbol, place) if depth == 0 else None
        if found is not None:  # not an underscore in an argument, like that of \mathit
            own = found[1][1:-1] if found[1].startswith("{") else found[1]
            return f"{symbol[:place]}_{{{own}, {index}}}{symbol[found.end() :]}"
    return f"{symbol}_{index}" if len(index) == 1 else f"{symbol}_{{{index}}}"
