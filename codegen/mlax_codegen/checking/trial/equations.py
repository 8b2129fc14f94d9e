"""One run through all equations of a spec, in the order in which a step computes them."""

import ast
from collections.abc import Sequence

from mlax_codegen.checking.trial.expressions import Expressions
from mlax_codegen.checking.trial.intervals import SIZE, Interval, exactly
from mlax_codegen.checking.trial.run import Known
from mlax_codegen.checking.trial.values import (
    SCALAR,
    Array,
    Dims,
    List,
    Value,
    agree,
    as_dims,
    dims_of,
    dims_text,
    given,
    legend,
    number_of,
    pairs_of,
    same_length,
)
from mlax_codegen.language import (
    COUNT,
    GRADIENT,
    NDIM,
    RESULT,
    SHAPE,
    STEP_NUMBER,
    TOTAL_COUNT,
    UNLESS,
    UPDATE,
    WEIGHT,
)
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.equations import BlockCode, ExpressionCode
from mlax_codegen.reading.spec import Phase
from mlax_codegen.reading.trees import is_total

__all__ = ["Equations"]


class Equations(Expressions):
    """A run that follows the equations."""

    def run(self) -> None:
        """Follow all equations; stop early if the requirements exclude the configuration."""
        spec = self.spec
        static = self.static()
        if static is None:
            return
        hyperparameters = {n: value for n, value in static.items() if n not in self.of_leaf}
        for scalar in spec.scalars:
            if scalar.init.code is not None:
                self._known = dict(static)
                self.value_of(scalar.init.code)
        slots = {slot.name: self.slot(slot, static) for slot in spec.slots}
        leaf = Array(self._leaf)
        state: Known = {scalar.name: SCALAR for scalar in spec.scalars if not scalar.is_key}
        numbers = [*(a.name for a in spec.arguments if not a.is_tree), STEP_NUMBER, TOTAL_COUNT]
        trees: Known = {a.name: leaf for a in spec.arguments if a.is_tree}
        once: Known = {**hyperparameters, **state, **dict.fromkeys(numbers, SCALAR)}
        handed: Known = {}
        for phase in spec.phases:
            if phase.scalars is not None:
                self._known = once
                self.block(phase.scalars)
                once = self._known
            if phase.skip is not None:
                self._known = dict(once)
                self.block(phase.skip)
            # `scalars` may compute with Python numbers alone (1 - b1), but what they assign reaches
            # the leaves as an array. So no interval is kept: an array cannot be an index or a size.
            arrays = {name: SCALAR for name in once if name not in hyperparameters}
            self._known = {**static, **arrays, **trees, **slots, GRADIENT: leaf, WEIGHT: leaf}
            self._known |= {UPDATE: leaf, **handed}
            self.steps_of(phase)
            if phase.unless is not None:
                self.block(phase.unless)
                self.of_a_leaf(phase.unless.expression, self._known.pop(UNLESS))
            self.block(phase.leaf)
            handed |= {name: self._known.get(name) for name in phase.hands_on}
            # New names are totals, or local to the leaf. The flow check lets no later phase read
            # the latter, so they need not be distinguished here.
            new = {name for name in self._known if name not in {*static, *trees, *slots, *arrays}}
            once |= dict.fromkeys(new, SCALAR)
        for function in spec.functions:
            others: Known = {**trees, **{name: once[name] for name in numbers}}
            self._known = {**static, **state, **others, **slots, WEIGHT: leaf}
            self.block(function.leaf)

    def steps_of(self, phase: Phase) -> None:
        """Check at which steps a phase is computed."""
        if phase.every is None:
            return
        self.is_positive(phase.every.expression, self.value_of(phase.every), "every")
        if phase.first is None:
            return
        first = self.value_of(phase.first)
        same = ast.dump(phase.first.expression) == ast.dump(phase.every.expression)
        if not same and not (isinstance(first, Interval) and first == exactly(1)):
            self.wrong(phase.first.expression, "first must be 1, or the same as every")

    def of_a_leaf(self, node: ast.expr, found: Value) -> None:
        """Check that a condition is one of the leaf, not of its elements."""
        if dims := dims_of(found):
            what = f"this {self.words(dims, 'is', 'has')}"
            cure = "reduce it: `isfinite(norm(g))`, `mean(g > 0) > 0.5`"
            self.wrong_here(node, f"unless is one condition for a leaf, but {what}", cure)

    def static(self) -> Known | None:
        """Return what is known before anything runs; None if the requirements exclude the configuration."""
        hyperparameters = self.allowed()
        if hyperparameters is None:
            return None
        shape = List.of(SIZE._replace(name=f"n{i}") for i in range(self.axes))
        self._leaf = as_dims(shape)
        self._known = {**hyperparameters, SHAPE: shape, NDIM: exactly(self.axes)}
        self._known[COUNT] = SIZE._replace(whole=False) if self.axes else exactly(1.0)
        for name, code in self.spec.shapes.items():
            self._known[name] = self.value_of(code)
        return dict(self._known)

    def allowed(self) -> Known | None:
        """Return what bounds and requirements say of the hyperparameters.

        None if no values of them meet the requirements: the optimizer cannot be made so.
        """
        self._known = {
            h.name: SCALAR if h.schedulable else given(h)
            for h in self.spec.hyperparameters
            if h.kind in {"float", "integer", "list"}
        }
        for requirement in self.spec.requirements:
            self._code = requirement.test
            met = self.under(requirement.test.expression, holds=True)
            if met is None:
                return None
            self._known = met
        return self._known

    def slot(self, slot: Slot, static: Known) -> Value:
        """Return what is known of a slot wherever it exists: under its `when`."""
        self._known = dict(static)
        if slot.when is not None:
            self._code = slot.when
            self.value(slot.when.expression)
            where = self.under(slot.when.expression, holds=True)
            if where is None:
                return None
            self._known = where
        for code in filter(None, (slot.keeps, slot.init.code)):
            self.value_of(code)
        if slot.shape is None:
            return Array(self._leaf)
        before = len(self.blamed)
        shape = self.value_of(slot.shape)
        if len(self.blamed) > before or not isinstance(shape, List):
            return None
        several = isinstance(shape.any, List)
        if isinstance(shape.any, Interval) and not shape.any.whole:
            self.wrong(slot.shape.expression, "a shape must be a tuple of integers")
            return None
        if slot.each and 0 in shape.lengths:
            message = (
                'a list of arrays must have items; for a hyperparameter, write bounds = "1 <= x"'
            )
            self.wrong(slot.shape.expression, message)
            return None
        dims = as_dims(shape.any if several else shape)
        if slot.init.word == "identity" and dims is not None and len(dims) != 2:
            message = 'an identity matrix needs two axes, as in "[(n, n) for n in shape]"'
            self.wrong(slot.shape.expression, message)
            return None
        if not several:
            return Array(dims)
        items = None if shape.items is None else tuple(Array(as_dims(x)) for x in shape.items)
        return List(items, shape.lengths, Array(dims), shape.name)

    def value_of(self, code: ExpressionCode) -> Value:
        """Return what is known of an expression that stands alone."""
        self._code = code
        return self.value(code.expression)

    def block(self, code: BlockCode) -> None:
        """Follow the equations of a block."""
        self._code = code
        self.statements(code.body)

    def statements(self, body: Sequence[ast.stmt]) -> None:
        """Follow assignments and branches."""
        for statement in body:
            match statement:
                case ast.If():
                    self.branches_of(statement)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assign(name, value)
                case _:
                    pass

    def branches_of(self, statement: ast.If) -> None:
        """Follow each branch that can be taken, with what the condition says there."""
        test = statement.test
        self.value(test)
        after: list[Known] = []
        before = self._known
        for holds, branch in ((True, statement.body), (False, statement.orelse)):
            known = self.under(test, holds=holds)
            if known is None:
                continue
            self._known = dict(known)
            self.statements(branch)
            # What the condition says ends with the branch: after `if ndim > 1: ...` there may be
            # one axis again. What the branch assigned stays.
            assigned = {
                name: value
                for name, value in self._known.items()
                if name not in known or value is not known[name]
            }
            after.append({**before, **assigned})
            self._known = before
        self._known = self.either(after, test)

    def assign(self, name: str, node: ast.expr) -> None:
        """Record a value; one that the step returns must have the shape of its place."""
        value = self.value(node)
        if name in {UPDATE, RESULT} and not is_total(node):
            self.fits(node, name, Array(self._leaf), value)
        elif name in self.slots:
            # The slot keeps the shape that it was declared with, so a mistake is reported once.
            self.fits(node, name, self._known.get(name), value)
            return
        self._known[name] = value

    def fits(self, node: ast.expr, name: str, wanted: Value, found: Value) -> None:
        """Check that a value has the shape of what it is assigned to."""
        match wanted, found:
            case List(), List():
                self.lists_fit(node, name, wanted, found)
            case Array(dims), (Array() | Interval()) if not agree(dims, other := dims_of(found)):
                must = f"{name!r} must {self.words(dims, 'be', 'have')}"
                but = f"but this {self.words(other, 'is', 'has')}"
                cure = self.cure(name, dims, other)
                self.wrong_here(node, f"{must}, {but}", cure or self.lengths(dims, other))
            case _:
                pass

    def lists_fit(self, node: ast.expr, name: str, wanted: List, found: List) -> None:
        """Check that a list has as many arrays as its slot, and of the same shapes."""
        if not same_length(found, wanted):
            must = f"{name!r} must hold {number_of(wanted)} arrays, but this has {number_of(found)}"
            self.wrong_list(node, wanted, must)
            return
        for one, other in pairs_of(wanted, found):
            if not agree(one, other):
                must = f"the arrays of {name!r} must have shape {dims_text(one)}"
                but = f"but these have {dims_text(other)}"
                self.wrong_here(node, f"{must}, {but}", legend(one, other))
                return

    def words(self, dims: Dims, be: str, have: str) -> str:
        """Return a shape in words, after a form of `be` or of `have`."""
        if dims == ():
            return f"{be} a single number"
        if dims == self._leaf:
            return f"{have} the shape of the leaf"
        return f"{have} shape {dims_text(dims)}"

    def lengths(self, *shapes: Dims) -> str:
        """Return what the names of lengths stand for, in shapes that a message writes out."""
        return legend(*(dims for dims in shapes if dims != self._leaf))

    def cure(self, name: str, wanted: Dims, found: Dims) -> str:
        """Return the cure for an array that should be a number, or the other way round."""
        if wanted == ():
            return "reduce it with sum, mean or norm"
        slot = self.slots.get(name)
        return 'give the slot shape = "()"' if slot and slot.shape is None and found == () else ""
