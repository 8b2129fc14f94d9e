"""What the equations of a spec mean: which names they read and when, and what follows for the generated code."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlax_codegen.errors import suggestion
from mlax_codegen.expressions import Code
from mlax_codegen.flow import Block, Flow
from mlax_codegen.hyperparameters import Hyperparameter
from mlax_codegen.language import FUNCTIONS, STEP_NUMBER, WEIGHT
from mlax_codegen.spec import Spec
from mlax_codegen.worlds import World, condition_of, holds, possible_worlds, tests_in

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True)
class Analysis:
    """What the generator knows of a spec.

    Attributes:
        reads_weights: Whether some equation reads the weights.
        weights_when: Under which static condition; None where always (or never).
        step_number: Whether `t` is needed.
        leaf_scalars: What the leaf equations read that is computed once a step, in order.
        elementwise: Whether each element of the update depends on that element of the trees alone.
        decays: For each slot that is an exponential mean, the static hyperparameter it decays by.
        functions: Functions that the equations call.
    """

    reads_weights: bool
    weights_when: str | None
    step_number: bool
    leaf_scalars: tuple[str, ...]
    elementwise: bool
    decays: Mapping[str, str]
    functions: frozenset[str]


def analyse(spec: Spec) -> Analysis:
    """Check the meaning of a spec's equations.

    Raises:
        SpecError: With every mistake that was found.
    """
    document = spec.document
    flow = Flow(spec)
    for slot in spec.slots:
        if slot.when is not None:
            flow.static(slot.when)
    for requirement in spec.requirements:
        flow.static(requirement.test)
    for phase in spec.phases:
        if phase.scalars is not None:
            flow.block(phase.scalars, Block.SCALARS)
        flow.block(phase.leaf, Block.LEAF)
        _check_unused_scalars(flow, phase.scalars)
    for name in spec.symbols:
        if name not in {*flow.scalars, *flow.locals}:
            known = {*flow.scalars, *flow.locals}
            message = f"no equation assigns {name!r}{suggestion(name, known)}"
            document.at_key(("symbols", name), message)
    for hyperparameter in spec.hyperparameters:
        if hyperparameter.name not in flow.read:
            path = ("hyperparameters", hyperparameter.name)
            document.at_key(path, f"no equation reads {hyperparameter.name!r}")
    for slot in spec.slots:
        path = ("slots", slot.name)
        if slot.name not in flow.written:
            document.at_key(path, f"no equation assigns {slot.name!r}")
        elif slot.name not in flow.read:
            document.at_key(path, f"no equation reads {slot.name!r}")
    document.stop_on_mistakes()
    weights = _Reading(spec).walk()
    document.stop_on_mistakes()
    return _conclude(spec, flow, weights)


def _check_unused_scalars(flow: Flow, code: Code | None) -> None:
    for name in flow.scalars:
        if name not in flow.read and code is not None:
            first = next(
                part
                for statement in code.body
                for part in ast.walk(statement)
                if isinstance(part, ast.Assign) and _target(part) == name
            )
            code.note(first, f"{name!r} is assigned and never read")


def _target(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return ""


@dataclass
class _Reading:
    """Walks the equations once in each world, where every `if` is decided.

    A slot is checked where the requirements hold, None in every world: a type checker, which reads the generated
    code too, knows nothing of requirements.
    """

    spec: Spec
    weights: set[World] = field(default_factory=set[World])
    blamed: set[str] = field(default_factory=set[str])  # names that a mistake was noted of

    def __post_init__(self) -> None:
        self.hyperparameters: Mapping[str, Hyperparameter] = {
            h.name: h for h in self.spec.hyperparameters
        }
        self.slots = {slot.name: slot for slot in self.spec.slots}

    def walk(self) -> tuple[set[World], list[World]]:
        """Return the worlds in which the weights are read, and all that the requirements leave."""
        spec = self.spec
        blocks = [code for phase in spec.phases for code in (phase.scalars, phase.leaf) if code]
        conditions = [
            code.expression
            for code in [*(s.when for s in spec.slots), *(r.test for r in spec.requirements)]
            if code is not None and code.expression is not None
        ]
        tests = [*tests_in(s for code in blocks for s in code.body), *conditions]
        choices = {h.name: h.choices for h in spec.hyperparameters if h.kind == "choice"}
        worlds = possible_worlds(tests, choices)
        if worlds is None:
            spec.document.note(0, 1, "too many options that exclude nothing; split the spec")
            return set(), []
        possible: list[World] = []
        for world in worlds:
            self.world = world
            self.possible = all(
                holds(r.test.expression, world)
                for r in spec.requirements
                if r.test.expression is not None
            )
            if self.possible:
                possible.append(world)
            for code in blocks:
                self.code = code
                self.statements(code.body)
        return self.weights & set(possible), possible

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.If):
                self.expression(statement.test)
                chosen = holds(statement.test, self.world)
                self.statements(statement.body if chosen else statement.orelse)
            elif isinstance(statement, ast.Assign):
                self.expression(statement.value)
                self.kept(statement.targets[0], _target(statement))

    def expression(self, node: ast.expr) -> None:
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
                return
            case ast.Name(id=name):
                self.name(node, name)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.expression(test)
                self.expression(body if holds(test, self.world) else otherwise)
            case ast.BoolOp(op=op, values=values):
                for value in values:
                    self.expression(value)
                    if holds(value, self.world) is isinstance(op, ast.Or):
                        return
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child)

    def name(self, node: ast.expr, name: str) -> None:
        if name == WEIGHT:
            self.weights.add(self.world)
        self.kept(node, name)
        found = self.hyperparameters.get(name)
        if found is None or not found.optional or name in self.blamed:
            return
        if self.is_none(name):
            self.blamed.add(name)
            self.code.note(node, f"{name!r} may be None here; ask `{name} is not None` first")

    def is_none(self, name: str) -> bool:
        answers = dict(self.world.answers)
        return answers.get(f"{name} is None", "None") == "None"

    def kept(self, node: ast.expr, name: str) -> None:
        """Check that a slot is kept where it is read or assigned."""
        slot = self.slots.get(name)
        if slot is None or slot.when is None or slot.when.expression is None:
            return
        if not self.possible or name in self.blamed:
            return
        if not holds(slot.when.expression, self.world):
            message = (
                f"{name!r} is kept only when {slot.when.text.strip()}, which may not hold here"
            )
            self.code.note(node, message)
            self.blamed.add(name)


def _conclude(spec: Spec, flow: Flow, weights: tuple[set[World], list[World]]) -> Analysis:
    read, possible = weights
    leaf = [statement for phase in spec.phases for statement in phase.leaf.body]
    scalars = [s for phase in spec.phases if phase.scalars for s in phase.scalars.body]
    in_leaf, in_scalars = set(_names(leaf)), set(_names(scalars))
    schedulable = [h.name for h in spec.hyperparameters if h.schedulable]
    functions = in_leaf & set(FUNCTIONS) | in_scalars & set(FUNCTIONS)
    return Analysis(
        reads_weights=bool(read),
        weights_when=condition_of(read, possible) if read else None,
        step_number=STEP_NUMBER in in_leaf | in_scalars,
        leaf_scalars=tuple(
            name for name in [*schedulable, STEP_NUMBER, *flow.scalars] if name in in_leaf
        ),
        elementwise=all(FUNCTIONS[name].elementwise for name in in_leaf & set(FUNCTIONS)),
        decays=dict(_decays(spec, leaf)),
        functions=frozenset(functions),
    )


def _names(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        for part in ast.walk(statement):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                yield part.id


def _decays(spec: Spec, leaf: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the slots that every equation assigns as `b * slot + ...`, with their `b`."""
    fixed = {
        h.name
        for h in spec.hyperparameters
        if h.kind == "float" and not (h.schedulable or h.optional)
    }
    for slot in spec.slots:
        found: set[str | None] = set()
        for statement in leaf:
            for part in ast.walk(statement):
                if isinstance(part, ast.Assign) and _target(part) == slot.name:
                    found.add(_decay(part.value, slot.name, fixed))
        if len(found) == 1 and (decay := found.pop()) is not None:
            yield slot.name, decay


def _decay(node: ast.expr, slot: str, fixed: set[str]) -> str | None:
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _decay(left, slot, fixed) or _decay(right, slot, fixed)
        case ast.BinOp(left=ast.Name(id=first), op=ast.Mult(), right=ast.Name(id=second)):
            if second == slot and first in fixed:
                return first
            return second if first == slot and second in fixed else None
        case _:
            return None
