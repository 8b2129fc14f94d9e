"""What people write who come from Python, from a paper or from another library, and what to write here."""

import ast
from collections.abc import Iterable

from mlax_codegen.language import FUNCTIONS
from mlax_codegen.reading.mistakes import suggestion

__all__ = ["OPERATORS", "for_assignment", "for_function", "for_member", "for_name", "synonym"]

OPERATORS = {"&": "and", "|": "or", "~": "not", "^": "**"}
"""The operator to write instead of one that is not part of the language."""

_LIBRARIES = frozenset(["F", "jax", "jnp", "lax", "math", "np", "numpy", "torch"])
_SAME = (
    "learning_rate lr step_size alpha eta gamma",
    "momentum mu",
    "b1 beta1 beta_1",
    "b2 beta2 beta_2",
    "b3 beta3 beta_3",
    "eps epsilon",
    "weight_decay decay wd lambda_ lam",
)
_NUMBERS = {"count", "g", "ndim", "shape", "t", "total_count", "w"}
_STEP = "`update` is added to `w`: assign `update = -...`"
_NAMES = {
    **dict.fromkeys(["grad", "grads", "gradient", "gradients"], "the gradient is `g`"),
    **dict.fromkeys(
        ["param", "params", "parameters", "theta", "weight", "weights"],
        f"the weights before the step are `w`, and {_STEP}",
    ),
    **dict.fromkeys(
        ["f", "loss", "loss_value", "value"],
        "declare it under [arguments], and pass it to each step",
    ),
    **dict.fromkeys(["step", "iteration", "n_steps"], "steps are counted by `t`"),
    "size": "the number of elements of a leaf is `count`",
    "pi": "write 3.141592653589793",
    "inf": "write a large number, such as 1e30",
}
_FUNCTIONS = {
    "absolute": "write `abs(x)`",
    "all": "write `mean(x) == 1`, the share of elements for which a condition holds",
    "any": "write `sum(x) > 0`, the number of elements for which a condition holds",
    "dot": "write `sum(a * b)`, or `a @ b` for matrices",
    "enumerate": "write `zip(range(n), q)`",
    "float": "numbers are floats already; leave it out",
    "int": "write `floor(x)`",
    "mod": "write `a % b`",
    "ones_like": "write 1.0, which has any shape",
    "outer": "write `along(a, 0, 2) * along(b, 1, 2)`",
    "pow": "write `a ** b`",
    "power": "write `a ** b`",
    "relu": "write `maximum(x, 0.0)`",
    "remainder": "write `a % b`",
    "reversed": "read the items by their index, as in `[q[n - 1 - i] for i in range(n)]`",
    "round": "write `floor(x + 0.5)`",
    "rsqrt": "write `1 / sqrt(x)`",
    "square": "write `abs2(x)`",
    "var": "write `std(x)**2`",
    "zeros": "write 0.0, which has any shape",
    "zeros_like": "write 0.0, which has any shape",
}
_MEMBERS = {
    "T": "write `transpose({})`",
    "mT": "write `transpose({})`",
    "ndim": "the number of axes of a leaf is `ndim`",
    "shape": "the shape of a leaf is `shape`",
    "size": "the number of elements of a leaf is `count`",
}


def synonym(name: str, known: Iterable[str]) -> str:
    """Return the known name that other papers or libraries call so; "" if there is none."""
    groups = [group.split() for group in _SAME if name in group.split()]
    return next((other for group in groups for other in group if other in {*known}), "")


def for_name(name: str) -> str:
    """Return what to write instead of a name, after "unknown name": "" if nothing is known of it."""
    return f"; {_NAMES[name]}" if name in _NAMES else ""


def for_assignment(name: str) -> str:
    """Return what to assign instead of the weights; "" for other names."""
    return _STEP if name in {"w", "update"} or _STEP in _NAMES.get(name, "") else ""


def for_function(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a function, after "unknown function"; `known` are those that there are."""
    if name in _FUNCTIONS:
        return f"; {_FUNCTIONS[name]}"
    if name in _NUMBERS:
        return "; it is a number: write it without brackets"
    own = "" if name.startswith("_") else f", and [define.{name}] declares one of your own"
    return suggestion(name, known) or f"; docs/specs.md lists the functions{own}"


def for_member(node: ast.Attribute) -> str:
    """Return what to write instead of an attribute or a method: `np.abs`, `g.shape`, `state.m`."""
    of, name = ast.unparse(node.value), node.attr
    if name in _FUNCTIONS:
        return f"; {_FUNCTIONS[name]}"
    if name in FUNCTIONS:
        names = [
            parameter.name for parameter in FUNCTIONS[name].parameters if not parameter.optional
        ]
        given = names if of in _LIBRARIES else [of, *names[1:]]
        return f"; write `{name}({', '.join(given)})`"
    if of in _LIBRARIES and name in _NAMES:
        return f"; {_NAMES[name]}"
    if name in _MEMBERS:
        return f"; {_MEMBERS[name].format(of)}"
    if of in _LIBRARIES:
        return "; docs/specs.md lists the functions"
    return f"; write `{name}`" if of in {"self", "state"} else ""
