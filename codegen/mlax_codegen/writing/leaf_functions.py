"""Equations as code: leaf functions, and what is computed once a step."""

import ast
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
from mlax_codegen.reading.trees import names_in
from mlax_codegen.writing.annotations import Annotations, in_order
from mlax_codegen.writing.expressions import expression_text, parsed, tuple_of
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

    def leaf_function(self, plan: LeafPlan, kind: str, *, of_step: bool = True) -> list[str]:
        """Return the function of one leaf.

        Args:
            plan: What it is given and gives back.
            kind: What it gives beside the slots: "update", "totals" or "result", or "rare": if some steps or leaves
                are without it.
            of_step: Whether it is part of a step, and so is given the gradient.
        """
        given = [f"{self.h}: {self.spec.class_name}"]
        given += [f"{'_' if GRADIENT in plan.handed else GRADIENT}: Array"] if of_step else []
        if plan.weights or not of_step:
            given.append(f"{WEIGHT}: {self.annotations.weights if of_step else 'Array'}")
        given += [f"{name}: {self.annotations.other(name)}" for name in (*plan.trees, *plan.handed)]
        given += [f"{slot}: {self.annotations.slot(slot)}" for slot in (*plan.inputs, *plan.slots)]
        given += ["update: Array"] if kind == "rare" and plan.reads_update else []
        scalars = [f"{name}: {self.annotations.other(name)}" for name in plan.scalars]
        given += ["*", *scalars] if scalars else []
        slots = [self.annotations.slot(slot) for slot in plan.slots]
        if kind == "totals":
            sums = ", ".join(
                [f"{x}={x}" for x in plan.totals] + [f"{x}=handed_on({x})" for x in plan.hands_on]
            )
            returned = f"tuple[tuple[{', '.join(slots) or '()'}], Totals]"
            last = f"{tuple_of(plan.slots)}, totals({sums})"
        elif kind == "rare":
            results = self.results(plan)
            kinds = ["Array", *slots] if plan.moves else slots
            returned = kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"
            last = ", ".join(results)
        else:
            returned = f"tuple[{', '.join(['Array', *slots])}]"
            last = ", ".join([kind, *plan.slots]) if plan.slots else f"({kind},)"
        docs = {
            "update": "Return the update of one leaf and its new slots.",
            "totals": "Return the new slots of one leaf and its part of the sums over all leaves.",
            "result": "Return the result for one leaf.",
            "rare": "Return the new values of one leaf.",
        }
        doc = docs[kind] if plan.slots else docs[kind].replace(" and its new slots", "")
        if kind == "totals" and not plan.totals:
            doc = "Return the new slots of one leaf, and no sums."
        if kind == "totals" and not plan.slots:
            doc = "Return no slots, and the leaf's part of the sums over all leaves."
        if plan.hands_on:
            doc = f"{doc[:-1]}, and what later phases are given."
        if self.analysis.per_leaf & {*plan.inputs, *plan.slots}:
            doc += "\n\n    A slot that the leaf does not have is ().\n    "
        body = list(self._leaf(plan, GRADIENT if of_step else WEIGHT))
        asserts = [place for place, line in enumerate(body) if line.lstrip().startswith("assert ")]
        for place in asserts[:1]:
            body[place] += "  # for type checkers"
        body.append(f"return {last}")
        if body[-2].startswith(f"{last} = "):
            body[-2:] = [f"return {body[-2].removeprefix(f'{last} = ')}"]
        return [
            f"def _{plan.name}({', '.join(given)}) -> {returned}:",
            *f'    """{doc}"""'.split("\n"),
            *(f"    {line}" for line in body),
        ]

    def results(self, plan: LeafPlan) -> list[str]:
        """Return the names of what a function gives that some steps or leaves are without."""
        return [*([UPDATE] if plan.moves else []), *plan.slots]

    def _rare(self, rare: Rare, names: Mapping[str, str]) -> str:
        """Return the call of a function that some steps or leaves are without."""
        plan, results = rare.plan, self.results(rare.plan)
        given = [self.h, GRADIENT, *([WEIGHT] if plan.weights else []), *plan.trees, *plan.handed]
        given += [*plan.inputs, *plan.slots, *([UPDATE] if plan.reads_update else [])]
        given += [f"{name}={name}" for name in plan.scalars]
        old = results[0] if len(results) == 1 else f"({', '.join(results)})"
        new = f"_{plan.name}({', '.join(given)})"
        if rare.every is not None:
            every = expression_text(rare.every, names)
            first = rare.first and expression_text(rare.first, names)
            last = f", first={first}" if first else ""
            new = f"every({every}, {CYCLE}, lambda: {new}, {old}{last})"
        if rare.unless is not None:
            new = f"unless({expression_text(rare.unless, names)}, {new}, {old})"
        return f"{', '.join(results)} = {new}"

    def steps(self) -> Iterator[str]:
        """Yield what a step computes, phase by phase."""
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

    def new_state(self) -> list[str]:
        """Return what a step changes in the state, as keyword arguments of `_replace`."""
        scalars = [code.body for phase in self.spec.phases if (code := phase.scalars)]
        written = {slot for plan in self.analysis.phases for slot in plan.slots}
        assigned = {name for body in scalars for name in assigned_in(body)}
        intervals = ", ".join(self._interval(text) for text in self.analysis.intervals)
        return [
            "step=one_more(state.step)",
            *([f"cycle=one_more(state.cycle, {intervals})"] if intervals else []),
            *(
                f"{s.name}=renewed(state.{s.name}, state.step)"
                for s in self.spec.scalars
                if s.name in self.drawn and s.is_key
            ),
            *(f"{s.name}=scalar({s.name})" for s in self.spec.scalars if s.name in assigned),
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
        if not plan.slots and not plan.totals:
            yield f"(result,) = {self._call(plan, inputs, None, self.held)}"
            yield "return result"
            return
        if plan.slots:
            yield "output = Output.updates(state, weights)"
        call = self._call(plan, inputs, [f"state.{slot}" for slot in plan.slots], self.held)
        if plan.totals:
            yield f"_, sums = {call}"
            yield f'return sums["{RESULT}"]'
        else:
            yield f"{tuple_of(plan.slots)}, _ = {call}"
            yield f"return state._replace({', '.join(f'{slot}={slot}' for slot in plan.slots)})"

    def _call(
        self,
        plan: LeafPlan,
        inputs: Sequence[str],
        slots: Sequence[str] | None,
        values: Mapping[str, str],
    ) -> str:
        """Return the call that maps a leaf function over the trees; without slots, that of a function."""
        given = [f"_{plan.name}", self.h, f"inputs={tuple_of(inputs)}"]
        given.append(f"slots={tuple_of(slots) if slots else '()'}")
        function = "map_leaves"
        of_step = plan in self.analysis.phases
        if slots is not None and plan is not self.analysis.phases[-1]:
            function = "reduce_leaves"
            given += ["rounding=output.rounding"] if slots or of_step else []
        elif slots is not None:
            given.append("output=output")
        given += [f"{name}={values.get(name, name)}" for name in plan.scalars]
        return f"{function}({', '.join(given)})"

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
                if part.plan.moves and not moved:
                    yield f"{UPDATE} = no_update({GRADIENT})"
                if part.unless is not None:
                    narrowing = Narrowing(part.unless, names, tests)
                    yield from narrowing.assertion({*names_in(part.unless.body)})
                yield self._rare(part, names)
                moved = moved or part.plan.moves
            else:
                moved = moved or UPDATE in assigned_in(part.body)
                narrowing = Narrowing(part, names, tests)
                yield from narrowing.statements(part.body)
                yield from narrowing.comments_before()


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
