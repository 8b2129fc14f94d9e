"""The words of the spec language: the names that equations can read, the functions they can call, reserved names."""

import ast
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "COUNT",
    "CYCLE",
    "FUNCTIONS",
    "GRADIENT",
    "HELD_AS",
    "IMPORTED",
    "NDIM",
    "OF_INIT",
    "OF_PHASES",
    "OF_SHAPES",
    "OTHER",
    "RESERVED",
    "RESULT",
    "SHAPE",
    "SKIP",
    "STEP",
    "STEP_NUMBER",
    "TOTAL",
    "TOTALS",
    "TOTAL_COUNT",
    "UNLESS",
    "UPDATE",
    "WEIGHT",
    "Function",
    "Parameter",
    "Type",
    "called",
    "facts_of",
    "is_of_numbers",
    "sees_leaf",
    "values_of",
]

GRADIENT = "g"
WEIGHT = "w"
STEP_NUMBER = "t"
UPDATE = "update"
RESULT = "result"
SKIP = "skip"  # the name of the condition under which all stays as it was
UNLESS = "unless"  # and of the one under which a leaf does
SHAPE = "shape"
NDIM = "ndim"
HELD_AS = "h"  # the hyperparameters in generated functions, unless the spec uses this name itself
COUNT = "count"
OTHER = "other"  # the second of two numbers, which `max` and `min` take by position only
TOTAL = "total"
TOTALS = frozenset([TOTAL, "total_norm", "total_mean", "total_max", "total_min"])
TOTAL_COUNT = "total_count"

# The counts in the state: the number of steps done, and its remainder, where something is done at intervals.
STEP = "step"
CYCLE = "cycle"


