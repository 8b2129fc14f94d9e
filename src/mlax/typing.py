"""Annotations of trees and scalars, and the checks at run time that hold them to it.

The dtype rule: trees given to one function have the same structure, and leaves that correspond the same shape and
dtype. Nothing is promoted implicitly. A function under `checked` says so by annotating its trees `Weights`:

    @checked
    def average(a: Weights, b: Weights) -> Weights:
        return jax.tree.map(lambda x, y: (x + y) / 2, a, b)

For type checkers `Weights` is a type variable: what goes in comes out. At run time, which under `jit` is when the
function is traced, all `Weights` of one call have to correspond leaf by leaf. Other annotations are checked as
jaxtyping understands them: dimensions of one name have one size.
"""

from mlax._checked import LeafMismatchError, checked
from mlax._checks import check_value, checks_enabled, runtime_checks
from mlax._weights import Count, Scalar, Weights

__all__ = [
    "Count",
    "LeafMismatchError",
    "Scalar",
    "Weights",
    "check_value",
    "checked",
    "checks_enabled",
    "runtime_checks",
]
