"""Checks of the LaTeX symbols: formulas can show them, and no two names look the same."""

import re
from collections.abc import Iterator

from mlax_codegen.formulas.equations import symbols
from mlax_codegen.formulas.plain import COMMANDS
from mlax_codegen.reading.mistakes import suggestion
from mlax_codegen.reading.positions import KeyPath
from mlax_codegen.reading.spec import Spec

__all__ = ["check_symbols"]

_TABLES = ("symbols", "hyperparameters", "define", "arguments", "scalars", "slots", "shapes")
_TIME = re.compile(r"_(?:t|\{(?:[^{}]*, *)?t *(?:[+-] *\d+)?\})(?:$|\^)")


def check_symbols(spec: Spec) -> None:
    """Note what is wrong with the symbols of a spec."""
    document = spec.document
    shown = symbols(spec)
    hyperparameters = [h for h in spec.hyperparameters if not h.is_label]
    choices = {h.name: h.kind for h in hyperparameters if h.kind in {"flag", "choice"}}
    for path, name, symbol in _given(spec):
        commands = re.findall(r"\\([A-Za-z]+)", symbol)
        unknown = next((command for command in commands if command not in COMMANDS), None)
        if unknown is not None:
            hint = suggestion(unknown, COMMANDS) or "; write the symbol without it"
            document.at_value(path, f"the formulas do not know \\{unknown}{hint}")
        elif name in choices:
            message = f"no formula shows a {choices[name]}, only what it changes; remove its symbol"
            document.at_key(path, message)
        elif _TIME.search(symbol) and shown.get(name, symbol) != symbol:
            message = f"the formulas add the time to {name!r}: {shown[name]}"
            document.at_value(path, f"{message}; remove it from the symbol")
    names: dict[str, str] = {}
    for name, symbol in shown.items():
        other = names.setdefault(symbol, name)
        if other != name:
            places = [(table, one) for one in (name, other) for table in _TABLES]
            path = next((path for path in places if path in document.places), ("step", 0, "leaf"))
            message = f"the formulas would show both {other!r} and {name!r} as {symbol}"
            document.at_key(path, f"{message}; give one of them another symbol")


def _given(spec: Spec) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield each symbol that the spec gives, with its place and the name that it is of."""
    for name, symbol in spec.symbols.items():
        yield ("symbols", name), name, symbol
    declared = (*spec.hyperparameters, *spec.definitions, *spec.arguments, *spec.state)
    for one in declared:
        for table in _TABLES:
            if one.symbol and (path := (table, one.name, "symbol")) in spec.document.places:
                yield path, one.name, one.symbol
