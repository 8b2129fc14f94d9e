"""Calls of modules, eager and traced, compared with those of Equinox and Flax.

The modules return their argument, so that only the call is measured. The last case is a whole language model.
"""

from collections.abc import Callable, Container
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import mlax
from benchmarks import language
from benchmarks.effort import Effort
from benchmarks.peers import available
from benchmarks.results import Results
from benchmarks.timing import Progress, take_turns, within
from mlax import Module, Parameter

__all__ = ["BLOCKS", "EAGER", "FEW", "ONE", "TEN", "TRACED", "measure"]

REPEATED = 100
FEW, MANY = 100, 800

ONE = "eager call of one module"
TEN = "eager call of a module that calls ten others"
EAGER = f"eager call of each of {MANY} modules in a tuple"
TRACED = f"traced call of each of {MANY} modules in a tuple"
BLOCKS = "trace of the forward pass of"


class Timed(NamedTuple):
    """A function to be timed.

    Attributes:
        function: Without arguments.
        calls: How many calls it makes, if the time of one of them is to be shown.
    """

    function: Callable[[], Any]
    calls: int = 1


Cases = dict[str, dict[str, Timed]]
"""Functions to be timed, by case and by candidate."""


class Same(Module):
    scale: Parameter[Float[Array, "n"]]

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        return x, self


class Ten(Module):
    a: Same
    b: Same
    c: Same
    d: Same
    e: Same
    f: Same
    g: Same
    h: Same
    i: Same
    j: Same

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        first = self.a, self.b, self.c, self.d, self.e
        last = self.f, self.g, self.h, self.i, self.j
        for layer in (*first, *last):
            x, self = self.call(layer, x)
        return x, self


class InTuple(Module):
    layers: tuple[Same, ...]

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        for layer in self.layers:
            x, self = self.call(layer, x)
        return x, self


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure calls, and how long a language model takes to trace."""
    there, _ = available()
    _measure(results, effort, progress, cases(there))  # first, as long as nothing is compiled
    language.agree(language.forwards(there, 1))
    _measure(results, effort, progress, traces(there, effort.blocks))


def _measure(results: Results, effort: Effort, progress: Progress, cases: Cases) -> None:
    for case, candidates in cases.items():
        timings = take_turns(
            {name: timed.function for name, timed in candidates.items()},
            rounds=effort.rounds,
            turn=effort.turn,
            progress=within(progress, case),
        )
        figures = {
            name: [seconds / candidates[name].calls for seconds in each]
            for name, each in timings.items()
        }
        results.add("calls", case, "time", "s", figures)


def cases(libraries: Container[str]) -> Cases:
    """Return calls to be timed, for those of the installed libraries that are compared."""
    found = _cases_of_mlax()
    if "Equinox" in libraries:
        _add(found, "Equinox", _modules_of_equinox())
    if "flax.nnx" in libraries:
        _add(found, "flax.nnx", _modules_of_flax())
    return found


def traces(libraries: Container[str], blocks: int) -> Cases:
    """Return the traces of a language model with so many blocks, for the same libraries."""
    found = {
        library: language.tracing(forward)
        for library, forward in language.forwards(libraries, blocks).items()
    }
    found["mlax, without checks"] = _without_checks(found["mlax"])
    return {
        f"{BLOCKS} {blocks} transformer blocks": {
            name: Timed(trace) for name, trace in found.items()
        }
    }


def _cases_of_mlax() -> Cases:
    one, *ten = (Same(Parameter(scale())) for _ in range(11))
    cases: Cases = {}
    _add(cases, "mlax", (one, Ten(*ten)))
    for candidates in cases.values():
        function, calls = candidates["mlax"]
        candidates["mlax, without checks"] = Timed(_without_checks(function), calls)
    for case, calling in ((EAGER, _calling), (TRACED, _tracing)):
        few, many = (
            Timed(calling(InTuple(tuple(Same(Parameter(scale())) for _ in range(count)))), count)
            for count in (FEW, MANY)
        )
        cases[case] = {"mlax": many, f"mlax, of {FEW}": few}
    return cases


def _add(cases: Cases, library: str, modules: tuple[Any, Any]) -> None:
    """Add the eager calls of one module, and of one that calls ten others."""
    for case, module in zip((ONE, TEN), modules, strict=True):
        cases.setdefault(case, {})[library] = Timed(_calling(module, REPEATED), REPEATED)


def _modules_of_equinox() -> tuple[Any, Any]:
    from benchmarks.peers.with_equinox import EquinoxSame, EquinoxTen

    one, *ten = (EquinoxSame(scale()) for _ in range(11))
    return one, EquinoxTen(*ten)


def _modules_of_flax() -> tuple[Any, Any]:
    from benchmarks.peers.with_flax import FlaxSame, FlaxTen

    one, *ten = (FlaxSame(scale()) for _ in range(11))
    return one, FlaxTen(*ten)


def scale() -> Array:
    """Return a new small array."""
    return jnp.ones(8)


def _calling(module: Any, times: int = 1) -> Callable[[], Any]:
    x = scale()

    def call() -> None:
        for _ in range(times):
            module(x)

    return call


def _tracing(module: Any) -> Callable[[], Any]:
    x = scale()
    # A new function each time, so that JAX has not traced it before.
    return lambda: jax.jit(lambda module, x: module(x)).trace(module, x)


def _without_checks(function: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        with mlax.runtime_checks(False):
            function()

    return run
