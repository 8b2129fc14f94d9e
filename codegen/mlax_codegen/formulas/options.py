"""The equations as a reader wants them: with all options at their defaults, and then what each option changes.

An option is a hyperparameter that an `if` asks about: a flag, a choice, or a number that may be None. Its value decides
the `if`, so that what is left are equations one below the other. What depends on the shape of a leaf stays a condition.
"""

import ast
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from mlax_codegen.formulas.conditions import negation, setting
from mlax_codegen.formulas.latex import Equations
from mlax_codegen.language import UPDATE, WEIGHT
from mlax_codegen.reading.declarations import NamedFunction
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.spec import Phase, Spec

__all__ = ["Change", "Edit", "Formulas", "Line", "formulas", "function_formulas"]

Value = str | bool | float | None
Settings = Mapping[str, Value]

_GIVEN = "given"  # the value of a hyperparameter that is a number and not None


@dataclass(frozen=True)
class Line:
    """One equation.

    Attributes:
        conditions: What the leaf has to be like, in LaTeX, from the outermost to the innermost `if`.
        formula: LaTeX, with & before its sign.
        otherwise: For each condition whether it is the opposite of the one that the lines before stand under.
    """

    conditions: tuple[str, ...]
    formula: str
    otherwise: tuple[bool, ...] = field(default=(), compare=False)

    @property
    def left(self) -> str:
        """What the equation defines."""
        return self.formula.partition("&")[0].strip()

    @property
    def is_assigned_again(self) -> bool:
        """Whether the equation changes what another one has defined."""
        return r"&\leftarrow" in self.formula


@dataclass(frozen=True)
class Edit:
    """Equations that are other ones, or new, in one place.

    Attributes:
        lines: The equations.
        before: LaTeX of what the next equation defines, where their place matters; else "".
    """

    lines: tuple[Line, ...]
    before: str


@dataclass(frozen=True)
class Change:
    """What some options change.

    Attributes:
        options: In words: `nesterov is True`.
        edits: The equations that are other ones, or new.
        left_out: Equations that are not there.
    """

    options: tuple[str, ...]
    edits: tuple[Edit, ...]
    left_out: tuple[Line, ...]


@dataclass(frozen=True)
class Formulas:
    """The equations at the default options, and what other options change."""

    lines: tuple[Line, ...]
    changes: tuple[Change, ...]


def formulas(spec: Spec) -> Formulas:
    """Return the equations of a step."""
    return _Options(spec, spec.phases, None).formulas()


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
        self.written: dict[frozenset[tuple[str, Value]], tuple[Line, ...]] = {}

    def formulas(self) -> Formulas:
        changes = map(self.change, self.others())
        return Formulas(self.lines({}), tuple(change for change in changes if change is not None))

    def others(self) -> Iterator[tuple[str, Value]]:
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
                yield h.name, _GIVEN if h.default == "None" else None

    def change(self, option: tuple[str, Value]) -> Change | None:
        """Return what one option changes, together with as few others as it takes to change anything."""
        others = [other for other in self.others() if other[0] != option[0]]
        for count in range(3):
            for context in combinations(others, count):
                given = dict(context)
                if len(given) < count or not self.allowed({**given, option[0]: option[1]}):
                    continue
                before, after = self.lines(given), self.lines({**given, option[0]: option[1]})
                if before != after:
                    return _difference([*context, option], before, after)
        return None

    def allowed(self, given: Settings) -> bool:
        settings = {**self.defaults, **given}
        tests = [requirement.test.expression for requirement in self.spec.requirements]
        return all(_decided(test, settings) is not False for test in tests)

    def lines(self, given: Settings) -> tuple[Line, ...]:
        key = frozenset(given.items())
        if key not in self.written:
            self.written[key] = tuple(self._lines({**self.defaults, **given}))
        return self.written[key]

    def _lines(self, settings: Settings) -> Iterator[Line]:
        blocks = [code for phase in self.phases for code in (phase.scalars, phase.leaf) if code]
        resolved = [_resolved(code.body, settings) for code in blocks]
        shapes = {
            name: replace(code, expression=_resolved_expression(code.expression, settings))
            for name, code in self.spec.shapes.items()
        }
        kept = {slot.name for slot in self.spec.slots}
        kept |= {scalar.name for scalar in self.spec.scalars}
        live = {"result"} if self.function else {*kept, UPDATE}
        for i, body in reversed([*enumerate(resolved)]):
            resolved[i] = _needed(body, live, kept)
        for name, code in reversed([*shapes.items()]):
            if name in live:
                live |= _names(code.expression)
            else:
                del shapes[name]
        bodies: dict[int, list[ast.stmt]] = {
            id(code): body for code, body in zip(blocks, resolved, strict=True)
        }

        def with_body(code: BlockCode) -> BlockCode:
            return replace(code, body=bodies[id(code)])

        spec = replace(
            self.spec,
            phases=tuple(
                Phase(p.name, with_body(p.scalars) if p.scalars else None, with_body(p.leaf))
                for p in self.phases
            ),
            shapes={} if self.function else shapes,
        )
        equations = Equations(spec, self.constant)
        if self.function:
            equations.current |= {*equations.slots, WEIGHT}
        before: tuple[ast.expr, ...] = ()
        otherwise: tuple[bool, ...] = ()
        for conditions, formula in equations.placed():
            if conditions != before:
                otherwise = tuple(
                    depth < len(before) and ast.dump(negation(before[depth])) == ast.dump(test)
                    for depth, test in enumerate(conditions)
                )
                before = conditions
            words = [equations.condition(test) for test in conditions]
            yield Line(tuple(words), formula, otherwise)


