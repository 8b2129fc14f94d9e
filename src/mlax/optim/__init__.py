"""Optimizers: every generated module, its class, and what goes with them.

    from mlax import optim

    state = optim.adam.init(weights, learning_rate=1e-3)  # functions
    optimizer = optim.Adam(learning_rate=1e-3)            # the same algorithm as a value
    optimizer = optim.ClipGradients(optimizer, max_norm=1.0)  # an optimizer made of another

A generated module is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

import mlax_optimizers
from mlax.optim import schedules
from mlax.optim.accumulate_gradients import AccumulateGradients
from mlax.optim.average_weights import AverageWeights
from mlax.optim.clip_gradients import ClipGradients
from mlax.optim.clipping import (
    clip_grad_adaptive,
    clip_grad_leaf_norm,
    clip_grad_norm,
    clip_grad_value,
    global_norm,
)
from mlax.optim.decay_weights import DecayWeights
from mlax.optim.from_optax import from_optax
from mlax.optim.frozen import Frozen
from mlax.optim.lookahead import Lookahead
from mlax.optim.master_weights import MasterWeights
from mlax.optim.multi_optimizer import MultiOptimizer
from mlax.optim.plotting import plot
from mlax.optim.protocol import OptimizerLike
from mlax.optim.reduce_on_plateau import ReduceOnPlateau
from mlax.optim.scale_updates import ScaleUpdates
from mlax.optim.schedules import *  # noqa: F403
from mlax.optim.skip_non_finite import SkipNonFinite
from mlax.optim.to_optax import to_optax
from mlax.optimizer import Optimizer, Schedule, apply_updates

if TYPE_CHECKING:
    from mlax_optimizers import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]

__all__ = [
    "AccumulateGradients",
    "AverageWeights",
    "ClipGradients",
    "DecayWeights",
    "Frozen",
    "Lookahead",
    "MasterWeights",
    "MultiOptimizer",
    "Optimizer",
    "OptimizerLike",
    "ReduceOnPlateau",
    "ScaleUpdates",
    "Schedule",
    "SkipNonFinite",
    "apply_updates",
    "clip_grad_adaptive",
    "clip_grad_leaf_norm",
    "clip_grad_norm",
    "clip_grad_value",
    "from_optax",
    "global_norm",
    "plot",
    "to_optax",
]
__all__ += schedules.__all__
__all__ += mlax_optimizers.__all__


if not TYPE_CHECKING:  # checkers would take every misspelt name for one that this finds

    def __getattr__(name: str) -> Any:
        if name in mlax_optimizers.__all__:
            return getattr(mlax_optimizers, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
