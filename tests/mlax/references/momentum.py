"""The algorithms of momentum, signs and running squares in float64 NumPy, written from their papers.

Each is for one array and a sequence of gradients, and returns the weight after all steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Rate = Callable[[int], float]


def sgd(w: Array, gradients: Array, rate: Rate, *, momentum: float, dampening: float) -> Array:
    """As in PyTorch: the first velocity is the first gradient, whatever the dampening."""
    velocity = gradients[0]
    for step, g in enumerate(gradients):
        if step > 0:
            velocity = momentum * velocity + (1 - dampening) * g
        w = w - rate(step) * velocity
    return w


def sign_sgd(w: Array, gradients: Array, rate: Rate) -> Array:
    """Bernstein et al. 2018, algorithm 1."""
    for step, g in enumerate(gradients):
        w = w - rate(step) * np.sign(g)
    return w


def signum(w: Array, gradients: Array, rate: Rate, *, beta: float = 0.9) -> Array:
    """Bernstein et al. 2018, algorithm 2."""
    m = np.zeros_like(w)
    for step, g in enumerate(gradients):
        m = beta * m + (1 - beta) * g
        w = w - rate(step) * np.sign(m)
    return w


def lion(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1e-3,
) -> Array:
    """Chen et al. 2023, algorithm 2."""
    m = np.zeros_like(w)
    for step, g in enumerate(gradients):
        direction = np.sign(b1 * m + (1 - b1) * g)
        w = w - rate(step) * (direction + weight_decay * w)
        m = b2 * m + (1 - b2) * g
    return w


def rmsprop(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    bias_correction: bool = False,
    rate_in_velocity: bool = True,
    weight_decay: float = 0.0,
) -> Array:
    """Tieleman & Hinton 2012; centered as Graves 2013, equations 38 to 40 without the learning rate's share."""
    v, m, velocity = np.full_like(w, initial_scale), np.zeros_like(w), np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        v = decay * v + (1 - decay) * g**2
        m = decay * m + (1 - decay) * g
        c = 1 - decay ** (step + 1) if bias_correction else 1.0
        variance = v / c - (m / c) ** 2 if centered else v / c
        d = g / (np.sqrt(variance + eps) if eps_in_sqrt else np.sqrt(variance) + eps)
        before, after = (rate(step), 1.0) if rate_in_velocity else (1.0, rate(step))
        velocity = momentum * velocity + before * d
        w = w - after * (before * d + momentum * velocity if nesterov else velocity)
    return w


def adagrad(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    initial: float = 0.1,
    eps: float = 1e-7,
    eps_in_sqrt: bool = True,
    weight_decay: float = 0.0,
) -> Array:
    """Duchi et al. 2011, figure 1 with the diagonal of G."""
    total = np.full_like(w, initial)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        total = total + g**2
        w = w - rate(step) * g / (np.sqrt(total + eps) if eps_in_sqrt else np.sqrt(total) + eps)
    return w


def adadelta(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> Array:
    """Zeiler 2012, algorithm 1."""
    v, u = np.zeros_like(w), np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        v = rho * v + (1 - rho) * g**2
        delta = -np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * delta**2
        w = w + rate(step) * delta
    return w


def rprop(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> Array:
    """Igel & Huesken 2003, algorithm iRprop-; weight by weight, as it is printed."""
    w = w.copy()
    for index in np.ndindex(w.shape):
        size, last = rate(0), 0.0
        for gradient in gradients[(slice(None), *index)]:
            g = float(gradient)
            if last * g > 0:
                size = min(size * eta_plus, max_step_size)
            elif last * g < 0:
                size = max(size * eta_minus, min_step_size)
                g = 0.0
            w[index] -= np.sign(g) * size
            last = g
    return w


def asgd(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    averaged: bool = False,
) -> Array:
    """Polyak & Juditsky 1992, with the steps of Xu 2011, as in PyTorch; the weights, or their average."""
    average = w
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        eta = rate(step) / (1 + lambd * rate(step) * step) ** alpha
        w = (1 - lambd * eta) * w - eta * g
        mu = 1 / max(1, step - t0)
        average = (1 - mu) * average + mu * w
    return average if averaged else w


def optimistic_gradient_descent(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    alpha: Rate = lambda step: 1.0,
    beta: Rate = lambda step: 1.0,
) -> Array:
    """Mokhtari et al. 2020, equation 14: the gradient, and its change since the last step."""
    last = gradients[0]
    for step, g in enumerate(gradients):
        w = w - rate(step) * (alpha(step) * g + beta(step) * (g - last))
        last = g
    return w


def polyak_sgd(
    w: Array,
    gradients: Array,
    losses: Array,
    *,
    max_learning_rate: float = 1.0,
    scaling: Rate = lambda step: 1.0,
    f_min: float = 0.0,
    eps: float = 0.0,
    positive: bool = False,
) -> Array:
    """Loizou et al. 2021, equation 3 with the bound of section 2; `positive` as Garrigos et al. 2023."""
    for step, (g, loss) in enumerate(zip(gradients, losses, strict=True)):
        gap = max(loss - f_min, 0.0) if positive else loss - f_min
        size = min(gap / (np.sum(g**2) + eps), max_learning_rate)
        w = w - scaling(step) * size * g
    return w


def tiger(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    beta: float = 0.965,
    weight_decay: float = 0.01,
) -> Array:
    """Su 2023. Leaves with fewer than two axes count as biases and scales."""
    m = np.zeros_like(w)
    for step, g in enumerate(gradients):
        m = beta * m + (1 - beta) * g
        matrix = w.ndim > 1
        size = np.sqrt(np.mean(w**2)) if matrix else 0.5
        w = w - rate(step) * size * (np.sign(m) + (weight_decay * w if matrix else 0.0))
    return w


def grams(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> Array:
    """Cao et al. 2024, algorithm 1, with decoupled weight decay."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        adam = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        w = w - rate(step) * (np.sign(g) * np.abs(adam) + weight_decay * w)
    return w
