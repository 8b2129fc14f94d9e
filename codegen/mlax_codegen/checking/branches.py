"""Find what the equations read under each combination of options."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlax_codegen.checking.logic import MOST, Facts, configurations_of
from mlax_codegen.checking.options import Configuration, holds, tests_in
from mlax_codegen.language import COUNT, NDIM, SHAPE, WEIGHT, sees_leaf
from mlax_codegen.reading.declarations import Argument, Slot
from mlax_codegen.reading.equations import Code, ExpressionCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in, parts_of

__all__ = ["Branches"]

_Places = frozenset[Configuration]


@dataclass
class Branches:
    """Walks the equations, and knows at each place which configurations lead there.

    Slots and keys are checked only in configurations that meet the requirements. None is checked in
    all of them: type checkers read the generated code too, and know nothing of requirements.

    Attributes:
        possible: The configurations that meet the requirements.
        weights: Those of them that read the weights.
        leaves: Those of them that see a leaf as a whole: its shape, its norm.
    """

    spec: Spec
    facts: Facts
    possible: _Places = frozenset()
    weights: _Places = frozenset()
    leaves: _Places = frozenset()

    def __post_init__(self) -> None:
        """Index what the spec declares."""
        spec = self.spec
        self.optional: set[str] = {h.name for h in spec.hyperparameters if h.optional}
        declared: list[Slot | Argument] = [*spec.slots, *spec.arguments]
        self.conditions: Mapping[str, ExpressionCode] = {x.name: x.when for x in declared if x.when}
        self.of_shape: set[str] = {SHAPE, NDIM, COUNT, *spec.shapes}
        labels = {h.name for h in spec.hyperparameters if h.is_label}
        self.of_leaves: set[str] = self.of_shape | labels
        self.drawn: dict[str, _Places] = {s.name: frozenset() for s in spec.scalars if s.is_key}
        self.passed: set[ast.expr] = set()  # where the walk has read a key
        self.blamed: set[str | ast.expr] = set()  # what is already reported
        self.everywhere: _Places = frozenset()
        self.answered: dict[ast.expr, _Places] = {}
        self.code: Code = spec.phases[0].leaf  # the equations that are walked
        self.of_leaf: bool = False  # whether those are leaf equations of a step

    def walk(self) -> None:
        """Find `possible`, `weights` and `leaves`."""
        spec = self.spec
        shapes = [*spec.shapes.values(), *(slot.shape for slot in spec.slots if slot.shape)]
        shapes += [slot.keeps for slot in spec.slots if slot.keeps]
        shapes += [code for phase in spec.phases for code in (phase.every, phase.first) if code]
        begins = {x.name: x.init.code for x in spec.state if x.init.code}
        requirements = [requirement.test.expression for requirement in spec.requirements]
        functions = [function.leaf for function in spec.functions]
        expressions = [code.expression for code in [*shapes, *begins.values()]]
        tests = [code.expression for code in self.conditions.values()] + requirements
        tests += [part for e in expressions for part in parts_of(e) if isinstance(part, ast.BoolOp)]
        statements = [statement for code in [*spec.blocks, *functions] for statement in code.body]
        found = configurations_of([*tests_in([*statements, *expressions]), *tests], self.facts)
        if found is None:
            spec.document.note(0, 1, f"more than {MOST:,} combinations of options; split the spec")
            return
        self.everywhere = self.possible = frozenset(found)
        for requirement in requirements:
            self.possible &= self.where(requirement)
        for phase in spec.phases:
            for self.code in phase.blocks:
                self.of_leaf = self.code in (phase.leaf, phase.unless)
                self.statements(self.code.body, self.everywhere)
        self.of_leaf = False
        for self.code in functions:
            self.statements(self.code.body, self.everywhere)
        for self.code in shapes:
            self.expression(self.code.expression, self.everywhere)
        for name, self.code in begins.items():
            when = self.conditions.get(name)
            by_option = when is not None and not self.of_leaves & {*names_in([when.expression])}
            kept = self.where(when.expression) if when and by_option else self.everywhere
            self.expression(self.code.expression, kept)
        self.weights &= self.possible
        self.leaves &= self.possible

    def where(self, test: ast.expr) -> _Places:
        """Return the configurations in which a static test holds."""
        if test in self.answered:
            return self.answered[test]
        match test:
            case ast.BoolOp(op=op, values=values):
                parts = [self.where(value) for value in values]
                is_and = isinstance(op, ast.And)
                found = parts[0].intersection(*parts) if is_and else parts[0].union(*parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found = self.everywhere - self.where(operand)
            case _:
                found = frozenset(each for each in self.everywhere if holds(test, each))
        self.answered[test] = found
        return found

    def statements(self, body: Sequence[ast.stmt], here: _Places) -> None:
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    self.expression(test, here)
                    self.statements(then, here & self.where(test))
                    self.statements(otherwise, here - self.where(test))
                case ast.Assign(targets=[ast.Name(id=name) as target], value=value):
                    self.expression(value, here)
                    self.kept(target, name, here)
                case _:
                    pass

    def expression(self, node: ast.expr, here: _Places) -> None:
        if self.of_leaf and sees_leaf(node) and node not in self.code.of_lists:
            self.leaves |= here
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
                return
            case ast.Name(id=name):
                self.name(node, name, here)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.expression(test, here)
                self.expression(body, here & self.where(test))
                self.expression(otherwise, here - self.where(test))
            case ast.BoolOp(op=op, values=values) if node not in self.code.of_arrays:
                for value in values:
                    self.expression(value, here)
                    holding = self.where(value)
                    here = here & holding if isinstance(op, ast.And) else here - holding
            case ast.ListComp(elt=element, generators=[generator]):
                self.expression(generator.iter, here)
                self.expression(element, here)
                self.expression(element, here)  # once for each axis: a key in it is read again
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child, here)

    def name(self, node: ast.expr, name: str, here: _Places) -> None:
        if name == WEIGHT and self.of_leaf:
            self.weights |= here
        if name in self.of_shape and self.of_leaf:
            self.leaves |= here
        self.kept(node, name, here)
        if name in self.drawn and node not in self.blamed:
            if self.drawn[name] & here & self.possible:
                self.blamed.add(node)
                self.code.note(node, _same_noise(name, in_a_list=node in self.passed))
            self.drawn[name] |= here
            self.passed.add(node)
        option = f"{name} is None"
        if name not in self.optional or name in self.blamed:
            return
        if any(each.by_option.get(option, "None") == "None" for each in here):
            self.blamed.add(name)
            cure = f"test `{name} is not None` first"
            if any(node in parts_of(each) for each in self.code.of_arrays):
                cure = f"of arrays, all parts are computed: write `a if {name} is not None else b`"
            self.code.note(node, f"{name!r} may be None here; {cure}")

    def kept(self, node: ast.expr, name: str, here: _Places) -> None:
        """Check that a slot exists where it is read or assigned, and an argument where it is read."""
        when = self.conditions.get(name)
        if when is None or name in self.blamed:
            return
        if here & self.possible - self.where(when.expression):
            is_there = "is given" if name in {a.name for a in self.spec.arguments} else "is kept"
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