def _difference(
    options: Iterable[tuple[str, Value]], before: Sequence[Line], after: Sequence[Line]
) -> Change:
    edits: list[Edit] = []
    deleted: list[Line] = []
    defined_before = {line.left for line in before}
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        lines = tuple(after[j:j_end])
        if kind == "delete":
            deleted += before[i:i_end]
        elif kind != "equal":
            again = any(line.is_assigned_again or line.left in defined_before for line in lines)
            placed = kind == "insert" and again and j_end < len(after)
            edits.append(Edit(lines, _next(after[j_end:]) if placed else ""))
    shown = {line.left for edit in edits for line in edit.lines}
    defined_after = {line.left for line in after}
    # What nothing reads any more has gone without a word, if anything else is said.
    left_out = [
        x for x in deleted if x.left not in shown and (x.left in defined_after or not edits)
    ]
    return Change(tuple(_written(*option) for option in options), tuple(edits), tuple(left_out))


def _next(lines: Sequence[Line]) -> str:
    """Return what the first of some equations defines; `each` if others define it too."""
    left = lines[0].left
    again = any(line.left == left and not line.is_assigned_again for line in lines[1:])
    return rf"\text{{each }} {left}" if again else left


def _written(name: str, value: Value) -> str:
    return setting(name, value, given=value == _GIVEN)


def _default(text: str) -> Value:
    value: Value = ast.literal_eval(text)
    return value


def _asked(spec: Spec, phases: Iterable[Phase]) -> Iterator[str]:
    """Yield the names that some equations read."""
    for phase in phases:
        for code in (phase.scalars, phase.leaf):
            for statement in code.body if code else []:
                yield from _names(statement)
    for shape in spec.shapes.values():
        yield from _names(shape.expression)


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


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
                new = _Resolver(settings).visit(_copy(value))
                if not (isinstance(new, ast.Name) and new.id == name):
                    found.append(ast.Assign([ast.Name(name, ast.Store())], new))
            case _:
                pass
    return found


def _resolved_expression(node: ast.expr, settings: Settings) -> ast.expr:
    """Return a value of [shapes] in which options decide nothing any more."""
    decided = _decided(node, settings) if isinstance(node, ast.BoolOp) else node
    if isinstance(decided, bool):
        return ast.Constant(decided)
    resolved: ast.expr = _Resolver(settings).visit(_copy(decided))
    return resolved


class _Resolver(ast.NodeTransformer):
    """Takes the branch of each conditional expression that the options choose."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

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
                    live |= _names(test)
                    found.append(ast.If(test, *branches))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if name in live or name in kept:
                    live.discard(name)
                    live |= _names(value)
                    found.append(statement)
            case _:
                pass
    return found[::-1]
