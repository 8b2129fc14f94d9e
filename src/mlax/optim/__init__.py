"""Optimizers: every generated module and its class, schedules, clipping, and optimizers that wrap others.

    from mlax import optim

    state = optim.adam.init(weights, learning_rate=1e-3)  # functions
    optimizer = optim.Adam(learning_rate=1e-3)            # the same algorithm as a value
    optimizer = optim.ClipGradients(optimizer, max_norm=1.0)  # an optimizer that wraps another

Each generated module is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

import mlax_optimizers
from mlax._faces import claim as _claim
from mlax._int8 import Int8, is_int8
from mlax.optim import schedules, transformations
from mlax.optim._migrating import migrate
from mlax.optim._numbers import learning_rates, numbers, with_numbers
from mlax.optim._optax import from_optax, to_optax
from mlax.optim._second_gradients import extragradient, sam
from mlax.optim._state_shardings import state_shardings
from mlax.optim.clipping import (
    clip_grad_adaptive,
    clip_grad_leaf_norm,
    clip_grad_norm,
    clip_grad_value,
    global_norm,
)
from mlax.optim.schedules import *  # noqa: F403
from mlax.optim.schedules._plotting import plot
from mlax.optim.transformations import *  # noqa: F403
from mlax.optimizer import Optimizer, Schedule, apply_updates, slot_values

if TYPE_CHECKING:
    from mlax_optimizers import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]

__all__ = [
    "Int8",
    "Optimizer",
    "Schedule",
    "apply_updates",
    "clip_grad_adaptive",
    "clip_grad_leaf_norm",
    "clip_grad_norm",
    "clip_grad_value",
    "extragradient",
    "from_optax",
    "global_norm",
    "is_int8",
    "learning_rates",
    "migrate",
    "numbers",
    "plot",
    "sam",
    "slot_values",
    "state_shardings",
    "to_optax",
    "with_numbers",
]
__all__ += schedules.__all__
__all__ += transformations.__all__
_claim(__name__, __all__)
__all__ += mlax_optimizers.__all__


if not TYPE_CHECKING:  # with this, type checkers would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name in mlax_optimizers.__all__:
            return getattr(mlax_optimizers, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
