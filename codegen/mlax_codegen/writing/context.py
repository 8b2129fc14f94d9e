"""What the template of a module is filled with."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.checking.plans import LeafPlan
from mlax_codegen.language import CYCLE
from mlax_codegen.reading.declarations import Argument, Init, NamedFunction, Scalar, Slot
from mlax_codegen.reading.equations import ExpressionCode
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Requirement, Spec
from mlax_codegen.reading.trees import names_in
from mlax_codegen.writing.docstrings import (
    class_docstring,
    described,
    field_docstring,
    function_docstring,
    init_docstring,
    kept,
    module_docstring,
    step_docstring,
)
from mlax_codegen.writing.expressions import expression_text, parsed
from mlax_codegen.writing.imports import sorted_names
from mlax_codegen.writing.leaf_functions import Equations

__all__ = ["Module", "quoted"]

_MAKERS = {
    "": "full",
    "zeros": "zeros",
    "gradient": "zeros",
    "copy": "copies",
    "identity": "identities",
    "normal": "normals",
}
"""The functions that make slots, by the words of `init`."""
_SLOT_DTYPE = 'Floating-point dtype of the slots, or "int8" for eight bits a number. None: that of the weights.'
_FLOATING = "Floating-point dtype of the slots. None: that of the weights."
_STOCHASTIC_ROUNDING = (
    "Use stochastic rounding when a result is stored in a narrower dtype than it was computed in. "
    "Rounding is then unbiased, and small changes are not lost in half precision."
)


@dataclass(frozen=True)
class Field:
    """A hyperparameter, or what the state holds.

    Attributes:
        name: Its name.
        type: What type checkers see.
        default: As Python writes it; of a field of the state, what it begins as.
        docstring: What it is, as a docstring.
        annotation: The type with the values that a hyperparameter may have.
    """

    name: str
    type: str
    default: str
    docstring: str
    annotation: str = ""


class Module:
    """What the template writes a module from, beside the spec and the analysis.

    Attributes:
        h: Name of the hyperparameters in functions.
        fields: The hyperparameters.
        state: What the state holds beside the number of steps and the hyperparameters.
        functions: Functions of the state and the weights, each with the plan of its leaf function.
    """

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.spec = spec
        self.analysis = analysis
        self.h: str = analysis.held_as
        self.held: Mapping[str, str] = {h.name: f"{self.h}.{h.name}" for h in spec.hyperparameters}
        self.equations: Equations = Equations(spec, analysis)
        self.shapes: Mapping[str, str] = self.equations.shapes.slots
        self.refuses_int8: bool = all(slot.name in analysis.not_int8 for slot in spec.slots)
        self.functions: list[tuple[NamedFunction, LeafPlan]] = [
            *zip(spec.functions, analysis.functions, strict=True)
        ]
        self.docstring: str = module_docstring(spec)
        self.class_docstring: str = class_docstring(spec, analysis.decisive)
        self.step_docstring: str = step_docstring(spec, analysis)
        texts = {h.name: described(h) for h in spec.hyperparameters}
        texts["slot_dtype"] = _FLOATING if self.refuses_int8 else _SLOT_DTYPE
        texts["stochastic_rounding"] = _STOCHASTIC_ROUNDING
        self.init_docstring: str = init_docstring(spec, texts)
        kind = "Dtype | None" if self.refuses_int8 else "SlotDtype | None"
        fields = [
            (h.name, _type(h, analysis), h.default, _annotation(h, analysis))
            for h in spec.hyperparameters
        ]
        fields.append(("slot_dtype", kind, "None", self._slot_dtype(kind)))
        fields.append(("stochastic_rounding", "bool", "False", "bool"))
        self.fields: list[Field] = [
            Field(name, kind, default, field_docstring(texts[name]), annotation)
            for name, kind, default, annotation in fields
        ]
        self.state: list[Field] = [
            *([self._cycle()] if analysis.intervals else []),
            *(self._scheduled(h) for h in spec.hyperparameters if h.schedulable),
            *(self._scalar(scalar) for scalar in spec.scalars),
            *(self._slot(slot) for slot in spec.slots),
        ]

    @property
    def names(self) -> str:
        """The public names, as the items of a list of strings."""
        own = [function.name for function, _ in self.functions]
        return sorted_names(
            [self.spec.class_name, "State", "apply_gradients", "init", "step", *own]
        )

    def arguments(self, function: NamedFunction | None = None) -> list[Argument]:
        """Return what a step or a function takes by keyword."""
        read = self.analysis.arguments if function is None else {*names_in(function.leaf.body)}
        return [argument for argument in self.spec.arguments if argument.name in read]

    def function_docstring(self, function: NamedFunction) -> str:
        """Return what a function of the state and the weights gives."""
        return function_docstring(self.spec, function)

    def code(self, code: ExpressionCode | str, names: Mapping[str, str] | None = None) -> str:
        """Return an expression of hyperparameters as code; a string is one that the analysis found."""
        code = parsed(code, self.spec.document) if isinstance(code, str) else code
        return expression_text(code, self.held if names is None else names)

    def conjunct(self, code: ExpressionCode | str) -> str:
        """Return a test as code that may stand beside `and`."""
        code = parsed(code, self.spec.document) if isinstance(code, str) else code
        is_loose = isinstance(code.expression, ast.IfExp) or (
            isinstance(code.expression, ast.BoolOp) and isinstance(code.expression.op, ast.Or)
        )
        return f"({self.code(code)})" if is_loose else self.code(code)

    def test(self, requirement: Requirement) -> str:
        """Return the test of a requirement; a function if it reads numbers, which may be arrays."""
        own = {h.name: f"self.{h.name}" for h in self.spec.hyperparameters}
        floats = {h.name for h in self.spec.hyperparameters if h.kind == "float"}
        test = self.code(requirement.test, own)
        return f"lambda: {test}" if floats & {*names_in([requirement.test.expression])} else test

    @property
    def narrow(self) -> str:
        """What `init` says about slots that may be too narrow; "" for nothing."""
        kept: list[str] = []
        for name, texts in self.analysis.retained.items():
            parts = [self.code(text) for text in texts]
            part = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
            kept.append(f'"{name}": {part}')
        begins = [f'"{slot}": {self.code(text)}' for slot, text in self.analysis.scales.items()]
        squares = [f'"{x.name}"' for x in self.spec.slots if x.name in self.analysis.squares]
        said = [f"kept={{{', '.join(kept)}}}"] if kept else []
        said += [f"squares=[{', '.join(squares)}]"] if squares else []
        said += [f"scales={{{', '.join(begins)}}}"] if begins else []
        return ", ".join(said)

    @property
    def wide(self) -> str:
        """Why `init` leaves slots wide, for which eight bits are too few; "" if it leaves none."""
        reasons = [f'"{x.name}": {quoted(x.wide)}' for x in self.spec.slots if x.wide is not None]
        return f"{{{', '.join(reasons)}}}" if reasons and not self.refuses_int8 else ""

    @property
    def state_annotation(self) -> str:
        """The annotation of a new state, where no slot tells a type checker what the weights are."""
        like_weights = any(slot.name not in self.shapes for slot in self.spec.slots)
        return "" if like_weights else ": State[Weights]"

    @property
    def run_time_numbers(self) -> bool:
        """Whether some hyperparameter may be a run-time number, which each state holds for itself."""
        return any(field.type.startswith(("Number", "Float")) for field in self.fields)

    @property
    def keys(self) -> list[str]:
        """The random keys in the state."""
        return [scalar.name for scalar in self.spec.scalars if scalar.is_key]

    @property
    def drawn(self) -> list[str]:
        """Those of them that a step draws from; others make slots only."""
        return [key for key in self.keys if key in self.equations.drawn]

    def _slot_dtype(self, kind: str) -> str:
        """Return the annotation of `slot_dtype`."""
        if not self.refuses_int8:
            return kind
        reasons = [f"{name} is {why}" for name, why in self.analysis.not_int8.items()]
        reason = quoted("; ".join(reasons) or "there are no slots")
        return f"Annotated[{kind}, not_int8({reason})]"

    def _cycle(self) -> Field:
        by = " and ".join(f"`{text}`" for text in self.analysis.intervals)
        several = "the least common multiple of " if len(self.analysis.intervals) > 1 else ""
        doc = field_docstring(f"Number of steps done, modulo {several}{by}.")
        return Field(CYCLE, "Count", "no_steps()", doc)

    def _scheduled(self, h: Hyperparameter) -> Field:
        none = " None if given as None." if h.optional else ""
        text = f"Value used by the last step; initially, the one for the first step.{none}"
        kind = "Scalar | None" if h.optional else "Scalar"
        return Field(h.name, kind, f"initial({self.held[h.name]})", field_docstring(text))

    def _scalar(self, scalar: Scalar) -> Field:
        doc = field_docstring(scalar.doc)
        if not scalar.is_key:
            return Field(scalar.name, "Scalar", f"scalar({self._number(scalar.init)})", doc)
        begin = f"key({self.held[scalar.init.source]})"
        before = self.keys.index(scalar.name)  # seeds may well be equal: the place is folded in
        begin = f"folded({begin}, {before})" if before else begin
        return Field(scalar.name, 'Key[Array, ""]', begin, doc)

    def _slot(self, slot: Slot) -> Field:
        begin = slot.init
        per_leaf = slot.name in self.analysis.per_leaf
        function = _MAKERS[begin.word]
        arguments = ["weights", f"{self.h}.slot_dtype"]
        if function in {"full", "normals"}:
            arguments.insert(1, self._number(begin))
        if function == "normals":
            key = next(scalar for scalar in self.spec.scalars if scalar.name == begin.source)
            arguments.insert(1, self._scalar(key).default)
        shape = self.shapes.get(slot.name)
        arguments += [f"shape={shape}", f"h={self.h}"] if shape else []
        annotation = ["Entries", shape] if shape else ["Weights"]
        if slot.name not in self.analysis.not_int8:
            is_signed = slot.name not in self.analysis.nonnegative
            arguments.append(f'int8="{"signed" if is_signed else "nonnegative"}"')
            annotation += [] if is_signed else ["NonNegative"]
        noisy = [other.name for other in self.spec.slots if other.init.word == "normal"]
        if slot.name in noisy[1:]:  # others have the same key
            arguments.append(f"number={noisy.index(slot.name)}")
        init = f"{function}({', '.join(arguments)})"
        kind = f"Annotated[{', '.join(annotation)}]" if annotation[1:] else "Weights"
        when = None if per_leaf else slot.when
        if when is not None:
            init += f" if {self.code(when)} else None"
            kind += " | None"
        return Field(slot.name, kind, init, field_docstring(self._kept(slot, per_leaf)))

    def _number(self, init: Init) -> str:
        """Return code for what an initial value computes: a number, or the deviation of noise."""
        return init.number if init.code is None else self.code(init.code)

    def _kept(self, slot: Slot, per_leaf: bool) -> str:
        """Return what a slot is, and what it is in eight bits."""
        text = kept(slot, per_leaf=per_leaf)
        reason = self.analysis.not_int8.get(slot.name)
        if reason is None:
            return f"{text} `Int8` leaves with int8: see `optim.slot_values`."
        return text if self.refuses_int8 else f"{text} Never in eight bits: {reason}."


def quoted(text: str) -> str:
    """Return a string as `ruff format` quotes it."""
    quote = "'" if '"' in text and "'" not in text else '"'
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{quote}"


def _type(h: Hyperparameter, analysis: Analysis) -> str:
    match h.kind:
        case "float" if h.schedulable:
            plain = "Number"
        case "float":
            plain = "float" if h.name in analysis.decisive else "Float"
        case "integer":
            plain = "int"
        case "flag":
            plain = "bool"
        case "list":
            plain = "tuple[float, ...]"
        case "choice":
            plain = f"Literal[{', '.join(quoted(choice) for choice in h.choices)}]"
    if h.is_label:
        return f"Label[{plain}]"
    return f"{plain} | None" if h.optional else plain


def _annotation(h: Hyperparameter, analysis: Analysis) -> str:
    """Return the type with the bounds of a number; a flag and a choice need no more than their type."""
    specifier = _specifier(h)
    if not specifier:
        return _type(h, analysis)
    given = h.bounds.keywords()
    if h.is_label:
        given = [quoted(choice) for choice in h.choices] or ["True", "False"]
    return f"Annotated[{_type(h, analysis)}, {specifier}({', '.join(given)})]"


def _specifier(h: Hyperparameter) -> str:
    if h.schedulable or h.is_label:
        return "scheduled" if h.schedulable else "label"
    return {"float": "number", "list": "number", "integer": "integer"}.get(h.kind, "")
