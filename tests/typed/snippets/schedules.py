"""Schedules: their arguments, what a call returns, and where they may be given."""

from typing import reveal_type

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlax import optim


def right(weights: Array, step: Array) -> None:
    schedule = optim.cosine_decay(1e-3, 1_000)
    reveal_type(schedule)  # reveals: cosine_decay
    reveal_type(schedule(step))  # reveals: Array
    reveal_type(schedule(0) + schedule(np.int64(3)) + schedule(jnp.arange(3)) + schedule(0.5))  # reveals: Array
    reveal_type(schedule.decay_steps)  # reveals: float
    reveal_type(schedule.init)  # reveals: float
    reveal_type(0.1 * schedule + optim.constant(1e-4))  # reveals: Combination
    optim.cosine_decay(1e-3, 1e3)
    optim.Adam(learning_rate=-schedule / 2)
    optim.adam.init(weights, learning_rate=optim.linear_schedule(0, 1, steps=10))
    optim.join_schedules([schedule, lambda step: 1e-3 / (step + 1)], [100])
    optim.join_schedules((schedule, schedule), boundaries=(100,))
    optim.piecewise_constant(1.0, {100: 0.1})
    optim.piecewise_constant(1.0, ((100, 0.1), (200, 0.1)))
    optim.sgdr([optim.warmup_cosine_decay(0.0, 1.0, 10, 100)])
    optim.warmup_exponential_decay(0.0, 1.0, 10, 100, 0.5, end_value=None)
    optim.plot({"a": schedule, "b": lambda step: step * 2}, 10).savefig("a.png")
    given: optim.Schedule = schedule
    optim.plot([given, schedule], 10)


def wrong(weights: Array) -> None:
    optim.cosine_decay(1e-3)  # error: reportCallIssue // call-arg
    optim.cosine_decay(1e-3, "1e3")  # error: reportArgumentType // arg-type
    optim.cosine_decay(jnp.asarray(1e-3), 1_000)  # error: reportArgumentType // arg-type
    optim.cosine_decay(1e-3, 1_000, 0.0, 5)  # error: reportCallIssue // call-arg
    optim.linear_schedule(0, 1, 10, stpes=10)  # error: reportCallIssue // call-arg
    optim.piecewise_interpolate("cubic", 1.0)  # error: reportArgumentType // arg-type
    optim.cyclic(0.0, 1.0, mode="round")  # error: reportArgumentType // arg-type
    optim.join_schedules([1e-3], [])  # error: reportArgumentType // list-item
    optim.cosine_decay(1e-3, 1_000).init = 1.0  # error: reportAttributeAccessIssue // misc
    optim.cosine_decy(1e-3, 1_000)  # error: reportAttributeAccessIssue // attr-defined
