"""Hyperparameters of a spec: their types, defaults and bounds."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from mlax_codegen.language import OF_INIT, RESERVED
from mlax_codegen.reading.document import Document
from mlax_codegen.reading.keys import KEYS
from mlax_codegen.reading.positions import KeyPath
from mlax_codegen.reading.tables import Table, check_identifier, kind_of, number_text

__all__ = ["Bounds", "Hyperparameter", "read_hyperparameter"]

HyperparameterKind = Literal["float", "integer", "flag", "choice", "list"]

_NUMBER = r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_BOUNDS = re.compile(rf"\s*(?:{_NUMBER}\s*(<=?)\s*)?x\s*(?:(<=?|>=?)\s*{_NUMBER})?\s*", re.ASCII)


@dataclass(frozen=True)
class Bounds:
    """The limits of a number, as written in the spec; None if there is no limit."""

    lower: str | None = None
    lower_included: bool = True
    upper: str | None = None
    upper_included: bool = True

    def keywords(self) -> list[str]:
        """Return the bounds as keyword arguments of generated code."""
        lower = [f"{'at_least' if self.lower_included else 'above'}={self.lower}"]
        upper = [f"{'at_most' if self.upper_included else 'below'}={self.upper}"]
        return (lower if self.lower else []) + (upper if self.upper else [])

    def broken_by(self, value: float) -> str | None:
        """Return the bound that a value breaks, like "< 1"."""
        if self.lower is not None:
            limit = float(self.lower)
            if value < limit or (value == limit and not self.lower_included):
                return f"{'>=' if self.lower_included else '>'} {self.lower}"
        if self.upper is not None:
            limit = float(self.upper)
            if value > limit or (value == limit and not self.upper_included):
                return f"{'<=' if self.upper_included else '<'} {self.upper}"
        return None

    def latex(self, symbol: str) -> str:
        """Return the bounds of a symbol as a formula; only the symbol if there are none."""
        above, below = (r"\ge", r"\le") if self.lower_included else (">", "<")
        to = r"\le" if self.upper_included else "<"
        if self.lower is None:
            return symbol if self.upper is None else f"{symbol} {to} {self.upper}"
        if self.upper is None:
            return f"{symbol} {above} {self.lower}"
        return f"{self.lower} {below} {symbol} {to} {self.upper}"


@dataclass(frozen=True)
class Hyperparameter:
    """A number, boolean, choice or list of numbers that the user sets.

    Attributes:
        default: In Python syntax.
        optional: Whether it may be None.
        schedulable: Whether it is a run-time scalar in the state; all others are compiled in.
        bounds: Its limits; those of each number in a list.
        choices: The allowed strings; empty unless it is a choice.
        symbol: LaTeX.
        is_label: Whether it may differ between leaves.
    """

    name: str
    kind: HyperparameterKind
    default: str
    doc: str
    optional: bool = False
    schedulable: bool = False
    bounds: Bounds = Bounds()
    choices: tuple[str, ...] = ()
    symbol: str | None = None
    is_label: bool = False


def read_hyperparameter(document: Document, path: KeyPath) -> Hyperparameter | None:
    """Read one hyperparameter; return None if mistakes leave nothing to continue with."""
    name = str(path[-1])
    reserved = {**RESERVED, **OF_INIT}
    check_identifier(document, path, name, what="hyperparameter", reserved=reserved)
    table = Table(document, path)
    if not table.is_table:
        table.misplaced(
            'a hyperparameter must be a table, such as { default = 0.9, doc = "Decay." }'
        )
        return None
    is_label = path[0] == "labels"
    table.check_keys(KEYS[str(path[0])])
    optional = table.truth("optional")
    schedulable = table.truth("schedulable")
    symbol = table.symbol("symbol")
    doc = table.sentence("doc")
    choices = table.texts("choices") if "choices" in table.data else ()
    kind, default = _kind_and_default(document, path, table, optional=optional, choices=choices)
    if kind is None or doc is None:
        return None
    bounds = Bounds()
    if "bounds" in table.data:
        if kind in {"flag", "choice"}:
            document.at_key((*path, "bounds"), f"a {_words(kind)} cannot have bounds")
        else:
            bounds = _bounds(document, (*path, "bounds"), table)
    for place, number in _numbers((*path, "default"), table.data.get("default")):
        if broken := bounds.broken_by(number):
            document.at_value(place, f"the default is outside its bounds: it must be {broken}")
    if schedulable and kind != "float":
        hint = f"; write {default}.0" if kind == "integer" else ""
        document.at_key((*path, "schedulable"), f"only a float can be schedulable{hint}")
    if optional and kind in {"flag", "choice", "list"}:
        document.at_key((*path, "optional"), f"a {_words(kind)} cannot be optional")
    if is_label and kind not in {"flag", "choice"}:
        message = "a label must be true, false or one of `choices`"
        document.at_value((*path, "default"), f"{message}, not {kind_of(table.data['default'])}")
    return Hyperparameter(
        name, kind, default, doc, optional, schedulable, bounds, choices, symbol, is_label
    )


def _numbers(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, float]]:
    """Yield the numbers of a default, each with its place."""
    if isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _numbers((*path, index), item)
    elif isinstance(value, int | float):
        yield path, value


def _words(kind: HyperparameterKind) -> str:
    """Return a kind in the words of TOML."""
    return "boolean" if kind == "flag" else kind


def _kind_and_default(
    document: Document, path: KeyPath, table: Table, *, optional: bool, choices: tuple[str, ...]
) -> tuple[HyperparameterKind | None, str]:
    if "default" not in table.data:
        if not optional:
            cure = "; it may be left out only with optional = true" if path[0] != "labels" else ""
            document.at_key(path, f"'default' is missing{cure}")
            return None, ""
        kind = table.text("type", default="float")
        if kind not in {"float", "integer"}:
            document.at_value((*path, "type"), "type must be 'float' or 'integer'")
            return None, ""
        return cast("HyperparameterKind", kind), "None"
    if "type" in table.data:
        document.at_key((*path, "type"), "the default determines the type; remove this")
    value = table.data["default"]
    here = (*path, "default")
    if isinstance(value, str):
        if not choices:
            document.at_value(here, "a default that is a string needs `choices`")
            return None, ""
        if value not in choices:
            document.at_value(here, f"the default must be one of the choices: {', '.join(choices)}")
        if len(set(choices)) < len(choices) or len(choices) < 2:
            document.at_value((*path, "choices"), "expected two or more different choices")
        if not all(choice.isascii() and choice.isidentifier() for choice in choices):
            document.at_value((*path, "choices"), "choices must be words such as 'correct_first'")
        return "choice", f'"{value}"'
    if choices or "choices" in table.data:
        document.at_key(
            (*path, "choices"), f"choices are for strings, but the default is {kind_of(value)}"
        )
    if isinstance(value, bool):
        return "flag", str(value)
    if isinstance(value, list):
        numbers = [
            _number(document, (*here, index), item)
            for index, item in enumerate(cast("list[object]", value))
        ]
        if not numbers:
            document.at_value(here, "a list must hold one or more numbers")
        if not numbers or None in numbers:
            return None, ""
        floats = [text if kind == "float" else f"{text}.0" for kind, text in filter(None, numbers)]
        return "list", f"({', '.join(floats)}{',' if len(floats) == 1 else ''})"
    return _number(document, here, value) or (None, "")


def _number(
    document: Document, path: KeyPath, value: object
) -> tuple[HyperparameterKind, str] | None:
    """Return whether a number is an integer or a float, and its text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = (
            "a list must hold numbers"
            if path[-1] != "default"
            else ("default must be a number, a list of numbers, a boolean or a string")
        )
        document.at_value(path, f"{what}, not {kind_of(value)}")
        return None
    if not math.isfinite(value):
        document.at_value(path, "default must be finite")
        return None
    if isinstance(value, int) and abs(value) > 2**31 - 1:
        document.at_value(path, "this does not fit into a 32-bit integer; write a float")
        return None
    return "integer" if isinstance(value, int) else "float", number_text(
        document.literal(path), value
    )


def _bounds(document: Document, path: KeyPath, table: Table) -> Bounds:
    text = table.text("bounds")
    if text is None:
        return Bounds()
    found = _BOUNDS.fullmatch(text)
    help_text = "write bounds as '0 <= x < 1', '0 < x' or 'x <= 5'"
    if found is None or (found[1] is None and found[4] is None):
        document.at_value(path, help_text)
        return Bounds()
    lower, lower_op, upper_op, upper = found.groups()
    if upper_op is not None and upper_op.startswith(">"):
        if lower is not None:
            document.at_value(path, help_text)
            return Bounds()
        lower, lower_op, upper, upper_op = upper, upper_op, None, None
    for limit in (lower, upper):
        if limit is not None and not math.isfinite(float(limit)):
            document.at_value(path, "bounds must be finite")
            return Bounds()
    bounds = Bounds(lower, lower_op not in {"<", ">"}, upper, upper_op != "<")
    if lower is not None and upper is not None and float(lower) >= float(upper):
        message = "no number is within these bounds; the lower bound exceeds the upper"
        if float(lower) == float(upper):
            message = "the lower bound must be less than the upper"
        document.at_value(path, message)
        return Bounds()
    return bounds