class Type(StrEnum):
    """The type of a value, in the words that messages use."""

    NUMBER = "a number"
    FLAG = "a boolean"
    CONDITION = "a condition"
    COUNTED = "a number or a condition"
    SUMMED = "a number, a condition or a list of arrays"
    CHOICE = "a choice"
    SIZES = "a tuple of integers"
    SHAPES = "a list of shapes"
    NUMBERS = "a list of numbers"
    ARRAYS = "a list of arrays"
    LIST = "a list"
    KEY = "a random key"
    UNKNOWN = "unknown"  # already reported


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function. The value of a `static` one is known before the step runs."""

    name: str
    type: Type
    static: bool
    optional: bool


_KINDS = {
    "": (Type.NUMBER, False),
    "static": (Type.NUMBER, True),
    "condition": (Type.CONDITION, False),
    "counted": (Type.COUNTED, False),
    "summed": (Type.SUMMED, False),
    "flag": (Type.FLAG, True),
    "choice": (Type.CHOICE, True),
    "sizes": (Type.SIZES, True),
    "shapes": (Type.SHAPES, True),
    "arrays": (Type.ARRAYS, False),
    "list": (Type.LIST, True),
    "key": (Type.KEY, False),
}
_PARAMETER = re.compile(r"(?P<name>\w+)(?:: (?P<kind>\w+))?(?P<optional>\?)?")


_FACTS: Mapping[str, str] = {
    # Each element of the result depends only on the same element of the arguments.
    "elementwise": (
        "abs abs2 cbrt clip conj cos every exp expm1 filled floor isfinite log log1p maximum minimum real sigmoid sign "
        "sin softplus sqrt tanh where"
    ),
    # The result is selected from its arguments that are arrays, or it has their elements or sums of these.
    "passes": (
        "along as_matrix as_vector every least max maximum mean min minimum reshape sum "
        "transpose where"
    ),
    # Not defined for complex numbers, which have no order; real for real ones.
    "ordered": "cbrt clip floor least max maximum min minimum softplus total_max total_min",
    # Real for complex numbers, too.
    "real": (
        "abs abs2 norm rademacher real rms std total total_mean total_norm trust_ratio uniform"
    ),
    "nonnegative": "abs abs2 norm rms sigmoid softplus sqrt std total_norm uniform",
    "square": "abs2 gram",
    # Its columns are orthonormal.
    "basis": "eigenbasis orthonormal refreshed_basis singular_vectors",
}
"""Facts about functions, each with the functions that it is true of."""

_SHAPES: Mapping[str, str] = {
    "()": "total total_max total_mean total_min total_norm trust_ratio",
    "x": "orthogonalize rotate rotate_back",
    "like": "filled normal rademacher uniform",
    "shape": "reshape",
    "matrix": "eigenbasis inverse_root refreshed_basis",
    "(matrix[1], matrix[0])": "transpose",
    "(matrix[0], min(matrix[0], matrix[1]))": "orthonormal",
    "(matrix[1], min(matrix[1], rank))": "singular_vectors",
    "[(n,) for n in shape] if len(shape) > 0 else [()]": "vectors",
}
"""Shapes of results, in the words of the language, each with its functions. There, an array stands for its shape."""


@dataclass(frozen=True)
class Function:
    """A function that equations may call.

    Attributes:
        signature: As shown to users: `name(x, axis: static?) -> sizes`. A parameter is a number, unless a type follows
            its colon: static (a static number), condition, counted (a number, or a condition, which counts as 0 and
            1), summed (also a list of arrays), flag, choice, sizes (a tuple of integers: a shape, or axes), shapes (a
            list of these), arrays (a list of arrays), list (any of these three, or a list of numbers) or key. `?`
            marks an optional parameter. The result is a number, unless a type follows the arrow.
        latex: The formula; `{0}` is the first argument. Empty for functions that are written by a rule of their own.
        doc: What it computes.
        code: The function that generated code calls: of `mlax.leafwise`, unless it begins with `jnp.`; by default, the
            one with this name.
        words: The allowed strings, for each parameter that is a choice.
        count: The count of the state that generated code inserts among the arguments: "step" or "cycle"; "" for none.
        count_at: The position at which it does.
        facts: What `_FACTS` says of it.
        shape: What `_SHAPES` says of its result; "" if that is more than an expression can say.
    """

    signature: str
    latex: str
    doc: str
    code: str = ""
    count: str = ""
    count_at: int = 0
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    name: str = field(init=False)
    parameters: tuple[Parameter, ...] = field(init=False)
    result: Type = field(init=False)
    facts: frozenset[str] = field(init=False)
    shape: str = field(init=False)

    def __post_init__(self) -> None:
        """Parse the signature."""
        call, _, result = self.signature.partition(" -> ")
        name, _, inside = call.removesuffix(")").partition("(")
        parameters = [
            Parameter(found["name"], *_KINDS[found["kind"] or ""], found["optional"] is not None)
            for found in map(_PARAMETER.fullmatch, inside.split(", "))
            if found is not None
        ]
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parameters", tuple(parameters))
        object.__setattr__(self, "result", _KINDS[result][0])
        object.__setattr__(self, "code", self.code or name)
        facts = frozenset(fact for fact, names in _FACTS.items() if name in names.split())
        object.__setattr__(self, "facts", facts)
        shapes = (shape for shape, names in _SHAPES.items() if name in names.split())
        object.__setattr__(self, "shape", next(shapes, ""))

    @property
    def is_imported(self) -> bool:
        """Whether `code` is a function of `mlax.leafwise`."""
        return not self.code.startswith("jnp.") and self.name not in {"len", TOTAL}

    @property
    def static(self) -> bool:
        """Whether it computes only with shapes and static numbers."""
        return all(parameter.static for parameter in self.parameters)

    @property
    def reduces(self) -> bool:
        """Whether it makes one number of a whole array, or along the axes that `axis`, `over` or `but` say."""
        return not self.static and any(parameter.name == "but" for parameter in self.parameters)

    @property
    def fewest_arguments(self) -> int:
        """The smallest number of arguments that a call may have."""
        return sum(not parameter.optional for parameter in self.parameters)

    def given(self, call: ast.Call) -> list[tuple[Parameter, ast.expr]]:
        """Return the arguments of a call, by position or by name, with their parameters."""
        by_name = {parameter.name: parameter for parameter in self.parameters}
        named = [(by_name[k.arg], k.value) for k in call.keywords if k.arg in by_name]
        return [*zip(self.parameters, call.args, strict=False), *named]

    @property
    def most_arguments(self) -> int:
        """The largest number of arguments that are not passed by name: `max(a, b)` has two."""
        names = [parameter.name for parameter in self.parameters]
        return names.index(OTHER) + 1 if OTHER in names else len(names)

    @property
    def formula(self) -> str:
        """The LaTeX of a call, with #1, #2 and so on for the arguments."""
        return self.latex.format(*(f"#{n}" for n, _ in enumerate(self.parameters, 1)))


