"""How many floating-point operations a function does, as XLA counts them before it optimizes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax

__all__ = ["flops"]


def flops(function: Callable[..., Any], arguments: Sequence[Any]) -> int:
    """Return the number of floating-point operations of a function of arrays.

    XLA counts the body of each loop once. Of a `scan`, the other iterations are added. How often a
    `while_loop` runs is not known.

    Args:
        function: Takes and returns arrays.
        arguments: Arrays, or `jax.ShapeDtypeStruct`s.
    """
    traced = cast("Any", jax.jit(function)).trace(*arguments)
    return max(0, round(_by_xla(traced) + _uncounted(traced.jaxpr.jaxpr)))


def _by_xla(traced: Any) -> float:
    analysis = traced.lower().cost_analysis()
    count: float = analysis.get("flops", 0.0) if analysis else 0.0
    return count


def _uncounted(jaxpr: Any) -> float:
    """Return the operations in the iterations of scans that XLA does not count."""
    from jax.extend import core

    found = 0.0
    for scan in _scans(jaxpr):
        body, length, unroll = scan["jaxpr"], scan["length"], max(1, scan["unroll"])
        run = cast("Any", core).jaxpr_as_fun(body)
        once = _by_xla(cast("Any", jax.jit(run)).trace(*body.in_avals))
        counted = min(length, unroll + length % unroll)
        found += length * (once + _uncounted(body.jaxpr)) - counted * once
    return found


def _scans(jaxpr: Any) -> Iterator[Any]:
    """Yield the parameters of the scans in a jaxpr, not of those inside other scans."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params
            continue
        for value in equation.params.values():
            for inner in cast("Any", value if isinstance(value, (tuple, list)) else [value]):
                inner = getattr(inner, "jaxpr", inner)  # noqa: PLW2901
                if hasattr(inner, "eqns"):
                    yield from _scans(inner)
