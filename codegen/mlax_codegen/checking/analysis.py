"""All checks of a spec's equations, and what the generated code needs to know of them."""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mlax_codegen.checking.branches import Branches
from mlax_codegen.checking.complexness import check_complexness
from mlax_codegen.checking.decisive import decisive
from mlax_codegen.checking.defaults import check_defaults
from mlax_codegen.checking.eight_bits import nonnegative, not_int8
from mlax_codegen.checking.flow import Flow
from mlax_codegen.checking.inlining import inlined
from mlax_codegen.checking.liveness import check_use
from mlax_codegen.checking.mending import mended
from mlax_codegen.checking.options import Configuration, condition_of
from mlax_codegen.checking.plans import LeafPlan, plans_of_functions, plans_of_phases
from mlax_codegen.checking.retention import retained, scales, squares
from mlax_codegen.checking.starts import check_starts, starts
from mlax_codegen.checking.symbols import check_symbols
from mlax_codegen.checking.trial.trial import facts_of, try_out
from mlax_codegen.language import HELD_AS, STEP_NUMBER, TOTAL_COUNT, Type, called
from mlax_codegen.reading.mistakes import suggestion
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import calls_in, names_in, parts_of

__all__ = ["Analysis", "analyse"]

_LASTING = {"copy", "gradient", "normal"}  # what slots may keep as they began


@dataclass(frozen=True)
class Analysis:
    """What the generator knows of a spec beyond its text.

    Attributes:
        reads_weights: Whether an equation of a step reads the weights.
        weights_when: The static condition under which it does; None if always (or never).
        step_number: Whether a step needs `t`.
        total_count: Whether it needs the number of all weights.
        arguments: Those of [arguments] that a step takes; functions may take others.
        phases: The leaf functions of a step.
        functions: The leaf functions of [functions].
        sees_leaves: Whether an equation of a step sees a leaf as a whole: its shape, its norm. If
            none does, weights packed into one array take the same step, except for rounding in
            totals and for random numbers.
        leaves_when: The static condition under which it does; None if always (or never).
        retained: The parts that a step may keep of each slot that changes little by little.
        scales: The first value of the scalar that is multiplied into a slot.
        squares: Slots that hold squares.
        nonnegative: Slots in which no number is ever negative.
        not_int8: For each slot that cannot be held in eight bits, the reason.
        per_leaf: Slots whose `when` depends on the shape or a label of a leaf.
        several: Slots that hold an array for each axis.
        shapes: The type of each name in [shapes].
        called: Functions that are called anywhere.
        decisive: Floats that an `if`, a `when`, a shape or a static argument reads. They cannot be
            arrays.
        held_as: How generated functions call the hyperparameters.
        intervals: The numbers of steps between two computations of what is not computed in every step.
    """

    reads_weights: bool
    weights_when: str | None
    step_number: bool
    total_count: bool
    arguments: frozenset[str]
    phases: tuple[LeafPlan, ...]
    functions: tuple[LeafPlan, ...]
    sees_leaves: bool
    leaves_when: str | None
    retained: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, str]
    squares: frozenset[str]
    nonnegative: frozenset[str]
    not_int8: Mapping[str, str]
    per_leaf: frozenset[str]
    several: frozenset[str]
    shapes: Mapping[str, Type]
    called: frozenset[str]
    decisive: frozenset[str]
    held_as: str
    intervals: tuple[str, ...]

    @property
    def requires_weights(self) -> bool:
        """Whether a step always reads the weights."""
        return self.reads_weights and self.weights_when is None


def analyse(spec: Spec) -> Analysis:
    """Check the meaning of a spec's equations.

    Raises:
        SpecError: With every mistake that was found.
    """
    document = spec.document
    written, spec = spec, inlined(spec)
    # Each check relies on those before it: a branch can be walked only if its names are known, and
    # values can be tried only if their types are right. So each leaves out what has a mistake.
    flow = Flow(spec)
    flow.check()
    _check_names(written, flow)
    check_use(spec)
    check_symbols(written)
    spec = mended(spec)
    check_starts(spec)
    facts = facts_of(spec, {name: kind.type for name, kind in flow.names.shapes.items()})
    branches = Branches(spec, facts)
    branches.walk()
    spec = mended(spec)
    try_out(spec, facts)
    spec = mended(spec)
    check_defaults(spec)
    check_complexness(spec)
    document.stop_on_mistakes()
    return _conclude(written, spec, flow, branches)


