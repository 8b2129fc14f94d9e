"""The equations of a step. The update is written as what it does: `update = -x` becomes `w_t = w_{t-1} - x`."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mlax_codegen.formulas.conditions import negation
from mlax_codegen.formulas.expressions import Expressions
from mlax_codegen.formulas.parts import ATOM, SUM, Formula, indexed_by, listed, made, raised, words
from mlax_codegen.language import FUNCTIONS, GRADIENT, RESULT, SKIP, UNLESS, UPDATE, Type
from mlax_codegen.reading.declarations import Init
from mlax_codegen.reading.equations import ExpressionCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, indexed, loops_of, names_in, parts_of

__all__ = ["NEW_WEIGHT", "Condition", "Equation", "Equations", "symbols"]

NEW_WEIGHT = "w_t"


@dataclass(frozen=True)
class Condition:
    """A condition under which equations stand.

    Attributes:
        formula: How it is written, with slots as they are where it is tested.
        test: The condition.
        otherwise: Whether it is the opposite of the one that the equations before stand under.
    """

    formula: Formula
    test: ast.expr = field(compare=False)
    otherwise: bool = field(compare=False)


@dataclass(frozen=True)
class Equation:
    """One equation. Two are the same if they read the same.

    Attributes:
        conditions: What it stands under, from the outermost to the innermost `if`.
        left: What it defines.
        sign: LaTeX of what stands between: an arrow where it changes what another equation has defined.
        right: What it defines that to be.
        name: What it defines; `NEW_WEIGHT` for the weights after the step.
        value: Where that comes from.
    """

    conditions: tuple[Condition, ...]
    left: Formula
    sign: str
    right: Formula
    name: str = field(compare=False)
    value: ast.expr = field(compare=False)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names that the equation reads, each once."""
        return tuple(dict.fromkeys(names_in([self.value])))

    @cached_property
    def formula(self) -> Formula:
        """All of it; the LaTeX has & before the sign."""
        return made(f"#1 &{self.sign} #2", self.left, self.right)

    @property
    def again(self) -> bool:
        """Whether the equation changes what another one has defined."""
        return self.sign == r"\leftarrow"

    def defines_as(self, other: "Equation") -> bool:
        """Whether another equation defines the same, or changes the same, as this one does."""
        return (self.left, self.again) == (other.left, other.again)

    def replaces(self, other: "Equation") -> bool:
        """Whether it takes the place of another equation, which is for the same leaves or for some of them."""
        same = other.conditions[: len(self.conditions)] == self.conditions
        return same and not self.again and self.defines_as(other)


