"""The algorithms that are timed: all that Optax has too, with the same hyperparameters in both, which are the defaults.

They are found by their names, so that a new one is timed by existing.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optax

import mlax_optimizers
import mlax_optimizers.experimental
from mlax.optimizer import Optimizer

__all__ = ["ADAM", "ALGORITHMS", "FEW", "Algorithm", "peer_of"]

RATE = 1e-3

PEERS: Mapping[str, Callable[..., Any]] = {
    "noisy_sgd": functools.partial(optax.noisy_sgd, key=0),
    "optimistic_adam": optax.optimistic_adam_v2,
}
"""Functions of Optax that are named differently, or that warn if they are called without an option."""

LEFT_OUT = ("galore",)
"""Optax's does something else: it projects the update of any optimizer, and never turns its moments."""

DIFFERENT = {
    "noisy_sgd": "each library draws noise of its own",
    "rprop": "Optax's new weights are those of one step before",
}
"""Algorithms whose new weights differ, although the work is the same, and why."""

OPTIONS: Mapping[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}}
"""Hyperparameters other than the defaults, in both libraries."""

NAMES = {"sgd": "SGD with momentum"}
"""Names in tables, where they are not that of the class."""

LEAVES = {"muon": 2}
"""Numbers of leaves of algorithms that multiply matrices: a step on 64 would take seconds."""

GIVEN = {"polyak_sgd": {"value": 1.0}}
"""Numbers that a step takes by keyword."""


@dataclass(frozen=True)
class Algorithm:
    """One algorithm in two libraries.

    Args:
        name: What tables call it.
        mlax: An optimizer of mlax.
        optax: A transformation of Optax.
        leaves: On how many leaves of 1 MB it is timed; None for as many as others.
        differs: Why the new weights are not the same, although the work is; "" if they are.
        given: What a step takes by keyword.
    """

    name: str
    mlax: Any
    optax: Any
    leaves: int | None = None
    differs: str = ""
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])


def peer_of(kind: type[Optimizer]) -> Callable[..., Any] | None:
    """Return the function of Optax that makes the same optimizer, or None if there is none."""
    name = _module(kind)
    if name in LEFT_OUT:
        return None
    return PEERS.get(name) or getattr(optax, name, None) or getattr(optax.contrib, name, None)


def _module(kind: type[Optimizer]) -> str:
    return kind.__module__.rpartition(".")[2]


def _classes() -> Iterator[type[Optimizer]]:
    for package in (mlax_optimizers, mlax_optimizers.experimental):
        for name in package.__all__:
            if isinstance(kind := getattr(package, name), type):
                yield kind


def _algorithms() -> Iterator[Algorithm]:
    for kind in _classes():
        if (peer := peer_of(kind)) is None:
            continue
        name = _module(kind)
        options = OPTIONS.get(name, {})
        rate = inspect.signature(peer).parameters.get("learning_rate")
        if rate is not None and rate.default in (None, inspect.Parameter.empty):
            options = {"learning_rate": RATE, **options}
        yield Algorithm(
            NAMES.get(name, kind.__name__),
            kind(**options),
            peer(**options),
            LEAVES.get(name),
            DIFFERENT.get(name, ""),
            {key: np.float32(value) for key, value in GIVEN.get(name, {}).items()},
        )


_FIRST = ("Adam", "AdamW", "Lion", "SGD with momentum", "Adafactor")

ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in sorted(
        _algorithms(),
        key=lambda one: (
            _FIRST.index(one.name) if one.name in _FIRST else len(_FIRST),
            one.name.lower(),
        ),
    )
}

FEW: Mapping[str, Algorithm] = {name: ALGORITHMS[name] for name in _FIRST}
"""Those that are drawn, and measured in a quick run."""

ADAM = ALGORITHMS["Adam"]
