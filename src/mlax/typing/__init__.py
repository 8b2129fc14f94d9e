"""Annotations of trees and scalars, and the checks at run time that hold them to it.

The dtype rule: trees given to one function have the same structure, and leaves that correspond the same shape and
dtype. Nothing is promoted implicitly. A function under `checked` says so by annotating its trees `Weights`:

    @checked
    def average(a: Weights, b: Weights) -> Weights:
        return jax.tree.map(lambda x, y: (x + y) / 2, a, b)

For type checkers `Weights` is a type variable: what goes in comes out. At run time, which under `jit` is when the
function is traced, all `Weights` of one call have to correspond leaf by leaf. Other annotations are checked as
jaxtyping understands them: dimensions of one name have one size.

A slot that is smaller than the weights, or has several arrays for each leaf, is annotated with what says so, a function
of the hyperparameters and of a leaf's shape. It is compared entry by entry:

    def row_shape(h: Adafactor, shape: Shape) -> Shape:
        return shape[:-1]

    class State(NamedTuple, Generic[Weights]):
        row: Annotated[Entries, row_shape]
        hyperparameters: Adafactor

A list of shapes stands for a tuple of arrays, an empty one for a leaf without an entry.
"""

from mlax._checking.values import check_value, checks_enabled, runtime_checks
from mlax._faces import claim
from mlax.typing._checked import checked
from mlax.typing._complaints import LeafMismatchError
from mlax.typing._entries import Entries, Shape
from mlax.typing._weights import Count, Scalar, Weights

__all__ = [
    "Count",
    "Entries",
    "LeafMismatchError",
    "Scalar",
    "Shape",
    "Weights",
    "check_value",
    "checked",
    "checks_enabled",
    "runtime_checks",
]

claim(__name__, __all__)