class Equations(Expressions):
    """Writes equations one after the other."""

    result: Formula = made(r"\bar{w}_t")
    # The opposite of the condition of the `if` that has just ended, and what was assigned before it.
    opposite: Formula | None = None
    before: frozenset[str] = frozenset()

    def placed(self) -> Iterator[Equation]:
        """Yield the equations of a step, after the definitions that they call."""
        for each in self.spec.definitions:
            self.parameters: Collection[str] = each.parameters
            given = listed([self.symbol(name) for name in each.parameters])
            left, value = made("#1(#2)", self.fixed[each.name], given), each.code.expression
            sign = r"\Leftrightarrow" if self.is_condition(value) else "="
            yield Equation((), left, sign, self.bare(value), each.name, value)
        self.parameters = ()
        for name, code in self.spec.shapes.items():
            value = code.expression
            if name in self.sizes:  # as the spec writes it
                text = ast.unparse(value).replace("_", r"\_")
                right = made(rf"\text{{{text}}}")
                yield Equation((), words(name), "=", right, name, value)
            elif isinstance(value, ast.Compare | ast.BoolOp):
                right = self.condition(value)
                yield Equation((), words(name), r"\Leftrightarrow", right, name, value)
            else:
                yield Equation((), self.fixed[name], "=", self.bare(value), name, value)
        for phase in self.spec.phases:
            for block in filter(None, (phase.scalars, phase.skip, phase.leaf)):
                yield from self.statements(block.body)
        if self.update_is_read:
            value = ast.Name(UPDATE, ast.Load())
            yield self.moved(self.symbol(UPDATE), (), value)

    def begins(self) -> Iterator[Formula]:
        """Yield what the state begins with, where that is more than a number, a hyperparameter or a word."""
        for each in self.spec.state:
            left = self.slots[each.name]
            left = left if each.name in self.constant else indexed_by(left, made("0"))
            match each.init:
                case Init(word="gradient"):
                    phase, number = self.spec.first_named(each.name)
                    changed = GRADIENT in dict(assignments_in(phase.leaf.body[:number]))
                    yield made("#1 &= g_1" + r" \text{ after its changes}" * changed, left)
                case Init(word="normal", code=ExpressionCode(expression=deviation)):
                    variance = raised(self.tex(deviation, ATOM, inline=True), made("2"))
                    variance = made("1") if self.tex(deviation).text == "1" else variance
                    yield made(r"#1 &\sim \mathcal{N}(0, #2)", left, variance)
                case Init(code=ExpressionCode(expression=value)) if not isinstance(value, ast.Name):
                    yield made("#1 &= #2", left, self.bare(value))
                case _:
                    pass

    def statements(
        self, body: Sequence[ast.stmt], conditions: tuple[Condition, ...] = ()
    ) -> Iterator[Equation]:
        """Yield the equations of a block."""
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    formula, opposite = self.condition(test), self.condition(negation(test))
                    before = frozenset(self.current)
                    follows = formula == self.opposite
                    self.current: set[str] = set(self.before if follows else before)
                    self.opposite = None
                    given = Condition(formula, test, follows)
                    yield from self.statements(then, (*conditions, given))
                    after = self.current
                    self.current = set(before)
                    self.opposite = None
                    given = Condition(opposite, negation(test), bool(then))
                    yield from self.statements(otherwise, (*conditions, given))
                    self.current.update(after)
                    self.opposite, self.before = opposite, before
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    yield self.assignment(name, value, conditions)
                    self.opposite = None
                case _:
                    pass

    def assignment(self, name: str, value: ast.expr, conditions: tuple[Condition, ...]) -> Equation:
        """Return an equation; a list of one for each axis, and work of some steps, say so at the end."""
        right, ends, index = value, list[Formula](), ""
        match value:
            case ast.Call(func=ast.Name(id="every"), args=[k, new, ast.Name(id=old)]) if (
                old == name
            ):
                right = new
                ends = [made(r"\text{every } #1 \text{ steps}", self.bare(k))]
            case _:
                pass
        if isinstance(right, ast.ListComp):
            generator = right.generators[0]
            right, index = indexed(right)
            axis = "axis " if self.of_axes & {*names_in([generator.iter])} else ""
            each = made(rf"\text{{for each {axis}}} {index}")
            for test in generator.ifs:
                each = made(r"#1 \text{ with } #2", each, self.condition(test))
            ends = [each, *ends]
        formula = self.bare(right)
        if name == UPDATE and not self.update_is_read:
            return self.moved(formula, conditions, value)
        for end in ends:
            formula = made(r"#1 \quad #2", formula, end)
        if name == SKIP:
            left, sign = words("all stays as it was"), r"\text{ if }"
            return Equation(conditions, left, sign, formula, name, value)
        again = name == GRADIENT or name in self.current
        self.current.add(name)
        left = self.result if name == RESULT else self.symbol(name, assigned=True)
        left = raised(left, made(f"({index})")) if index else left
        sign = r"\leftarrow" if again else "="
        if self.is_condition(value):
            sign = r"\Leftrightarrow"
            self.conditions.add(name)
        return Equation(conditions, left, sign, formula, name, value)

    def moved(self, by: Formula, conditions: tuple[Condition, ...], value: ast.expr) -> Equation:
        """Return how the weights move."""
        by = by.at(SUM)
        sign, rest = ("-", by.without_sign()) if by.is_negative else ("+", by)
        right = made(f"w_{{t-1}} {sign} #1", rest)
        return Equation(conditions, made("w_t"), "=", right, NEW_WEIGHT, value)

    def is_condition(self, value: ast.expr) -> bool:
        """Whether a value is true or false."""
        match value:
            case ast.Name(id=name):
                return name in self.conditions
            case ast.IfExp(body=body):
                return self.is_condition(body)
            case ast.Call(func=ast.Name(id=name)) if name in self.definitions:
                return self.is_condition(self.definitions[name].code.expression)
            case ast.Call(func=ast.Name(id=name)):
                return FUNCTIONS[name].result is Type.CONDITION
            case ast.UnaryOp(op=ast.Not()):
                return True
            case _:
                return isinstance(value, ast.Compare | ast.BoolOp)


def symbols(spec: Spec) -> Mapping[str, str]:
    """Return how the formulas write each name that they compute with, where a step assigns it after that."""
    equations = Equations(spec)
    codes = spec.blocks.copy()
    codes += [function.leaf for function in spec.functions]
    parts = [part for code in codes for statement in code.body for part in parts_of(statement)]
    found = [part.id for part in parts if isinstance(part, ast.Name)]
    unwritten = {h.name for h in spec.hyperparameters if h.kind in {"flag", "choice"}}
    unwritten |= {scalar.name for scalar in spec.scalars if scalar.is_key} | {
        *FUNCTIONS,
        SKIP,
        UNLESS,
    }
    unwritten |= {
        name for part in parts if isinstance(part, ast.comprehension) for name, _ in loops_of(part)
    }
    unwritten |= {
        name
        for name, code in spec.shapes.items()
        if isinstance(code.expression, ast.Compare | ast.BoolOp)
    }
    unwritten |= set() if equations.update_is_read else {UPDATE}
    names = [name for name in dict.fromkeys(found) if name not in unwritten]
    return {name: equations.symbol(name, assigned=True).latex for name in names}
