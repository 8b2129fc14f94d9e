"""The functions of the language: what is known of a result, and which arguments are wrong."""

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mlax_codegen.checking.trial.intervals import (
    SIZE,
    Interval,
    arithmetic,
    exactly,
    wrong_root,
)
from mlax_codegen.checking.trial.values import (
    ANY_ARRAY,
    SCALAR,
    Array,
    Arrays,
    Dims,
    List,
    Shapes,
    Sizes,
    Value,
    agree,
    as_dims,
    count,
    dims_of,
    dims_text,
    join,
    least,
    legend,
    limited,
    name_of,
)
from mlax_codegen.language import FUNCTIONS, TOTALS, is_of_numbers
from mlax_codegen.reading.mistakes import either_of
from mlax_codegen.reading.trees import in_short

__all__ = ["Call"]

_OF_A_NUMBER = {
    **dict.fromkeys(("norm", "rms"), "use abs(x)"),
    **dict.fromkeys(("mean", "max", "min"), "use the number itself"),
    "matmul": "multiply numbers with `*`",
}
_TIMES = " * "
_MOST_STEPS = 1000  # of orthogonalize: each is a part of the program that XLA compiles


class _Run(Protocol):
    axes: int

    def wrong(self, node: ast.AST, message: str) -> None: ...
    def wrong_here(self, node: ast.AST, message: str, cure: str = "") -> None: ...
    def wrong_list(self, node: ast.AST, items: List, message: str, cure: str = "") -> None: ...
    def elementwise(self, node: ast.expr, values: Sequence[Value]) -> Value: ...


