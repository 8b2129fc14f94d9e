"""Find what the equations read under each combination of options."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlax_codegen.checking.logic import MOST, Facts, configurations_of
from mlax_codegen.checking.options import Configuration, holds, tests_in
from mlax_codegen.language import COUNT, NDIM, SHAPE, WEIGHT, sees_leaf
from mlax_codegen.reading.declarations import Argument, Slot
from mlax_codegen.reading.equations import BlockCode, Code, ExpressionCode
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in, parts_of, target_of

__all__ = ["Branches"]


@dataclass
class Branches:
    """Walks the equations once in each configuration, which decides every `if`.

    Slots and keys are checked only in configurations that meet the requirements. None is checked in
    all of them: type checkers read the generated code too, and know nothing of requirements.

    Attributes:
        weights: Configurations that read the weights.
        leaves: Configurations that see a leaf as a whole: its shape, its norm.
        blamed: Names and expressions that are already reported.
        configuration: The one that is walked.
        possible: Whether it meets the requirements.
        code: The equations that are walked.
    """

    spec: Spec
    facts: Facts
    weights: set[Configuration] = field(default_factory=set[Configuration])
    leaves: set[Configuration] = field(default_factory=set[Configuration])
    blamed: set[str | ast.expr] = field(default_factory=set[str | ast.expr])
    configuration: Configuration = field(init=False)
    possible: bool = field(init=False)
    code: Code = field(init=False)

    def __post_init__(self) -> None:
        """Index what the spec declares."""
        self.hyperparameters: Mapping[str, Hyperparameter] = {
            h.name: h for h in self.spec.hyperparameters
        }
        self.arguments: frozenset[str] = frozenset(a.name for a in self.spec.arguments)
        declared: list[Slot | Argument] = [*self.spec.slots, *self.spec.arguments]
        self.conditions: Mapping[str, ExpressionCode] = {x.name: x.when for x in declared if x.when}
        self.keys: frozenset[str] = frozenset(s.name for s in self.spec.scalars if s.is_key)
        self.parts: dict[ast.expr, list[ast.expr]] = {}  # of each expression that was walked
        self.drawn: dict[str, ast.expr] = {}  # where this configuration first reads each key
        self.of_shape: frozenset[str] = frozenset({SHAPE, NDIM, COUNT, *self.spec.shapes})
        labels = (h.name for h in self.spec.hyperparameters if h.is_label)
        self.of_leaves: frozenset[str] = self.of_shape | {*labels}
        self.of_leaf: bool = False  # whether leaf equations of a step are walked
        self.of_arrays: bool = False  # whether this is a part of `and` or `or` of arrays

    def walk(self) -> list[Configuration]:
        """Find `weights` and `leaves`; return all configurations that meet the requirements."""
        spec = self.spec
        functions = [function.leaf for function in spec.functions]
        shapes = [*spec.shapes.values(), *(slot.shape for slot in spec.slots if slot.shape)]
        shapes += [slot.keeps for slot in spec.slots if slot.keeps]
        shapes += [code for phase in spec.phases for code in (phase.every, phase.first) if code]
        conditions = [
            code.expression
            for code in [*self.conditions.values(), *(r.test for r in spec.requirements)]
        ]
        begins = [x.init.code for x in spec.state if x.init.code]
        expressions = [code.expression for code in [*shapes, *begins]]
        conditions += [
            part for e in expressions for part in parts_of(e) if isinstance(part, ast.BoolOp)
        ]
        statements = [statement for code in [*spec.blocks, *functions] for statement in code.body]
        tests = [*tests_in([*statements, *expressions]), *conditions]
        configurations = configurations_of(tests, self.facts)
        if configurations is None:
            spec.document.note(0, 1, f"more than {MOST:,} combinations of options; split the spec")
            return []
        possible: list[Configuration] = []
        for configuration in configurations:
            self.configuration = configuration
            self.possible = all(holds(r.test.expression, configuration) for r in spec.requirements)
            if self.possible:
                possible.append(configuration)
            self.drawn = {}
            for code in spec.blocks:
                self.of_leaf = any(code in (x.leaf, x.unless) for x in spec.phases)
                self.block(code)
            self.of_leaf = False
            weights = set(self.weights)
            for code in functions:
                self.block(code)
            for shape in [*shapes, *self.begins()]:
                self.code = shape
                self.expression(shape.expression)
            self.weights = weights
        self.weights &= set(possible)
        self.leaves &= set(possible)
        return possible

    def begins(self) -> Iterator[ExpressionCode]:
        """Yield what computes the first values of what the configuration keeps."""
        for each in self.spec.state:
            when = self.conditions.get(each.name)
            options = when and not self.of_leaves & {*names_in([when.expression])}
            kept = not (when and options) or holds(when.expression, self.configuration)
            if each.init.code and kept:
                yield each.init.code

    def block(self, code: BlockCode) -> None:
        self.code = code
        self.statements(code.body)

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.If):
                self.expression(statement.test)
                chosen = holds(statement.test, self.configuration)
                self.statements(statement.body if chosen else statement.orelse)
            elif isinstance(statement, ast.Assign):
                self.expression(statement.value)
                self.kept(statement.targets[0], target_of(statement))

    def expression(self, node: ast.expr) -> None:
        if self.of_leaf and sees_leaf(node) and node not in self.code.of_lists:
            self.leaves.add(self.configuration)
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
                return
            case ast.Name(id=name):
                self.name(node, name)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.expression(test)
                self.expression(body if holds(test, self.configuration) else otherwise)
            case ast.BoolOp(op=op, values=values) if node not in self.code.of_arrays:
                for value in values:
                    self.expression(value)
                    if holds(value, self.configuration) is isinstance(op, ast.Or):
                        return
            case ast.ListComp(elt=element, generators=[generator]):
                self.expression(generator.iter)
                self.expression(element)
                self.expression(element)  # once for each axis: a key in it would be read again
            case _:
                before = self.of_arrays
                self.of_arrays = before or node in self.code.of_arrays
                if node not in self.parts:
                    children = ast.iter_child_nodes(node)
                    self.parts[node] = [x for x in children if isinstance(x, ast.expr)]
                for child in self.parts[node]:
                    self.expression(child)
                self.of_arrays = before

    def name(self, node: ast.expr, name: str) -> None:
        if name == WEIGHT:
            self.weights.add(self.configuration)
        if self.of_leaf and name in self.of_shape:
            self.leaves.add(self.configuration)
        self.kept(node, name)
        if name in self.keys and self.possible:
            if name in self.drawn and node not in self.blamed:
                self.blamed.add(node)
                self.code.note(node, _same_noise(name, in_a_list=self.drawn[name] is node))
            self.drawn.setdefault(name, node)
        found = self.hyperparameters.get(name)
        if found is None or not found.optional or name in self.blamed:
            return
        if self.is_none(name):
            self.blamed.add(name)
            cure = f"test `{name} is not None` first"
            if self.of_arrays:
                cure = f"of arrays, all parts are computed: write `a if {name} is not None else b`"
            self.code.note(node, f"{name!r} may be None here; {cure}")

    def is_none(self, name: str) -> bool:
        answers = dict(self.configuration.answers)
        return answers.get(f"{name} is None", "None") == "None"

    def kept(self, node: ast.expr, name: str) -> None:
        """Check that a slot exists where it is read or assigned, and an argument where it is read."""
        when = self.conditions.get(name)
        if when is None or not self.possible or name in self.blamed:
            return
        if not holds(when.expression, self.configuration):
            is_there = "is given" if name in self.arguments else "is kept"
            message = f"{name!r} {is_there} only if {self.in_words(when)}; test that first"
            self.code.note(node, message)
            self.blamed.add(name)

    def in_words(self, condition: ExpressionCode) -> str:
        """Return a condition as it stands after "only if"."""
        text = f"`{condition.text.strip()}`"
        match condition.expression:
            case ast.Name(id=name) if name in self.of_shape and not self.is_boolean(name):
                return f"{text} is not empty"
            case ast.Name():
                return f"{text} is true"
            case _:
                return text

    def is_boolean(self, name: str) -> bool:
        """Whether a name of [shapes] is a condition; it is a tuple otherwise."""
        definition = self.spec.shapes.get(name)
        conditions = ast.Compare | ast.BoolOp | ast.UnaryOp
        return definition is not None and isinstance(definition.expression, conditions)


def _same_noise(key: str, *, in_a_list: bool) -> str:
    """Return the complaint about a random key that is read again."""
    if in_a_list:
        message = f"{key!r} is read once for each axis and gives the same noise each time"
        return f"{message}; assign it before the list, as in `noise = normal({key}, g)`"
    message = f"{key!r} is read twice and gives the same noise both times"
    return f"{message}; assign it once (`noise = normal({key}, g)`) or declare a second key"
