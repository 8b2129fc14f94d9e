"""The docstrings of a generated module, wrapped."""

import ast
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.formulas.changes import Formulas
from mlax_codegen.formulas.conditions import in_prose, otherwise
from mlax_codegen.formulas.equations import Equations
from mlax_codegen.formulas.options import formulas, function_formulas
from mlax_codegen.formulas.plain import plain_text
from mlax_codegen.formulas.symbols import default_symbol, with_index
from mlax_codegen.formulas.text import text_lines
from mlax_codegen.language import SHAPE, UPDATE
from mlax_codegen.reading.declarations import Argument, NamedFunction, Slot
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in, parts_of
from mlax_codegen.writing.layout import WIDTH

__all__ = [
    "class_docstring",
    "described",
    "entries",
    "field_docstring",
    "function_docstring",
    "init_docstring",
    "kept",
    "module_docstring",
    "step_docstring",
    "which_floats",
]


_JOINT = "\0"  # a space that no line breaks at
_PART = re.compile(r"[a-z]+|\d+")


def module_docstring(spec: Spec) -> str:
    """Return what the algorithm is: summary, notes, equations and references."""
    lines = [*_wrapped(spec.summary, indent=0, hanging=0, margin=4), ""]
    if spec.notes:
        lines += [*_paragraphs(spec.notes), ""]
    lines += [*_fenced(formulas(spec), WIDTH), ""]
    for legend in (_symbols(spec), _lengths(spec)):
        lines += [*_wrapped(legend, indent=0, hanging=0), ""] if legend else []
    lines.append("References:")
    for reference in spec.references:
        lines += _wrapped(reference, indent=4, hanging=8)
    return _docstring(lines, indent=0)


def class_docstring(spec: Spec, decisive: Collection[str]) -> str:
    """Return what the class is.

    Args:
        spec: The spec.
        decisive: Floats that cannot be arrays.
    """
    lines = _wrapped(spec.summary, indent=0, hanging=0, margin=8)
    more = "The fields are its hyperparameters. The equations are in the docstring of this module."
    arrays = _wrapped(which_floats(spec, decisive), indent=0, hanging=0, margin=4)
    return _docstring([*lines, "", more, *arrays], indent=4)


def which_floats(spec: Spec, decisive: Collection[str]) -> str:
    """Return which floats may be arrays, as a sentence; "" if none may."""
    floats = [h.name for h in spec.hyperparameters if h.kind in {"float", "list"}]
    lists = {h.name for h in spec.hyperparameters if h.kind == "list"}
    fixed = [name for name in floats if name in {*decisive, *lists}]
    if len(fixed) == len(floats):
        return ""
    but = f" but {', '.join(fixed)}" if fixed else ""
    return f"All floats{but} may be arrays, which a step reads at run time."


def field_docstring(text: str) -> str:
    """Return the docstring of a field, on one line if it fits."""
    lines = _wrapped(f'"""{text}"""', indent=0, hanging=0, margin=4)
    raw = "r" if "\\" in text else ""
    return raw + "\n    ".join(lines)


def init_docstring(spec: Spec, described: Mapping[str, str]) -> str:
    """Return what `init` takes and refuses.

    Args:
        spec: The spec.
        described: Each hyperparameter with its description.
    """
    arrays = "real floating-point arrays" if spec.complex else "floating-point or complex arrays"
    lines = [
        "Return the state before the first step.",
        "",
        "Args:",
        f"    weights: The weights, any tree of {arrays}.",
    ]
    for name, text in described.items():
        lines += _argument(name, text)
    lines += [
        "",
        "Raises:",
        "    TypeError: A hyperparameter, or a leaf of the weights, has a type that is not supported.",
        "    ValueError: A hyperparameter is out of bounds.",
    ]
    return _docstring(lines, indent=4)


