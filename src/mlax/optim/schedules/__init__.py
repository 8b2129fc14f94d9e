"""Schedules: hyperparameters that depend on the number of steps done.

    optimizer = optim.Adam(learning_rate=optim.cosine_decay(1e-3, 1_000))
    optim.cosine_decay(1e-3, 1_000)(500)  # 0.0005

A schedule is an immutable value: it can be hashed and compared, its repr is the call that makes it,
and it is static to JAX. Called with a step, it returns a scalar in JAX's default float dtype;
called with an array of steps, an array. Values are exact at the beginning and the end of a curve
and where one curve joins the next, and step 2**31 - 1 is as accurate as step 1.

The classes are named like functions, so that calls look as they do in the libraries that the names
come from:

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
