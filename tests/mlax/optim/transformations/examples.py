"""An example of every optimizer that wraps others, for tests of laws that hold for all."""

import dataclasses
import inspect
from typing import Any

import jax.numpy as jnp

from mlax import optim
from mlax.optim.transformations._wrapping import Transformation


def first(path: str, weight: Any) -> bool:
    return path.startswith("a")


def other(path: str, weight: Any) -> bool:
    return path in {"b.0", "b", "b0"}


def half_of_first(path: str, weight: Any) -> float:
    return 0.5 if path.startswith("a") else 1.0


def more_each_time(steps: Any) -> Any:
    return steps + 1


SGD = optim.SGD(0.1, momentum=0.9)

EXAMPLES: dict[str, Transformation] = {
    "AccumulateGradients": optim.AccumulateGradients(SGD, 3),
    "AccumulateGradients wide": optim.AccumulateGradients(SGD, 2, slot_dtype=jnp.float32),
    "AccumulateGradients scheduled": optim.AccumulateGradients(SGD, more_each_time),
    "AverageWeights": optim.AverageWeights(SGD, 0.75),
    "ClipGradients": optim.ClipGradients(SGD, max_norm=1.0, max_value=0.5, max_leaf_norm=0.9),
    "ClipGradients adaptive": optim.ClipGradients(SGD, adaptive=0.1),
    "DecayWeights": optim.DecayWeights(SGD, 0.005, mask=first),
    "DecayWeights independent": optim.DecayWeights(optim.PolyakSGD(), 0.1, independent=True),
    "Frozen": optim.Frozen(),
    "KeepNorm": optim.KeepNorm(SGD),
    "Lookahead": optim.Lookahead(SGD, sync_period=2),
    "MasterWeights": optim.MasterWeights(SGD),
    "MultiOptimizer": optim.MultiOptimizer(
        [optim.Frozen(), optim.PolyakSGD(), SGD], [first, other]
    ),
    "ReduceOnPlateau": optim.ReduceOnPlateau(SGD, 0.5, patience=1, min_scale=0.5),
    "ScaleLoss": optim.ScaleLoss(SGD, 4.0, growth_interval=2),
    "ScaleUpdates": optim.ScaleUpdates(SGD, half_of_first),
    "SkipNonFinite": optim.SkipNonFinite(SGD, 2),
    "nested": optim.MasterWeights(
        optim.ClipGradients(
            optim.MultiOptimizer(
                [optim.AverageWeights(optim.Muon(), 0.5), optim.Lookahead(optim.PolyakSGD())],
                [first],
            ),
            max_norm=1.0,
        )
    ),
}

EXPORTED = [
    value
    for name in optim.__all__
    if inspect.isclass(value := getattr(optim, name)) and issubclass(value, Transformation)
]


def rounding_stochastically(optimizer: Any) -> Any:
    """Return an optimizer in which all that have the option round stochastically."""
    if isinstance(optimizer, tuple):
        return tuple(map(rounding_stochastically, optimizer))
    if not isinstance(optimizer, optim.Optimizer):
        return optimizer
    names = [field.name for field in dataclasses.fields(optimizer)]
    changes = {name: rounding_stochastically(getattr(optimizer, name)) for name in names}
    if "stochastic_rounding" in names:
        changes["stochastic_rounding"] = True
    return dataclasses.replace(optimizer, **changes)


def arguments(optimizer: Transformation) -> dict[str, Any]:
    """Return what `step` of an example takes by keyword."""
    return {"value": jnp.asarray(0.25, jnp.float32)} if optimizer.arguments else {}
