"""Equations as code: leaf functions, and what is computed once a step."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.checking.plans import LeafPlan, Rare
from mlax_codegen.language import (
    COUNT,
    CYCLE,
    FUNCTIONS,
    GRADIENT,
    NDIM,
    RESULT,
    SHAPE,
    STEP,
    STEP_NUMBER,
    UPDATE,
    WEIGHT,
)
from mlax_codegen.reading.declarations import Definition
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, names_in
from mlax_codegen.writing.annotations import Annotations, in_order
from mlax_codegen.writing.expressions import expression_text, parsed, tuple_of
from mlax_codegen.writing.layout import WIDTH
from mlax_codegen.writing.narrowing import Narrowing, assigned_in
from mlax_codegen.writing.shape_functions import ShapeFunctions

__all__ = ["Equations"]


class Equations:
    """Writes the equations of one spec."""

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.spec = spec
        self.analysis = analysis
        self.annotations: Annotations = Annotations(spec, analysis)
        calls = {name: function.code for name, function in FUNCTIONS.items()}
        self.h: str = analysis.held_as
        fixed = {h.name: f"{self.h}.{h.name}" for h in spec.hyperparameters if not h.schedulable}
        self.names: dict[str, str] = {**calls, **fixed}
        self.names |= {each.name: f"_{each.name}" for each in spec.definitions}
        with_h = {*fixed}  # hyperparameters, and definitions that are given them
        for each in spec.definitions:
            with_h |= {each.name} if with_h & {*names_in([each.code.expression])} else set()
        self.names |= {f"{each.name}/h": self.h for each in spec.definitions if each.name in with_h}
        self.shapes: ShapeFunctions = ShapeFunctions(spec, analysis, self.names)
        self.drawn: frozenset[str] = frozenset(s for plan in analysis.phases for s in plan.scalars)
        # What the state holds, as a step reads it. A key is folded with the step first.
        held = [h.name for h in spec.hyperparameters if h.schedulable]
        held += [scalar.name for scalar in spec.scalars if not scalar.is_key]
        self.held: Mapping[str, str] = {name: f"state.{name}" for name in held}

    def definition(self, definition: Definition) -> list[str]:
        """Return the function that computes a definition."""
        types = self.annotations.parameters[definition.name]
        given = (
            [f"{self.h}: {self.spec.class_name}"] if f"{definition.name}/h" in self.names else []
        )
        given += [f"{name}: {in_order(kinds)}" for name, kinds in types.items()]
        value = expression_text(definition.code, self.names)
        result = in_order(self.annotations.scalars.of(definition.code.expression, types))
        return [
            f"def _{definition.name}({', '.join(given)}) -> {result}:",
            f'    """{definition.doc}"""',
            f"    return {value}",
        ]

    def leaf_functions(self) -> Iterator[list[str]]:
        """Yield the functions that a step is written with, beside those of shapes."""
        yield from map(self.definition, self.spec.definitions)
        for plan in self.analysis.phases:
            for part in plan.parts:
                if isinstance(part, Rare):
                    yield self.leaf_function(part.plan, is_rare=True)
            yield self.leaf_function(plan)

    def leaf_function(
        self, plan: LeafPlan, *, of_step: bool = True, is_rare: bool = False
    ) -> list[str]:
        """Return the function of one leaf.

        Args:
            plan: What it is given and gives back.
            of_step: Whether it is part of a step, and so is given the gradient.
            is_rare: Whether some steps or leaves are without it. Then another function of a leaf calls it, with no more
                than it reads; the others are called with all trees that are mapped.
        """
        body = list(self._leaf(plan, GRADIENT if of_step else WEIGHT))
        read = _names_in(body)
        asserts = [place for place, line in enumerate(body) if line.lstrip().startswith("assert ")]
        for place in asserts[:1]:
            body[place] += "  # for type checkers"
        given = [f"{self.h}: {self.spec.class_name}"] if self.h in read or not is_rare else []
        if of_step and (GRADIENT in read - {*plan.handed} or not is_rare):
            given.append(f"{GRADIENT if GRADIENT in read - {*plan.handed} else '_'}: Array")
        if plan.weights:
            given.append(f"{WEIGHT}: {self.annotations.weights if of_step else 'Array'}")
        elif not of_step:
            given.append("_: Array")
        given += [f"{name}: {self.annotations.other(name)}" for name in (*plan.trees, *plan.handed)]
        given += [f"{slot}: {self.annotations.slot(slot)}" for slot in (*plan.inputs, *plan.slots)]
        given += ["update: Array"] if is_rare and plan.reads_update else []
        scalars = [f"{name}: {self.annotations.other(name)}" for name in plan.scalars]
        given += ["*", *scalars] if scalars else []
        slots = [self.annotations.slot(slot) for slot in plan.slots]
        if is_rare:
            kinds = ["Array", *slots] if plan.moves else slots
            returned = kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"
            last = ", ".join(_results(plan))
            doc = f"the new {_listed([f'`{name}`' for name in _results(plan)])} of one leaf"
        elif self._reduces(plan):
            sums = [f"{x}={x}" for x in plan.totals]
            sums += [f"{x}=handed_on({x})" for x in plan.hands_on]
            returned = f"tuple[tuple[{', '.join(slots) or '()'}], Totals]"
            last = f"{tuple_of(plan.slots)}, totals({', '.join(sums)})"
            parts = ["new slots"] if slots else []
            parts += ["part of the totals over all leaves"] if plan.totals else []
            parts += ["arrays to hand on"] if plan.hands_on else []
            doc = f"one leaf's {_listed(parts)}"
        else:
            kind = UPDATE if of_step else RESULT
            returned = f"tuple[{', '.join(['Array', *slots])}]"
            last = ", ".join([kind, *plan.slots]) if plan.slots else f"({kind},)"
            doc = f"the {kind} of one leaf{' and its new slots' if slots else ''}"
        if self.analysis.per_leaf & {*plan.inputs, *plan.slots}:
            doc += ".\n\n    A slot that the leaf does not have is ().\n    "
        else:
            doc += "."
        body.append(f"return {last}")
        if body[-2].startswith(f"{last} = "):
            body[-2:] = [f"return {body[-2].removeprefix(f'{last} = ')}"]
        return [
            f"def _{plan.name}({', '.join(given)}) -> {returned}:",
            *f'    """Return {doc}"""'.split("\n"),
            *(f"    {line}" for line in body),
        ]

    def _reduces(self, plan: LeafPlan) -> bool:
        """Whether a function of a leaf gives slots and totals, and neither an update nor a result."""
        of_step = plan in self.analysis.phases
        return plan is not self.analysis.phases[-1] if of_step else bool(plan.slots or plan.totals)

    def _rare(self, rare: Rare, names: Mapping[str, str], *, moved: bool) -> str:
        """Return the call of a function that some steps or leaves are without; `moved`: there is an update before."""
        plan, results = rare.plan, _results(rare.plan)
        read = _names_in(self._leaf(plan, GRADIENT)) - {*plan.handed}
        given = [name for name in (self.h, GRADIENT) if name in read]
        given += [*([WEIGHT] if plan.weights else []), *plan.trees, *plan.handed]
        given += [*plan.inputs, *plan.slots, *([UPDATE] if plan.reads_update else [])]
        given += [f"{name}={name}" for name in plan.scalars]
        begin = f"no_update({GRADIENT})"
        old = [begin if name == UPDATE and not moved else name for name in results]
        before = old[0] if len(old) == 1 else f"({', '.join(old)})"
        new = f"_{plan.name}({', '.join(given)})"
        if rare.every is not None:
            every = expression_text(rare.every, names)
            first = rare.first and expression_text(rare.first, names)
            last = f", first={first}" if first else ""
            new = f"every({every}, {CYCLE}, lambda: {new}, {before}{last})"
        if rare.unless is not None:
            new = f"unless({expression_text(rare.unless, names)}, {new}, {before})"
        return f"{', '.join(results)} = {new}"

    def steps(self) -> Iterator[str]:
        """Yield what a step computes, phase by phase, and what it returns."""
        names: dict[str, str] = {
            **self.names,
            **self.held,
            STEP: "state.step",
            CYCLE: "state.cycle",
        }
        slots = {slot.name: f"state.{slot.name}" for slot in self.spec.slots}
        phases = [plan for plan in self.analysis.phases if plan.totals]
        handed: dict[str, str] = {}
        tests = self._tests(argument.name for argument in self.spec.arguments)
        for group, plan in zip(self.spec.groups, self.analysis.phases, strict=True):
            for code in (phase.scalars for phase in group if phase.scalars):
                yield from _scalars(code, names, tests)
            for code in (phase.skip for phase in group if phase.skip):
                yield f"skipped = {expression_text(code, names)}"
            inputs = ["gradients", *(["weights"] if plan.weights else []), *plan.trees]
            inputs += [handed[name] for name in plan.handed]
            inputs += [slots[slot] for slot in plan.inputs]
            call = self._call(plan, inputs, [slots[slot] for slot in plan.slots], names)
            slots |= {slot: slot for slot in plan.slots}
            if plan is self.analysis.phases[-1]:
                results = ", ".join(["result", *plan.slots]) if plan.slots else "(result,)"
                yield f"{results} = {call}"
                yield from self._returned()
                return
            written = tuple_of(plan.slots) if plan.slots else "_"
            yield f"{written}, {'sums' if plan.totals else '_'} = {call}"
            sums = {name: f'sums["{name}"]' for name in (*plan.totals, *plan.hands_on)}
            handed |= {name: name for name in plan.hands_on}
            if len(phases) == 1:
                names |= sums
                handed |= sums
            else:
                yield from (f"{name} = {value}" for name, value in sums.items())

    def _returned(self) -> Iterator[str]:
        """Yield the end of a step, in two statements if one would be too long."""
        state = f"state._replace({', '.join(self._new_state())})"
        if any(phase.skip for phase in self.spec.phases):
            old = "(output.unmoved(gradients), state)"
            yield f"return unless(skipped, (result, {state}), {old})"
        elif len(f"    return result, {state}") <= WIDTH:
            yield f"return result, {state}"
        else:
            yield f"state = {state}"
            yield "return result, state"

    def _new_state(self) -> list[str]:
        """Return what a step changes in the state, as keyword arguments of `_replace`."""
        scalars = [
            each for phase in self.spec.phases if phase.scalars for each in phase.scalars.body
        ]
        written = {slot for plan in self.analysis.phases for slot in plan.slots}
        numbers = {a.name for a in self.spec.arguments if not a.is_tree and a.when is None}
        values: dict[str, str] = {}
        for name, value in assignments_in(scalars):
            is_scalar = isinstance(value, ast.Name) and value.id in numbers
            values.setdefault(name, name if is_scalar else f"scalar({name})")
        intervals = ", ".join(self._interval(text) for text in self.analysis.intervals)
        return [
            f"step={STEP if self.analysis.step_number else 'one_more(state.step)'}",
            *([f"cycle=one_more(state.cycle, {intervals})"] if intervals else []),
            *(
                f"{s.name}=renewed(state.{s.name}, state.step)"
                for s in self.spec.scalars
                if s.name in self.drawn and s.is_key
            ),
            *(f"{s.name}={values[s.name]}" for s in self.spec.scalars if s.name in values),
            *(f"{slot.name}={slot.name}" for slot in self.spec.slots if slot.name in written),
        ]

    def _interval(self, text: str) -> str:
        """Return code for an interval; 1 where an option is None without which nothing is done at intervals."""
        code = parsed(text, self.spec.document)
        read = {*names_in([code.expression])}
        optional = {h.name for h in self.spec.hyperparameters if h.optional} & read
        absent = " or ".join(f"{self.h}.{name} is None" for name in sorted(optional))
        interval = expression_text(code, self.names)
        return f"1 if {absent} else {interval}" if absent else interval

    def function_call(self, plan: LeafPlan) -> Iterator[str]:
        """Yield what a function of the state and the weights computes."""
        inputs = ["weights", *plan.trees, *(f"state.{slot}" for slot in plan.inputs)]
        if STEP_NUMBER in plan.scalars:
            yield f"{STEP_NUMBER} = state.step.astype(float)"
        if plan.slots:
            yield "output = Output.updates(state, weights)"
        call = self._call(plan, inputs, [f"state.{slot}" for slot in plan.slots], self.held)
        if plan.totals:
            yield f"_, sums = {call}"
            yield f'return sums["{RESULT}"]'
        elif plan.slots:
            yield f"{tuple_of(plan.slots)}, _ = {call}"
            yield f"return state._replace({', '.join(f'{slot}={slot}' for slot in plan.slots)})"
        else:
            yield f"(result,) = {call}"
            yield "return result"

    def _call(
        self, plan: LeafPlan, inputs: Sequence[str], slots: Sequence[str], values: Mapping[str, str]
    ) -> str:
        """Return the call that maps a leaf function over the trees."""
        of_step, reduces = plan in self.analysis.phases, self._reduces(plan)
        given = [f"_{plan.name}", self.h, f"inputs={tuple_of(inputs)}"]
        given.append(f"slots={tuple_of(slots) if slots else '()'}")
        if reduces and (slots or of_step):
            given.append("rounding=output.rounding")
        elif of_step:
            given.append("output=output")
        given += [f"{name}={values.get(name, name)}" for name in plan.scalars]
        return f"{'reduce_leaves' if reduces else 'map_leaves'}({', '.join(given)})"

    def _tests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the test that each of those names is there that may not be."""
        found = {name: self.annotations.test(name) for name in names}
        return {name: test for name, test in found.items() if test is not None}

    def _leaf(self, plan: LeafPlan, whole: str) -> Iterator[str]:
        """Yield the code of a leaf function, beginning with what it reads of the leaf's shape."""
        codes = [part for part in plan.parts if not isinstance(part, Rare)]
        body = [statement for code in codes for statement in code.body]
        read = set(names_in(body))
        names = {**self.names, STEP: STEP, CYCLE: CYCLE}
        of_leaf = {SHAPE: f"{whole}.shape", NDIM: f"{whole}.ndim", COUNT: f"float({whole}.size)"}
        assigned = whole in assigned_in(body)
        if assigned:
            yield from (f"{name} = {value}" for name, value in of_leaf.items() if name in read)
        yield from self.shapes.values(read, of_leaf[SHAPE], of_leaf[NDIM])
        names = names if assigned else {**names, **of_leaf}
        tests = self._tests([*plan.trees, *plan.inputs, *plan.slots, *plan.scalars])
        if whole == GRADIENT and plan.weights and self.annotations.weights != "Array":
            tests[WEIGHT] = f"{WEIGHT} is not None"
        moved = False
        for part in plan.parts:
            if isinstance(part, Rare):
                if part.plan.reads_update and not moved:
                    yield f"{UPDATE} = no_update({GRADIENT})"
                    moved = True
                if part.unless is not None:
                    narrowing = Narrowing(part.unless, names, tests)
                    yield from narrowing.assertion({*names_in(part.unless.body)})
                yield self._rare(part, names, moved=moved)
                moved = moved or part.plan.moves
            else:
                moved = moved or UPDATE in assigned_in(part.body)
                narrowing = Narrowing(part, names, tests)
                yield from narrowing.statements(part.body)
                yield from narrowing.comments_before()


def _results(plan: LeafPlan) -> list[str]:
    """Return the names of the results of a function that is not called in each step, or not used for each leaf."""
    return [*([UPDATE] if plan.moves else []), *plan.slots]


def _names_in(lines: Iterable[str]) -> set[str]:
    """Return the names that are in some lines of code, but for comments."""
    return {name for line in lines for name in re.findall(r"\w+", line.partition("#")[0])}


def _listed(parts: Sequence[str]) -> str:
    """Return some parts as a part of a sentence."""
    *first, last = parts
    return f"{', '.join(first)}{',' * (len(first) > 1)} and {last}" if first else last


def _scalars(code: BlockCode, names: dict[str, str], tests: Mapping[str, str]) -> Iterator[str]:
    """Yield equations of a step as code; what they assign is read by its own name from then on."""
    narrowing = Narrowing(code, names, tests)
    for statement in code.body:
        assigned = set(assigned_in([statement]))
        if isinstance(statement, ast.If):
            for name in sorted(assigned & set(names)):  # so that it has a value in each branch
                yield f"{name} = {names.pop(name)}"
        yield from narrowing.statements([statement])
        for name in assigned:
            names.pop(name, None)
    yield from narrowing.comments_before()