def _operator(name: str, arguments: str = "{0}") -> str:
    return rf"\operatorname{{{{{name}}}}}({arguments})"


_AXES = "axis: static?, over: static?, but: static?"  # of a function that can be of a whole leaf
_ALL = [
    # each element by itself
    Function("abs(x)", r"\lvert {0} \rvert", "Magnitude.", "magnitude"),
    Function(
        "abs2(x)",
        r"\lvert {0} \rvert^2",
        "Squared magnitude. For a complex number, `x**2` is not that.",
    ),
    Function("cbrt(x)", "", "Cube root."),
    Function(
        "clip(x, low, high)",
        _operator("clip", "{0}, {1}, {2}"),
        "`x` limited to the range from `low` to `high`.",
    ),
    Function("conj(x)", r"\overline{{{0}}}", "Complex conjugate.", "jnp.conj"),
    Function("cos(x)", r"\cos({0})", "Cosine; `x` is in radians.", "jnp.cos"),
    Function("exp(x)", r"\exp({0})", "Exponential.", "jnp.exp"),
    Function("expm1(x)", r"(\exp({0}) - 1)", "`exp(x) - 1`, exact near 0.", "jnp.expm1"),
    Function("floor(x)", r"\lfloor {0} \rfloor", "The next integer below.", "jnp.floor"),
    Function(
        "isfinite(x) -> condition",
        r"{0} \text{{ is finite}}",
        "Whether a number is neither infinite nor NaN.",
        "jnp.isfinite",
    ),
    Function("log(x)", r"\log({0})", "Natural logarithm.", "jnp.log"),
    Function("log1p(x)", r"\log(1 + {0})", "`log(1 + x)`, exact near 0.", "jnp.log1p"),
    Function("maximum(a, b)", r"\max({0}, {1})", "The larger of `a` and `b`.", "jnp.maximum"),
    Function("minimum(a, b)", r"\min({0}, {1})", "The smaller of `a` and `b`.", "jnp.minimum"),
    Function("sigmoid(x)", _operator("sigmoid"), "`1 / (1 + exp(-x))`, without overflow."),
    Function("real(x)", _operator("Re"), "Real part."),
    Function(
        "sign(x)",
        _operator("sign"),
        "-1, 0 or 1; of a complex number, the number of magnitude 1 with its direction.",
        "jnp.sign",
    ),
    Function("softplus(x)", _operator("softplus"), "`log(1 + exp(x))`, without overflow."),
    Function("sqrt(x)", "", "Square root."),
    Function("sin(x)", r"\sin({0})", "Sine; `x` is in radians.", "jnp.sin"),
    Function("tanh(x)", r"\tanh({0})", "Hyperbolic tangent.", "jnp.tanh"),
    Function(
        "where(test: condition, a, b)",
        "",
        "`a` if the test holds, otherwise `b`, for each element.",
        "jnp.where",
    ),
    # of a whole leaf, or along some of its axes
    Function(
        f"sum(x: summed, {_AXES})",
        r"\sum {0}",
        "Sum of all elements; of a list of numbers or arrays, their sum, element by element.",
        "summed",
    ),
    Function(f"mean(x: counted, {_AXES})", _operator("mean"), "Mean; 0 if there are no elements."),
    Function(
        f"max(x, other: static?, {_AXES})",
        r"\max {0}",
        "Largest element; 0 if there are no elements. Of static numbers, `max(a, b)`, the largest.",
        "largest",
    ),
    Function(
        f"min(x, other: static?, {_AXES})",
        r"\min {0}",
        "Smallest element; 0 if there are no elements. Of static numbers, `min(a, b)`, the smallest.",
        "smallest",
    ),
    Function(f"norm(x, {_AXES})", r"\lVert {0} \rVert", "Euclidean norm."),
    Function(f"rms(x, {_AXES})", _operator("rms"), "Root mean square of the magnitudes."),
    Function(f"std(x, {_AXES})", _operator("std"), "Standard deviation."),
    Function(
        "trust_ratio(w, direction, coefficient?, eps?, min_norm?)",
        "",
        "`coefficient` times the norm of the weights over the norm of the direction plus `eps`; 1 if either "
        "norm is 0. Norms below `min_norm` count as `min_norm`.",
    ),
    # static: of shapes and static numbers
    Function("len(x: list)", _operator("len"), "Number of items of a tuple or list."),
    Function("product(sizes: sizes)", r"\prod {0}", "Product of a tuple of integers; 1 for ()."),
    Function(
        "two_largest_axes(shape: sizes, min_length: static) -> sizes",
        _operator("axes", "{0}, {1}"),
        "The two longest axes, the second longest first; () if either is shorter than `min_length`.",
    ),
    Function(
        "two_axes(shape: sizes, which: choice, min_length: static) -> sizes",
        _operator("axes", "{0}, {1}, {2}"),
        "`two_largest_axes` if `which` is 'largest'; the last two axes, whatever their lengths, if it is 'last'.",
        words={"which": ("largest", "last")},
    ),
    Function(
        "without(shape: sizes, axis: static) -> sizes",
        r"{0} \setminus {1}",
        "The shape without one of its axes.",
    ),
    Function(
        "reduced(shape: sizes, over: static?, but: static?) -> sizes",
        _operator("reduced"),
        "The shape of `sum(x, over=axis)`, or of `sum(x, but=axis)`: the axes that are summed over have length 1.",
    ),
    Function(
        "vectors(shape: sizes) -> shapes",
        _operator("vectors"),
        "The shapes of one vector for each axis; for a leaf without axes, the shape of one scalar.",
    ),
    Function(
        "matrices(shape: sizes, longest: static?) -> shapes",
        _operator("matrices"),
        "The shapes of one square matrix for each axis; a scalar for an axis longer than `longest`.",
    ),
    # factored and per axis
    Function(
        "outer_mean(row, column, axes: sizes, min_mean: static?)",
        "",
        "The matrix whose means along `axes` are `row` and `column`: their outer product over the mean, or "
        "over `min_mean` if that is larger.",
    ),
    Function(
        "along(vector, axis: static, ndim: static)",
        "{0}",
        "A vector reshaped to lie along one of `ndim` axes; the others have length 1.",
    ),
    Function(
        "as_vector(x)",
        "{0}",
        "All elements along one axis; a number if there are no axes. For one long axis, `along` undoes it.",
    ),
    Function("least(arrays: arrays)", r"\min({0})", "Elementwise minimum of the arrays."),
    # matrices
    Function(
        "orthogonalize(x, steps: static?, coefficients: choice?, eps: static?, scaling: choice?)",
        _operator("orthogonalize"),
        "The nearest semi-orthogonal matrix, by Newton-Schulz iterations on the last two axes. Coefficients: "
        "'muon', 'dion'; scalings: 'frobenius', 'spectral', 'aol', 'schatten'.",
        words={
            "coefficients": ("muon", "dion"),
            "scaling": ("frobenius", "spectral", "aol", "schatten"),
        },
    ),
    Function(
        "matmul(a, b)",
        "",
        "Product of two matrices, or of a matrix and a vector; `a @ b` is short for it.",
    ),
    Function("transpose(matrix)", "", "The transpose of a matrix, without conjugation."),
    Function(
        "singular_vectors(matrix, rank: static)",
        r"\operatorname{{singular}}_{{{1}}}({0})",
        "The right singular vectors of the `rank` largest singular values, as columns; no more than there "
        "are columns.",
    ),
    Function(
        "orthonormal(matrix)",
        _operator("orthonormal"),
        "Orthonormal columns that span those of a matrix, by a QR decomposition; no more than there are rows.",
    ),
    Function(
        "as_matrix(x)",
        _operator("matrix"),
        "A kernel as a matrix: all axes except the first are merged into one. `reshape` restores the shape.",
    ),
    Function(
        "filled(like, number: static)",
        "{1}",
        "An array of one number, in the shape of another: `filled(m, 0.0)`.",
        "jnp.full_like",
    ),
    Function(
        "reshape(x, shape: sizes)",
        "{0}",
        "The same elements in another shape, usually that of the leaf: `reshape(x, shape)`.",
    ),
    Function(
        "gram(x, axis: static, longest: static?)",
        r"\operatorname{{gram}}_{{{1}}}({0})",
        "Inner products of all slices across an axis: a square matrix; a scalar if the axis is longer than "
        "`longest`.",
    ),
    Function(
        "inverse_root(matrix, p: static, eps)",
        "",
        "Inverse p-th root of a positive semidefinite matrix, after adding `eps` to its diagonal.",
    ),
    Function("eigenbasis(matrix)", _operator("eigenbasis"), "Eigenvectors of a symmetric matrix."),
    Function(
        "refreshed_basis(matrix, basis)",
        _operator("qr", "{0} {1}"),
        "The eigenbasis in the first step; afterwards, one step of orthogonal iteration from the last basis.",
        count=STEP,
        count_at=2,
    ),
    Function(
        "rotate(x, bases: arrays)",
        _operator("rotate", "{0}, {1}"),
        "The array in other bases, one for each axis.",
    ),
    Function(
        "rotate_back(x, bases: arrays)",
        r"\operatorname{{rotate}}^{{-1}}({0}, {1})",
        "The inverse of `rotate`. It multiplies an array by a matrix along each axis.",
    ),
    # across steps and leaves
    Function(
        "every(k: static, new, old)",
        "",
        "`new` at steps 1, 1 + k, 1 + 2 k and so on; `old` at all others, where `new` is not computed.",
        count=CYCLE,
        count_at=1,
    ),
    Function(
        "total(x: counted)",
        "",
        "Sum over all elements of all leaves, known to the phases that follow.",
    ),
    Function(
        "total_norm(x)",
        "",
        "Euclidean norm of all elements of all leaves, known to the phases that follow. Unlike the root of "
        "`total(abs2(x))`, it is right where squares overflow or underflow.",
    ),
    Function(
        "total_mean(x: counted)",
        "",
        "Mean of all elements of all leaves, known to the phases that follow; 0 if there are none.",
    ),
    Function(
        "total_max(x)",
        "",
        "Largest element of all leaves, known to the phases that follow; 0 if there are none.",
    ),
    Function(
        "total_min(x)",
        "",
        "Smallest element of all leaves, known to the phases that follow; 0 if there are none.",
    ),
    Function(
        "normal(key: key, like)",
        r"\mathcal{{N}}(0, 1)",
        "Standard normal noise in the shape of `like`.",
    ),
    Function(
        "uniform(key: key, like)",
        r"\mathcal{{U}}(0, 1)",
        "Noise between 0 and 1 in the shape of `like`.",
    ),
    Function(
        "rademacher(key: key, like)",
        r"\operatorname{{rademacher}}",
        "Random signs, -1 or 1, in the shape of `like`.",
    ),
]
FUNCTIONS: Mapping[str, Function] = {function.name: function for function in _ALL}


