"""Runs the equations without numbers, on leaves of few and many axes, and records what would fail.

README.md beside this file explains how that works, and why the equations are not run for real.
"""

import ast
from collections.abc import Mapping, Sequence

from mlax_codegen.checking.logic import Facts, Range, is_possible
from mlax_codegen.checking.options import Configuration
from mlax_codegen.checking.trial.equations import Equations
from mlax_codegen.checking.trial.expressions import MOST_AXES
from mlax_codegen.checking.trial.intervals import Interval
from mlax_codegen.checking.trial.values import List, Value
from mlax_codegen.language import COUNT, NDIM, SHAPE, Type
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import parts_of

__all__ = ["facts_of", "try_out"]

_FEW_AXES = 4  # the most that weights usually have
# For each number of axes. A built-in spec takes about 5 runs in all; Adafactor takes the most, 11.
# A spec that would take more is not tried in every configuration, as a user waits for it.
_MOST_RUNS = 128


def try_out(spec: Spec, facts: Facts) -> None:
    """Record in the spec's document what cannot work.

    Options multiply: five booleans have 32 combinations. So the first run takes no option as
    decided. It follows both branches and joins what they know. Where that loses a shape, it says
    which option chose the branch, and the equations are run again with each answer to that option.
    An option that changes numbers only costs no more runs.
    """
    before = len(spec.document.mistakes)
    for axes in _numbers_of_axes(spec):
        configurations, left = [Configuration(())], _MOST_RUNS
        while configurations and left:
            left -= 1
            run = Equations(spec, axes, configurations.pop())
            run.run()
            if len(spec.document.mistakes) > before:  # other runs would mostly find the same ones
                return
            if run.undecided:
                option, answers = min(run.undecided.items())
                decided = run.configuration.answers
                more = [Configuration((*decided, (option, answer))) for answer in answers]
                configurations += [each for each in more if is_possible(each, facts)]


def facts_of(spec: Spec, kinds: Mapping[str, Type]) -> Facts:
    """Return what the names in the conditions of a spec may be; `kinds` are the types of those in [shapes]."""
    runs: dict[int, _Silent] = {}

    def range_of(node: ast.expr, axes: int) -> Range:
        if axes not in runs:
            runs[axes] = _Silent(spec, axes, Configuration(()))
        found = runs[axes].of(node)
        match found:
            case List(lengths=lengths):
                return Range(few=lengths)
            case Interval():
                return Range(found.low, found.high, found.whole)
            case _:
                return Range()

    return Facts(
        {h.name: h.choices for h in spec.hyperparameters if h.kind == "choice"},
        {n: code.expression for n, code in spec.shapes.items() if kinds[n] is Type.FLAG},
        {COUNT, NDIM, SHAPE, *spec.shapes},
        {SHAPE, *(name for name, kind in kinds.items() if kind is Type.SIZES)},
        range_of,
    )


class _Silent(Equations):
    """A run that only asks what static numbers may be. Another run records what is wrong with them."""

    def __init__(self, spec: Spec, axes: int, configuration: Configuration) -> None:
        super().__init__(spec, axes, configuration)
        self.before = self.static() or {}

    def of(self, node: ast.expr) -> Value:
        self._known = self.before
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[sizes]):
                return self.value(sizes)
            case _:
                return self.value(node)

    def wrong(self, node: ast.AST, message: str) -> None:
        """Leave it to the other run."""


def _numbers_of_axes(spec: Spec) -> Sequence[int]:
    """Return the numbers of axes to run with: few, and those around each integer in the spec.

    `g * shape[6] if ndim > 5 else g` is right for leaves of up to five axes, and fails with six.
    """
    blocks = [*(p.leaf for p in spec.phases), *(f.leaf for f in spec.functions)]
    expressions = [
        *spec.shapes.values(),
        *(code for slot in spec.slots for code in (slot.shape, slot.when) if code is not None),
    ]
    trees: list[ast.AST] = [statement for code in blocks for statement in code.body]
    trees += [code.expression for code in expressions]
    integers = {
        part.value
        for tree in trees
        for part in parts_of(tree)
        if isinstance(part, ast.Constant) and type(part.value) is int
    }
    near = {n + i for n in integers if _FEW_AXES <= n < MOST_AXES for i in (-1, 0, 1)}
    return sorted({*range(_FEW_AXES + 1), *near})
