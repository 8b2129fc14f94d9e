"""The docstrings of a generated module, wrapped."""

import re
import textwrap
from collections.abc import Sequence

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.formulas.conditions import otherwise
from mlax_codegen.formulas.latex import equations, function_equations
from mlax_codegen.formulas.symbols import default_symbol
from mlax_codegen.reading.declarations import NamedFunction, Slot
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Spec
from mlax_codegen.writing.layout import WIDTH

__all__ = [
    "class_docstring",
    "function_docstring",
    "module_docstring",
    "state_docstring",
    "step_docstring",
]

_FORMULA = re.compile(r"\$[^$]+\$")
_JOINT = "\0"  # a space that no line breaks at


def module_docstring(spec: Spec) -> str:
    """Return what the algorithm is: summary, notes, equations and references."""
    lines = [*_wrapped(spec.summary, indent=0, hanging=0, margin=4), ""]
    if spec.notes:
        lines += [*_paragraphs(spec.notes), ""]
    lines += [".. math::", ""]
    lines += _formulas(equations(spec))
    lines += ["", "References:"]
    for reference in spec.references:
        lines += _wrapped(reference, indent=4, hanging=8)
    return _docstring(lines, indent=0)


def class_docstring(spec: Spec) -> str:
    """Return what the hyperparameters are."""
    first = f"The hyperparameters of {spec.title}, and with them {spec.title} as a value."
    lines = [
        first if len(first) <= WIDTH - 8 else f"The hyperparameters of {spec.title}.",
        "",
        "Args:",
    ]
    for hyperparameter in spec.hyperparameters:
        text = f"{hyperparameter.name}: {_description(hyperparameter)}"
        lines += _wrapped(text, indent=4, hanging=8, margin=4)
    lines += [
        "    slot_dtype: Floating-point dtype of the slots; the weights' own where it is None.",
        "    stochastic_rounding: Round what is stored in fewer bits than it was computed in up or down",
        "        at random, so that the mean is right. Half precision loses small changes without it.",
    ]
    return _docstring(lines, indent=4)


def state_docstring(spec: Spec, analysis: Analysis) -> str:
    """Return what the state holds."""
    lines = [
        f"What {spec.title} remembers between steps.",
        "",
        "Attributes:",
        "    step: Number of steps done.",
    ]
    told = False
    for hyperparameter in spec.hyperparameters:
        if hyperparameter.schedulable:
            text = (
                "Likewise"
                if told
                else "As the last step used it; before the first step, as that will"
            )
            none = "; None if given as None" if hyperparameter.optional else ""
            lines += _wrapped(
                f"{hyperparameter.name}: {text}{none}.", indent=4, hanging=8, margin=4
            )
            told = True
    for scalar in spec.scalars:
        text = f"{scalar.name}: {scalar.doc}"
        lines += _wrapped(text, indent=4, hanging=8, margin=4)
    for slot in spec.slots:
        text = f"{slot.name}: {_kept(slot, per_leaf=slot.name in analysis.per_leaf)}"
        lines += _wrapped(text, indent=4, hanging=8, margin=4)
    lines.append("    hyperparameters: All others. Static, no leaves.")
    return _docstring(lines, indent=4)


def step_docstring(spec: Spec, analysis: Analysis) -> str:
    """Return what a step takes, returns and refuses."""
    lines = ["Return the updates to add to the weights, and the next state."]
    always_kept = any(slot.when is None or slot.name in analysis.per_leaf for slot in spec.slots)
    required = analysis.reads_weights and analysis.weights_when is None
    if not required and not always_kept:
        without = "Without slots" if spec.slots else "There are no slots: without"
        start = f"{without} and weights" if spec.slots else f"{without} weights"
        lines += ["", f"{start}, the gradients have nothing to be compared with."]
    lines += [
        "",
        "Updates in half precision have been rounded, and so weights + updates only comes close to what",
        "`apply_gradients` stores: their sum, rounded once.",
    ]
    weights = "Not read, but compared with the gradients where given."
    if required:
        weights = "Read, and compared with the gradients."
    elif analysis.weights_when is not None:
        weights = (
            f"Read where {analysis.weights_when}; else compared with the gradients where given."
        )
    lines += [
        "",
        "Args:",
        "    gradients: Gradients of the loss, like the weights.",
        "    state: From `init` or from the last step.",
        *_wrapped(f"weights: {weights}", indent=4, hanging=8, margin=4),
        *(
            line
            for argument in spec.arguments
            for line in _wrapped(f"{argument.name}: {argument.doc}", indent=4, hanging=8, margin=4)
        ),
        "",
        "Raises:",
        "    LeafMismatchError: Leaves that correspond have other shapes or dtypes.",
    ]
    if not required:
        lines.append("    ValueError: The weights are needed, and not given.")
    return _docstring(lines, indent=4)


def _description(h: Hyperparameter) -> str:
    """Return a hyperparameter's doc with its symbol and bounds in the first sentence."""
    first, stop, rest = h.doc.partition(". ")
    first = first if stop else first.removesuffix(".")
    symbol = h.symbol or default_symbol(h.name)
    bounded = h.bounds.lower is not None or h.bounds.upper is not None
    if h.symbol or bounded:
        first += f", ${h.bounds.latex(symbol)}$"
    sentences = [f"{first}." if not first.endswith(("?", "!")) else first]
    if rest:
        sentences.append(rest)
    if h.schedulable:
        sentences.append("A number, an array or a schedule.")
    return " ".join(sentences)


def function_docstring(spec: Spec, function: NamedFunction) -> str:
    """Return what a function of the state and the weights gives."""
    lines = [function.doc, "", ".. math::", ""]
    lines += _formulas(function_equations(spec, function))
    return _docstring(lines, indent=4)


def _formulas(formulas: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for number, formula in enumerate(formulas, 1):
        end = rf"{_JOINT}\\" if number < len(formulas) else ""
        lines += _wrapped(_braces_kept(formula) + end, indent=4, hanging=8)
    return lines


def _kept(slot: Slot, *, per_leaf: bool) -> str:
    doc = slot.doc.removesuffix(".")
    shape = slot.shape.text.strip() if slot.shape else ""
    like = f"of shape {shape} for each leaf" if shape else "like the weights"
    if shape == "()":
        like = "one number for each leaf"
    elif shape.startswith(("[", "vectors", "matrices")):
        like = f"for each leaf a tuple of arrays, of shapes {shape}"
    if slot.when is None or slot.when.expression is None:
        return f"{doc}, {like}."
    nothing = "() for a leaf" if per_leaf else "None"
    return f"{doc}, {like}; {nothing} {otherwise(slot.when.expression, slot.when.text.strip())}."


def _braces_kept(formula: str) -> str:
    """Return a formula that is never wrapped between braces."""
    depth = 0
    kept: list[str] = []
    for character in formula:
        depth += (character == "{") - (character == "}")
        kept.append(_JOINT if character == " " and depth else character)
    return "".join(kept)


def _paragraphs(notes: str) -> list[str]:
    """Return paragraphs, wrapped; those with indented lines are left as they are."""
    lines: list[str] = []
    for paragraph in notes.split("\n\n"):
        own = paragraph.split("\n")
        plain = not any(line.startswith(" ") for line in own)
        lines += ["", *(_wrapped(" ".join(own), indent=0, hanging=0) if plain else own)]
    return lines[1:]


def _wrapped(text: str, *, indent: int, hanging: int, margin: int = 0) -> list[str]:
    kept_whole = _FORMULA.sub(lambda formula: formula.group().replace(" ", _JOINT), text)
    lines = textwrap.wrap(
        kept_whole,
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