def step_docstring(spec: Spec, analysis: Analysis) -> str:
    """Return what a step takes, returns and refuses."""
    lines = ["Return the updates, which are to be added to the weights, and the next state.", ""]
    always_kept = any(slot.when is None or slot.name in analysis.per_leaf for slot in spec.slots)
    required = analysis.requires_weights
    if not required and not always_kept:
        without = "without slots and weights" if spec.slots else "without weights"
        lines += [f"The shapes and dtypes of the gradients cannot be checked {without}.", ""]
    weights = "The weights; same structure as the gradients."
    if not required:
        options = "stochastic_rounding or slot_dtype" if spec.slots else "stochastic_rounding"
        when = f"with {options}"
        if analysis.weights_when is not None:
            test = ast.parse(analysis.weights_when, mode="eval").body
            when = f"if {in_prose(test)}, and {when}"
        weights = f"Required {when}; otherwise only used to check the gradients."
    lines += [
        "In half precision the updates are rounded, so that weights + updates only comes close to the",
        "result of `apply_gradients`, which is rounded once.",
        "",
        "Args:",
        "    gradients: Gradients of the loss.",
        "    state: From `init` or from the last step.",
        *_argument("weights", weights),
        *(
            line
            for argument in spec.arguments
            if argument.name in analysis.arguments
            for line in _argument(argument.name, _given(argument))
        ),
        "",
        "Raises:",
        "    LeafMismatchError: Corresponding leaves differ in shape or dtype.",
    ]
    if not required:
        lines.append("    ValueError: The weights are required, but they are None.")
    return _docstring(lines, indent=4)


def _given(argument: Argument) -> str:
    """Return what an argument of a step is, and when it is needed."""
    needed = f" Required if {in_prose(argument.when.expression)}." if argument.when else ""
    return f"{argument.doc}{' Like the weights.' if argument.is_tree else ''}{needed}"


def function_docstring(spec: Spec, function: NamedFunction) -> str:
    """Return what a function of the state and the weights gives."""
    lines = [*_wrapped(function.doc, indent=0, hanging=0, margin=8), ""]
    lines += _fenced(function_formulas(spec, function), WIDTH - 4)
    lines += [
        "",
        "Args:",
        "    state: The state after a step.",
        "    weights: The weights after that step.",
        *(
            line
            for argument in spec.arguments
            if argument.name in {*names_in(function.leaf.body)}
            for line in _argument(argument.name, _given(argument))
        ),
        "",
        "Raises:",
        "    LeafMismatchError: Corresponding leaves differ in shape or dtype.",
    ]
    return _docstring(lines, indent=4)


def described(h: Hyperparameter) -> str:
    """Return a hyperparameter's doc with its symbol and bounds in the first sentence."""
    first, stop, rest = h.doc.partition(". ")
    first = first if stop else first.removesuffix(".")
    symbol = h.symbol or default_symbol(h.name)
    bounded = h.bounds.lower is not None or h.bounds.upper is not None
    if h.symbol or bounded:
        symbol = with_index(symbol, "i") if h.kind == "list" else symbol
        first += f", {plain_text(h.bounds.latex(symbol))}".replace(" ", _JOINT).replace(
            _JOINT, " ", 1
        )
    sentences = [f"{first}." if not first.endswith(("?", "!")) else first]
    if rest:
        sentences.append(rest)
    if h.schedulable:
        sentences.append("A number, an array or a schedule.")
    if h.is_label:
        sentences.append("For all leaves, or a function of the path and the array of each.")
    return " ".join(sentences)


def entries(slot: Slot) -> str:
    """Describe the entry of a slot for a leaf, if it is not like the leaf; "" if it is."""
    shape = " ".join(slot.shape.text.split()) if slot.shape else ""
    if slot.each:
        return f"a tuple of {slot.each} arrays like the weights for each leaf"
    if shape == "()":
        return "one number for each leaf"
    if shape.startswith(("[", "vectors", "matrices")):
        return f"a tuple of arrays of shapes `{shape}` for each leaf"
    return f"an array of shape `{shape}` for each leaf" if shape else ""