def _check_names(spec: Spec, flow: Flow) -> None:
    """Check that every declared name is read, and assigned if it has to be."""
    document = spec.document
    found = flow.names
    known = {*found.computed, *found.locals, *found.handed} - {*found.scalars, *found.slots}
    others = document.mentioned | document.broken
    declared = {one.name for one in [*spec.hyperparameters, *spec.arguments, *spec.state]}
    for name in spec.symbols:
        if name not in {*known, *spec.shapes, *others}:
            hint = suggestion(name, known) or "; assign it, or remove it from [symbols]"
            hint = "; give it a `symbol` where it is declared" if name in declared else hint
            message = f"no equation assigns {name!r}{hint}"
            document.at_key(("symbols", name), message)
    codes = [*spec.blocks, *(each.leaf for each in spec.functions)]
    codes += [each.code for each in spec.definitions]
    used = {*names_in([statement for code in codes for statement in code.body])}
    for each in spec.definitions:
        if each.name not in used | others and document.definitions.get(each.name):
            message = f"no equation calls {each.name!r}; use it or remove it"
            document.at_key(("define", each.name), message, consequence=document.unclear)
    changing = {slot.name for slot in spec.slots if slot.init.word not in _LASTING}
    changing |= {scalar.name for scalar in spec.scalars if not scalar.is_key}
    tables: Mapping[str, Iterable[str]] = {
        "hyperparameters": found.hyperparameters,
        "arguments": found.arguments,
        "shapes": spec.shapes,
        "scalars": found.scalars,
        "slots": found.slots,
    }
    for table, names in tables.items():
        for name in {*names} - others:
            if name in changing - flow.written:
                message = f"no equation assigns {name!r}; assign it, or remove it from [{table}]"
            elif name not in flow.read:
                message = f"no equation reads {name!r}; use it or remove it"
            else:
                continue
            place = ("labels", name) if ("labels", name) in document.places else (table, name)
            document.at_key(place, message, consequence=document.unclear)


def _conclude(written: Spec, spec: Spec, flow: Flow, branches: Branches) -> Analysis:
    in_step: list[ast.AST] = [statement for code in spec.blocks for statement in code.body]
    first = [start for phase in spec.phases for start in starts(spec, phase).values()]
    in_step += [statement for code in first for statement in code.body]
    functions = [function.leaf for function in spec.functions]
    everywhere: list[ast.AST] = [
        *in_step,
        *(statement for code in functions for statement in code.body),
        *(code.expression for code in spec.shapes.values()),
        *(s.shape.expression for s in spec.slots if s.shape),
    ]
    of_lists = {node for code in [*spec.blocks, *functions] for node in code.of_lists}
    own = {part.id for node in everywhere for part in parts_of(node) if isinstance(part, ast.Name)}
    own |= {parameter for each in spec.definitions for parameter in each.parameters}
    own |= {one.name for table in (spec.hyperparameters, spec.slots, spec.scalars) for one in table}
    parts = [part for node in in_step for part in parts_of(node)]
    rare = [ast.unparse(p.every.expression) for p in spec.phases if p.every]
    rare += [
        ast.unparse(x.args[0]) for x in parts if isinstance(x, ast.Call) and called(x) == "every"
    ]
    per_leaf = {
        slot.name
        for slot in spec.slots
        if slot.when is not None and branches.of_leaves & {*names_in([slot.when.expression])}
    }
    options = {h.name for h in spec.hyperparameters} - branches.of_leaves

    def when(chosen: Collection[Configuration]) -> str | None:
        """Return the options that lead to these; None if all do, or none."""
        some, possible = (
            {each.about(options) for each in among} for among in (chosen, branches.possible)
        )
        return condition_of(some, possible) if chosen else None

    return Analysis(
        reads_weights=bool(branches.weights),
        weights_when=when(branches.weights),
        step_number=STEP_NUMBER in names_in(in_step),
        total_count=TOTAL_COUNT in names_in(in_step),
        arguments=frozenset({*flow.names.arguments} & {*names_in(in_step)}),
        phases=plans_of_phases(written, flow),
        functions=plans_of_functions(written, flow),
        sees_leaves=bool(branches.leaves),
        leaves_when=when(branches.leaves),
        retained=retained(spec),
        scales=scales(spec),
        squares=squares(spec),
        nonnegative=nonnegative(spec),
        not_int8={slot.name: why for slot in spec.slots if (why := not_int8(spec, slot))},
        per_leaf=frozenset(per_leaf),
        several=frozenset(s for s, t in flow.names.slot_types.items() if t is Type.ARRAYS),
        shapes={name: kind.type for name, kind in flow.names.shapes.items()},
        called=frozenset(calls_in(everywhere, but=of_lists)),
        decisive=decisive(spec),
        held_as=HELD_AS if HELD_AS not in own else "hyperparameters",
        intervals=tuple(dict.fromkeys(rare)),
    )
