"""LaTeX of the generator's own making as text for a terminal: mₜ = β₁ mₜ₋₁ + (1 - β₁) gₜ."""

import re
import unicodedata

__all__ = ["plain_text"]

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_&]|\s+|[^\\{}^_&\s]")
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
_SPACES = {r"\,": " ", r"\:": " ", r"\;": " ", r"\ ": " ", r"\!": ""}
# What ends a product: a fraction before it, or at the end of all, needs no brackets.
_ENDS = frozenset(
    ["", "}", ")", "]", ",", "&", "+", "-", "=", "<", ">", r"\\"]
    + [rf"\{word}" for word in ("le", "ge", "ne", "rVert", "rvert", "quad", "text", "end")]
)
_BEGINS = frozenset(
    ["{", "(", "[", ",", "&", "+", "-", "=", "<", ">", r"\\", r"\le", r"\ge", r"\text"]
)
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
    "lfloor": "⌊",
    "rfloor": "⌋",
    "lvert": "|\N{WORD JOINER}",
    "rvert": "\N{WORD JOINER}|",
    "lVert": "‖\N{WORD JOINER}",
    "rVert": "\N{WORD JOINER}‖",
    "top": "ᵀ",
    "quad": " ",
    "Leftrightarrow": "⇔",
}
_BELOW: dict[str, str] = dict(
    zip("0123456789+-()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True)
)
_ABOVE: dict[str, str] = dict(zip("0123456789+-()tikn*ᵀ", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ᵗⁱᵏⁿ*ᵀ", strict=True))

_IN_BARS = re.compile("‖\N{WORD JOINER} \\S+ \N{WORD JOINER}‖")


def plain_text(latex: str) -> str:
    """Return one equation as text."""
    text = _Reader(_TOKEN.findall(latex)).until("")
    text = re.sub(" ?\N{WORD JOINER} ?", "", text)  # bars are close to what is between them
    text = text.replace("⌊ ", "⌊").replace(" ⌋", "⌋").replace("not ( ", "not (").replace(" )", ")")
    text = re.sub(r"(?<=\S) {2}(?=\S)", " ", text).strip()
    left, sign, right = text.partition(" ← " if " ← " in text else " = ")
    whole = _in_brackets(right) and " if " in right
    return f"{left}{sign}{right[1:-1]}" if whole else text


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
                return self.fraction()
            case r"\sqrt":
                return self.root()
            case r"\begin":
                self.argument()
                return self.cases()
            case _ if token in _SPACES:
                return _SPACES[token]
            case _ if token.startswith("\\"):
                return self.macro(token)
            case _:
                return " " if token.isspace() else token

    def macro(self, token: str) -> str:
        """Read what a macro is of; one that is not known stays LaTeX."""
        word = token[1:]
        if word in _FONTS:
            return self.argument()
        if word in _ACCENTS:
            return _accented(self.argument(), _ACCENTS[word])
        return word if word in _OPERATORS else _WORDS.get(word, token)

    def fraction(self) -> str:
        """Read a fraction, in brackets where it stands among the factors of a product."""
        before = [token for token in self.tokens[: self.at - 1] if not token.isspace()]
        text = f"{_bracketed(self.argument())} / {_bracketed(self.argument())}"
        after = [token for token in self.tokens[self.at :] if not token.isspace()]
        alone = before[-1:] != ["/"] and (after or [""])[0] in _ENDS
        # A number there would look like a factor: x (1 / y), but x m / y.
        follows = text[0].isdigit() and before[-1:] not in ([], *([begin] for begin in _BEGINS))
        return text if alone and not follows else f"({text})"

    def root(self) -> str:
        degree = ""
        if self.tokens[self.at : self.at + 1] == ["["]:
            self.next()
            degree = self.until("]")
        inside = self.argument()
        if degree:
            return f"({inside})^(1/{_bracketed(degree)})"
        return f"√{inside if ' ' not in inside or _in_brackets(inside) else f'({inside})'}"

    def cases(self) -> str:
        """Read rows up to the end of the cases, as `a if test else b`."""
        parts: list[str] = []
        while (token := self.next()) not in {r"\end", ""}:
            parts.append(self.thing(token))
        self.argument()
        rows = [re.sub(r"\s+", " ", row).strip() for row in "".join(parts).split("\n")]
        *chosen, last = rows
        return f"({' else '.join([*chosen, last.removesuffix(' otherwise')])})"


def _accented(text: str, accent: str) -> str:
    """Return a symbol with an accent over its letter; over the last bracket where it is more than a symbol."""
    return f"({text}){accent}" if " " in text else f"{text[:1]}{accent}{text[1:]}"


def _script(text: str, letters: dict[str, str], mark: str) -> str:
    short = text.replace(", ", "").replace(" ", "")
    one_by_one = not re.search("[a-z]{2}", short) and ", " not in text
    if one_by_one and all(character in letters for character in short):
        return "".join(letters[character] for character in short)
    known = text.replace(", t-1", "").replace(", t", "")
    if known != text:  # a slot's symbol that has an index of its own
        time = "ₜ₋₁" if text.endswith("t-1") else "ₜ"
        return f"{_script(known, letters, mark)}{time}"
    if text.replace(".", "").isalnum() or len(text) == 1:
        return f"{mark}{text}"
    return f"{mark}({text.replace(' / ', '/')})"


def _bracketed(text: str) -> str:
    """Return a text as a factor: in brackets if it has a space that is in none."""
    depth = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == " " and depth == 0 and not _IN_BARS.fullmatch(text):
            return f"({text})"
    return text


def _in_brackets(text: str) -> bool:
    """Whether a text is all in one pair of brackets."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place == len(text) - 1
    return False
