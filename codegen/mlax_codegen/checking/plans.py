"""What each leaf function is given and gives back: its parameters and results in generated code."""

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlax_codegen.checking.flow import Flow
from mlax_codegen.checking.starts import with_starts
from mlax_codegen.language import (
    CYCLE,
    FUNCTIONS,
    GRADIENT,
    RESULT,
    STEP,
    STEP_NUMBER,
    TOTAL_COUNT,
    UPDATE,
    WEIGHT,
)
from mlax_codegen.reading.equations import BlockCode, ExpressionCode, ValueCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, names_in

__all__ = ["LeafPlan", "Rare", "plans_of_functions", "plans_of_phases"]


@dataclass(frozen=True)
class Rare:
    """A function of one leaf that some steps, or some leaves, are without.

    Attributes:
        plan: Its plan.
        every: The number of steps between two calls; None if it is called in each.
        first: The first of these steps; None for step 1.
        unless: The condition under which its results are not used.
    """

    plan: "LeafPlan"
    every: ExpressionCode | None
    first: ExpressionCode | None
    unless: ValueCode | None


@dataclass(frozen=True)
class LeafPlan:
    """The signature of a function of one leaf.

    Attributes:
        name: The name of the generated function, without its underscore.
        parts: Its equations, and functions that it calls for a part of them.
        moves: Whether it reads or assigns `update`.
        reads_update: Whether it reads it.
        weights: Whether it is given the weights.
        trees: Arguments of the step that it is given, an array each.
        handed: What earlier phases hand on to it, an array each.
        inputs: Slots that it only reads.
        slots: Slots that it gives back.
        scalars: What it reads that is computed once a step, in order.
        totals: What it gives back to be summed over all leaves.
        hands_on: What it gives back for later phases, an array for each leaf.
    """

    name: str
    parts: tuple["BlockCode | Rare", ...]
    moves: bool
    reads_update: bool
    weights: bool
    trees: tuple[str, ...]
    handed: tuple[str, ...]
    inputs: tuple[str, ...]
    slots: tuple[str, ...]
    scalars: tuple[str, ...]
    totals: tuple[str, ...]
    hands_on: tuple[str, ...]


def plans_of_phases(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each group of phases."""
    plans: list[LeafPlan] = []  # from the last: a group hands on what those after it read
    before = spec.groups
    while before:
        group = before.pop()
        handed = [name for others in before for phase in others for name in phase.hands_on]
        known, parts = [*handed], list[BlockCode | Rare]()
        for phase in group:
            parts += with_starts(spec, phase)
            if phase.is_partial:
                name = phase.name if phase.every else f"new_{phase.name}"
                given = [each for each in known if each != GRADIENT]
                plan = _plan(spec, flow, name, [phase.leaf], handed=given)
                parts[-1] = Rare(plan, phase.every, phase.first, phase.unless)
            known += phase.hands_on
        moving = [phase for phase in group if phase is spec.moving]
        named = [*moving, *(phase for phase in reversed(group) if not phase.every)][0]
        later = {name for plan in plans for name in plan.handed}
        hands_on = [name for name in dict.fromkeys(known[len(handed) :]) if name in later]
        totals = flow.totals[group[-1].name]
        plans.insert(0, _plan(spec, flow, named.name, parts, totals, handed, hands_on))
    return tuple(plans)


def plans_of_functions(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each function in [functions]."""
    return tuple(
        _plan(spec, flow, f.name, [f.leaf], [RESULT] if f.is_number else ()) for f in spec.functions
    )


def _plan(
    spec: Spec,
    flow: Flow,
    name: str,
    parts: Sequence[BlockCode | Rare],
    totals: Collection[str] = (),
    handed: Sequence[str] = (),
    hands_on: Sequence[str] = (),
) -> LeafPlan:
    body: list[ast.stmt] = []
    for part in parts:
        inner = [*part.plan.parts, part.unless] if isinstance(part, Rare) else [part]
        body += [x for code in inner if isinstance(code, BlockCode) for x in code.body]
    read = set(names_in(body))
    read |= {FUNCTIONS[called].count for called in read & set(FUNCTIONS)} - {""}
    read |= {CYCLE} if any(isinstance(part, Rare) and part.every for part in parts) else set()
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
        UPDATE in read,
        WEIGHT in read,
        tuple(a.name for a in spec.arguments if a.is_tree and a.name in read),
        tuple(name for name in dict.fromkeys(handed) if name in read),
        tuple(slot for slot in slots if slot in read - written),
        tuple(slot for slot in slots if slot in written),
        tuple(scalar for scalar in scalars if scalar in read),
        tuple(totals),
        tuple(hands_on),
    )
