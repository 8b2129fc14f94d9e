"""What each leaf function is given and gives back: its parameters and results in generated code."""

from collections.abc import Collection
from dataclasses import dataclass

from mlax_codegen.checking.flow import Flow
from mlax_codegen.language import CYCLE, FUNCTIONS, STEP, STEP_NUMBER, TOTAL_COUNT, WEIGHT
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, names_in

__all__ = ["LeafPlan", "plans_of_functions", "plans_of_phases"]


@dataclass(frozen=True)
class LeafPlan:
    """The signature of a function of one leaf.

    Attributes:
        name: The name of the generated function, without its underscore.
        code: Its equations.
        weights: Whether it is given the weights.
        trees: Arguments of the step that it is given, an array each.
        inputs: Slots that it only reads.
        slots: Slots that it gives back.
        scalars: What it reads that is computed once a step, in order.
        totals: What it gives back to be summed over all leaves.
    """

    name: str
    code: BlockCode
    weights: bool
    trees: tuple[str, ...]
    inputs: tuple[str, ...]
    slots: tuple[str, ...]
    scalars: tuple[str, ...]
    totals: tuple[str, ...]


def plans_of_phases(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each phase."""
    return tuple(
        _plan(spec, flow, phase.name, phase.leaf, totals)
        for phase, totals in zip(spec.phases, flow.totals, strict=True)
    )


def plans_of_functions(spec: Spec, flow: Flow) -> tuple[LeafPlan, ...]:
    """Return the plan of each function in [functions]."""
    return tuple(_plan(spec, flow, f.name, f.leaf, ()) for f in spec.functions)


def _plan(spec: Spec, flow: Flow, name: str, code: BlockCode, totals: Collection[str]) -> LeafPlan:
    read = set(names_in(code.body))
    read |= {FUNCTIONS[called].count for called in read & set(FUNCTIONS)} - {""}
    written = {assigned for assigned, _ in assignments_in(code.body)}
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
        code,
        WEIGHT in read,
        tuple(a.name for a in spec.arguments if a.is_tree and a.name in read),
        tuple(slot for slot in slots if slot in read - written),
        tuple(slot for slot in slots if slot in written),
        tuple(scalar for scalar in scalars if scalar in read),
        tuple(totals),
    )