def kept(slot: Slot, *, per_leaf: bool) -> str:
    """Return what a slot is, and when there is none."""
    doc = slot.doc.removesuffix(".")
    like = entries(slot) or "same structure as the weights"
    text = f"{doc}. {like[0].upper()}{like[1:]}"
    if slot.when is None:
        return f"{text}."
    nothing = "() for a leaf" if per_leaf else "None"
    word, _, test = otherwise(slot.when.expression, slot.when.text.strip()).partition(" ")
    return f"{text}; {nothing} {word} `{test}`."


def _fenced(equations: Formulas, width: int) -> list[str]:
    """Return formulas in a block that editors show as it is."""
    return ["```text", *text_lines(equations, width), "```"]


def _symbols(spec: Spec) -> str:
    """Return which names the code has for symbols that do not spell them; "" for none.

    Hyperparameters have their symbols in their own docstrings.
    """
    given = [(each.name, each.symbol) for each in spec.definitions]
    given += [(argument.name, argument.symbol) for argument in spec.arguments]
    given += [(scalar.name, scalar.symbol) for scalar in spec.scalars]
    given += [(slot.name, slot.symbol) for slot in spec.slots]
    symbols = {**spec.symbols, **{name: symbol for name, symbol in given if symbol}}
    if Equations(spec).update_is_read:
        symbols[UPDATE] = "u"
    others = {symbol: name for name, symbol in symbols.items()}
    parts = [
        f"{name} = {plain_text(symbol)}".replace(" ", _JOINT)
        for name, symbol in symbols.items()
        if not _spells(symbol, name) or others.get(name, name) != name
    ]
    return f"In the code: {', '.join(parts)}." if parts else ""


def _spells(symbol: str, name: str) -> bool:
    """Whether a reader sees from a symbol which name it is of, as from an m with a hat for `m_hat`."""
    parts, read = (
        sorted(part.replace("infty", "inf") for part in _PART.findall(text.lower()))
        for text in (name, symbol.replace("_t", "").replace(r"\text", ""))
    )
    return parts == read and "'" not in symbol


def _lengths(spec: Spec) -> str:
    """Return what the letter n is in the formulas, if they index the shape of a leaf."""
    codes = [code for phase in spec.phases for code in (phase.scalars, phase.leaf) if code]
    bodies = [statement for code in codes for statement in code.body]
    indexed = {
        ast.unparse(part.slice)
        for node in (*bodies, *(code.expression for code in spec.shapes.values()))
        for part in parts_of(node)
        if isinstance(part, ast.Subscript) and ast.unparse(part.value) == SHAPE
    }
    if indexed == {"-1", "-2"}:
        return "n₋₁ and n₋₂ are the lengths of a leaf's last two axes."
    return "nᵢ is the length of a leaf's axis i; n₋₁ is that of the last axis." if indexed else ""


def _argument(name: str, text: str) -> list[str]:
    return _wrapped(f"{name}: {text}", indent=4, hanging=8, margin=4)


def _paragraphs(notes: str) -> list[str]:
    """Return paragraphs, wrapped; those with indented lines are left as they are."""
    lines: list[str] = []
    for paragraph in notes.split("\n\n"):
        own = paragraph.split("\n")
        plain = not any(line.startswith(" ") for line in own)
        lines += ["", *(_wrapped(" ".join(own), indent=0, hanging=0) if plain else own)]
    return lines[1:]


def _wrapped(text: str, *, indent: int, hanging: int, margin: int = 0) -> list[str]:
    lines = textwrap.wrap(
        text,
        WIDTH - margin,
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_JOINT, " ") for line in lines]


def _docstring(lines: Sequence[str], *, indent: int) -> str:
    margin = " " * indent
    raw = "r" if any("\\" in line for line in lines) else ""
    text = "\n".join(
        f"{margin}{line}" if line and index else line for index, line in enumerate(lines)
    )
    if len(lines) == 1:
        return f'{raw}"""{text}"""'
    return f'{raw}"""{text}\n{margin}"""'
