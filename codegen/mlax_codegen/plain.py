"""LaTeX of the generator's own making as text for a terminal: mₜ = β₁ mₜ₋₁ + (1 - β₁) gₜ."""

import re
import unicodedata

__all__ = ["plain_text"]

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_&]|\s+|[^\\{}^_&\s]")
_GREEK = {
    name: chr(code)
    for code in [*range(0x3B1, 0x3C2), *range(0x3C3, 0x3CA)]
    for name in [unicodedata.name(chr(code)).rpartition(" ")[2].lower().replace("lamda", "lambda")]
}
_WORDS = {
    **_GREEK,
    "cdot": "·",
    "le": "≤",
    "ge": "≥",
    "ne": "≠",
    "leftarrow": "←",
    "sum": "Σ",
    "prod": "Π",
    "otimes": "⊗",
    "setminus": "∖",
    "lvert": "|",
    "rvert": "|",
    "lVert": "‖",
    "rVert": "‖",
    "top": "ᵀ",
    "quad": " ",
    "Leftrightarrow": "⇔",
}
_BELOW = dict(
    zip("0123456789+-()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True)
)
_ABOVE = dict(zip("0123456789+-()tikn*", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ᵗⁱᵏⁿ*", strict=True))


def plain_text(latex: str) -> str:
    """Return one equation as text."""
    text = _Reader(_TOKEN.findall(latex)).until("")
    text = re.sub(r"\| (.*?) \|", r"|\1|", re.sub(r"‖ (.*?) ‖", r"‖\1‖", text))
    return re.sub(r"(?<=\S) {2}(?=\S)", " ", text).strip()


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def argument(self) -> str:
        """Read a group in braces, or the one thing that stands there."""
        token = self.next()
        while token.isspace():
            token = self.next()
        return self.until("}") if token == "{" else self.thing(token)

    def until(self, end: str) -> str:
        """Read up to a closing token."""
        parts: list[str] = []
        while (token := self.next()) not in {end, ""}:
            parts.append(self.thing(token))
        return "".join(parts)

    def thing(self, token: str) -> str:
        match token:
            case "{":
                return self.until("}")
            case "_":
                return _script(self.argument(), _BELOW, "_")
            case "^":
                return _script(self.argument(), _ABOVE, "^")
            case "&":
                return ""
            case r"\_":
                return "_"
            case r"\\":
                return "\n"
            case r"\frac":
                above, below = self.argument(), self.argument()
                return f"{_bracketed(above)} / {_bracketed(below)}"
            case r"\sqrt":
                return self.root()
            case r"\bar":
                return f"{self.argument()}\N{COMBINING MACRON}"
            case r"\begin":
                self.argument()
                return self.cases()
            case _ if token.startswith("\\"):
                word = token[1:]
                if word in {"text", "mathit", "operatorname", "mathcal"}:
                    return self.argument()
                return _WORDS.get(word, word)
            case _:
                return " " if token.isspace() else token

    def root(self) -> str:
        degree = ""
        if self.tokens[self.at : self.at + 1] == ["["]:
            self.next()
            degree = self.until("]")
        inside = self.argument()
        if degree:
            return f"({inside})^(1/{_bracketed(degree)})"
        return f"√{inside if re.fullmatch(r'[^ ]+', inside) else f'({inside})'}"

    def cases(self) -> str:
        """Read rows up to the end of the cases, as `a if test else b`."""
        parts: list[str] = []
        while (token := self.next()) not in {r"\end", ""}:
            parts.append(self.thing(token))
        self.argument()
        rows = [re.sub(r"\s+", " ", row).strip() for row in "".join(parts).split("\n")]
        *chosen, last = rows
        return f"({' else '.join([*chosen, last.removesuffix(' otherwise')])})"


def _script(text: str, letters: dict[str, str], mark: str) -> str:
    short = text.replace(", ", "").replace(" ", "")
    one_by_one = not re.search("[a-z]{2}", short) and ", " not in text
    if one_by_one and all(character in letters for character in short):
        return "".join(letters[character] for character in short)
    known = text.replace(", t-1", "").replace(", t", "")
    if known != text:  # a slot's symbol that has an index of its own
        time = "ₜ₋₁" if text.endswith("t-1") else "ₜ"
        return f"{_script(known, letters, mark)}{time}"
    return f"{mark}{text}" if text.replace(".", "").isalnum() else f"{mark}({text})"


def _bracketed(text: str) -> str:
    return (
        f"({text})" if " " in text and not re.fullmatch(r"[√\w]*\([^()]*\)|‖ \S+ ‖", text) else text
    )
