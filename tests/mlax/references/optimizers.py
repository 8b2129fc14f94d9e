"""SGD and Adam in float64 NumPy, written from their papers: for one array, and a sequence of gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Rate = Callable[[int], float]


def sgd(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Array:
    """Sutskever et al. 2013, in the form without the learning rate in the velocity, with dampening and L2 decay."""
    velocity = np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        velocity = momentum * velocity + (1 - dampening) * g
        w = w - rate(step) * (g + momentum * velocity if nesterov else velocity)
    return w


def adam(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    bias_correction: bool = True,
) -> Array:
    """Kingma & Ba 2015, algorithm 1; eps_root as in Optax."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if bias_correction else (m, v)
        w = w - rate(step) * m_hat / (np.sqrt(v_hat + eps_root) + eps)
    return w
