"""Checks equations line by line: names and types, and that a name is assigned before it is read."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlax_codegen.checking.names import UNKNOWN, Block, Names, Stage, StagedType
from mlax_codegen.checking.types import TypeChecker, cure_of
from mlax_codegen.language import FUNCTIONS, GRADIENT, RESULT, SKIP, TOTALS, UPDATE, Type
from mlax_codegen.reading.declarations import NamedFunction
from mlax_codegen.reading.equations import BlockCode, Code, ValueCode, is_hole
from mlax_codegen.reading.habits import for_assignment
from mlax_codegen.reading.mistakes import closest, suggestion
from mlax_codegen.reading.spec import Phase, Spec
from mlax_codegen.reading.trees import assignments_in, loops_of, names_in, parts_of

__all__ = ["Flow"]

_SHAPES = {Type.SIZES, Type.SHAPES, Type.UNKNOWN}


@dataclass
class Flow:
    """Checks one block after another, and remembers what later ones may use.

    Attributes:
        read: Names that some expression reads.
        written: Slots and scalars of the state that some equation assigns.
        totals: The names that each phase sums.
    """

    spec: Spec
    read: set[str] = field(default_factory=set[str])
    written: set[str] = field(default_factory=set[str])
    totals: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        """Begin with what the spec declares."""
        self.names: Names = Names(self.spec)

    def check(self) -> None:
        """Check all blocks of the spec."""
        self.shapes()
        self.slots()
        self.begins()
        for requirement in self.spec.requirements:  # what only these read has no effect on a step
            self.checker(requirement.test, Block.STATIC, set()).test(requirement.test.expression)
        for argument in self.spec.arguments:
            if argument.when is not None:
                self.checker(argument.when, Block.STATIC).test(argument.when.expression)
        for group in self.spec.groups:
            for number, phase in enumerate(group):
                self.phase(phase, group[:number], group[number + 1 :])
        for function in self.spec.functions:
            self.function(function)
        self.ends()

    def ends(self) -> None:
        """Check that steps are not skipped for ever: nothing changes in between but gradients and arguments."""
        changing = {GRADIENT, *self.names.arguments, *self.names.broken}
        for code in self.spec.blocks:
            for name, value in assignments_in(code.body):
                if changing & {*names_in([value])}:
                    changing.add(name)
                elif name == SKIP:
                    message = "a step that is skipped leaves all as it was, `t` too, so all others would be skipped"
                    cure = "let this depend on the gradients, or leave out a phase with `unless`"
                    code.note(value, f"{message}; {cure}")

    def checker(self, code: Code, block: Block, read: set[str] | None = None) -> TypeChecker:
        """Return what checks one expression; what it reads counts as read, unless `read` gathers that."""
        return TypeChecker(self.names, code, block, self.read if read is None else read)

    def shapes(self) -> None:
        """Check what is computed from the shape of a leaf."""
        for name, code in self.spec.shapes.items():
            kind = self.checker(code, Block.SHAPES).type_of(code.expression)
            if kind.type in {Type.ARRAYS, Type.SHAPES, Type.CHOICE}:
                code.note(
                    code.expression,
                    f"a value in [shapes] must be a number, a boolean or a tuple, not {kind.words}",
                )
            self.names.shapes[name] = kind

    def slots(self) -> None:
        """Check what slots declare, and count what they begin with as read."""
        for slot in self.spec.slots:
            if slot.when is not None:
                self.checker(slot.when, Block.SHAPES).test(slot.when.expression)
            if slot.shape is not None:
                checker = self.checker(slot.shape, Block.SHAPES)
                kind = checker.type_of(slot.shape.expression)
                if kind.type not in _SHAPES:
                    message = "a shape must be a tuple of integers or a list of shapes"
                    slot.shape.note(slot.shape.expression, f"{message}, not {kind.words}")
                    self.names.slot_types[slot.name] = Type.UNKNOWN
                if kind.type is Type.UNKNOWN or slot.name in self.spec.document.broken:
                    self.names.slot_types[slot.name] = Type.UNKNOWN
                elif kind.type is Type.SHAPES:
                    self.names.slot_types[slot.name] = Type.ARRAYS
            if slot.keeps is not None:
                # Not a read: what only this expression reads has no effect on a step.
                self.checker(slot.keeps, Block.STATIC, set()).number(slot.keeps.expression)

    def begins(self) -> None:
        """Check what the state begins with, and count it as read."""
        for each in self.spec.state:
            self.read.add(each.init.source)
            if (code := each.init.code) is not None:
                checker = self.checker(code, Block.STATIC)
                checker.static_number(code.expression, "what the state begins with")

    def phase(self, phase: Phase, before: Sequence[Phase], after: Sequence[Phase]) -> None:
        """Check the equations of one phase, which stands between others of its group."""
        for code in filter(None, (phase.every, phase.first)):
            checker = self.checker(code, Block.STATIC)
            checker.static_number(code.expression, "a number of steps")
        if phase.scalars is not None:
            self.before_scalars(phase.scalars, before)
            self.scalars(phase.scalars)
        last = phase is self.spec.moving
        for test, block in ((phase.skip, Block.SCALARS), (phase.unless, Block.LEAF)):
            if test is not None:
                self.condition(test, block)
        partly = "every" if phase.every else "unless" if phase.unless else ""
        walk = _Walk(self, phase.leaf, Block.LEAF, last=last, partly=partly)
        walk.statements(phase.leaf.body)
        if last and not phase.every:  # which is a mistake of that phase
            self.returned(walk, UPDATE)
        self.names.moved |= last
        totals = [name for name in walk.totals if name in walk.assigned]
        for name, statement in walk.totals.items():
            if name not in walk.assigned:
                phase.leaf.note(statement, f"{name!r} is not assigned in every branch")
                self.names.broken.add(name)
        partial = phase.is_partial or bool(after and after[0].is_partial)
        lost = TOTALS & {*names_in(phase.leaf.body)} or not phase.leaf.body
        alone = not (walk.totals or lost or partial or self.names.moved)
        if alone:
            message = "only the last phase may have no `total(...)`"
            cure = "add one, or merge this phase with the next"
            phase.leaf.document.at_key(phase.leaf.path, f"{message}; {cure}")
        changed = {GRADIENT} & {*walk.first} - {*phase.hands_on}
        if not alone and any(changed & {*names_in(code.body)} for x in after for code in x.blocks):
            message = "a later phase reads `g`, and it is not said whether as changed here"
            cure = 'add hands_on = ["g"], or give this another name'
            phase.leaf.note(walk.first[GRADIENT], f"{message}; {cure}")
        self.handed(phase, walk)
        self.totals[phase.name] = totals
        self.names.totals |= set(totals)
        self.names.computed |= dict.fromkeys(totals, StagedType(Stage.SCALAR, Type.NUMBER))
        self.names.locals |= set(walk.first) - {*totals, *self.names.handed}

    def handed(self, phase: Phase, walk: "_Walk") -> None:
        """Check what a phase hands on."""
        document, path = phase.leaf.document, phase.leaf.path[:-1]
        later = self.spec.phases[self.spec.phases.index(phase) + 1 :]
        for index, name in enumerate(phase.hands_on):
            read = name in names_in(
                [each for x in later for code in x.blocks for each in code.body]
            )
            kind = walk.assigned.get(name)
            wrong = None
            if phase.is_partial:
                wrong = f"{name!r} is not computed for all leaves in each step; make it a slot"
            elif name in self.names.slots or name in walk.totals or name == UPDATE:
                wrong = f"later phases know {name!r} without that; remove this"
            elif name in walk.first and kind is None:
                wrong = f"{name!r} is not assigned in every branch"
            elif kind is None:
                hint = suggestion(name, walk.first) or "; assign it, or remove this"
                wrong = f"no equation of this phase assigns {name!r}{hint}"
            elif kind.type not in {Type.NUMBER, Type.CONDITION, Type.UNKNOWN}:
                wrong = (
                    f"{name!r} is {kind.words}, and only an array can be handed on; make it a slot"
                )
            elif not read:
                wrong = f"no later phase reads {name!r}; remove this"
            if wrong is not None:
                document.at_value((*path, "hands_on", index), wrong)
            meant = name if kind else closest(name, walk.first) or name
            self.names.handed[meant] = StagedType(Stage.LEAF, kind.type if kind else Type.UNKNOWN)

    def before_scalars(self, code: BlockCode, before: Sequence[Phase]) -> None:
        """Check that phases of the same group, which are computed after these `scalars`, may stand before them."""
        read = {name for phase in before for name in names_in(phase.leaf.body)}
        changed = {name for name, _ in assignments_in(code.body)} & {*self.names.scalars}
        apart = bool(before) and not before[-1].is_partial  # which is a mistake of that phase
        if not apart and (any(not phase.is_partial for phase in before) or read & changed):
            message = (
                "no total stands between these `scalars` and the phase before; move them there"
            )
            code.document.at_key(code.path, message)

    def condition(self, code: ValueCode, block: Block) -> None:
        """Check a condition under which a leaf, or all, stays as it was."""
        checker = self.checker(code, block)
        kind = checker.type_of(code.expression)
        if kind.type is Type.FLAG:
            code.note(code.expression, "options alone decide this; test them with `if`")
        else:
            checker.condition(code.expression, kind)

    def scalars(self, code: BlockCode) -> None:
        """Check equations that are computed once per step."""
        walk = _Walk(self, code, Block.SCALARS)
        walk.statements(code.body)
        for name in walk.first:
            if name not in walk.assigned and name not in walk.visible:
                code.note(walk.first[name], f"{name!r} is not assigned in every branch")
        # What is computed once per step reaches the leaves as an array, so it is static no more.
        self.names.computed |= {
            name: StagedType(max(kind.stage, Stage.SCALAR), kind.type)
            for name, kind in walk.assigned.items()
        }

    def function(self, function: NamedFunction) -> None:
        """Check the equations of a function."""
        code = function.leaf
        self.names.function = function
        walk = _Walk(self, code, Block.FUNCTION)
        walk.statements(code.body)
        self.names.locals |= set(walk.first)
        if not function.changes:
            self.returned(walk, RESULT)
        for index, name in enumerate(function.changes):
            if name not in walk.first:
                path = ("functions", function.name, "changes", index)
                code.document.at_value(path, f"no equation of {function.name!r} assigns {name!r}")
        if function.is_number and RESULT in walk.first and RESULT not in walk.totals:
            message = "a number is a total over all leaves; write `result = total(...)` or similar"
            code.note(walk.first[RESULT], message)

    def returned(self, walk: "_Walk", result: str) -> None:
        """Check that leaf equations assign what they must."""
        document, path = walk.code.document, walk.code.path
        is_lost = not walk.later or result in document.mentioned
        if result not in walk.assigned and not (is_lost and document.has_mistakes(path)):
            partly = " in every branch" if result in walk.first else ""
            document.at_key(path, f"`{result}` is not assigned{partly}")


class _Walk(TypeChecker):
    """The check of one block, in the order in which it is computed."""

    assigned: dict[str, StagedType]

    def __init__(
        self, flow: Flow, code: BlockCode, block: Block, *, last: bool = False, partly: str = ""
    ) -> None:
        super().__init__(flow.names, code, block, flow.read)
        self.partly = partly  # the key of the phase that says when it is computed
        self.flow = flow
        self.last = last
        self.first: dict[str, ast.stmt] = {}
        self.types: dict[str, Type] = {}  # of each name, in the first branch that assigns it
        self.totals: dict[str, ast.stmt] = {}
        self.later: set[str] = {name for name, _ in assignments_in(code.body)}
        parts = [part for statement in code.body for part in parts_of(statement)]
        loops = [part for part in parts if isinstance(part, ast.comprehension)]
        # The variables of comprehensions: readers would confuse other names with them.
        self.of_loops: set[str] = {name for loop in loops for name, _ in loops_of(loop)}

    def name(self, node: ast.Name, name: str) -> StagedType:
        """Return the type of a name; a total has no value yet."""
        if name in self.totals and name not in self.blamed:
            self.blamed.add(name)
            return self.wrong(node, f"{name!r} is a total; only later phases can read it")
        return super().name(node, name)

    def unassigned(self, name: str) -> str | None:
        """Return why a name that this block assigns has no value here."""
        if name in self.first:
            return f"{name!r} may have no value here: not every branch above assigns it"
        if name in self.later and name not in self.names.scalars:
            table = "scalars" if self.block is Block.SCALARS else "slots"
            cure = for_assignment(name) or f"to keep it from step to step, declare it in [{table}]"
            return f"{name!r} is read before it is assigned; {cure}"
        return None

    def statements(self, body: list[ast.stmt]) -> None:
        """Check assignments and branches."""
        for statement in body:
            match statement:
                case ast.If():
                    self.branch(statement)
                case ast.Assign(targets=[ast.Name() as target]):
                    self.assignment(statement, target)
                case _:
                    pass

    def branch(self, statement: ast.If) -> None:
        """Check both branches; a name that both assign has a value afterwards."""
        self.test(statement.test)
        before = dict(self.assigned)
        self.statements(statement.body)
        after, self.assigned = self.assigned, before
        self.statements(statement.orelse)
        self.assigned = {
            name: StagedType(max(kind.stage, after[name].stage), kind.type)
            for name, kind in self.assigned.items()
            if name in after
        }

    def assignment(self, statement: ast.Assign, target: ast.Name) -> None:
        """Check an assignment, and remember the type of the name."""
        name = target.id
        mistakes = len(self.code.document.mistakes)
        match statement.value:
            case ast.Call(func=ast.Name(id=function), args=[part]) if function in TOTALS:
                [parameter] = FUNCTIONS[function].parameters
                self.argument(FUNCTIONS[function], parameter, part, static=False)
                wrong = self.cannot_sum(name)
                kind = StagedType(Stage.LEAF, Type.NUMBER)
                if wrong is None:
                    self.totals.setdefault(name, statement)
            case value:
                kind = self.type_of(value)
                last = self.last or self.names.moved
                wrong = self.names.cannot_assign(name, self.block, last=last)
                if self.partly == "every" and name == GRADIENT:
                    wrong = "g cannot be changed at some steps only; give this another name"
                wrong = wrong or self.misfit(name, kind, value)
        if wrong is None and name in self.of_loops - {*self.visible}:
            wrong = f"{name!r} is also the variable of a comprehension; choose another name"
        if name in self.names.slots or name in self.names.scalars:
            self.flow.written.add(name)
        if is_hole(statement.value):
            wrong = None  # which is recorded
        if wrong is not None:
            self.code.note(target, wrong)
            self.blamed.add(name)
            self.names.broken.add(name)
            return
        if len(self.code.document.mistakes) > mistakes:
            # One mistake, one message: the name has some value, and counts as read.
            kind = UNKNOWN
            self.read.add(name)
            self.names.broken.add(name)
        if kind is UNKNOWN and name in self.names.slots:
            kind = StagedType(Stage.LEAF, self.names.slot_types[name])
        self.assigned[name] = kind
        self.first.setdefault(name, statement)

    def cannot_sum(self, name: str) -> str | None:
        """Return why a name cannot be a total, or None."""
        if self.block is Block.FUNCTION and self.names.function is not None:
            is_number = self.names.function.is_number and name == RESULT
            cure = 'only `result` of a function with returns = "number" can be a total'
            return None if is_number else cure
        if self.block is not Block.LEAF:
            return "total can only be used in the `leaf` equations of a step"
        if self.partly:
            return f"a total is of all leaves, in each step; move it to a phase without `{self.partly}`"
        if self.last:
            return "this is the last phase, so nothing can read this total; move it to a [[step]] before"
        if name in self.first and name not in self.totals:
            return f"{name!r} is already assigned; give the total another name"
        if name in self.names.slots or name in {UPDATE, GRADIENT}:
            return f"{name!r} cannot be a total; give the total a name of its own"
        return self.names.cannot_assign(name, self.block, last=False)

    def misfit(self, name: str, kind: StagedType, value: ast.expr) -> str | None:
        """Return why a value cannot be assigned to a name, or None."""
        if name in self.totals:
            return f"{name!r} is a total in another branch; write total(...) here too"
        if kind.type is Type.UNKNOWN:
            return None
        if kind.type not in {Type.NUMBER, Type.ARRAYS, Type.CONDITION}:
            is_list = kind.type in {Type.SIZES, Type.SHAPES, Type.NUMBERS}
            what = "list" if is_list else "boolean or choice"
            return f"equations compute numbers; use the {what} itself where it is needed"
        wanted = self.names.slot_types.get(name) or self.types.setdefault(name, kind.type)
        if name in {UPDATE, RESULT, GRADIENT, *self.names.scalars}:
            wanted = Type.NUMBER
        if self.block is Block.SCALARS and wanted is Type.ARRAYS:
            wanted = Type.NUMBER
        if kind.type is wanted or wanted is Type.UNKNOWN:
            return None
        cure = cure_of(kind, value) if kind.type is Type.CONDITION else ""
        cure = "; give one of them another name" if wanted is Type.CONDITION else cure
        return f"{name!r} must be {wanted}, not {kind.words}{cure}"
