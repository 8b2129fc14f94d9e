"""One run through the equations: its leaves and options, what it knows, what it finds."""

import ast
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from mlax_codegen.checking.options import Configuration, literal, names_of, options_in
from mlax_codegen.checking.trial.intervals import Interval
from mlax_codegen.checking.trial.values import (
    ANY_ARRAY,
    Array,
    Dims,
    List,
    Value,
    broadcast,
    count,
    dims_of,
    dims_text,
    join,
    legend,
    shape_of,
)
from mlax_codegen.language import COUNT, NDIM, SHAPE
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.equations import Code
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import parts_of

__all__ = ["Known", "Run"]

Known = dict[str, Value]
"""What is known of each name at one point of a run, and of some sums and other expressions, by their texts."""


class Run(ABC):
    """What all parts of a run share.

    Attributes:
        axes: How many axes the leaf has.
        configuration: The options that this run takes as decided.
        undecided: Options whose answers lead to different shapes and that this run did not take as
            decided, with their answers. The same equations are run again with each answer.
        blamed: Expressions that are already reported.
        counts: Parts of the ends of ranges, which JAX does not see.
    """

    # What is known of each name where the run is, the shape of the leaf, and the equations where the run is.
    _known: Known
    _leaf: Dims
    _code: Code

    def __init__(self, spec: Spec, axes: int, configuration: Configuration) -> None:
        self.spec = spec
        self.axes = axes
        self.configuration = configuration
        self.answers: Mapping[str, str] = dict(configuration.answers)
        self.choices: Mapping[str, tuple[str, ...]] = {
            h.name: h.choices for h in spec.hyperparameters if h.kind == "choice"
        }
        of_lists = (f"len({h.name})" for h in spec.hyperparameters if h.kind == "list")
        self.options: set[str] = {SHAPE, *(h.name for h in spec.hyperparameters), *of_lists}
        self.of_leaf: set[str] = {SHAPE, NDIM, COUNT, *spec.shapes}
        self.slots: Mapping[str, Slot] = {slot.name: slot for slot in spec.slots}
        self.undecided: dict[str, tuple[str, ...]] = {}
        self.blamed: set[ast.AST] = set()
        self.counts: set[ast.AST] = set()
        self._known = {}
        self._leaf = ()
        self._code = spec.phases[0].leaf

    @abstractmethod
    def value(self, node: ast.expr) -> Value:
        """Return what is known of an expression, recording what cannot work in it."""

    def value_where(self, known: Known, node: ast.expr) -> Value:
        """Return what an expression is where these names are known."""
        before, self._known = self._known, known
        found = self.value(node)
        self._known = before
        return found

    def wrong(self, node: ast.AST, message: str) -> None:
        """Record a mistake, once for each place."""
        if node not in self.blamed and isinstance(node, ast.expr):
            self.blamed.add(node)
            self._code.note(node, message)

    def wrong_here(self, node: ast.AST, message: str, cure: str = "") -> None:
        """Record a mistake that occurs only with some leaves and options, and say which."""
        self.wrong(node, f"{message}, {self.where}{f'; {cure}' if cure else ''}")

    def wrong_list(self, node: ast.AST, items: List, message: str, cure: str = "") -> None:
        """Record a mistake with a list; if hyperparameters say how long it is, it occurs with all leaves."""
        if items.name is None:
            self.wrong_here(node, message, cure)
        else:
            self.wrong(node, f"{message}; {cure}" if cure else message)

    def is_positive(self, node: ast.AST, value: Value, what: str) -> bool:
        """Whether a static number is an integer of at least 1; record it if not."""
        if isinstance(value, Interval) and not (value.whole and value.low >= 1):
            cure = 'for a hyperparameter, write bounds = "1 <= x"'
            self.wrong(node, f"{what} must be an integer of at least 1; {cure}")
            return False
        return True

    @property
    def where(self) -> str:
        """Which leaves and options the run is for, in the words of a message."""
        options = " and ".join(literal(*answer) for answer in self.configuration.answers)
        axes = f"for leaves with {count(self.axes, 'axis', 'axes')}"
        return f"{axes}, when {options}" if options else axes

    def elementwise(self, node: ast.expr, values: Sequence[Value]) -> Value:
        """Return the shape of the result of an operation on each element."""
        dims: Dims = ()
        for value in values:
            other = dims_of(value)
            both, together = broadcast(dims, other)
            if not together:
                shapes = f"{dims_text(dims)} and {dims_text(other)}"
                cure = "reduce or reshape one of them, for example with `along`"
                cures = filter(None, [legend(dims, other), cure])
                message = f"shapes {shapes} cannot be broadcast together"
                self.wrong_here(node, message, "; ".join(cures))
                return ANY_ARRAY
            dims = both
        return Array(dims)

    def one_of(self, first: Value, second: Value, test: ast.expr | None) -> Value:
        """Return what is known of a value that is one of two.

        Where their shapes differ, the options in the test that chooses are recorded as undecided.
        """
        if test is not None and shape_of(first) != shape_of(second):
            found = options_in(self.with_definitions(test), self.choices)
            self.undecided |= {
                option: answers
                for option, answers in found
                if option not in self.answers and names_of(option) <= self.options
            }
        return join(first, second)

    def either(self, states: Sequence[Known], test: ast.expr | None = None) -> Known:
        """Return what is known after one of one or two branches, of the names that both know."""
        if len(states) < 2:
            return states[0] if states else self._known
        first, second = states
        both = [name for name in first if name in second]
        return {name: self.one_of(first[name], second[name], test) for name in both}

    def with_definitions(self, test: ast.expr) -> list[ast.expr]:
        """Return a test, and the definitions in [shapes] of the names in it."""
        tests = [test]
        for part in parts_of(test):
            code = self.spec.shapes.get(part.id) if isinstance(part, ast.Name) else None
            if code is not None:
                tests += self.with_definitions(code.expression)
        return tests
