"""What each leaf function is given and gives back: its parameters and results in generated code."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
from mlax_codegen.reading.spec import Phase, Spec
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
    hands_on: tuple[str, ...] = ()


def plans_of_phases(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each phase."""
    totals = dict(zip((phase.name for phase in spec.phases), flow.totals, strict=True))
    plans: list[LeafPlan] = []
    handed: list[str] = []
    for group in spec.groups:
        plans.append(_plan_of_group(spec, flow, group, totals, handed))
        handed += [name for phase in group for name in phase.hands_on]
    return tuple(
        replace(plan, hands_on=tuple(_handed_on(group, plans[number + 1 :])))
        for number, (plan, group) in enumerate(zip(plans, spec.groups, strict=True))
    )


def _handed_on(group: Sequence[Phase], later: Sequence[LeafPlan]) -> Iterator[str]:
    """Yield what a group hands on to later ones that read it."""
    for name in dict.fromkeys(name for phase in group for name in phase.hands_on):
        if any(name in plan.handed for plan in later):
            yield name


def _plan_of_group(
    spec: Spec,
    flow: Flow,
    group: Sequence[Phase],
    totals: Mapping[str, Sequence[str]],
    handed: Sequence[str],
) -> LeafPlan:
    known = [*handed]
    always = [phase for phase in group if phase.every is None]
    parts: list[BlockCode | Rare] = []
    for phase in group:
        parts += with_starts(spec, phase)
        if phase.is_partial:
            name = phase.name if phase.every else f"new_{phase.name}"
            plan = _plan(spec, flow, name, [phase.leaf], (), [x for x in known if x != GRADIENT])
            parts[-1] = Rare(plan, phase.every, phase.first, phase.unless)
        known += phase.hands_on
    named = spec.moving if spec.moving in group else always[-1]
    return _plan(spec, flow, named.name, parts, totals[group[-1].name], handed)


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
    totals: Collection[str],
    handed: Sequence[str] = (),
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
    )
