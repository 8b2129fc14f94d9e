"""What the template of a module is filled with."""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.checking.plans import Rare
from mlax_codegen.formulas.conditions import in_prose
from mlax_codegen.language import CYCLE, FUNCTIONS
from mlax_codegen.reading.declarations import Argument, Init, Scalar, Slot
from mlax_codegen.reading.equations import ExpressionCode
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Requirement, Spec
from mlax_codegen.reading.trees import cuts_in, names_in
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
from mlax_codegen.writing.layout import WIDTH
from mlax_codegen.writing.leaf_functions import Equations

__all__ = ["Module", "sorted_names"]

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
        annotation: The same with the values that it may have.
        default: As Python writes it; of a field of the state, what it begins as.
        docstring: What it is, as a docstring.
    """

    name: str
    type: str
    annotation: str
    default: str
    docstring: str


@dataclass(frozen=True)
class Keyword:
    """What a step takes by keyword.

    Attributes:
        name: Its name.
        parameter: The name with its type, and None where it may be left out.
        is_tree: Whether it is a tree like the weights.
        doc: What it is, as a string.
        when: The test of the options under which it is needed; "" if it always is.
        missing: What a step says without it then: two strings.
    """

    name: str
    parameter: str
    is_tree: bool
    doc: str
    when: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """A function of the state and the weights."""

    name: str
    doc: str
    docstring: str
    arguments: list[Keyword]
    returns: str
    leaf: list[str]
    body: list[str]


class Module:
    """What the template writes a module from.

    Attributes:
        spec: The spec.
        analysis: What the generator knows about it.
        cls: Name of the optimizer's class.
        h: Name of its hyperparameters in functions.
        fields: The hyperparameters.
        state: What the state holds beside the number of steps and the hyperparameters.
        requirements: What must hold between hyperparameters: the test, and the message.
        functions: Functions of the state and the weights.
        arguments: What a step takes by keyword.
    """

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.spec = spec
        self.analysis = analysis
        self.cls: str = spec.class_name
        self.equations: Equations = Equations(spec, analysis)
        self.shapes: Mapping[str, str] = self.equations.shapes.slots
        self.h: str = analysis.held_as
        self.held: Mapping[str, str] = {h.name: f"{self.h}.{h.name}" for h in spec.hyperparameters}
        texts = {h.name: described(h) for h in spec.hyperparameters}
        slot_dtype, why = self._slot_dtype()
        texts |= {"slot_dtype": why, "stochastic_rounding": _STOCHASTIC_ROUNDING}
        self.init_docstring: str = init_docstring(spec, [*texts.items()])
        self.fields: list[Field] = [
            *(
                Field(
                    h.name,
                    _type(h, analysis),
                    _annotation(h, analysis),
                    h.default,
                    field_docstring(texts[h.name]),
                )
                for h in spec.hyperparameters
            ),
            Field(
                "slot_dtype",
                f"{self._dtype} | None",
                slot_dtype,
                "None",
                field_docstring(why),
            ),
            _plain("stochastic_rounding", "bool", "False", texts),
        ]
        self.state: list[Field] = [
            *([self._cycle()] if analysis.intervals else []),
            *(self._scheduled(h) for h in spec.hyperparameters if h.schedulable),
            *(self._scalar(scalar) for scalar in spec.scalars),
            *(self._slot(slot) for slot in spec.slots),
        ]
        self.requirements: list[tuple[str, str]] = [
            _requirement(requirement, spec) for requirement in spec.requirements
        ]
        plans = {plan.name: plan for plan in analysis.functions}
        self.functions: list[Function] = [
            Function(
                function.name,
                function.doc,
                function_docstring(spec, function),
                self._arguments(names_in(function.leaf.body), function.name),
                "State[Weights]"
                if function.changes
                else "Scalar"
                if function.is_number
                else "Weights",
                self.equations.leaf_function(
                    plans[function.name],
                    "totals" if function.changes or function.is_number else "result",
                    of_step=False,
                ),
                [*self.equations.function_call(plans[function.name])],
            )
            for function in spec.functions
        ]
        self.arguments: list[Keyword] = self._arguments(analysis.arguments, "step")

    @property
    def _taken(self) -> list[Keyword]:
        """What a step and the functions take by keyword."""
        return [*self.arguments, *(x for function in self.functions for x in function.arguments)]

    @property
    def trees(self) -> str:
        """The names of the arguments that are trees, as the items of a list of strings."""
        return ", ".join(f'"{argument.name}"' for argument in self.arguments if argument.is_tree)

    def _arguments(self, read: Iterable[str], caller: str) -> list[Keyword]:
        """Return what a step or a function takes by keyword, if it reads some names."""
        names = {*read}
        return [self._keyword(x, caller) for x in self.spec.arguments if x.name in names]

    def _keyword(self, argument: Argument, caller: str) -> Keyword:
        name, kind = argument.name, "Weights" if argument.is_tree else "Real"
        parameter = f"{name}: {kind} | None = None" if argument.when else f"{name}: {kind}"
        when, missing = "", list[str]()
        if argument.when is not None:
            when = _conjunct(argument.when, self.held)
            test = in_prose(argument.when.expression)
            first = _string(f"{self.cls}: {caller} needs `{name}` ({test}).")
            missing.append(rf"{first[:-1]}\n{first[-1]}")
            missing.append(_string(f"  Pass {caller}(..., {name}=...): {argument.doc}"))
        return Keyword(name, parameter, argument.is_tree, _string(argument.doc), when, (*missing,))

    @property
    def refuses_int8(self) -> bool:
        """Whether no slot can be held in eight bits."""
        return all(slot.name in self.analysis.not_int8 for slot in self.spec.slots)

    @property
    def _dtype(self) -> str:
        """The type of `slot_dtype`, but for None."""
        return "Dtype" if self.refuses_int8 else "SlotDtype"

    def _slot_dtype(self) -> tuple[str, str]:
        """Return the annotation of `slot_dtype`, and what it is."""
        kind = f"{self._dtype} | None"
        if not self.refuses_int8:
            return kind, _SLOT_DTYPE
        reasons = [f"{name} is {why}" for name, why in self.analysis.not_int8.items()]
        reason = _string("; ".join(reasons) or "there are no slots")
        return f"Annotated[{kind}, not_int8({reason})]", _FLOATING

    @property
    def docstring(self) -> str:
        return module_docstring(self.spec)

    @property
    def class_docstring(self) -> str:
        return class_docstring(self.spec, self.analysis.decisive)

    @property
    def step_docstring(self) -> str:
        return step_docstring(self.spec, self.analysis)

    @property
    def names(self) -> str:
        """The public names, as the items of a list of strings."""
        own = [function.name for function in self.functions]
        return sorted_names([self.cls, "State", "apply_gradients", "init", "step", *own])

    @property
    def weights_required(self) -> bool:
        """Whether a step always reads the weights."""
        return self.analysis.reads_weights and self.analysis.weights_when is None

    @property
    def weights_when(self) -> str | None:
        """The test of the options under which a step reads the weights; None if always or never."""
        text = self.analysis.weights_when
        if text is None:
            return None
        return _conjunct(parsed(text, self.spec.document), self.held)

    @property
    def weights_message(self) -> list[str]:
        """What a step says without weights: one string, or two if it would be too long."""
        node = ast.parse(self.analysis.weights_when or "", mode="eval").body
        start, when = f"{self.cls}: step needs the weights ", f"({in_prose(node)})"
        parts = [start + when] if len(start + when) + 14 <= WIDTH else [start, when]
        return [_string(part) for part in parts]

    @property
    def refused_complex(self) -> str:
        """Why complex leaves are refused, as a string; "" if they are not."""
        return _string(self.spec.complex) if self.spec.complex else ""

    @property
    def leaves_when(self) -> str:
        """The test of the options under which a leaf is seen as a whole; "" if always or never."""
        text = self.analysis.leaves_when
        return expression_text(parsed(text, self.spec.document), self.held) if text else ""

    @property
    def leaves_message(self) -> str:
        text = self.analysis.leaves_when
        return _string(in_prose(ast.parse(text, mode="eval").body) if text else "")

    @property
    def narrow(self) -> str:
        """What `init` says about slots that may be too narrow; "" for nothing."""
        return _narrow(self.spec, self.analysis, self.held)

    @property
    def wide(self) -> str:
        """Why `init` leaves slots wide, for which eight bits are too few; "" if it leaves none."""
        reasons = [f'"{x.name}": {_string(x.wide)}' for x in self.spec.slots if x.wide is not None]
        return f"{{{', '.join(reasons)}}}" if reasons and not self.refuses_int8 else ""

    @property
    def state_annotation(self) -> str:
        """The annotation of a new state, where no slot tells a type checker what the weights are."""
        like_weights = any(slot.name not in self.shapes for slot in self.spec.slots)
        return "" if like_weights else ": State[Weights]"

    @property
    def labels(self) -> bool:
        """Whether some hyperparameter may differ between leaves."""
        return any(h.is_label for h in self.spec.hyperparameters)

    @property
    def schedules(self) -> bool:
        """Whether some hyperparameter may have a schedule."""
        return any(h.schedulable for h in self.spec.hyperparameters)

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

    @property
    def step_lines(self) -> list[str]:
        """The statements of a step."""
        return [*self.equations.steps()]

    @property
    def result_lines(self) -> list[str]:
        """The end of a step: what it returns, in two statements if one would be too long."""
        state = f"state._replace({', '.join(self.equations.new_state())})"
        if self.skips:
            old = "(output.unmoved(gradients), state)"
            return [f"return unless(skipped, (result, {state}), {old})"]
        line = f"return result, {state}"
        if len(line) + 4 <= WIDTH:
            return [line]
        return [f"state = {state}", "return result, state"]

    @property
    def skips(self) -> bool:
        """Whether a step may leave all as it was."""
        return any(phase.skip for phase in self.spec.phases)

    @property
    def leaf_functions(self) -> list[list[str]]:
        phases = self.analysis.phases
        found = [self.equations.definition(each) for each in self.spec.definitions]
        for plan in phases:
            rare = [part.plan for part in plan.parts if isinstance(part, Rare)]
            found += [self.equations.leaf_function(each, "rare") for each in rare]
            kind = "update" if plan is phases[-1] else "totals"
            found.append(self.equations.leaf_function(plan, kind))
        return found

    @property
    def shape_functions(self) -> list[list[str]]:
        return [*self.equations.shapes.functions()]

    @property
    def typing(self) -> list[str]:
        """What is imported from `typing`."""
        choices = any(h.kind == "choice" for h in self.spec.hyperparameters)
        annotations = [*(field.annotation for field in self.fields), *(x.type for x in self.state)]
        annotated = any(each.startswith("Annotated") for each in annotations)
        names: list[str] = ["Generic", "NamedTuple", *(["Literal"] if choices else [])]
        names += ["ClassVar"] if self.arguments else []
        return sorted([*names, *(["Annotated"] if annotated else [])])

    @property
    def collections(self) -> list[str]:
        """What is imported from `collections.abc`."""
        mapping = ["Mapping"] if self.arguments else []
        return mapping + (["Sequence"] if self.analysis.several or self.trees else [])

    @property
    def jaxtyping(self) -> list[str]:
        return ["Array", *(["Key"] if self.keys else [])]

    @property
    def annotations(self) -> list[str]:
        """What is imported from `mlax.typing`."""
        names: set[str] = {"Count", "Weights", "checked"}
        for name in ("NonNegative", "Scalar"):
            if any(name in field.type for field in self.state):
                names.add(name)
        if any(not argument.is_tree for argument in self._taken):
            names.add("Real")
        if any(function.returns == "Scalar" for function in self.functions):
            names.add("Scalar")
        return sorted(names | ({"Entries", "Shape"} if self.shapes else set()), key=member_order)

    @property
    def uses_jnp(self) -> bool:
        called = [FUNCTIONS[name].code for name in self.analysis.called]
        return any(code.startswith("jnp.") for code in called)

    @property
    def leafwise(self) -> list[str]:
        """What is imported from `mlax.leafwise`."""
        names: set[str] = {"Output", "map_leaves"}
        names |= {"every"} if any(phase.every for phase in self.spec.phases) else set()
        names |= {"unless"} if any(x.unless or x.skip for x in self.spec.phases) else set()
        names |= {"no_update"} if self.spec.moving.unless else set()
        reduces = any(function.returns != "Weights" for function in self.functions)
        if len(self.analysis.phases) > 1 or reduces:
            names |= {"Totals", "reduce_leaves", "totals"}
        names |= {"handed_on"} if any(plan.hands_on for plan in self.analysis.phases) else set()
        names |= {"count_all"} if self.analysis.total_count else set()
        blocks = [*self.spec.blocks, *(function.leaf for function in self.spec.functions)]
        cuts = [cut for code in blocks for cut in cuts_in(code.body, code.of_lists)]
        names |= {"gathered"} if cuts else set()
        used = [FUNCTIONS[name] for name in self.analysis.called]
        names |= {function.code for function in used if function.is_imported}
        return sorted(names, key=member_order)

    @property
    def runtime(self) -> list[str]:
        """What is imported from `mlax.optimizer`."""
        names: set[str] = {self._dtype, "Optimizer", "exportable", "merged", "trainable"}
        names |= {"no_steps", "one_more"}
        names |= {_specifier(h) for h in self.spec.hyperparameters} - {""}
        names |= {"Label"} if self.labels else set()
        names |= {"Number", "initial"} if self.schedules else set()
        names |= {"Float"} if any(x.type.startswith("Float") for x in self.fields) else set()
        names |= {"follow_schedules"} if self.run_time_numbers else set()
        names |= {_MAKERS[slot.init.word] for slot in self.spec.slots}
        names |= {"key" if scalar.is_key else "scalar" for scalar in self.spec.scalars}
        names |= {"folded", "renewed"} if self.drawn else set()
        names |= {"folded"} if self.keys[1:] else set()
        names |= {"scalar"} if any(not argument.is_tree for argument in self._taken) else set()
        names |= {"not_int8"} if self.refuses_int8 else set()
        names |= {"warn_if_narrow"} if self.narrow else set()
        names |= {"warn_if_wide"} if self.wide else set()
        names |= {"refuse_packed"} if self.analysis.sees_leaves else set()
        names |= {"refuse_complex"} if self.spec.complex else set()
        return sorted(names, key=member_order)

    def _cycle(self) -> Field:
        by = " and ".join(f"`{text}`" for text in self.analysis.intervals)
        several = "the least common multiple of " if len(self.analysis.intervals) > 1 else ""
        doc = field_docstring(f"Number of steps done, modulo {several}{by}.")
        return Field(CYCLE, "Count", "Count", "no_steps()", doc)

    def _scheduled(self, h: Hyperparameter) -> Field:
        none = " None if given as None." if h.optional else ""
        text = f"Value used by the last step; initially, the one for the first step.{none}"
        kind = "Scalar | None" if h.optional else "Scalar"
        return Field(h.name, kind, kind, f"initial({self.held[h.name]})", field_docstring(text))

    def _scalar(self, scalar: Scalar) -> Field:
        doc = field_docstring(scalar.doc)
        if not scalar.is_key:
            return Field(
                scalar.name, "Scalar", "Scalar", f"scalar({self._number(scalar.init)})", doc
            )
        begin = f"key({self.held[scalar.init.source]})"
        before = self.keys.index(scalar.name)  # seeds may well be equal: the place is folded in
        begin = f"folded({begin}, {before})" if before else begin
        return Field(scalar.name, 'Key[Array, ""]', 'Key[Array, ""]', begin, doc)

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
            init += f" if {expression_text(when, self.held)} else None"
            kind += " | None"
        return Field(slot.name, kind, kind, init, field_docstring(self._kept(slot, per_leaf)))

    def _number(self, init: Init) -> str:
        """Return code for what an initial value computes: a number, or the deviation of noise."""
        if init.code is None:
            return init.number
        return expression_text(init.code, self.held)

    def _kept(self, slot: Slot, per_leaf: bool) -> str:
        """Return what a slot is, and what it is in eight bits."""
        text = kept(slot, per_leaf=per_leaf)
        reason = self.analysis.not_int8.get(slot.name)
        if reason is None:
            return f"{text} `Int8` leaves with int8: see `optim.slot_values`."
        return text if self.refuses_int8 else f"{text} Never in eight bits: {reason}."


def _plain(name: str, kind: str, default: str, texts: Mapping[str, str]) -> Field:
    return Field(name, kind, kind, default, field_docstring(texts[name]))


def _narrow(spec: Spec, analysis: Analysis, held: Mapping[str, str]) -> str:
    """Return what `init` says of its slots, for a warning where their dtype is too narrow for that; "" for nothing."""

    def written(text: str) -> str:
        return expression_text(parsed(text, spec.document), held)

    kept: list[str] = []
    for name, texts in analysis.retained.items():
        parts = [written(text) for text in texts]
        part = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
        kept.append(f'"{name}": {part}')
    begins = [f'"{slot}": {written(text)}' for slot, text in analysis.scales.items()]
    squares = [f'"{slot.name}"' for slot in spec.slots if slot.name in analysis.squares]
    said = [f"kept={{{', '.join(kept)}}}"] if kept else []
    said += [f"squares=[{', '.join(squares)}]"] if squares else []
    said += [f"scales={{{', '.join(begins)}}}"] if begins else []
    return ", ".join(said)


def _conjunct(code: ExpressionCode, names: Mapping[str, str]) -> str:
    """Return a test as code that may stand beside `and`."""
    printed, node = expression_text(code, names), code.expression
    either = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)
    return f"({printed})" if either or isinstance(node, ast.IfExp) else printed


def _requirement(requirement: Requirement, spec: Spec) -> tuple[str, str]:
    own = {h.name: f"self.{h.name}" for h in spec.hyperparameters}
    code = requirement.test
    test_names = {*names_in([code.expression])}
    test = expression_text(code, own)
    if any(h.kind == "float" and h.name in test_names for h in spec.hyperparameters):
        test = f"lambda: {test}"
    return test, _string(requirement.message)


def _string(text: str) -> str:
    """Return a string as `ruff format` quotes it."""
    if '"' in text and "'" not in text:
        return "'" + text.replace("\\", "\\\\") + "'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
            plain = f"Literal[{', '.join(_string(choice) for choice in h.choices)}]"
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
        given = [_string(choice) for choice in h.choices] or ["True", "False"]
    return f"Annotated[{_type(h, analysis)}, {specifier}({', '.join(given)})]"


def _specifier(h: Hyperparameter) -> str:
    if h.schedulable or h.is_label:
        return "scheduled" if h.schedulable else "label"
    return {"float": "number", "list": "number", "integer": "integer"}.get(h.kind, "")


def member_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Sort as ruff does: constants, classes, the rest; numbers in names by their value."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    parts = re.findall(r"\d+|\D+", name)
    return rank, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def sorted_names(names: Iterable[str]) -> str:
    """Return names as the items of a list of strings."""
    return ", ".join(f'"{name}"' for name in sorted(names, key=member_order))
