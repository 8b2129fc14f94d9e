"""The equations as a reader wants them: with all options at their defaults, and then what each option changes.

Some options together give other equations than their changes made one after the other. These are listed after them.

An option is a hyperparameter that an `if` asks about: a flag, a choice, or a number that may be None. Its value decides
the `if`, so that what is left are equations one below the other. What depends on the shape of a leaf stays a condition.
"""

import ast
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from mlax_codegen.formulas.changes import (
    GIVEN,
    Change,
    Formulas,
    Value,
    difference,
    in_doubt,
    together,
)
from mlax_codegen.formulas.conditions import negation
from mlax_codegen.formulas.equations import NEW_WEIGHT, Equation, Equations
from mlax_codegen.formulas.parts import made
from mlax_codegen.formulas.symbols import default_symbol
from mlax_codegen.language import GRADIENT, RESULT, SKIP, UPDATE, WEIGHT
from mlax_codegen.reading.declarations import NamedFunction
from mlax_codegen.reading.equations import ExpressionCode
from mlax_codegen.reading.spec import Phase, Spec
from mlax_codegen.reading.trees import names_in, parts_of, target_of

__all__ = ["formulas", "function_formulas"]

Settings = Mapping[str, Value]

_TOGETHER = 3  # how many options are tried together


def formulas(spec: Spec) -> Formulas:
    """Return the equations of a step."""
    begins = tuple(Equations(spec).begins())
    return replace(_Options(spec, spec.phases, None).formulas(), begins=begins)


def function_formulas(spec: Spec, function: NamedFunction) -> Formulas:
    """Return the equations of a function, after a step: the slots and weights are those of time t."""
    return _Options(spec, (Phase(function.name, None, function.leaf),), function).formulas()


class _Options:
    """Writes the equations of a step, or of a function, for any values of the options."""

    def __init__(self, spec: Spec, phases: Sequence[Phase], function: NamedFunction | None) -> None:
        self.spec = spec
        self.phases = phases
        self.function = function
        self.constant = Equations(spec).constant
        self.defaults: dict[str, Value] = {
            h.name: _default(h.default) for h in spec.hyperparameters
        }
        self.others: list[tuple[str, Value]] = [*self._others()]
        self.written: dict[frozenset[tuple[str, Value]], tuple[Equation, ...]] = {}

    def formulas(self) -> Formulas:
        changes = map(self.change, self.others)
        found = Formulas(self.lines({}), tuple(c for c in changes if c is not None))
        for count in range(2, _TOGETHER + 1):
            for settings in combinations(self.others, count):
                given = dict(settings)
                if len(given) == count and self.allowed(given):
                    more = self.combination(found, given)
                    found = replace(found, changes=(*found.changes, *more))
        return found

    def combination(self, found: Formulas, given: Settings) -> Iterator[Change]:
        """Yield what some options change together, unless the changes of fewer add up to it in any order."""
        after = self.lines(given)
        told = [change for change in found.changes if given.items() >= {*change.settings}]
        outputs = self.outputs(after)
        both = (together(found.lines, order) for order in (told, told[::-1]))
        expected = [*dict.fromkeys(line for lines in both for line in _read(lines, outputs))]
        doubtful = in_doubt(told, after)
        if doubtful or {*expected} != {*after}:
            known = [line for line in after if line in expected and line not in doubtful]
            gone = [line for line in expected if line not in after]
            yield difference(given.items(), [*gone, *known], after)

    def outputs(self, lines: Iterable[Equation]) -> set[str]:
        """Return the names of what equations are for."""
        kept = {slot.name for slot in self.spec.slots} | {x.name for x in self.spec.scalars}
        kept |= {NEW_WEIGHT, RESULT, SKIP, *self.spec.shapes}
        kept |= {each.name for each in self.spec.definitions}
        return kept & {line.name for line in lines}

    def _others(self) -> Iterator[tuple[str, Value]]:
        """Yield each value that an option may have beside its default."""
        asked = set(_asked(self.spec, self.phases))
        for h in self.spec.hyperparameters:
            if h.name not in asked:
                continue
            if h.kind == "flag":
                yield h.name, h.default != "True"
            elif h.kind == "choice":
                yield from ((h.name, c) for c in h.choices if c != self.defaults[h.name])
            elif h.optional:
                yield h.name, GIVEN if h.default == "None" else None

    def change(self, option: tuple[str, Value]) -> Change | None:
        """Return what one option changes, together with as few others as it takes to change anything."""
        others = [other for other in self.others if other[0] != option[0]]
        for count in range(3):
            for context in combinations(others, count):
                given = dict(context)
                if len(given) < count or not self.allowed({**given, option[0]: option[1]}):
                    continue
                before, after = self.lines(given), self.lines({**given, option[0]: option[1]})
                if before != after:
                    return difference([*context, option], before, after)
        return None

    def allowed(self, given: Settings) -> bool:
        settings = {**self.defaults, **given}
        tests = [requirement.test.expression for requirement in self.spec.requirements]
        return all(_decided(test, settings) is not False for test in tests)

    def lines(self, given: Settings) -> tuple[Equation, ...]:
        key = frozenset(given.items())
        if key not in self.written:
            self.written[key] = tuple(self._lines({**self.defaults, **given}))
        return self.written[key]

    def _lines(self, settings: Settings) -> Iterator[Equation]:
        shapes: dict[str, ExpressionCode] = {}
        for name, code in self.spec.shapes.items():
            expression = _resolved_expression(code.expression, settings)
            if isinstance(expression, ast.Constant) and isinstance(expression.value, bool):
                settings = {**settings, name: expression.value}
            else:
                shapes[name] = replace(code, expression=expression)
        phases = [_resolved_phase(phase, settings) for phase in self.phases]
        kept = {x.name for x in self.spec.state} | {SKIP}
        live = {RESULT, *self.function.changes} if self.function else {*kept, UPDATE}
        for phase in reversed(phases):
            for block in filter(None, (phase.leaf, phase.skip, phase.scalars)):
                block.body[:] = _needed(block.body, live, kept)
        _begin_once(self.spec, phases)
        definitions = {
            x.name: replace(x.code, expression=_resolved_expression(x.code.expression, settings))
            for x in self.spec.definitions
        }
        live |= {*names_in(slot.shape.expression for slot in self.spec.slots if slot.shape)}
        for name, named in reversed([*shapes.items(), *definitions.items()]):
            live |= {*names_in([named.expression])} if name in live else set()
        spec = replace(
            self.spec,
            phases=tuple(phases),
            definitions=tuple(
                replace(x, code=definitions[x.name])
                for x in self.spec.definitions
                if x.name in live
            ),
            shapes={} if self.function else {x: y for x, y in shapes.items() if x in live},
        )
        equations = Equations(spec, self.constant)
        if self.function:
            equations.current |= {*equations.slots, WEIGHT}
            if self.function.is_number:
                equations.result = made(default_symbol(self.function.name))
        yield from equations.placed()