def is_of_numbers(call: ast.AST) -> bool:
    """Whether a call is Python's own `max` or `min`, of two static numbers."""
    match call:
        case ast.Call(func=ast.Name(id="max" | "min"), args=[_, _]):
            return True
        case _:
            return False


def called(node: ast.AST) -> str:
    """Return the name of what a call calls; "" for anything else."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def facts_of(node: ast.AST) -> frozenset[str]:
    """Return the facts about the function that a call calls; none for anything else."""
    function = FUNCTIONS.get(called(node))
    return frozenset() if function is None else function.facts


def values_of(call: ast.Call) -> list[ast.expr]:
    """Return the arguments of a call that are arrays like the first: what it selects from, sums or rearranges."""
    given = FUNCTIONS[called(call)].given(call)
    values = [each for each in given if not (each[0].static or each[0].type is Type.CONDITION)]
    return [value for parameter, value in values if parameter.type is values[0][0].type]


def sees_leaf(node: ast.expr) -> bool:
    """Whether a value is computed from a leaf as a whole, and so changes if two leaves are concatenated."""
    function = FUNCTIONS.get(called(node))
    if function is None:
        return isinstance(node, ast.Slice)
    is_noise = any(parameter.type is Type.KEY for parameter in function.parameters)
    by_element = "elementwise" in function.facts or function.static or is_noise
    return not (by_element or is_of_numbers(node) or function.name in TOTALS)


_IMPORTED = {
    "collections.abc": "Mapping Sequence",
    "typing": "Annotated ClassVar Generic Literal NamedTuple",
    "jaxtyping": "Array Key",
    "mlax.leafwise": """
        Output Totals count_all every gathered handed_on map_leaves no_update reduce_leaves totals unless
    """,
    "mlax.optimizer": """
        Dtype Float Label Number Optimizer SlotDtype copies exportable folded follow_schedules full identities initial
        integer key label merged no_steps normals not_int8 number one_more refuse_complex refuse_packed renewed scalar
        scheduled trainable warn_if_narrow warn_if_wide zeros
    """,
    "mlax.typing": "Count Entries NonNegative Real Scalar Shape Weights checked",
}
_IMPORTED["mlax.leafwise"] += " ".join(f.code for f in FUNCTIONS.values() if f.is_imported)
IMPORTED: Mapping[str, frozenset[str]] = {
    module: frozenset(names.split()) for module, names in _IMPORTED.items()
}
"""The names that generated modules may import, by module."""

# Other names that they use.
_MODULE = """
    State apply_gradients apply_updates arguments check_dtype cycle gradients held hyperparameters init inputs int8
    isinstance jax jnp labelled mlax model outline output own per_leaf replace require rounding self skip skipped
    slot_dtype slots state step stochastic_rounding sums trees updates weights with_arrays
