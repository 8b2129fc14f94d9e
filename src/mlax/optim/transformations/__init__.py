"""Optimizers that wrap other optimizers. Each has a file here and a page in `docs/transformations`."""

from mlax.optim.transformations._protocol import OptimizerLike
from mlax.optim.transformations.accumulate_gradients import AccumulateGradients
from mlax.optim.transformations.average_weights import AverageWeights
from mlax.optim.transformations.clip_gradients import ClipGradients
from mlax.optim.transformations.decay_weights import DecayWeights
from mlax.optim.transformations.frozen import Frozen
from mlax.optim.transformations.keep_norm import KeepNorm
from mlax.optim.transformations.lookahead import Lookahead
from mlax.optim.transformations.master_weights import MasterWeights
from mlax.optim.transformations.multi_optimizer import MultiOptimizer
from mlax.optim.transformations.reduce_on_plateau import ReduceOnPlateau
from mlax.optim.transformations.scale_loss import ScaleLoss, scaled_loss
from mlax.optim.transformations.scale_updates import ScaleUpdates
from mlax.optim.transformations.skip_non_finite import SkipNonFinite

__all__ = [
    "AccumulateGradients",
    "AverageWeights",
    "ClipGradients",
    "DecayWeights",
    "Frozen",
    "KeepNorm",
    "Lookahead",
    "MasterWeights",
    "MultiOptimizer",
    "OptimizerLike",
    "ReduceOnPlateau",
    "ScaleLoss",
    "ScaleUpdates",
    "SkipNonFinite",
    "scaled_loss",
]