def _resolved_phase(phase: Phase, settings: Settings) -> Phase:
    """Return a phase in which options decide nothing any more.

    Its equations stand under the conditions that say at which steps, and for which leaves, it is computed.
    """
    body: list[ast.stmt] = phase.leaf.body
    if phase.unless is not None:
        body = [ast.If(negation(phase.unless.expression), body, [])]
    if phase.every is not None:
        first = phase.first.expression if phase.first else ast.Constant(1)
        test = ast.Call(ast.Name("at_steps", ast.Load()), [phase.every.expression, first], [])
        body = [ast.If(test, body, [])]
    scalars, skip = phase.scalars, phase.skip
    return Phase(
        phase.name,
        scalars and replace(scalars, body=_resolved(scalars.body, settings)),
        replace(phase.leaf, body=_resolved(body, settings)),
        skip=skip and replace(skip, body=_resolved(skip.body, settings)),
    )


def _begin_once(spec: Spec, phases: Sequence[Phase]) -> None:
    """Delete how a later phase changes the gradient if the first phase has begun in the same way."""
    fixed = {GRADIENT, WEIGHT, *(h.name for h in spec.hyperparameters)}
    first = [x for x in phases[0].leaf.body if target_of(x) == GRADIENT]
    begun = [ast.dump(x) for x in first]
    for phase in phases[1:] if fixed >= {*names_in(first)} else ():
        body: list[ast.stmt] = phase.leaf.body
        changing = [x for x in body if target_of(x) == GRADIENT]
        if [ast.dump(x) for x in changing] == begun:
            body[:] = [x for x in body if x not in changing]


