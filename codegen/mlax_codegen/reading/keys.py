"""The keys of a spec: the reader refuses all others, and the JSON schema tells editors of these."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["KEYS", "TABLES", "TOP", "Key"]

KeyType = Literal[
    "string", "strings", "boolean", "number", "number or string", "default", "equations"
]


@dataclass(frozen=True)
class Key:
    """One key of a table: what it holds, and what for."""

    type: KeyType
    doc: str
    required: bool = False
    values: tuple[str, ...] = ()
    longest: int = 0


_DOC = Key("string", "What it is: a sentence, for the documentation.", required=True)
_SYMBOL = Key("string", "LaTeX for the formulas, without dollar signs: '\\beta_1'.")

TOP: Mapping[str, Key] = {
    "name": Key("string", "Of the module: the name of this file without .toml.", required=True),
    "class": Key("string", "Of the class; made from the name where it is left out: 'AdamW'."),
    "title": Key(
        "string", "What the algorithm is called in sentences; the class where left out.", longest=60
    ),
    "summary": Key("string", "First sentence of the documentation.", required=True, longest=100),
    "notes": Key("string", "More documentation, in paragraphs of lines."),
    "references": Key("strings", "Where the equations come from.", required=True),
    "experimental": Key("boolean", "Generate into the package of experimental optimizers."),
    "complex": Key(
        "string", "Why complex weights are refused; they work where this is left out.", longest=90
    ),
}
"""Keys at the top of a spec, before its tables."""

KEYS: Mapping[str, Mapping[str, Key]] = {
    "hyperparameters": {
        "default": Key("default", "A float, integer or boolean, or one of `choices`."),
        "optional": Key("boolean", "May be None, which it is without a default."),
        "type": Key("string", "Where there is no default.", values=("float", "integer")),
        "bounds": Key("string", "Like '0 <= x < 1', '0 < x' or 'x <= 5'."),
        "choices": Key("strings", "The words that it may be."),
        "schedulable": Key("boolean", "May follow a schedule; a scalar in the state."),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "require": {
        "test": Key("string", "What must hold between hyperparameters.", required=True),
        "message": Key(
            "string", "What to tell the user if it does not.", required=True, longest=90
        ),
    },
    "arguments": {"symbol": _SYMBOL, "doc": _DOC},
    "scalars": {
        "init": Key(
            "number or string",
            "A number, the name of a float hyperparameter, or 'key(seed)' for a random key from an integer one.",
            required=True,
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "slots": {
        "init": Key(
            "number or string",
            "'zeros', 'copy' (of the weights), 'identity' (matrices), a number, or a float hyperparameter's name.",
            required=True,
        ),
        "shape": Key(
            "string",
            "Shape of the entry of a leaf, from its `shape`: '()', or a list of shapes for one array per axis.",
        ),
        "when": Key("string", "When it is kept: a condition of hyperparameters or of the shape."),
        "keeps": Key(
            "string",
            "The part of itself that each step keeps, such as 'b2**0.5': only needed if the equations do not show it, "
            "to warn of dtypes that are too narrow.",
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "step": {
        "name": Key("string", "Of the phase; the generated function is called after it."),
        "scalars": Key("equations", "Computed once a step, before `leaf`."),
        "leaf": Key("equations", "Computed for each leaf; the last assigns update.", required=True),
    },
    "functions": {
        "leaf": Key("equations", "Computed for each leaf; assigns result.", required=True),
        "doc": replace(_DOC, longest=100),
    },
}
"""Keys of the tables in each of these."""

TABLES: Mapping[str, str] = {
    "hyperparameters": "What the user sets.",
    "symbols": "LaTeX for names that equations assign.",
    "require": "What must hold between hyperparameters.",
    "arguments": "Scalars that a step is given, like the loss.",
    "scalars": "Scalars in the state.",
    "shapes": "Static values from a leaf's `shape` and `ndim`.",
    "slots": "What is kept for each leaf of the weights.",
    "step": "The equations, in one or more phases.",
    "functions": "Other functions of the state and the weights.",
}
"""Tables of a spec, in their order."""