class Call:
    """One call, with what is known of its arguments."""

    def __init__(
        self, run: _Run, node: ast.Call, given: Sequence[Value], named: Mapping[str, Value]
    ) -> None:
        self.run = run
        self.node = node
        self.given = given
        self.named = named

    def result(self, name: str) -> Value:
        """Return what is known of the result, recording what cannot work."""
        self.name = name
        function = FUNCTIONS[name]
        found = {p.name: value for p, value in zip(function.parameters, self.given, strict=False)}
        found |= self.named
        if is_of_numbers(self.node):
            if self.named:
                self.wrong(f"{name} of two numbers has no axis")
            return self.extreme(max if name == "max" else min)
        if not (function.static or "elementwise" in function.facts) and self.mistaken(name):
            return None
        if name == "sum" and isinstance(self.given[0], Arrays):
            return self.combined(self.given[0])
        match name:
            case "abs2" if isinstance(self.given[0], Interval):
                value, wrong = arithmetic("*", self.given[0], self.given[0])
                if wrong is not None:
                    self.wrong(wrong)
                return value
            case "where" | "maximum" | "minimum" | "clip" | "sign" | "abs" | "floor" if (
                self.integers()
            ):
                self.wrong(self.only_integers(name))
                return None
            case "sqrt" | "log" | "log1p" | "clip":
                self.domain(name)
                return self.run.elementwise(self.node, self.given)
            case "every":
                return self.every(*self.given)
            case "len" | "product":
                return self.number(name, self.given[0])
            case "two_largest_axes" | "two_axes":
                return self.two_axes(self.given[0], self.given[-1])
            case "reduced":
                return self.reduced(name, found, found["shape"])
            case "without" | "vectors" | "matrices":
                return self.shape(name, found)
            case "trust_ratio":
                return SCALAR
            case _ if name in TOTALS:
                return SCALAR
            case _ if function.reduces:
                return self.reduced(name, found, found["x"])
            case "gram":
                return self.gram(found)
            case "along":
                return self.along(found)
            case "as_vector":
                return self.as_vector(dims_of(found["x"]))
            case "outer_mean":
                axes = found["axes"]
                if isinstance(axes, Sizes) and axes.lengths != frozenset([2]):
                    cure = "test that with `if` first"
                    self.wrong_here("outer_mean needs two axes, but there may be none", cure)
                row = dims_of(found["row"])
                return ANY_ARRAY if row is None else Array((None,) * (len(row) + 1))
            case "least":
                return self.combined(self.given[0])
            case "orthogonalize":
                return self.orthogonalize(found)
            case "as_matrix":
                dims = self.at_least(1, found["x"])
                return Array(dims if dims is not None and len(dims) == 2 else (None, None))
            case "reshape":
                return self.reshape(dims_of(found["x"]), found["shape"])
            case "matmul":
                return self.matmul(dims_of(found["a"]), dims_of(found["b"]))
            case _ if "matrix" in found:
                return self.matrix(name, found)
            case "rotate" | "rotate_back":
                return self.rotate(name, dims_of(found["x"]), found["bases"])
            case "normal" | "uniform" | "rademacher":
                return Array(dims_of(found["like"]))
            case _:
                return self.run.elementwise(self.node, self.given)

    def wrong(self, message: str) -> None:
        self.run.wrong(self.node, message)

    def wrong_here(self, message: str, cure: str = "") -> None:
        self.run.wrong_here(self.node, message, cure)

    def domain(self, name: str) -> None:
        """Record static numbers that a function is not defined for."""
        match name, *self.given:
            case "sqrt", Interval(low=low) as x if low < 0:
                self.wrong(wrong_root(x))
            case "log" | "log1p", Interval(low=low, high=high) if low <= (
                limit := 0 if name == "log" else -1
            ):
                what = f"the argument of {name} {'is' if high <= limit else 'may be'}"
                few = "0 or negative" if name == "log" else "-1 or less"
                needs = f"{name} needs a {'positive number' if name == 'log' else 'larger one'}"
                cure = needs if high <= limit else "exclude that with bounds or max"
                self.wrong(f"{what} {few}; {cure}")
            case "clip", _, Interval(low=low), Interval(high=high) if low > high:
                self.wrong(
                    "the lower bound of clip is above the upper one; give the lower bound first"
                )
            case _:
                pass

    def mistaken(self, name: str) -> bool:
        """Whether an argument is a static number instead of an array, or the reverse; record it."""
        function = FUNCTIONS[name]
        pairs = zip(function.parameters, self.given, self.node.args, strict=False)
        for parameter, value, argument in pairs:
            array = not (parameter.static or parameter.optional or parameter.name == "eps")
            if array and isinstance(value, Interval):
                message = f"{name} takes an array, but this is a number"
                cure = _OF_A_NUMBER.get(name, "pass an array, such as g")
                self.run.wrong(argument, f"{message}; {cure}")
                return True
            one = parameter.name in {"eps", "coefficient", "min_norm"}
            if one and isinstance(value, Array) and value.dims:
                self.run.wrong(
                    argument,
                    f"{parameter.name} of {name} must be a single number, but this is an array",
                )
                return True
        return False

    def integers(self) -> bool:
        """Whether all arguments are integers: an integer array does not go with floats."""
        first = int(self.name == "where")
        return all(isinstance(value, Interval) and value.whole for value in self.given[first:])

    def only_integers(self, name: str) -> str:
        """Return the complaint about a function whose arguments are all integers."""
        if len(self.given) == 1:
            cure = f"write `1.0 * {in_short(self.node.args[0], 'x')}`"
            return f"the argument of `{name}` is an integer; {cure}"
        what = "all arguments" if name == "clip" else "both arguments"
        what = "both values" if name == "where" else what
        return f"{what} of `{name}` are integers; write one as a float, such as 1.0"

    def at_least(self, axes: int, x: Value) -> Dims:
        dims = dims_of(x)
        if dims is not None and len(dims) < axes:
            name = self.node.func.id if isinstance(self.node.func, ast.Name) else "it"
            needs = f"{name} needs {count(axes, 'axis', 'axes')}"
            but = f"but this has {count(len(dims), 'axis', 'axes')}"
            self.wrong_here(f"{needs}, {but}", f"test `ndim >= {axes}` first")
        return dims

    def length(self, axis: str | None) -> str | None:
        """Return the length of the matrix for an axis, which may be limited by `longest`."""
        before = len(FUNCTIONS[self.name].parameters) - 1  # `longest` is the last
        given = [*self.node.args[before:], *(keyword.value for keyword in self.node.keywords)]
        return limited(axis, ast.unparse(given[0])) if given else axis

    def extreme(self, better: Callable[[float, float], float]) -> Value:
        a, b = self.given
        if not isinstance(a, Interval) or not isinstance(b, Interval):
            return None
        low, high = better(a.low, b.low), better(a.high, b.high)
        smaller = least(name_of(a), name_of(b)) if better is min else None
        return Interval(low, high, a.whole and b.whole, smaller)

    def number(self, name: str, sizes: Value) -> Value:
        if not isinstance(sizes, Sizes | Shapes):
            return SIZE
        if name == "len":
            return Interval(min(sizes.lengths), max(sizes.lengths), whole=True, name=sizes.name)
        if isinstance(sizes, Sizes) and not sizes.any.whole:
            self.wrong("product takes a tuple of integers")
        return exactly(1) if max(sizes.lengths) == 0 else SIZE

    def two_axes(self, shape: Value, shortest: Value) -> Value:
        axes = max(shape.lengths) if isinstance(shape, Sizes) else 0
        if axes < 2:
            return Sizes.of([])
        last = any(isinstance(x, ast.Constant) and x.value == "last" for x in self.node.args)
        always = last or (isinstance(shortest, Interval) and shortest.high <= 0)
        lengths = frozenset([2] if always else [0, 2])
        return Sizes(None, lengths, Interval(0, axes - 1, whole=True))

    def shape(self, name: str, found: Mapping[str, Value]) -> Value:
        shape = found["shape"]
        if not isinstance(shape, Sizes) or len(shape.lengths) != 1:
            return None
        [axes] = shape.lengths
        if name == "vectors":
            return (
                Shapes.of((length,) for length in as_dims(shape) or ()) if axes else Shapes.of([()])
            )
        if name == "matrices":
            return Shapes.of((self.length(length),) * 2 for length in as_dims(shape) or ())
        axis = self.axis("axis", found["axis"], axes)
        if axis is None or shape.items is None:
            return Sizes(None, frozenset([max(0, axes - 1)]), shape.any)
        return Sizes.of(item for i, item in enumerate(shape.items) if i != axis)

    def axis(self, what: str, axis: Value, axes: int) -> int | None:
        """Return the axis, None if it may be one of several; record one that may not exist."""
        if not isinstance(axis, Interval):
            return None
        if not axis.whole:
            self.wrong(f"an {what} must be an integer")
        elif axis.high >= axes or axis.low < -axes:
            few = count(axes, "axis", "axes")
            cure = f"test `ndim > {axis.high:g}` first" if axis.is_one and axis.low >= 0 else ""
            missing = (
                f"axis {axis.low:g} does not exist" if axis.is_one else "this axis may not exist"
            )
            self.wrong_here(f"{missing}: the array has {few}", cure)
        elif axis.is_one:
            return int(axis.low) % axes
        return None

    def reduced(self, name: str, found: Mapping[str, Value], x: Value) -> Value:
        """Return what a reduction makes of an array, or `reduced` of a shape."""
        given = [word for word in ("axis", "over", "but") if word in found]
        if len(given) > 1:
            self.wrong(f"{name} takes only one of axis, over and but")
        elif not given and name == "reduced":
            self.wrong(
                "reduced takes `over` and the axis that is summed over, or `but` and the axis that stays"
            )
        dims = as_dims(x) if isinstance(x, Sizes) else dims_of(x)
        if not given:
            return SCALAR
        if dims is None:
            return None if name == "reduced" else ANY_ARRAY
        one = self.axis("axis", found[given[0]], len(dims))
        if given[0] == "axis":  # which is dropped
            rest = (None,) * max(0, len(dims) - 1)
            return Array(rest if one is None else dims[:one] + dims[one + 1 :])
        ones = [one is not None and (i == one) is (given == ["over"]) for i in range(len(dims))]
        if not isinstance(x, Sizes):
            lengths = [None if one is None else length for length in dims]
            return Array(tuple("1" if is_1 else n for is_1, n in zip(ones, lengths, strict=True)))
        if one is None or x.items is None:
            return Sizes(None, x.lengths, SIZE)
        return Sizes.of(exactly(1) if is_1 else n for is_1, n in zip(ones, x.items, strict=True))

    def gram(self, found: Mapping[str, Value]) -> Value:
        dims = dims_of(found["x"])
        if dims is None:
            return ANY_ARRAY
        one = self.axis("axis", found["axis"], len(dims))
        return Array((None if one is None else self.length(dims[one]),) * 2)

    def as_vector(self, dims: Dims) -> Value:
        if not dims:
            return ANY_ARRAY if dims is None else SCALAR
        return Array((None if None in dims else _TIMES.join(_elements(dims)) or "1",))

    def along(self, found: Mapping[str, Value]) -> Value:
        ndim = found["ndim"]
        if not isinstance(ndim, Interval) or not ndim.is_one or not ndim.whole:
            return ANY_ARRAY
        axes = int(ndim.low)
        if axes < 1:
            return SCALAR
        one = self.axis("axis", found["axis"], axes)
        if one is None:
            return Array((None,) * axes)
        vector = dims_of(found["vector"])
        length = vector[0] if vector is not None and len(vector) == 1 else None
        return Array(tuple(length if i == one else "1" for i in range(axes)))

    def combined(self, arrays: Value) -> Value:
        """Return what an operation element by element makes of a list of arrays."""
        if not isinstance(arrays, Arrays):
            return ANY_ARRAY
        if 0 in arrays.lengths:
            message = f"{self.name} needs at least one array, but there may be none"
            cure = (
                "write range(max(1, ndim))" if arrays.name is None else "test that with `if` first"
            )
            self.run.wrong_list(self.node, arrays, message, cure)
        return self.run.elementwise(self.node, [*map(Array, arrays.items or [arrays.any])])

    def orthogonalize(self, found: Mapping[str, Value]) -> Value:
        dims = self.at_least(2, found["x"])
        steps = found.get("steps")
        if isinstance(steps, Interval) and (not steps.whole or steps.low > _MOST_STEPS):
            self.wrong(f"steps of orthogonalize must be an integer of at most {_MOST_STEPS:,}")
        return Array(dims)

    def reshape(self, dims: Dims, shape: Value) -> Value:
        wanted = as_dims(shape)
        known = dims is not None and wanted is not None and None not in {*dims, *wanted}
        if known and _elements(dims) != _elements(wanted):
            shapes = f"shape {dims_text(dims)} cannot be reshaped to {dims_text(wanted)}"
            message = f"{shapes}: the numbers of elements differ"
            self.wrong("; ".join([message, *filter(None, [legend(dims, wanted)])]))
        return Array(wanted)

    def matrix(self, name: str, found: Mapping[str, Value]) -> Value:
        dims = dims_of(found["matrix"])
        if dims is not None and len(dims) != 2:
            few = count(len(dims), "axis", "axes")
            self.wrong_here(f"{name} needs a matrix, but this has {few}")
        if "basis" in found:
            self.same_shape("a matrix and its basis", dims, dims_of(found["basis"]))
        p = found.get("p")
        if isinstance(p, Interval) and p.low <= 0 <= p.high:
            zero = "must not be 0" if p.is_one else "may be 0; exclude that with bounds"
            self.wrong(f"p of inverse_root {zero}")
        if dims is None or len(dims) != 2:
            return ANY_ARRAY
        match name, found.get("rank"):
            case "transpose", _:
                return Array(dims[::-1])
            case "orthonormal", _:
                return Array((dims[0], least(*dims)))
            case "singular_vectors", Interval() as rank:
                if not rank.whole or rank.low < 1:
                    cure = 'for a hyperparameter, write bounds = "1 <= x"'
                    wrong = f"rank of singular_vectors must be an integer of at least 1; {cure}"
                    self.run.wrong(self.node.args[1], wrong)
                    return ANY_ARRAY
                return Array((dims[1], least(dims[1], name_of(rank))))
            case _:
                return Array(dims)

    def matmul(self, a: Dims, b: Dims) -> Value:
        """Return the product of two matrices, or of a matrix and a vector."""
        if a is None or b is None:
            return ANY_ARRAY
        for dims in (a, b):
            if len(dims) not in {1, 2}:
                cure = "multiply numbers with `*`" if not dims else "merge axes with `as_matrix`"
                few = count(len(dims), "axis", "axes")
                self.wrong_here(f"`a @ b` needs matrices or vectors, but one has {few}", cure)
                return ANY_ARRAY
        inner, other = a[-1], b[0]
        if not agree((inner,), (other,)):
            shapes = f"{dims_text(a)} @ {dims_text(b)}"
            message = f"the inner sizes of {shapes} differ: {inner} and {other}"
            self.wrong_here(message, legend(a, b))
            return ANY_ARRAY
        return Array((*a[:-1], *b[1:]))

    def rotate(self, name: str, dims: Dims, bases: Value) -> Value:
        if (
            dims is not None
            and isinstance(bases, Arrays)
            and bases.lengths != frozenset({len(dims)})
        ):
            matrices = "matrix" if bases.lengths == frozenset({1}) else "matrices"
            axes = "axis" if len(dims) == 1 else "axes"
            have = f"the array has {len(dims)} {axes}"
            have += f", but the list has {either_of(sorted(bases.lengths))} {matrices}"
            self.wrong_here(f"{name} needs one matrix for each axis: {have}")
        return Array(dims)

    def same_shape(self, what: str, first: Dims, second: Dims) -> None:
        """Record two arrays whose shapes differ."""
        if not agree(first, second):
            shapes = f"{dims_text(first)} and {dims_text(second)}"
            message = f"{what} must have the same shape, but these have {shapes}"
            self.wrong_here(message, legend(first, second))

    def every(self, k: Value, new: Value, old: Value) -> Value:
        if isinstance(k, Interval) and not (k.whole and k.low >= 1):
            self.run.wrong(
                self.node.args[0],
                "k of every must be an integer of at least 1; "
                'for a hyperparameter, write bounds = "1 <= x"',
            )
        pairs = [(dims_of(new), dims_of(old))]
        if isinstance(new, Arrays) and isinstance(old, Arrays):
            pairs = [*zip(new.items or [new.any], old.items or [old.any], strict=False)]
        for first, second in pairs:
            self.same_shape("new and old of every", first, second)
        found = join(new, old)
        return SCALAR if isinstance(found, Interval) else found


def _elements(dims: Dims) -> list[str]:
    """Return the lengths whose product is how many elements an array has."""
    lengths = [part for length in dims or () for part in (length or "1").split(_TIMES)]
    return sorted(length for length in lengths if length != "1")
