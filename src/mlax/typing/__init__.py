"""Annotations for trees and scalars, and the run-time checks that enforce them.

The dtype rule: trees passed to one function have the same structure, and corresponding leaves have
the same shape and dtype. Nothing is promoted implicitly. To declare this, decorate the function
with `checked` and annotate its trees as `Weights`:

    @checked
    def average(a: Weights, b: Weights) -> Weights:
        return jax.tree.map(lambda x, y: (x + y) / 2, a, b)

For type checkers `Weights` is a type variable: the result has the type of the argument. At run time
(under `jit`: when the function is traced) all `Weights` of one call must correspond leaf by leaf.
Other annotations are checked with jaxtyping's rules: dimensions with the same name have the same
size.

Some slots are smaller than the weights, or have several arrays for each leaf. Annotate them with a
function that takes the hyperparameters and a leaf's shape, and returns the shape of the slot. It is
compared leaf by leaf:

    def row_shape(h: Adafactor, shape: Shape) -> Shape:
        return shape[:-1]

    class State(NamedTuple, Generic[Weights]):
        row: Annotated[Entries, row_shape]
        hyperparameters: Adafactor

A list of shapes means a tuple of arrays. An empty list means that the leaf has no entry.

`Annotated[Weights, NonNegative]` says that no number in a slot is ever negative. In eight bits such a
slot has another dtype, uint8, and the wrong one is refused.
"""

from mlax._checking.values import check_value, checks_enabled, runtime_checks
from mlax._faces import claim as _claim
from mlax.typing._checked import checked
from mlax.typing._complaints import LeafMismatchError
from mlax.typing._entries import Entries, Shape
from mlax.typing._weights import Count, NonNegative, Real, Scalar, Weights

__all__ = [
    "Count",
    "Entries",
    "LeafMismatchError",
    "NonNegative",
    "Real",
    "Scalar",
    "Shape",
    "Weights",
    "check_value",
    "checked",
    "checks_enabled",
    "runtime_checks",
]

_claim(__name__, __all__)
