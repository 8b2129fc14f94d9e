"""What the formulas tell of each option adds up to the equations, for any options together.

The equations are computed with symbols: once as the spec has them, and once as a reader has them who makes the listed
changes. A symbol is the number of an expression whose names are replaced by their symbols.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from mlax_codegen.formulas.changes import GIVEN, Change, Formulas, Value
from mlax_codegen.formulas.equations import NEW_WEIGHT, Equation
from mlax_codegen.formulas.options import formulas, function_formulas
from mlax_codegen.formulas.parts import Formula, made
from mlax_codegen.language import GRADIENT, RESULT, SKIP, STEP_NUMBER, UPDATE, WEIGHT
from mlax_codegen.reading.spec import Phase, Spec, read_spec
from mlax_codegen.resources import built_in_specs

# Other Pythons compare what they write with what this one has written.
pytestmark = pytest.mark.one_python

SPECS = [*built_in_specs(), *sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))]
LEAVES = [(1, False), (2, True), (3, True)]  # number of axes, and whether there are axes to factor

Settings = Mapping[str, Value]


class Symbols:
    """Computes equations with symbols, for one leaf and one choice of options."""

    def __init__(self, spec: Spec, settings: Settings, ndim: int, *, axes: bool) -> None:
        self.spec = spec
        self.known: dict[str, str] = {}
        self.numbers: dict[str, str] = {}
        self.facts: dict[str, object] = {h.name: default(h.default) for h in spec.hyperparameters}
        self.facts |= {name: 0.5 if value == GIVEN else value for name, value in settings.items()}
        self.facts |= {"ndim": ndim, "max": max} | dict.fromkeys(spec.shapes, axes)
        self.rare = ndim > 1  # whether it is a step at which rare phases are computed
        self.facts["at_steps"] = lambda *_: self.rare
        self.facts["shape"] = (3,) * ndim
        # What the conditions of leaves read.
        self.facts |= {name: self.rare for phase in spec.phases for name in phase.hands_on}
        self.facts |= {each.name: lambda *_: self.rare for each in spec.definitions}
        names = [*(slot.name for slot in spec.slots), GRADIENT, WEIGHT, STEP_NUMBER]
        self.facts |= dict.fromkeys(names, 5.0 if self.rare else 1.0) | {"norm": float}

    def holds(self, test: ast.expr) -> bool:
        return bool(eval(ast.unparse(test), {}, self.facts))

    def assign(self, name: str, value: ast.expr) -> None:
        if name in self.spec.shapes:
            if not isinstance(value, ast.Call | ast.IfExp):
                self.facts[name] = self.holds(value)
            return
        symbols = self

        class Replaced(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.Name:
                return ast.Name(symbols.known.get(node.id, node.id))

            def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
                chosen: ast.expr = self.visit(
                    node.body if symbols.holds(node.test) else node.orelse
                )
                return chosen

        text = ast.unparse(Replaced().visit(ast.parse(ast.unparse(value), mode="eval").body))
        is_name = text.isidentifier()
        self.known[name] = (
            text if is_name else self.numbers.setdefault(text, f"x{len(self.numbers)}")
        )

    def run(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    self.run(then if self.holds(test) else otherwise)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assign(name, value)
                case _:
                    pass

    def expected(self, phases: Iterable[Phase]) -> dict[str, str]:
        """Return what a step computes. Each phase begins with the gradient."""
        for name, shape in self.spec.shapes.items():
            self.assign(name, shape.expression)
        for each in self.spec.definitions:
            self.assign(each.name, each.code.expression)
        handed: set[str] = set()
        for phase in phases:
            if phase.every and not self.rare:
                continue
            if GRADIENT not in handed:
                self.known.pop(GRADIENT, None)
            handed |= {*phase.hands_on}
            for code in (phase.scalars, phase.skip):
                self.run(code.body if code else [])
            if phase.unless is None or not self.holds(phase.unless.expression):
                self.run(phase.leaf.body)
        known = {NEW_WEIGHT if name == UPDATE else name: x for name, x in self.known.items()}
        kept = {slot.name for slot in self.spec.slots} | {x.name for x in self.spec.scalars}
        return {name: x for name, x in known.items() if name in {*kept, NEW_WEIGHT, RESULT, SKIP}}

    def told(self, lines: Iterable[Equation]) -> dict[str, str]:
        """Return what lines compute, read one after the other."""
        for line in lines:
            if all(self.holds(condition.test) for condition in line.conditions):
                self.assign(line.name, line.value)
        return self.known


def default(text: str) -> object:
    value: object = ast.literal_eval(text)
    return value


def choices(spec: Spec) -> Iterator[tuple[str, Value]]:
    """Yield each value that an option may have beside its default."""
    for h in spec.hyperparameters:
        match h.kind:
            case "flag":
                yield h.name, h.default == "False"
            case "choice":
                yield from (
                    (h.name, choice)
                    for choice in h.choices
                    if repr(choice) != h.default.replace('"', "'")
                )
            case _ if h.optional:
                yield h.name, GIVEN if h.default == "None" else None
            case _:
                pass


def combined(spec: Spec, most: int) -> Iterator[dict[str, Value]]:
    """Yield up to some options together, as far as the spec allows them."""
    asked = {
        name.id
        for code in spec.blocks
        for statement in code.body
        for part in ast.walk(statement)
        if isinstance(part, ast.If | ast.IfExp)
        for name in ast.walk(part.test)
        if isinstance(name, ast.Name)
    }
    asked |= {name for code in spec.shapes.values() for name in names(code.expression)}
    options = [option for option in choices(spec) if option[0] in asked]
    for count in range(most + 1):
        for chosen in combinations(options, count):
            settings = dict(chosen)
            symbols = Symbols(spec, settings, 1, axes=False)
            if len(settings) == count and all(
                symbols.holds(requirement.test.expression) for requirement in spec.requirements
            ):
                yield settings


def names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def composed(found: Formulas, settings: Settings) -> Iterator[list[Equation]]:
    """Yield what a reader gets who makes the changes of some options: in one order, and in the opposite one.

    Changes by more options come after those by fewer in either.
    """
    told = [change for change in found.changes if settings.items() >= {*change.settings}]
    for order in (told, told[::-1]):
        lines = [*found.lines]
        for change in sorted(order, key=lambda change: len(change.settings)):
            make(change, lines)
        yield lines


def make(change: Change, lines: list[Equation]) -> None:
    """Make a change: what is defined takes the place of its definition, and what is new is put in order."""
    for line in (*change.left_out, *change.lines):
        if line in lines:
            lines.remove(line)
    for edit in reversed(change.edits):  # a new equation stands before what reads it
        at: int | None = None
        for number, line in enumerate(edit.lines):
            old = [] if edit.before else replaced(line, change, lines)
            if old:
                lines[old[-1]] = line
                for i in old[-2::-1]:
                    del lines[i]
                at = old[-1] - len(old) + 2
                continue
            later = [i for x in edit.lines[number + 1 :] for i in replaced(x, change, lines)]
            reading = [i for i, x in enumerate(lines) if line.name in x.reads]
            if edit.before is not None:
                at = next(i for i, x in enumerate(lines) if edit.before in places_of(x))
            elif at is None:
                at = [*later, *reading, len(lines)][0]
            lines.insert(at, line)
            at += 1


def replaced(line: Equation, change: Change, lines: Sequence[Equation]) -> list[int]:
    """Return where the equations stand that another one takes the place of."""
    return [
        i
        for i, x in enumerate(lines)
        if line.replaces(x) or (line.again and line.defines_as(x) and x in change.gone)
    ]


def places_of(line: Equation) -> tuple[Formula, ...]:
    """Return the words by which a change names the place of an equation."""
    whole = made(r"#1 \leftarrow #2", line.left, line.right)
    return (whole,) if line.again else (line.left, made(r"\text{each } #1", line.left))


def check(spec: Spec, phases: Sequence[Phase], found: Formulas, most: int) -> None:
    for settings in combined(spec, most):
        for ndim, axes in LEAVES:
            symbols = Symbols(spec, settings, ndim, axes=axes)
            expected = symbols.expected(phases)
            for lines in composed(found, settings):
                told = Symbols(spec, settings, ndim, axes=axes)
                told.numbers = symbols.numbers
                computed = told.told(lines)
                assert {name: computed.get(name) for name in expected} == expected, settings


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_changes_add_up_to_the_equations(path: Path) -> None:
    spec = read_spec(path)
    check(spec, spec.phases, formulas(spec), 3)
    for function in spec.functions:
        phase = Phase(function.name, None, function.leaf)
        check(spec, [phase], function_formulas(spec, function), 3)
