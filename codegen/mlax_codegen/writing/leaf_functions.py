"""Equations as code: leaf functions, and what is computed once a step."""

import ast
from collections.abc import Iterator, Mapping, Sequence

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.checking.plans import LeafPlan
from mlax_codegen.language import FUNCTIONS, GRADIENT, NDIM, SHAPE, TOTAL, WEIGHT
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in
from mlax_codegen.writing.expressions import expression_text
from mlax_codegen.writing.shape_functions import ShapeFunctions

__all__ = ["Equations", "tuple_of"]


def tuple_of(items: Sequence[str]) -> str:
    """Return code for a tuple."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


class Equations:
    """Writes the equations of one spec."""

    def __init__(self, spec: Spec, analysis: Analysis) -> None:
        self.spec = spec
        self.analysis = analysis
        self.optional: set[str] = {h.name for h in spec.hyperparameters if h.optional}
        calls = {name: function.code for name, function in FUNCTIONS.items()}
        fixed = {h.name: f"h.{h.name}" for h in spec.hyperparameters if not h.schedulable}
        self.names: Mapping[str, str] = {**calls, "max/2": "max", **fixed}
        self.shapes: ShapeFunctions = ShapeFunctions(spec, analysis, self.names)

    def leaf_function(self, plan: LeafPlan, kind: str) -> list[str]:
        """Return the function of one leaf of a phase: an update and slots, or slots and totals, or a result."""
        first = [] if kind == "result" else [f"{GRADIENT}: Array"]
        weights = [f"{WEIGHT}: Array"] if plan.weights or kind == "result" else []
        slots = [f"{slot}: {self._type(slot)}" for slot in (*plan.inputs, *plan.slots)]
        scalars = [
            f"{name}: {'Array | None' if name in self.optional else 'Array'}"
            for name in plan.scalars
        ]
        keywords = ["*", *scalars] if scalars else []
        parameters = [f"h: {self.spec.class_name}", *first, *weights, *slots, *keywords]
        types = [self._type(slot) for slot in plan.slots]
        if kind == "totals":
            totals = ["Array"] * len(plan.totals)
            returned = f"tuple[tuple[{', '.join(types) or '()'}], tuple[{', '.join(totals)}]]"
            last = f"{tuple_of(plan.slots)}, {tuple_of(plan.totals)}"
        else:
            returned = f"tuple[{', '.join(['Array', *types])}]"
            last = ", ".join([kind, *plan.slots]) if plan.slots else f"({kind},)"
        whole = WEIGHT if kind == "result" else GRADIENT
        return [
            f"def _{plan.name}({', '.join(parameters)}) -> {returned}:",
            *(f"    {line}" for line in self._leaf(plan, whole)),
            f"    return {last}",
        ]

    def steps(self) -> Iterator[str]:
        """Yield what a step computes, phase by phase."""
        held = {name: f"state.{name}" for slot in self.spec.slots for name in [slot.name]}
        names = {**self.names, "step": "state.step"}
        for phase, plan in zip(self.spec.phases, self.analysis.phases, strict=True):
            if phase.scalars is not None:
                yield from _statements(phase.scalars.text, phase.scalars.body, names)
            inputs = ["gradients", *(["weights"] if plan.weights else [])]
            inputs += [held[slot] for slot in plan.inputs]
            slots = tuple_of([held[slot] for slot in plan.slots])
            last = phase is self.spec.phases[-1]
            function = "map_leaves" if last else "reduce_leaves"
            call = self._call(function, plan, inputs, f"{slots}, store", {"step": "state.step"})
            held |= {slot: slot for slot in plan.slots}
            if last:
                results = ["result", *plan.slots]
                yield f"{', '.join(results) if plan.slots else tuple_of(results)} = {call}"
            else:
                written = tuple_of(plan.slots) if plan.slots else "_"
                yield f"{written}, {tuple_of(plan.totals)} = {call}"

    def function_call(self, plan: LeafPlan) -> list[str]:
        """Return what a function of the state and the weights computes."""
        inputs = ["weights", *(f"state.{slot}" for slot in plan.inputs)]
        held = {name: f"state.{name}" for name in plan.scalars}
        call = self._call("map_leaves", plan, inputs, "()", held)
        return ["h = state.hyperparameters", f"(result,) = {call}", "return result"]

    def _call(
        self,
        function: str,
        plan: LeafPlan,
        inputs: Sequence[str],
        slots: str,
        values: Mapping[str, str],
    ) -> str:
        scalars = "".join(f", {name}={values.get(name, name)}" for name in plan.scalars)
        return f"{function}(_{plan.name}, h, {tuple_of(inputs)}, {slots}{scalars})"

    def _leaf(self, plan: LeafPlan, whole: str) -> Iterator[str]:
        """Yield the code of a leaf function, beginning with what it reads of the leaf's shape."""
        read = set(names_in(plan.code.body))
        names = {**self.names, "step": "step"}
        of_leaf = {SHAPE: f"{whole}.shape", NDIM: f"{whole}.ndim"}
        assigned = any(
            isinstance(part, ast.Name) and part.id == whole and isinstance(part.ctx, ast.Store)
            for statement in plan.code.body
            for part in ast.walk(statement)
        )
        if assigned:
            yield from (f"{name} = {value}" for name, value in of_leaf.items() if name in read)
        yield from self.shapes.values(read, of_leaf[SHAPE], of_leaf[NDIM])
        names = names if assigned else {**names, **of_leaf}
        yield from _statements(plan.code.text, plan.code.body, names)

    def _type(self, slot: str) -> str:
        return "Sequence[Array]" if slot in self.analysis.several else "Array"


def _statements(text: str, body: Sequence[ast.stmt], names: Mapping[str, str]) -> Iterator[str]:
    """Yield equations as code, one statement a line."""
    for statement in body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id=function), args=[summed]),
            ) if function == TOTAL:
                yield f"{name} = {expression_text(text, summed, names)}"
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield f"{name} = {expression_text(text, value, names)}"
            case ast.If():
                word = "if"
                branch: ast.If | None = statement
                while branch is not None:
                    yield f"{word} {expression_text(text, branch.test, names)}:"
                    yield from (f"    {line}" for line in _statements(text, branch.body, names))
                    match branch.orelse:
                        case [ast.If() as following]:
                            word, branch = "elif", following
                        case otherwise:
                            if otherwise:
                                yield "else:"
                                yield from (
                                    f"    {line}" for line in _statements(text, otherwise, names)
                                )
                            branch = None
            case _:
                pass
