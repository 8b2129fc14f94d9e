"""The functions of the language: what is known of a result, and which arguments are wrong."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from mlax_codegen.checking.trial.conditions import Conditions
from mlax_codegen.checking.trial.intervals import (
    SIZE,
    Interval,
    arithmetic,
    exactly,
    wrong_root,
)
from mlax_codegen.checking.trial.run import Known
from mlax_codegen.checking.trial.values import (
    ANY_ARRAY,
    ANY_SHAPE,
    SCALAR,
    Array,
    Dims,
    List,
    Value,
    agree,
    as_dims,
    count,
    dims_of,
    dims_text,
    is_of_arrays,
    join,
    least,
    legend,
    limited,
    name_of,
    pairs_of,
    sizes_of,
)
from mlax_codegen.language import FUNCTIONS, Function, is_of_numbers
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


class Call:
    """One call, with what is known of its arguments."""

    def __init__(
        self, run: Conditions, node: ast.Call, given: Sequence[Value], named: Mapping[str, Value]
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
        first = self.given[0]
        if is_of_numbers(self.node):
            if self.named:
                self.wrong(f"{name} of two numbers has no axis")
            return self.extreme(max if name == "max" else min)
        if not (function.static or "elementwise" in function.facts) and self.mistaken(function):
            return None
        if name == "least" or (name == "sum" and is_of_arrays(first)):
            return self.combined(first)
        match name:
            case "abs2" if isinstance(first, Interval):
                value, wrong = arithmetic("*", first, first)
                if wrong is not None:
                    self.wrong(wrong)
                return value
            case "where" | "maximum" | "minimum" | "clip" | "sign" | "abs" | "floor" if (
                self.only_integers()
            ):
                return None
            case "every":
                return self.every(*self.given)
            case "len" | "product":
                return self.number(name, first)
            case "two_largest_axes" | "two_axes":
                return self.two_axes(first, self.given[-1])
            case "without" | "reduced":
                return self.reduced(found, first)
            case _ if function.reduces:
                shape = self.reduced(found, sizes_of(dims_of(first)))
                return Array(as_dims(shape))
            case "matrices":
                sizes = (self.matrix_of(length) for length in as_dims(first) or ())
                return List.of((sizes_of((size, size)) for size in sizes), ANY_SHAPE)
            case "gram":
                return self.gram(dims_of(first), found["axis"])
            case "along":
                return self.along(found)
            case "as_vector":
                return self.as_vector(dims_of(first))
            case "outer_mean":
                return self.outer_mean(dims_of(first), found["axes"])
            case "as_matrix":
                dims = self.at_least(1, first)
                return Array(dims if dims is not None and len(dims) == 2 else (None, None))
            case "matmul":
                return self.matmul(dims_of(found["a"]), dims_of(found["b"]))
            case _ if "elementwise" in function.facts:
                self.domain(name)
                return self.run.elementwise(self.node, self.given)
            case _:
                return self.by_rule(function, found)

    def by_rule(self, function: Function, found: Mapping[str, Value]) -> Value:
        """Return an array of the shape that the language states for the result of a function."""
        if self.unsuitable(function.name, found):
            return ANY_ARRAY
        shapes: Known = {
            name: sizes_of(dims_of(x)) if isinstance(x, Array) else x for name, x in found.items()
        }
        shape = self.run.value_where(shapes, _rule(function.shape))
        return shape if function.static else Array(as_dims(shape))

    def unsuitable(self, name: str, found: Mapping[str, Value]) -> bool:
        """Whether nothing can be said of the result, as an argument does not fit; record that."""
        match name, found:
            case "orthogonalize", {"x": x}:
                self.at_least(2, x)
                steps = found.get("steps")
                if isinstance(steps, Interval) and (not steps.whole or steps.low > _MOST_STEPS):
                    most = f"{_MOST_STEPS:,}"
                    self.wrong(f"steps of orthogonalize must be an integer of at most {most}")
            case "reshape", {"x": x, "shape": shape}:
                self.same_elements(dims_of(x), as_dims(shape))
            case (("rotate" | "rotate_back"), {"x": x, "bases": bases}):
                self.rotated(name, dims_of(x), bases)
            case _, {"matrix": matrix}:
                return self.no_matrix(name, dims_of(matrix), found)
            case _:
                pass
        return False

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
            case "clip", _, Interval() as low, Interval() as high:
                self.in_order(low, high)
            case _:
                pass

    def in_order(self, low: Interval, high: Interval) -> None:
        """Record bounds of `clip` that are or may be in the wrong order."""
        if low.low > high.high:
            self.wrong("the lower bound of clip is above the upper one; give the lower bound first")
            return
        _, lower, upper = map(self.run.sum, self.node.args)
        if low.high > high.low and self.run.range_of(upper.plus(lower, -1)).low < 0:
            first, second = (in_short(node, "a bound") for node in self.node.args[1:])
            cure = f"exclude that with bounds or with a [[require]] that `{first} <= {second}`"
            self.wrong(f"the lower bound of clip may be above the upper one; {cure}")

    def mistaken(self, function: Function) -> bool:
        """Whether an argument is a static number instead of an array, or the reverse; record it."""
        name = function.name
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

    def only_integers(self) -> bool:
        """Whether all arguments are integers, which would give an integer array; record it."""
        name = self.name
        values = self.given[1:] if name == "where" else self.given
        if not all(isinstance(value, Interval) and value.whole for value in values):
            return False
        if len(values) == 1:
            cure = f"write `1.0 * {in_short(self.node.args[0], 'x')}`"
            self.wrong(f"the argument of `{name}` is an integer; {cure}")
        else:
            what = {"clip": "all arguments", "where": "both values"}.get(name, "both arguments")
            self.wrong(f"{what} of `{name}` are integers; write one as a float, such as 1.0")
        return True

    def at_least(self, axes: int, x: Value) -> Dims:
        dims = dims_of(x)
        if dims is not None and len(dims) < axes:
            needs = f"{self.name} needs {count(axes, 'axis', 'axes')}"
            but = f"but this has {count(len(dims), 'axis', 'axes')}"
            self.wrong_here(f"{needs}, {but}", f"test `ndim >= {axes}` first")
        return dims

    def matrix_of(self, axis: str | None) -> str | None:
        """Return the size of the matrix for an axis, which may be limited by `longest`."""
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
        if not isinstance(sizes, List):
            return SIZE
        if name == "len":
            return Interval(min(sizes.lengths), max(sizes.lengths), whole=True, name=sizes.name)
        if isinstance(sizes.any, Interval) and not sizes.any.whole:
            self.wrong("product takes a tuple of integers")
        return exactly(1) if max(sizes.lengths) == 0 else SIZE

    def two_axes(self, shape: Value, shortest: Value) -> Value:
        axes = max(shape.lengths) if isinstance(shape, List) else 0
        if axes < 2:
            return List.of([])
        last = any(isinstance(x, ast.Constant) and x.value == "last" for x in self.node.args)
        always = last or (isinstance(shortest, Interval) and shortest.high <= 0)
        lengths = frozenset([2] if always else [0, 2])
        return List(None, lengths, Interval(0, axes - 1, whole=True))

    def axis(self, axis: Value, among: Sequence[object]) -> int | None:
        """Return the axis, None if it may be one of several; record one that may not exist."""
        if not isinstance(axis, Interval):
            return None
        axes = len(among)
        if not axis.whole:
            self.wrong("an axis must be an integer")
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

    def reduced(self, found: Mapping[str, Value], shape: Value) -> List | None:
        """Return what a reduction leaves of a shape: 1 in the place of some axes, or all but one axis."""
        given = [word for word in ("axis", "over", "but") if word in found]
        if len(given) > 1:
            self.wrong(f"{self.name} takes only one of axis, over and but")
        elif not given and self.name == "reduced":
            needs = "`over` and the axis that is summed over, or `but` and the axis that stays"
            self.wrong(f"reduced takes {needs}")
        if not given:
            return List.of([])
        if not isinstance(shape, List) or len(shape.lengths) > 1:
            return None
        drops = given[0] == "axis"
        items = shape.items or (SIZE,) * max(shape.lengths)
        axis = self.axis(found[given[0]], items)
        if axis is None:
            return List(None, frozenset([max(0, len(items) - drops)]), SIZE)
        if drops:
            return List.of(items[:axis] + items[axis + 1 :])
        ones = ((i == axis) is (given[0] == "over") for i in range(len(items)))
        return List.of(exactly(1) if one else n for one, n in zip(ones, items, strict=True))

    def gram(self, dims: Dims, axis: Value) -> Value:
        if dims is None:
            return ANY_ARRAY
        one = self.axis(axis, dims)
        return Array((None if one is None else self.matrix_of(dims[one]),) * 2)

    def as_vector(self, dims: Dims) -> Value:
        if not dims:
            return ANY_ARRAY if dims is None else SCALAR
        return Array((None if None in dims else _TIMES.join(_elements(dims)) or "1",))

    def along(self, found: Mapping[str, Value]) -> Value:
        ndim, vector = found["ndim"], dims_of(found["vector"])
        if not isinstance(ndim, Interval) or not ndim.is_one or not ndim.whole:
            return ANY_ARRAY
        axes = range(int(ndim.low))
        axis = self.axis(found["axis"], axes) if axes else None
        length = vector[0] if vector is not None and len(vector) == 1 else None
        return Array(tuple(None if axis is None else length if i == axis else "1" for i in axes))

    def outer_mean(self, row: Dims, axes: Value) -> Value:
        if isinstance(axes, List) and axes.lengths != frozenset([2]):
            cure = "test that with `if` first"
            self.wrong_here("outer_mean needs two axes, but there may be none", cure)
        return ANY_ARRAY if row is None else Array((None,) * (len(row) + 1))

    def combined(self, arrays: Value) -> Value:
        """Return what an operation element by element makes of a list of arrays."""
        if not isinstance(arrays, List):
            return ANY_ARRAY
        if 0 in arrays.lengths:
            message = f"{self.name} needs at least one array, but there may be none"
            cure = (
                "write range(max(1, ndim))" if arrays.name is None else "test that with `if` first"
            )
            self.run.wrong_list(self.node, arrays, message, cure)
        return self.run.elementwise(self.node, arrays.items or [arrays.any])

    def same_elements(self, dims: Dims, wanted: Dims) -> None:
        known = dims is not None and wanted is not None and None not in {*dims, *wanted}
        if known and _elements(dims) != _elements(wanted):
            shapes = f"shape {dims_text(dims)} cannot be reshaped to {dims_text(wanted)}"
            message = f"{shapes}: the numbers of elements differ"
            self.wrong("; ".join([message, *filter(None, [legend(dims, wanted)])]))

    def no_matrix(self, name: str, dims: Dims, found: Mapping[str, Value]) -> bool:
        """Whether a function of a matrix has an argument that does not fit, or is not known."""
        if dims is not None and len(dims) != 2:
            few = count(len(dims), "axis", "axes")
            self.wrong_here(f"{name} needs a matrix, but this has {few}")
        if "basis" in found:
            self.same_shape("a matrix and its basis", dims, dims_of(found["basis"]))
        p, rank = found.get("p"), found.get("rank")
        if isinstance(p, Interval) and p.low <= 0 <= p.high:
            zero = "must not be 0" if p.is_one else "may be 0; exclude that with bounds"
            self.wrong(f"p of inverse_root {zero}")
        if rank is not None and not self.run.is_positive(
            self.node.args[1], rank, f"rank of {name}"
        ):
            return True
        return dims is None or len(dims) != 2

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

    def rotated(self, name: str, dims: Dims, bases: Value) -> None:
        if dims is None or not isinstance(bases, List) or bases.lengths == frozenset([len(dims)]):
            return
        matrices = "matrix" if bases.lengths == frozenset([1]) else "matrices"
        have = f"the array has {len(dims)} {'axis' if len(dims) == 1 else 'axes'}"
        have += f", but the list has {either_of(sorted(bases.lengths))} {matrices}"
        self.wrong_here(f"{name} needs one matrix for each axis: {have}")

    def same_shape(self, what: str, first: Dims, second: Dims) -> None:
        """Record two arrays whose shapes differ."""
        if not agree(first, second):
            shapes = f"{dims_text(first)} and {dims_text(second)}"
            message = f"{what} must have the same shape, but these have {shapes}"
            self.wrong_here(message, legend(first, second))

    def every(self, k: Value, new: Value, old: Value) -> Value:
        self.run.is_positive(self.node.args[0], k, "k of every")
        for first, second in pairs_of(new, old):
            self.same_shape("new and old of every", first, second)
        found = join(new, old)
        return SCALAR if isinstance(found, Interval) else found


@cache
def _rule(shape: str) -> ast.expr:
    """Return the shape that the language states for a result, as an expression."""
    return ast.parse(shape, mode="eval").body


def _elements(dims: Dims) -> list[str]:
    """Return the lengths whose product is how many elements an array has."""
    lengths = [part for length in dims or () for part in (length or "1").split(_TIMES)]
    return sorted(length for length in lengths if length != "1")
