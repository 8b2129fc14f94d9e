"""Optimizers: every generated module, its class, and what goes with them.

    from mlax import optim

    state = optim.adam.init(weights, learning_rate=1e-3)  # functions
    optimizer = optim.Adam(learning_rate=1e-3)            # the same algorithm as a value

A generated module is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

import mlax_optimizers
from mlax.optimizer import Optimizer, Schedule, apply_updates

if TYPE_CHECKING:
    from mlax_optimizers import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]

__all__ = ["Optimizer", "Schedule", "apply_updates"]
__all__ += mlax_optimizers.__all__


if not TYPE_CHECKING:  # checkers would take every misspelt name for one that this finds

    def __getattr__(name: str) -> Any:
        if name in mlax_optimizers.__all__:
            return getattr(mlax_optimizers, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
