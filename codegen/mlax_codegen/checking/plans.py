"""What each leaf function is given and gives back: its parameters and results in generated code."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.checking.flow import Flow
from mlax_codegen.checking.starts import with_starts
from mlax_codegen.language import (
    CYCLE,
    FUNCTIONS,
    RESULT,
    STEP,
    STEP_NUMBER,
    TOTAL_COUNT,
    UPDATE,
    WEIGHT,
)
from mlax_codegen.reading.equations import BlockCode, ExpressionCode
from mlax_codegen.reading.spec import Phase, Spec
from mlax_codegen.reading.trees import assignments_in, names_in

__all__ = ["LeafPlan", "Rare", "plans_of_functions", "plans_of_phases"]


@dataclass(frozen=True)
class Rare:
    """A function of one leaf that is called at some steps only: its plan, and at which steps."""

    plan: "LeafPlan"
    every: ExpressionCode
    first: ExpressionCode | None


@dataclass(frozen=True)
class LeafPlan:
    """The signature of a function of one leaf.

    Attributes:
        name: The name of the generated function, without its underscore.
        parts: Its equations, and plans of functions that it calls at some steps only.
        moves: Whether it reads or assigns `update`.
        weights: Whether it is given the weights.
        trees: Arguments of the step that it is given, an array each.
        inputs: Slots that it only reads.
        slots: Slots that it gives back.
        scalars: What it reads that is computed once a step, in order.
        totals: What it gives back to be summed over all leaves.
    """

    name: str
    parts: tuple["BlockCode | Rare", ...]
    moves: bool
    weights: bool
    trees: tuple[str, ...]
    inputs: tuple[str, ...]
    slots: tuple[str, ...]
    scalars: tuple[str, ...]
    totals: tuple[str, ...]


def plans_of_phases(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each phase."""
    totals = dict(zip((phase.name for phase in spec.phases), flow.totals, strict=True))
    return tuple(_plan_of_group(spec, flow, group, totals) for group in spec.groups)


def _plan_of_group(
    spec: Spec, flow: Flow, group: Sequence[Phase], totals: Mapping[str, Sequence[str]]
) -> LeafPlan:
    always = [phase for phase in group if phase.every is None]
    parts: list[BlockCode | Rare] = []
    for phase in group:
        parts += with_starts(spec, phase)
        if phase.every:
            plan = _plan(spec, flow, phase.name, [phase.leaf], ())
            parts[-1] = Rare(plan, phase.every, phase.first)
    return _plan(spec, flow, always[-1].name, parts, totals[group[-1].name])


def plans_of_functions(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each function in [functions]."""
    return tuple(
        _plan(spec, flow, f.name, [f.leaf], [RESULT] if f.is_number else ()) for f in spec.functions
    )


def _plan(
    spec: Spec, flow: Flow, name: str, parts: Sequence[BlockCode | Rare], totals: Collection[str]
) -> LeafPlan:
    codes = [
        code for part in parts for code in (part.plan.parts if isinstance(part, Rare) else [part])
    ]
    body = [x for code in codes if isinstance(code, BlockCode) for x in code.body]
    read = set(names_in(body))
    read |= {FUNCTIONS[called].count for called in read & set(FUNCTIONS)} - {""}
    read |= {CYCLE} if any(isinstance(part, Rare) for part in parts) else set()
    written = {assigned for assigned, _ in assignments_in(body)}
    slots = [slot.name for slot in spec.slots]
    schedulable = [h.name for h in spec.hyperparameters if h.schedulable]
    scalars = [
        *schedulable,
        STEP,
        CYCLE,
        STEP_NUMBER,
        TOTAL_COUNT,
        *(argument.name for argument in spec.arguments if not argument.is_tree),
        *(scalar.name for scalar in spec.scalars),
        *(name for name in flow.names.computed if name not in flow.names.scalars),
    ]
    return LeafPlan(
        name,
        tuple(parts),
        UPDATE in read | written,
        WEIGHT in read,
        tuple(a.name for a in spec.arguments if a.is_tree and a.name in read),
        tuple(slot for slot in slots if slot in read - written),
        tuple(slot for slot in slots if slot in written),
        tuple(scalar for scalar in scalars if scalar in read),
        tuple(totals),
    )
