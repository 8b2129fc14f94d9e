"""The algorithms that are timed, with the same hyperparameters in every library: the defaults of Optax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optax

from mlax import optim

__all__ = ["ADAM", "ALGORITHMS", "Algorithm"]

RATE = 1e-3


@dataclass(frozen=True)
class Algorithm:
    """One algorithm in two libraries.

    Args:
        name: What tables call it.
        mlax: An optimizer of mlax.
        optax: A transformation of Optax.
        words: How many numbers a step has to read and write for each weight if it touches each of them once.
        parts: Which those are.
    """

    name: str
    mlax: Any
    optax: Any
    words: int
    parts: str


_adam = "read w, g, m, v; write w, m, v"

ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("Adam", optim.Adam(RATE), optax.adam(RATE), 7, _adam),
        Algorithm("AdamW", optim.AdamW(RATE), optax.adamw(RATE), 7, _adam),
        Algorithm("Lion", optim.Lion(RATE), optax.lion(RATE), 5, "read w, g, m; write w, m"),
        Algorithm(
            "SGD with momentum",
            optim.SGD(RATE, momentum=0.9),
            optax.sgd(RATE, momentum=0.9),
            5,
            "read w, g, m; write w, m",
        ),
        Algorithm(
            "Adafactor",
            optim.Adafactor(RATE),
            optax.adafactor(RATE),
            3,
            "read w, g; write w; it needs g more than once",
        ),
    )
}

ADAM = ALGORITHMS["Adam"]
