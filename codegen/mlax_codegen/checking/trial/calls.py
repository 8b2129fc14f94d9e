"""What the functions of the language give in a trial, and what they cannot be given."""

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mlax_codegen.checking.trial.ranges import ROOT, SIZE, Range, arithmetic, exactly
from mlax_codegen.checking.trial.things import (
    ARRAY,
    AXIS,
    NUMBER,
    Arrays,
    Dims,
    Shaped,
    Shapes,
    Sizes,
    Thing,
    agree,
    count,
    dims_of,
    joined,
    limited,
    of_axis,
)
from mlax_codegen.language import FUNCTIONS

__all__ = ["Calls"]

_MOST_STEPS = 1000  # of orthogonalize, which are written out


class _Trial(Protocol):
    axes: int

    @property
    def where(self) -> str: ...
    def wrong(self, node: ast.AST, message: str) -> None: ...
    def elementwise(self, node: ast.expr, things: Sequence[Thing]) -> Thing: ...


class Calls:
    """One call, with what is known of its arguments."""

    def __init__(
        self, trial: _Trial, node: ast.Call, given: Sequence[Thing], named: Mapping[str, Thing]
    ) -> None:
        self.trial = trial
        self.node = node
        self.given = given
        self.named = named

    def result(self, name: str) -> Thing:
        """Return what is known of the result, noting what cannot work."""
        self.name = name
        function = FUNCTIONS[name]
        found = {p.name: thing for p, thing in zip(function.parameters, self.given, strict=False)}
        found |= self.named
        if name == "max" and len(self.given) == 2:
            return self.extreme(max)
        if not (function.static or function.elementwise) and self.mistaken(name):
            return None
        match name:
            case "abs2" if isinstance(self.given[0], Range):
                value, wrong = arithmetic("*", self.given[0], self.given[0])
                if wrong is not None:
                    self.wrong(wrong)
                return value
            case "where" | "maximum" | "minimum" | "clip" | "sign" | "abs" if self.integers():
                self.wrong(f"{name} of integers is no float; write one of them like 1.0")
                return None
            case "sqrt" | "log" | "clip":
                self.domain(name)
                return self.trial.elementwise(self.node, self.given)
            case "every":
                return self.every(*self.given)
            case "min":
                return self.extreme(min)
            case "len" | "product":
                return self.number(name, self.given[0])
            case "two_largest_axes" | "two_axes":
                return self.two_axes(self.given[0])
            case "without" | "vectors" | "matrices":
                return self.shape(name, found)
            case "sum" | "norm" | "rms" | "max" | "trust_ratio" | "total":
                return NUMBER
            case "mean" | "max_except" | "gram" | "along":
                return self.along_axis(name, found)
            case "outer_mean":
                axes = found["axes"]
                if isinstance(axes, Sizes) and axes.lengths != frozenset([2]):
                    self.wrong(
                        f"outer_mean needs two axes, and there may be none {self.trial.where}; ask with `if` first"
                    )
                row = _dims(found["row"])
                return ARRAY if row is None else Shaped((None,) * (len(row) + 1))
            case "least":
                return self.least(self.given[0])
            case "orthogonalize":
                return self.orthogonalize(found)
            case "as_matrix":
                dims = self.at_least(1, found["x"])
                return Shaped(dims if dims is not None and len(dims) == 2 else (None, None))
            case "reshape":
                return self.reshape(_dims(found["x"]), found["shape"])
            case "inverse_root" | "eigenbasis" | "refreshed_basis":
                return self.matrix(name, found)
            case "rotate" | "rotate_back":
                dims, bases = _dims(found["x"]), found["bases"]
                if (
                    dims is not None
                    and isinstance(bases, Arrays)
                    and bases.lengths != frozenset([len(dims)])
                ):
                    self.wrong(f"{name} needs one matrix for each axis of what it turns")
                return Shaped(dims)
            case "normal":
                return Shaped(_dims(found["like"]))
            case _:
                return self.trial.elementwise(self.node, self.given)

    def wrong(self, message: str) -> None:
        self.trial.wrong(self.node, message)

    def domain(self, name: str) -> None:
        """Note where numbers known before anything runs are none that a function is defined for."""
        match name, *self.given:
            case "sqrt", Range(low=low) if low < 0:
                self.wrong(ROOT)
            case "log", Range(low=low) if low <= 0:
                self.wrong("a logarithm of what may be 0 or less; exclude that by bounds or max")
            case "clip", _, Range(low=low), Range(high=high) if low > high:
                self.wrong("nothing is between these bounds; the lower one comes first")
            case _:
                pass

    def mistaken(self, name: str) -> bool:
        """Whether a function of a leaf is given a number known before anything runs; that is noted."""
        function = FUNCTIONS[name]
        pairs = zip(function.parameters, self.given, self.node.args, strict=False)
        for parameter, thing, argument in pairs:
            array = not (parameter.static or parameter.optional or parameter.name == "eps")
            if array and isinstance(thing, Range):
                message = f"{name} is of an array, and this is a number known before anything runs"
                self.trial.wrong(argument, message)
                return True
            one = parameter.name in {"eps", "coefficient", "least"}
            if one and isinstance(thing, Shaped) and thing.dims:
                self.trial.wrong(argument, f"{parameter.name} of {name} is one number")
                return True
        return False

    def integers(self) -> bool:
        """Whether all numbers it is given are integers: an array of these goes together with no other."""
        first = int(self.name == "where")
        return all(isinstance(thing, Range) and thing.whole for thing in self.given[first:])

    def at_least(self, axes: int, x: Thing) -> Dims:
        dims = _dims(x)
        if dims is not None and len(dims) < axes:
            name = self.node.func.id if isinstance(self.node.func, ast.Name) else "it"
            few = f"needs {count(axes, 'axis', 'axes')}, and this has {count(len(dims), 'axis', 'axes')}"
            self.wrong(f"{name} {few} {self.trial.where}; ask `ndim >= {axes}` first")
        return dims

    def length(self, axis: str | None) -> str | None:
        """Return the length of the matrix of an axis."""
        before = len(FUNCTIONS[self.name].parameters) - 1  # `longest` is the last
        given = [*self.node.args[before:], *(keyword.value for keyword in self.node.keywords)]
        return limited(axis, ast.unparse(given[0])) if given else axis

    def extreme(self, better: Callable[[float, float], float]) -> Thing:
        a, b = self.given
        if not isinstance(a, Range) or not isinstance(b, Range):
            return None
        low, high = better(a.low, b.low), better(a.high, b.high)
        return Range(low, high, a.whole and b.whole)

    def number(self, name: str, sizes: Thing) -> Thing:
        if not isinstance(sizes, Sizes):
            return SIZE
        if name == "len":
            return Range(min(sizes.lengths), max(sizes.lengths), whole=True)
        return exactly(1) if max(sizes.lengths) == 0 else SIZE

    def two_axes(self, shape: Thing) -> Thing:
        axes = max(shape.lengths) if isinstance(shape, Sizes) else 0
        if axes < 2:
            return Sizes.of([])
        return Sizes(None, frozenset([0, 2]), Range(0, axes - 1, whole=True))

    def shape(self, name: str, found: Mapping[str, Thing]) -> Thing:
        shape = found["shape"]
        if not isinstance(shape, Sizes) or len(shape.lengths) != 1:
            return None
        [axes] = shape.lengths
        if name == "vectors":
            return Shapes(frozenset([max(1, axes)]), (None,) if axes else ())
        if name == "matrices":
            return Shapes(frozenset([axes]), (self.length(AXIS),) * 2)
        axis = self.axis("axis", found["axis"], axes)
        if axis is None or shape.items is None:
            return Sizes(None, frozenset([max(0, axes - 1)]), shape.any)
        return Sizes.of(item for i, item in enumerate(shape.items) if i != axis)

    def axis(self, what: str, axis: Thing, axes: int) -> int | None:
        """Return the one axis that is meant; None where it may be one of several, or none."""
        if not isinstance(axis, Range):
            return None
        if not axis.whole:
            self.wrong(f"an {what} is a whole number")
        elif axis.high >= axes or axis.low < -axes:
            few = count(axes, "axis", "axes")
            hint = f"; ask `ndim > {axis.high:g}` first" if axis.is_one and axis.low >= 0 else ""
            self.wrong(f"there is no such axis: this has {few} {self.trial.where}{hint}")
        elif axis.is_one:
            return int(axis.low) % axes
        return None

    def along_axis(self, name: str, found: Mapping[str, Thing]) -> Thing:
        if name == "along":
            return self.along(found)
        x = found["x"]
        dims = _dims(x)
        if name == "mean" and "axis" not in found:
            return NUMBER
        if dims is None or (name == "max_except" and not dims):
            return Shaped(dims)
        one = self.axis("axis", found["axis"], len(dims))
        length = None if one is None else dims[one]
        if name == "max_except":
            return Shaped((length,))
        if name == "gram":
            return Shaped((self.length(AXIS if one is None else length),) * 2)
        rest = (None,) * max(0, len(dims) - 1)
        return Shaped(rest if one is None else dims[:one] + dims[one + 1 :])

    def along(self, found: Mapping[str, Thing]) -> Thing:
        ndim = found["ndim"]
        if not isinstance(ndim, Range) or not ndim.is_one or not ndim.whole:
            return ARRAY
        axes = int(ndim.low)
        if axes < 1:
            return NUMBER
        one = self.axis("axis", found["axis"], axes)
        if one is None:
            return Shaped((None,) * axes)
        vector = _dims(found["vector"])
        length = vector[0] if vector is not None and len(vector) == 1 else None
        return Shaped(tuple(length if i == one else "1" for i in range(axes)))

    def least(self, arrays: Thing) -> Thing:
        if not isinstance(arrays, Arrays):
            return ARRAY
        if 0 in arrays.lengths:
            self.wrong(
                f"least is of one array or more, and there may be none {self.trial.where}; write range(max(1, ndim))"
            )
        return Shaped(arrays.item)

    def orthogonalize(self, found: Mapping[str, Thing]) -> Thing:
        dims = self.at_least(2, found["x"])
        steps = found.get("steps")
        if isinstance(steps, Range) and (not steps.whole or steps.low > _MOST_STEPS):
            self.wrong(f"steps are a whole number, of at most {_MOST_STEPS:,}")
        return Shaped(dims)

    def reshape(self, dims: Dims, shape: Thing) -> Thing:
        wanted = dims_of(shape)
        known = dims is not None and wanted is not None and None not in {*dims, *wanted}
        if known and _elements(dims) != _elements(wanted):
            self.wrong("reshape keeps all elements, and this is another number of them")
        return Shaped(wanted)

    def matrix(self, name: str, found: Mapping[str, Thing]) -> Thing:
        dims = _dims(found["matrix"])
        if dims is not None and len(dims) != 2:
            self.wrong(
                f"{name} needs a matrix, and this has {count(len(dims), 'axis', 'axes')} {self.trial.where}"
            )
        if "basis" in found and not agree(dims, _dims(found["basis"])):
            self.wrong("a matrix and its basis have one shape")
        p = found.get("p")
        if isinstance(p, Range) and (p.low <= 0 <= p.high):
            self.wrong("the p of inverse_root may be 0")
        return Shaped(dims)

    def item(self, thing: Thing) -> Dims:
        """Return the shape of an array, or of each in a list."""
        if not isinstance(thing, Arrays):
            return _dims(thing)
        return of_axis(thing.item, 0) if self.trial.axes == 1 else thing.item

    def every(self, k: Thing, new: Thing, old: Thing) -> Thing:
        if isinstance(k, Range) and not (k.whole and k.low >= 1):
            self.trial.wrong(
                self.node.args[0],
                'every takes a whole number of at least 1; a hyperparameter has bounds = "1 <= x"',
            )
        if not agree(self.item(new), self.item(old)):
            self.wrong("new and old of every have one shape")
        found = joined(new, old)
        return NUMBER if isinstance(found, Range) else found


def _dims(thing: Thing) -> Dims:
    match thing:
        case Shaped(dims):
            return dims
        case Range():
            return ()
        case _:
            return None


def _elements(dims: Dims) -> list[str]:
    """Return the lengths whose product is how many elements an array has."""
    return sorted(length for length in dims or () if length is not None and length != "1")
