"""Networks of layers, written for each library as its users write them: the first call, tracing, and each step.

A step is the loss in training with its gradient, under `jax.jit`, with the arrays of the model as arguments: optimizers
are compared elsewhere, and what `eqx.filter_jit` and `nnx.jit` add to a call is left out.
"""

import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.effort import Effort
from benchmarks.networks.candidates import (
    CONV_NET,
    DEEP,
    MLP,
    Candidate,
    agree,
    candidates,
    transformer,
)
from benchmarks.peers import available
from benchmarks.results import Results
from benchmarks.timing import Progress, garbage_of_its_own, take_turns, within

__all__ = ["DEEP", "DEPTHS", "MANY_UNROLLED", "PEERS", "UNROLLED", "measure"]

UNROLLED = ("Equinox", "flax.nnx")
"""The peers, their blocks in a loop of Python."""

PEERS = (*UNROLLED, "Equinox, scan with remat", "flax.nnx, scan with remat")

DEPTHS = f"first call, {DEEP}"

DEEPEST = 24
"""Deeper networks are only compiled as loops: XLA takes three minutes and 12 GB for 48 blocks one after another."""

MANY_UNROLLED = f"Equinox, {DEEPEST} blocks one after another"


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure all networks, after checking that all libraries do the same work.

    Raises:
        DisagreementError: They do not.
    """
    there, _ = available()
    small = transformer(2).of(time=4, features=8, dropout=0.0)
    for network in (MLP.of(hidden=8), CONV_NET.of(width=2, dropout=0.0), small):
        progress(f"{network.case}: whether all do the same")
        agree(network, candidates(network, there))
    unrolled = list[float]()
    for network in (MLP, CONV_NET, *map(transformer, effort.depths)):
        found = candidates(network, there)
        depth = network.sizes.get("depth", 0)
        if depth > DEEPEST:
            found = {name: found[name] for name in found if "remat" in name}
        calls = dict[str, Callable[[], Any]]()
        first = dict[str, list[float]]()
        for name, candidate in found.items():
            progress(f"{network.case}: {name}, first call")
            seconds, calls[name] = _first_call(candidate)
            first[name] = [seconds]
        results.add("networks", network.case, "first call", "s", first)
        if depth == DEEPEST and "Equinox" in first:
            unrolled = first["Equinox"]
        traces = {name: _tracing(candidate) for name, candidate in found.items()}
        if depth <= DEEPEST:
            timings = take_turns(
                traces,
                rounds=effort.traces,
                turn=0,
                progress=within(progress, f"{network.case}: traces"),
                clock=time.process_time,
            )
            results.add("networks", network.case, "trace", "s", timings)
        timings = take_turns(
            calls,
            rounds=effort.rounds,
            turn=effort.turn,
            progress=within(progress, f"{network.case}: steps"),
        )
        results.add("networks", network.case, "step", "s", timings)
    _measure_depths(results, effort, unrolled, progress)


def _measure_depths(
    results: Results, effort: Effort, unrolled: list[float], progress: Progress
) -> None:
    """Measure the first call of a few blocks and of many, in turns, beside that of blocks that are no loop."""
    found = {
        f"{depth} blocks": candidates(transformer(depth), ())[DEEP] for depth in effort.few_and_many
    }
    first: dict[str, list[float]] = {name: [] for name in found}
    for number in range(effort.first_calls):
        for name, candidate in found.items():
            progress(f"first call of {name}, round {number + 1} of {effort.first_calls}")
            seconds, _ = _first_call(candidate)
            first[name].append(seconds)
    if unrolled:
        first[MANY_UNROLLED] = unrolled
    results.add("networks", DEPTHS, "first call", "s", first)


def _first_call(candidate: Candidate) -> tuple[float, Callable[[], Any]]:
    """Trace, lower, compile and call a function, with all of JAX's caches empty.

    Returns:
        Seconds of processor time, of all threads; and a function that calls it again.
    """
    function, arguments = candidate
    jax.clear_caches()
    with garbage_of_its_own():
        start = time.process_time()
        compiled = jax.jit(function).lower(*arguments).compile()
        jax.block_until_ready(compiled(*arguments))
        seconds = time.process_time() - start
    return seconds, lambda: jax.block_until_ready(compiled(*arguments))


def _tracing(candidate: Candidate) -> Callable[[], Any]:
    function, arguments = candidate

    def trace() -> Any:
        def run(*arguments: Any) -> Any:  # a new function, which JAX has not traced yet
            return function(*arguments)

        return jax.jit(run).trace(*arguments)

    return trace
