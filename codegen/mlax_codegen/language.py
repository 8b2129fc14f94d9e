"""The words of the spec language: functions that equations may call, and names that they may not take."""

import keyword
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "FUNCTIONS",
    "GRADIENT",
    "RESERVED",
    "STEP_NUMBER",
    "UPDATE",
    "WEIGHT",
    "Function",
]

GRADIENT = "g"
WEIGHT = "w"
STEP_NUMBER = "t"
UPDATE = "update"


@dataclass(frozen=True)
class Function:
    """A function that equations may call.

    Attributes:
        arguments: How many it takes.
        code: What generated code calls.
        latex: What the formula shows; `{0}` is the first argument.
        module: Where `code` is imported from; `jnp` itself where empty.
        elementwise: Whether an element of the result depends on the same element of the arguments alone.
        doc: What it computes.
    """

    arguments: int
    code: str
    latex: str
    doc: str
    module: str = ""
    elementwise: bool = True


FUNCTIONS: Mapping[str, Function] = {
    "abs": Function(1, "jnp.abs", r"\lvert {0} \rvert", "Magnitude."),
    "abs2": Function(
        1,
        "abs2",
        r"\lvert {0} \rvert^2",
        "Squared magnitude: of a complex number too, where g**2 would not be one.",
        module="mlax.leafwise",
    ),
    "exp": Function(1, "jnp.exp", r"\exp({0})", "Exponential."),
    "log": Function(1, "jnp.log", r"\log({0})", "Natural logarithm."),
    "maximum": Function(2, "jnp.maximum", r"\max({0}, {1})", "The larger of two."),
    "mean": Function(
        1, "jnp.mean", r"\operatorname{{mean}}({0})", "Mean over the leaf.", elementwise=False
    ),
    "minimum": Function(2, "jnp.minimum", r"\min({0}, {1})", "The smaller of two."),
    "sign": Function(1, "jnp.sign", r"\operatorname{{sign}}({0})", "-1, 0 or 1."),
    "sqrt": Function(1, "jnp.sqrt", r"\sqrt{{{0}}}", "Square root."),
    "sum": Function(1, "jnp.sum", r"\sum {0}", "Sum over the leaf.", elementwise=False),
    "tanh": Function(1, "jnp.tanh", r"\tanh({0})", "Hyperbolic tangent."),
    "where": Function(
        3,
        "jnp.where",
        r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
        "The second argument where the first holds, else the third.",
    ),
}

# Names that a generated module gives another meaning, and those that later versions of the language will.
_MODULE = """
    Array Count Dtype Generic Literal NamedTuple Number Optimizer Scalar State Weights abs2 apply_gradients
    apply_updates checked choice current dtype flag full h held hyperparameters init initial integer jax jnp
    map_leaves merged mlax model no_steps number own require scheduled selected self slot_dtype state step
    updates weights zeros gradients copied copies replace
"""
_BUILTINS = "bool float int str super tuple type vars TypeError ValueError object property"
_TUPLES = "count index"  # methods of every tuple, and State is one
_LATER = "key leaf ndim normal range rms shape size total trust_ratio x"

RESERVED: frozenset[str] = frozenset(
    [
        *keyword.kwlist,
        *_MODULE.split(),
        *_BUILTINS.split(),
        *_TUPLES.split(),
        *_LATER.split(),
        *FUNCTIONS,
        GRADIENT,
        WEIGHT,
        STEP_NUMBER,
        UPDATE,
    ]
)
