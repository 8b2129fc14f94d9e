"""The keys of a spec. The reader refuses all others, and the JSON schema lists them for editors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["KEYS", "TABLES", "TOP", "Key"]

KeyType = Literal[
    "string", "strings", "boolean", "number", "number or string", "default", "equations"
]


@dataclass(frozen=True)
class Key:
    """One key of a table: its type, and what it means."""

    type: KeyType
    doc: str
    required: bool = False
    values: tuple[str, ...] = ()
    longest: int = 0


_DOC = Key("string", "Description for the documentation: a sentence.", required=True)
_SYMBOL = Key("string", "LaTeX symbol for the formulas, without dollar signs: '\\beta_1'.")

TOP: Mapping[str, Key] = {
    "name": Key(
        "string", "Name of the module: the name of this file without .toml.", required=True
    ),
    "class": Key(
        "string", "Name of the class, such as 'AdamW'; by default it is derived from `name`."
    ),
    "title": Key(
        "string",
        "Name of the algorithm in sentences; by default the name of the class.",
        longest=60,
    ),
    "summary": Key("string", "First sentence of the documentation.", required=True, longest=100),
    "notes": Key("string", "Further paragraphs of the documentation."),
    "references": Key("strings", "The sources of the equations.", required=True),
    "experimental": Key(
        "boolean", "Whether the module belongs to the package of experimental optimizers."
    ),
    "complex": Key(
        "string", "Why complex weights are refused; without it, they are accepted.", longest=90
    ),
}
"""Keys at the top of a spec, before its tables."""

KEYS: Mapping[str, Mapping[str, Key]] = {
    "hyperparameters": {
        "default": Key(
            "default", "A float, integer or boolean, one of `choices`, or a list of floats."
        ),
        "optional": Key(
            "boolean", "Whether it may be None. If it has no default, the default is None."
        ),
        "type": Key("string", "Its type, if it has no default.", values=("float", "integer")),
        "bounds": Key(
            "string",
            "Its bounds, such as '0 <= x < 1', '0 < x' or 'x <= 5'; of a list, those of each number.",
        ),
        "choices": Key("strings", "The strings that it may be."),
        "schedulable": Key(
            "boolean", "Whether it may follow a schedule. It is then a scalar in the state."
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "labels": {
        "default": Key("default", "The label of all leaves by default.", required=True),
        "choices": Key("strings", "The labels that there are; without them, true and false."),
        "doc": _DOC,
    },
    "require": {
        "test": Key("string", "The condition on the hyperparameters.", required=True),
        "message": Key(
            "string", "The message to the user if it does not hold.", required=True, longest=90
        ),
    },
    "define": {
        "parameters": Key("strings", "The names that the equation computes with.", required=True),
        "equation": Key(
            "string",
            "What a call of it is: an expression of the parameters and of hyperparameters that are not schedulable.",
            required=True,
        ),
        "symbol": _SYMBOL,
        "doc": replace(_DOC, longest=90),
    },
    "arguments": {
        "like": Key(
            "string",
            "'weights' for an array for each leaf, of the shape and dtype of the weights; by default one number.",
            values=("weights",),
        ),
        "when": Key(
            "string", "A step needs the argument only under this condition on hyperparameters."
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "scalars": {
        "init": Key(
            "number or string",
            "Initial value: a number, arithmetic of float hyperparameters such as '1 - b1', or 'key(seed)' for a "
            "random key, where `seed` is an integer hyperparameter.",
            required=True,
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "slots": {
        "init": Key(
            "number or string",
            "Initial value: 'zeros', 'copy' (of the weights), 'identity' (matrices), 'gradient' (that of the first "
            "step), 'normal(key, deviation)' (noise), a number, or arithmetic of float hyperparameters, such as "
            "'1 - b1'.",
            required=True,
        ),
        "shape": Key(
            "string",
            "Shape of the entry for a leaf, such as '()', or a list of shapes for one array per axis. By default "
            "the `shape` of the leaf.",
        ),
        "each": Key(
            "string",
            "For a list of arrays like the leaf: the list of numbers with one for each of them, or how many there are.",
        ),
        "when": Key(
            "string", "The slot is kept only under this condition on hyperparameters or the shape."
        ),
        "keeps": Key(
            "string",
            "The fraction of itself that the slot keeps in each step, such as 'b2**0.5', for the warning about narrow "
            "dtypes. Only needed if the equations do not show it.",
        ),
        "nonnegative": Key(
            "boolean",
            "Whether no number in the slot is ever negative, for eight bits. Only needed if the equations do not "
            "show it.",
        ),
        "wide": Key(
            "string",
            "Why the slot must not be held in eight bits, such as 'the weights are computed from it'.",
        ),
        "symbol": _SYMBOL,
        "doc": _DOC,
    },
    "step": {
        "name": Key("string", "Name of the phase and of the generated function."),
        "every": Key(
            "string",
            "The phase is computed only at every so many steps, such as 'interval'; what it assigns stays in between.",
        ),
        "first": Key(
            "string", "The first of these steps: 1, which is the default, or what `every` is."
        ),
        "skip": Key(
            "string",
            "A condition, read after `scalars`, under which a step changes nothing: updates are 0, the state stays.",
        ),
        "unless": Key(
            "string",
            "A condition under which a leaf stays as it was: what `leaf` assigns is not changed, and its update is 0.",
        ),
        "scalars": Key("equations", "Equations computed once per step, before `leaf`."),
        "leaf": Key(
            "equations",
            "Equations computed for each leaf. Those of the last phase assign `update`.",
            required=True,
        ),
        "hands_on": Key(
            "strings",
            "Names that `leaf` assigns, `g` among them, which the phases that follow know.",
        ),
    },
    "functions": {
        "changes": Key(
            "strings", "Slots that the equations assign. The function then returns the next state."
        ),
        "returns": Key(
            "string",
            "'number' for a function that returns a total; its equations assign `result = total(...)`.",
            values=("number",),
        ),
        "leaf": Key(
            "equations",
            "Equations computed for each leaf. They assign `result`, or slots.",
            required=True,
        ),
        "doc": replace(_DOC, longest=100),
    },
}
"""For each kind of table, its keys."""

TABLES: Mapping[str, str] = {
    "hyperparameters": "The options that the user sets.",
    "labels": "Options that may differ between leaves: the user gives one, or a function of path and leaf.",
    "symbols": "LaTeX symbols for names that equations assign.",
    "require": "Conditions that the hyperparameters must meet.",
    "define": "Functions of the spec's own, for equations that it has several times.",
    "arguments": "What a step takes by keyword: numbers, such as the loss, or trees like the weights.",
    "scalars": "Scalars in the state.",
    "shapes": "Static values, computed from a leaf's `shape` and `ndim`.",
    "slots": "Arrays that the optimizer keeps for each leaf of the weights.",
    "step": "The equations, in one or more phases.",
    "functions": "Other functions of the state and the weights.",
}
"""Tables of a spec, in their order."""
