"""The LaTeX of symbols and templates as text for a terminal: `\\hat{m}_t` is m̂ₜ."""

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["COMMANDS", "plain_text"]

_TOKEN = re.compile(r"#\d|\\[A-Za-z]+|\s+|\\?.")
_LETTERS = [*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3C2), *range(0x3C3, 0x3CA)]
_GREEK = {
    name.lower() if chr(code).islower() else name.capitalize(): chr(code)
    for code in _LETTERS
    for name in [unicodedata.name(chr(code)).rpartition(" ")[2].replace("LAMDA", "LAMBDA")]
}
_ACCENTS = {
    "acute": "\N{COMBINING ACUTE ACCENT}",
    "bar": "\N{COMBINING MACRON}",
    "breve": "\N{COMBINING BREVE}",
    "check": "\N{COMBINING CARON}",
    "dot": "\N{COMBINING DOT ABOVE}",
    "ddot": "\N{COMBINING DIAERESIS}",
    "grave": "\N{COMBINING GRAVE ACCENT}",
    "hat": "\N{COMBINING CIRCUMFLEX ACCENT}",
    "overline": "\N{COMBINING OVERLINE}",
    "tilde": "\N{COMBINING TILDE}",
    "underline": "\N{COMBINING LOW LINE}",
    "vec": "\N{COMBINING RIGHT ARROW ABOVE}",
    "widehat": "\N{COMBINING CIRCUMFLEX ACCENT}",
    "widetilde": "\N{COMBINING TILDE}",
}
_FONTS = frozenset(
    ["text", "operatorname", "boldsymbol", "bm"]
    + [f"math{font}" for font in ("bb", "bf", "cal", "frak", "it", "rm", "scr", "sf", "tt")]
)
_OPERATORS = frozenset(["cos", "exp", "inf", "log", "max", "min", "sin", "sup", "tanh"])
_SPACES = {r"\,": " ", r"\:": " ", r"\;": " ", r"\ ": " ", r"\!": "", r"\_": "_"}
_WORDS = {
    **_GREEK,
    "varepsilon": "ε",
    "vartheta": "ϑ",
    "varphi": "φ",
    "varrho": "ϱ",
    "varsigma": "ς",
    "ell": "ℓ",
    "infty": "∞",
    "nabla": "∇",
    "partial": "∂",
    "prime": "′",
    "star": "⋆",
    "dagger": "†",
    "odot": "⊙",
    "times": "×",
    "pm": "±",
    "langle": "⟨",
    "rangle": "⟩",
    "left": "",
    "right": "",
    "cdot": "·",
    "dots": "…",
    "le": "≤",
    "ge": "≥",
    "ne": "≠",
    "leftarrow": "←",
    "sim": "~",
    "sum": "Σ",
    "prod": "Π",
    "otimes": "⊗",
    "setminus": "∖",
    "lfloor": "⌊\N{WORD JOINER}",
    "rfloor": "\N{WORD JOINER}⌋",
    "lvert": "|\N{WORD JOINER}",
    "rvert": "\N{WORD JOINER}|",
    "lVert": "‖\N{WORD JOINER}",
    "rVert": "\N{WORD JOINER}‖",
    "top": "ᵀ",
    "quad": " ",
    "Leftrightarrow": "⇔",
}
COMMANDS = frozenset([*_FONTS, *_ACCENTS, *_OPERATORS, *_WORDS])
"""The LaTeX commands that are known, without their backslashes."""

_BELOW: dict[str, str] = dict(
    zip("0123456789+-()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True)
)
_ABOVE: dict[str, str] = dict(
    zip("0123456789+-()tikn*ᵀ′†⋆", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ᵗⁱᵏⁿ*ᵀ′†⋆", strict=True)
)


def plain_text(latex: str, parts: Sequence[str] = ()) -> str:
    """Return LaTeX as text, with a text for each #1, #2 and so on."""
    text = _Reader(_TOKEN.findall(latex), parts).until("")
    text = re.sub(" ?\N{WORD JOINER} ?", "", text)  # bars are close to what is between them
    return re.sub(r"(?<=\S) {2}(?=\S)", " ", text).strip()


class _Reader:
    def __init__(self, tokens: list[str], parts: Sequence[str]) -> None:
        self.tokens = iter(tokens)
        self.parts = parts

    def argument(self) -> str:
        """Read a group in braces, or the one thing that stands there."""
        token = next((token for token in self.tokens if not token.isspace()), "")
        return self.thing(token)

    def until(self, end: str) -> str:
        """Read up to a closing token."""
        return "".join(map(self.thing, iter(lambda: next(self.tokens, end), end)))

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
            case _ if token in _SPACES:
                return _SPACES[token]
            case _ if token.startswith("#"):
                return self.parts[int(token[1:]) - 1]
            case _ if token.startswith("\\"):
                return self.macro(token[1:])
            case _:
                return " " if token.isspace() else token

    def macro(self, word: str) -> str:
        """Read what a macro is of; one that is not known stays LaTeX."""
        if word in _FONTS:
            return self.argument()
        if word in _ACCENTS:
            return _accented(self.argument(), _ACCENTS[word])
        return word if word in _OPERATORS else _WORDS.get(word, f"\\{word}")


def _accented(text: str, accent: str) -> str:
    """Return a symbol with an accent over its letter; over the last bracket where it is more than a symbol."""
    return f"({text}){accent}" if " " in text else f"{text[:1]}{accent}{text[1:]}"


def _script(text: str, letters: dict[str, str], mark: str) -> str:
    """Return an index or a power: small letters if there are such, else in brackets."""
    if not re.search("[a-z]{2}", text) and {*text} - {",", " "} <= {*letters}:
        return "".join(letters.get(character, "") for character in text)
    if text.replace(".", "").isalnum() or len(text) == 1:
        return f"{mark}{text}"
    return f"{mark}({text.replace(' / ', '/')})"
