"""The text that `mlax-codegen show` prints for a spec."""

from collections.abc import Iterable, Iterator

from mlax_codegen.checking.analysis import Analysis, analyse
from mlax_codegen.formulas.changes import Formulas
from mlax_codegen.formulas.options import formulas, function_formulas
from mlax_codegen.formulas.text import latex_lines, text_lines
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in
from mlax_codegen.writing.docstrings import entries, which_floats

__all__ = ["shown"]

_WIDTH = 96  # of formulas, beside an indent of four


def shown(spec: Spec, *, latex: bool = False) -> str:
    """Return notes, signature, state, equations (as text or LaTeX) and references of an optimizer."""
    analysis = analyse(spec)

    def written(found: Formulas) -> list[str]:
        lines = latex_lines(found) if latex else text_lines(found, _WIDTH)
        return [f"    {line}" if line else "" for line in lines]

    lines = [spec.summary, ""]
    if spec.notes:
        lines += [*spec.notes.split("\n"), ""]
    lines += [*_signatures(spec, analysis), ""]
    lines += ["State:", *(f"    {part}" for part in _memory(spec)), ""]
    lines += [f"    {scalar.name:16}{scalar.doc}" for scalar in spec.scalars]
    lines += [f"    {slot.name:16}{slot.doc}" for slot in spec.slots]
    if spec.slots:
        lines += ["", 'In eight bits, with slot_dtype="int8":', *_in_eight_bits(spec, analysis)]
    if spec.slots or spec.scalars:
        lines.append("")
    lines += ["Equations:", *written(formulas(spec))]
    for function in spec.functions:
        lines += ["", f"{function.name}: {function.doc}"]
        lines += written(function_formulas(spec, function))
    lines += ["", "References:", *(f"    {reference}" for reference in spec.references)]
    return "\n".join(lines)


def _signatures(spec: Spec, analysis: Analysis) -> Iterator[str]:
    weights = "weights" if analysis.requires_weights else "weights=None"

    def keywords(read: Iterable[str]) -> str:
        names = {*read}
        found = [
            f", {x.name}{'=None' if x.when else ''}" for x in spec.arguments if x.name in names
        ]
        return f", *{''.join(found)}" if found else ""

    yield f"{spec.name}.init(weights, *,"
    for h in spec.hyperparameters:
        one = "each" if h.kind == "list" else h.name
        notes = [h.bounds.latex(one).replace(r"\le", "<=").replace(r"\ge", ">=")]
        notes += ["schedulable"] if h.schedulable else []
        notes += ["or None"] if h.optional else []
        notes += [" | ".join(h.choices)] if h.choices else []
        notes += ["or a function of path and leaf"] if h.is_label else []
        bounded = [note for note in notes if note != one]
        start = f"    {h.name}={h.default},"
        more = f" ({'; '.join(bounded)})" if bounded else ""
        yield f"{start:32}# {h.doc}{more}"
    yield "    slot_dtype=None,"
    yield "    stochastic_rounding=False)"
    arguments = keywords(analysis.arguments)
    yield f"{spec.name}.step(gradients, state, {weights}{arguments})"
    yield f"{spec.name}.apply_gradients(gradients, state, weights{arguments})"
    for function in spec.functions:
        yield f"{spec.name}.{function.name}(state, weights{keywords(names_in(function.leaf.body))})"
    yield f"{spec.class_name}(...) has the same functions as methods"
    if arrays := which_floats(spec, analysis.decisive):
        yield arrays


def _memory(spec: Spec) -> list[str]:
    """Return how much memory the state takes, and for what."""
    always = [s.name for s in spec.slots if s.when is None and s.shape is None]
    parts: list[str] = []
    if always:
        parts.append(f"{_counted(len(always))} for each weight: {', '.join(always)}")
    for slot in spec.slots:
        if slot.name not in always:
            size = entries(slot) or "1 number for each weight"
            size = f"{slot.each} numbers for each weight" if slot.each else size
            when = f" if {slot.when.text.strip()}" if slot.when else ""
            parts.append(f"{size}{when}: {slot.name}")
    numbers = [scalar.name for scalar in spec.scalars]
    if numbers:
        parts.append(f"{len(numbers)} scalar{'s' * (len(numbers) > 1)}: {', '.join(numbers)}")
    return parts or ["none"]


def _in_eight_bits(spec: Spec, analysis: Analysis) -> Iterator[str]:
    """Yield which slots can be held in eight bits, and why the others cannot."""
    reasons = analysis.not_int8
    held = [slot.name for slot in spec.slots if slot.name not in reasons]
    yield f"    {', '.join(held) or 'no slot, so it is refused'}"
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, why in reasons.items() if why == reason]
        yield f"    not {', '.join(names)}: {reason}"


def _counted(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"