def _read(lines: Sequence[Equation], outputs: Iterable[str]) -> list[Equation]:
    """Return the equations that outputs depend on."""
    live = {*outputs}
    before = 0
    while before < len(live):
        before = len(live)
        live |= {name for line in lines if line.name in live for name in line.reads}
    return [line for line in lines if line.name in live]


def _default(text: str) -> Value:
    value: Value = ast.literal_eval(text)
    return value


def _asked(spec: Spec, phases: Iterable[Phase]) -> Iterator[str]:
    """Yield the names that the tests of some equations read."""
    codes = [code for phase in phases for code in phase.blocks]
    values = [shape.expression for shape in spec.shapes.values()]
    values += [each.code.expression for each in spec.definitions]
    for node in [*values, *(statement for code in codes for statement in code.body)]:
        parts = [part for part in parts_of(node) if isinstance(part, ast.If | ast.IfExp)]
        yield from names_in(part.test for part in parts)
    yield from names_in(x for x in values if isinstance(x, ast.Compare | ast.BoolOp))


def _resolved(body: Iterable[ast.stmt], settings: Settings) -> list[ast.stmt]:
    """Return equations in which options decide nothing any more."""
    found: list[ast.stmt] = []
    for statement in body:
        match statement:
            case ast.If(test=test, body=then, orelse=otherwise):
                decided = _decided(test, settings)
                if isinstance(decided, bool):
                    found += _resolved(then if decided else otherwise, settings)
                else:
                    branches = _resolved(then, settings), _resolved(otherwise, settings)
                    found.append(ast.If(decided, *branches))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                new = _chosen(value, settings)
                if not (isinstance(new, ast.Name) and new.id == name):
                    found.append(ast.Assign([ast.Name(name, ast.Store())], new))
            case _:
                pass
    return found


def _resolved_expression(node: ast.expr, settings: Settings) -> ast.expr:
    """Return what a name stands for; true or false if options decide it."""
    decided = _decided(node, settings)
    return ast.Constant(decided) if isinstance(decided, bool) else _chosen(decided, settings)


def _chosen(node: ast.expr, settings: Settings) -> ast.expr:
    """Return a value in which options choose nothing any more."""
    if not any(isinstance(part, ast.IfExp) for part in parts_of(node)):
        return node
    resolved: ast.expr = _Resolver(settings).visit(node)
    return resolved


class _Resolver(ast.NodeTransformer):
    """Takes the branch of each conditional expression that the options choose, in a copy of the tree."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def generic_visit(self, node: ast.AST) -> ast.AST:
        new = copy.copy(node)
        for name, value in ast.iter_fields(node):
            setattr(new, name, copy.copy(value))
        return super().generic_visit(new)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        decided = _decided(node.test, self.settings)
        if isinstance(decided, bool):
            chosen: ast.expr = self.visit(node.body if decided else node.orelse)
            return chosen
        return ast.IfExp(decided, self.visit(node.body), self.visit(node.orelse))


def _decided(test: ast.expr, settings: Settings) -> bool | ast.expr:
    """Return whether a test holds, or what is left of it where options alone do not decide."""
    match test:
        case ast.Name(id=name) if isinstance(value := settings.get(name), bool):
            return value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _decided(operand, settings)
            return not inner if isinstance(inner, bool) else negation(inner)
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)
            left = [_decided(value, settings) for value in values]
            if decides in left:
                return decides
            parts = [part for part in left if not isinstance(part, bool)]
            if not parts:
                return not decides
            return parts[0] if len(parts) == 1 else ast.BoolOp(op, parts)
        case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot() as op]):
            return (settings[name] is None) is isinstance(op, ast.Is)
        case ast.Compare(
            left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str() as choice)]
        ):
            return (settings[name] == choice) is isinstance(op, ast.Eq)
        case _:
            return test


def _needed(body: Sequence[ast.stmt], live: set[str], kept: set[str]) -> list[ast.stmt]:
    """Return the equations that anything depends on, and change `live` to the names that are read before them."""
    found: list[ast.stmt] = []
    for statement in reversed(body):
        match statement:
            case ast.If(test=test, body=then, orelse=otherwise):
                before = set(live)
                branches = _needed(then, live, kept), _needed(otherwise, before, kept)
                live |= before
                if any(branches):
                    live |= set(names_in([test]))
                    found.append(ast.If(test, *branches))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if name in live or name in kept:
                    live.discard(name)
                    live |= set(names_in([value]))
                    found.append(statement)
            case _:
                pass
    return found[::-1]
