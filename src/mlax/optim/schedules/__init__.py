"""Schedules: hyperparameters that depend on the number of steps done.

    optimizer = optim.Adam(learning_rate=optim.cosine_decay(1e-3, 1_000))
    optim.cosine_decay(1e-3, 1_000)(500)  # 0.0005

A schedule is a value: frozen, hashable, comparable, printed as it is written, and static to JAX. Called with a step it
returns a scalar in JAX's default float dtype; with an array of steps, an array. Values are exact where a curve begins,
where it ends and where it is joined to the next one, and as good at step 2**31 - 1 as at step 1.

The classes are named as functions are, since a call of one reads as in the libraries where the names come from:

    MLX       cosine_decay, exponential_decay, join_schedules, linear_schedule, step_decay
    PyTorch   multi_step, cyclic
    Optax     the others
"""

from mlax.optim.schedules.cycles import cosine_onecycle, cyclic, linear_onecycle, sgdr
from mlax.optim.schedules.decays import (
    constant,
    cosine_decay,
    exponential_decay,
    linear_schedule,
    multi_step,
    polynomial,
    step_decay,
)
from mlax.optim.schedules.pieces import join_schedules, piecewise_constant, piecewise_interpolate
from mlax.optim.schedules.warmups import (
    warmup_constant,
    warmup_cosine_decay,
    warmup_exponential_decay,
)

__all__ = [
    "constant",
    "cosine_decay",
    "cosine_onecycle",
    "cyclic",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle",
    "linear_schedule",
    "multi_step",
    "piecewise_constant",
    "piecewise_interpolate",
    "polynomial",
    "sgdr",
    "step_decay",
    "warmup_constant",
    "warmup_cosine_decay",
    "warmup_exponential_decay",
]
