"""What the template of a module is filled with."""

import ast
import re
from collections.abc import Iterable, Mapping

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.language import FUNCTIONS
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Requirement, Spec
from mlax_codegen.writing.docstrings import (
    class_docstring,
    function_docstring,
    module_docstring,
    state_docstring,
    step_docstring,
)
from mlax_codegen.writing.expressions import expression_text
from mlax_codegen.writing.layout import WIDTH
from mlax_codegen.writing.leaf_functions import Equations

__all__ = ["module_context", "sorted_names"]


def module_context(spec: Spec, analysis: Analysis) -> dict[str, object]:
    """Return the values of the names in the template."""
    equations = Equations(spec, analysis)
    schedulables = [h for h in spec.hyperparameters if h.schedulable]
    held = {h.name: f"h.{h.name}" for h in spec.hyperparameters}
    shapes = equations.shapes.slots
    slots = [_slot(slot, analysis, held, shapes.get(slot.name)) for slot in spec.slots]
    required = analysis.reads_weights and analysis.weights_when is None
    message = f"{spec.class_name}: step needs the weights ({analysis.weights_when})"
    used = [FUNCTIONS[name] for name in analysis.called]
    mapping = {"Store", "map_leaves", *(["reduce_leaves"] if len(spec.phases) > 1 else [])}
    functions = {plan.name: plan for plan in analysis.functions}
    keys = [scalar for scalar in spec.scalars if scalar.is_key]
    new = ["state.step + 1", *(h.name for h in schedulables)]
    new += [f"state.{s.name}" if s.is_key else f"scalar({s.name})" for s in spec.scalars]
    written = {slot for plan in analysis.phases for slot in plan.slots}
    new += [s.name if s.name in written else f"state.{s.name}" for s in spec.slots]
    # A type checker finds the type of the weights in a slot that is like them, where there is one.
    like_weights = any(slot.name not in shapes for slot in spec.slots)
    return {
        "spec": spec,
        "cls": spec.class_name,
        "docstring": module_docstring(spec),
        "class_docstring": class_docstring(spec),
        "state_docstring": state_docstring(spec, analysis),
        "step_docstring": step_docstring(spec, analysis),
        "typing": _typing(spec, shapes),
        "sequences": bool(analysis.several),
        "jaxtyping": ["Array", *(["Key"] if any(s.is_key for s in spec.scalars) else [])],
        "annotations": sorted(_annotations(spec, shapes), key=member_order),
        "uses_jnp": any(function.code.startswith("jnp.") for function in used),
        "leafwise": sorted(mapping | {f.code for f in used if f.module}, key=member_order),
        "runtime": sorted(_runtime(spec, analysis), key=member_order),
        "names": sorted_names(
            [spec.class_name, "State", "apply_gradients", "init", "step", *functions]
        ),
        "hyperparameters": [
            {"name": h.name, "type": _type(h), "field": _field(h), "default": h.default}
            for h in spec.hyperparameters
        ],
        "requirements": [_requirement(requirement, spec) for requirement in spec.requirements],
        "schedulables": schedulables,
        "slots": slots,
        "narrow": _narrow(spec, analysis, held),
        "scalars": [
            {
                "name": s.name,
                "type": 'Key[Array, ""]' if s.is_key else "Scalar",
                "init": _key(s.init.hyperparameter, keys.index(s))
                if s.is_key
                else f"scalar({_begin(s.init.number, s.init.hyperparameter)})",
                "current": f"folded(state.{s.name}, state.step)" if s.is_key else f"state.{s.name}",
            }
            for s in spec.scalars
        ],
        "refused": _string(spec.complex) if spec.complex else "",
        "sees_leaves": analysis.sees_leaves,
        "leaves_when": _expression(analysis.leaves_when, held) if analysis.leaves_when else "",
        "leaves_message": _string(analysis.leaves_when) if analysis.leaves_when else "",
        "weights_parameter": "weights: Weights" if required else "weights: Weights | None = None",
        "weights_optional": not required,
        "weights_when": _condition(analysis.weights_when, held),
        "weights_message": _string(message),
        "arguments": "".join(f", {a.name}: Scalar" for a in spec.arguments),
        "passed": "".join(f", {a.name}={a.name}" for a in spec.arguments),
        "step_number": analysis.step_number,
        "body": [*equations.steps()],
        "shape_functions": [*equations.shapes.functions()],
        "leaf_functions": [
            equations.leaf_function(plan, "update" if plan is analysis.phases[-1] else "totals")
            for plan in analysis.phases
        ],
        "functions": [
            {
                "name": function.name,
                "doc": function.doc,
                "docstring": function_docstring(spec, function),
                "leaf": equations.leaf_function(functions[function.name], "result"),
                "body": equations.function_call(functions[function.name]),
            }
            for function in spec.functions
        ],
        "state_annotation": "" if like_weights else ": State[Weights]",
        "result": _result(", ".join([*new, "h"])),
    }


def _result(state: str) -> list[str]:
    """Return the end of a step, on two lines where one would be too long."""
    line = f"return result, State({state})"
    if len(line) + 4 <= WIDTH:
        return [line]
    return [f"state = State({state})", "return result, state"]


def _key(seed: str, before: int) -> str:
    """Return the key that begins from a seed; its place is folded in, as seeds may well be equal."""
    return f"folded(key(h.{seed}), {before})" if before else f"key(h.{seed})"