"""
_BUILTINS = "bool enumerate float int list object property range str super tuple type vars zip TypeError ValueError"
_TUPLES = "count index"  # methods of tuples, and State is a tuple
_WORDS = [GRADIENT, WEIGHT, STEP_NUMBER, UPDATE, RESULT, SHAPE, NDIM, COUNT, TOTAL_COUNT, "leaf"]

OF_INIT: Mapping[str, str] = {"key": "a function that `init` calls"}
"""Further names that a hyperparameter must not have, because it is an argument of `init`; a scalar may have them."""

RESERVED: Mapping[str, str] = {
    **dict.fromkeys(
        {*_MODULE.split()}.union(*IMPORTED.values()) - {*OF_INIT},
        "a name that the generated module uses",
    ),
    **dict.fromkeys(_BUILTINS.split(), "a Python builtin"),
    **dict.fromkeys(keyword.kwlist, "a Python keyword"),
    **dict.fromkeys(_TUPLES.split(), "a method of tuples, and the state is a tuple"),
    **dict.fromkeys(_WORDS, "a reserved name of the language"),
    **dict.fromkeys(FUNCTIONS, "a function of the language"),
}
"""Why a spec must not use these names: what each one already is."""

OF_PHASES = frozenset(["init", "step"])
"""Names that a phase must not have: with an underscore before them, the module uses them."""

OF_SHAPES = ("_shape", "_of")
"""How the names of functions of a shape end; phases and functions of a spec must not be called so."""