def _begin(number: str, hyperparameter: str) -> str:
    return number or f"h.{hyperparameter}"


def _slot(
    slot: Slot, analysis: Analysis, held: Mapping[str, str], shape: str | None
) -> dict[str, object]:
    begin = slot.init
    arguments = ["weights", "h.slot_dtype"]
    function = {"zeros": "zeros", "copy": "copies", "identity": "identities"}.get(begin.word)
    if function is None:
        function = "full"
        arguments.insert(1, _begin(begin.number, begin.hyperparameter))
    arguments += [f"shape={shape}", "h=h"] if shape else []
    init = f"{function}({', '.join(arguments)})"
    kind = f"Annotated[Entries, {shape}]" if shape else "Weights"
    when = slot.when if slot.name not in analysis.per_leaf else None
    if when is not None and when.expression is not None:
        init += f" if {expression_text(when.text, when.expression, held)} else None"
        kind += " | None"
    return {"name": slot.name, "init": init, "type": kind}


def _narrow(spec: Spec, analysis: Analysis, held: Mapping[str, str]) -> str:
    """Return what `init` says of its slots, for a warning where their dtype is too narrow for that; "" for nothing."""
    kept: list[str] = []
    for name, texts in analysis.retained.items():
        parts = [_expression(text, held) for text in texts]
        part = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
        kept.append(f'"{name}": {part}')
    begins = [f'"{slot}": {_expression(text, held)}' for slot, text in analysis.scales.items()]
    squares = [f'"{slot.name}"' for slot in spec.slots if slot.name in analysis.squares]
    said = [f"kept={{{', '.join(kept)}}}"] if kept else []
    said += [f"squares=[{', '.join(squares)}]"] if squares else []
    said += [f"scales={{{', '.join(begins)}}}"] if begins else []
    return ", ".join(said)


def _requirement(requirement: Requirement, spec: Spec) -> dict[str, str]:
    own = {h.name: f"self.{h.name}" for h in spec.hyperparameters}
    code = requirement.test
    test = expression_text(code.text, code.expression, own) if code.expression else "True"
    return {"test": test, "message": _string(requirement.message)}


def _condition(text: str | None, names: Mapping[str, str]) -> str | None:
    if text is None:
        return None
    node = ast.parse(text, mode="eval").body
    printed = _expression(text, names)
    return (
        f"({printed})" if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) else printed
    )


def _expression(text: str, names: Mapping[str, str]) -> str:
    return expression_text(text, ast.parse(text, mode="eval").body, names)


def _string(text: str) -> str:
    """Return a string as `ruff format` quotes it."""
    if '"' in text and "'" not in text:
        return "'" + text.replace("\\", "\\\\") + "'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _type(h: Hyperparameter) -> str:
    match h.kind:
        case "float":
            plain = "Number" if h.schedulable else "float"
        case "integer":
            plain = "int"
        case "flag":
            plain = "bool"
        case "choice":
            plain = f"Literal[{', '.join(_string(choice) for choice in h.choices)}]"
    return f"{plain} | None" if h.optional else plain


def _field(h: Hyperparameter) -> str:
    arguments = [h.default]
    match h.kind:
        case "choice":
            arguments += [_string(choice) for choice in h.choices]
        case "flag":
            pass
        case _:
            arguments += h.bounds.keywords() + (["optional=True"] if h.optional else [])
    return f"{_specifier(h)}({', '.join(arguments)})"


def _specifier(h: Hyperparameter) -> str:
    if h.schedulable:
        return "scheduled"
    return {"float": "number", "integer": "integer", "flag": "flag", "choice": "choice"}[h.kind]


def _typing(spec: Spec, shapes: Mapping[str, object]) -> list[str]:
    names = {"Generic", "NamedTuple"}
    names |= {"Literal"} if any(h.kind == "choice" for h in spec.hyperparameters) else set()
    return sorted(names | ({"Annotated"} if shapes else set()))


def _annotations(spec: Spec, shapes: Mapping[str, object]) -> set[str]:
    scalars = [s for s in spec.scalars if not s.is_key]
    names = {"Count", "Weights", "checked"}
    if scalars or spec.arguments or any(h.schedulable for h in spec.hyperparameters):
        names.add("Scalar")
    return names | ({"Entries", "Shape"} if shapes else set())


def _runtime(spec: Spec, analysis: Analysis) -> set[str]:
    names = {"Dtype", "Optimizer", "dtype", "flag", "merged", "no_steps", "selected"}
    names |= {_specifier(h) for h in spec.hyperparameters}
    if any(h.schedulable for h in spec.hyperparameters):
        names |= {"Number", "current", "initial"}
    words = {"zeros": "zeros", "copy": "copies", "identity": "identities", "": "full"}
    names |= {words[slot.init.word] for slot in spec.slots}
    for scalar in spec.scalars:
        names |= {"key", "folded"} if scalar.is_key else {"scalar"}
    names |= (
        {"warn_if_narrow"} if analysis.retained or analysis.scales or analysis.squares else set()
    )
    names |= {"refuse_packed"} if analysis.sees_leaves else set()
    return names | ({"refuse_complex"} if spec.complex else set())


def member_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Sort as ruff does: constants, classes, the rest; numbers in names by their value."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    parts = re.findall(r"\d+|\D+", name)
    return rank, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def sorted_names(names: Iterable[str]) -> str:
    """Return names as the items of a list of strings."""
    return ", ".join(f'"{name}"' for name in sorted(names, key=member_order))
