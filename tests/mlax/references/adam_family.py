"""Optimizers like Adam in float64 NumPy, written from their papers: for one array, and a sequence of gradients."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Rate: TypeAlias = Callable[[int], float]
References: TypeAlias = dict[str, Callable[..., Array]]


def adamw(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    decay: str = "times_learning_rate",
    bias_correction: bool = True,
) -> Array:
    """Loshchilov & Hutter 2019, algorithm 2; its schedule multiplier is the learning rate, or within the decay."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if bias_correction else (m, v)
        shrinkage = weight_decay * (rate(step) if decay == "times_learning_rate" else 1)
        w = w - (rate(step) * m_hat / (np.sqrt(v_hat + eps_root) + eps) + shrinkage * w)
    return w


def adamax(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_in: str = "maximum",
    bias_correction: bool = True,
    weight_decay: float = 0.0,
) -> Array:
    """Kingma & Ba 2015, algorithm 2, with eps where Optax or MLX have it."""
    m, u = np.zeros_like(w), np.zeros_like(w)
    inside, outside = (eps, 0.0) if eps_in == "maximum" else (0.0, eps)
    for step, g in enumerate(gradients):
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + inside)
        m_hat = m / (1 - b1 ** (step + 1)) if bias_correction else m
        w = w - rate(step) * (m_hat / (u + outside) + weight_decay * w)
    return w


def adamaxw(
    w: Array, gradients: Array, rate: Rate, weight_decay: float = 1e-4, **options: Any
) -> Array:
    """Adamax with the decay of Loshchilov & Hutter 2019."""
    return adamax(w, gradients, rate, weight_decay=weight_decay, **options)


def amsgrad(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    maximum_of: str = "corrected",
) -> Array:
    """Reddi et al. 2018, algorithm 2, with the corrections of Optax or PyTorch."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    moments: list[Array] = []
    corrected: list[Array] = []
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        c1 = 1 - b1**t if bias_correction_mu else 1
        c2 = 1 - b2**t if bias_correction_nu else 1
        moments.append(v)
        corrected.append(v / c2)
        largest = (
            np.max(corrected, axis=0) if maximum_of == "corrected" else np.max(moments, axis=0) / c2
        )
        w = w - rate(step) * (m / c1) / (np.sqrt(largest + eps_root) + eps)
    return w


def nadam(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    momentum_decay: float | None = None,
) -> Array:
    """Dozat 2016, algorithm 2 without the last nu; the momenta of PyTorch, or all of them b1."""

    def mu(t: int) -> float:
        return b1 if momentum_decay is None else b1 * (1 - 0.96 ** (t * momentum_decay) / 2)

    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        momenta = [mu(i) for i in range(1, t + 2)]
        m_hat = mu(t + 1) * m / (1 - np.prod(momenta)) + (1 - mu(t)) * g / (
            1 - np.prod(momenta[:-1])
        )
        direction = m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        w = w - rate(step) * (direction + weight_decay * w)
    return w


def nadamw(
    w: Array, gradients: Array, rate: Rate, weight_decay: float = 1e-4, **options: Any
) -> Array:
    """NAdam with the decay of Loshchilov & Hutter 2019."""
    return nadam(w, gradients, rate, weight_decay=weight_decay, **options)


def nesterov_mean(m: Array, g: Array, b1: float, t: int) -> Array:
    """Return the corrected first moment of the next step, as far as it is known: Dozat 2016."""
    return b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)


def radam(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    nesterov: bool = False,
) -> Array:
    """Liu et al. 2020, algorithm 2."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    limit = 2 / (1 - b2) - 1
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        direction = nesterov_mean(m, g, b1, t) if nesterov else m / (1 - b1**t)
        rho = limit - 2 * t * b2**t / (1 - b2**t)
        if rho >= threshold:
            r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            direction = r * direction / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        w = w - rate(step) * direction
    return w


def adabelief(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    nesterov: bool = False,
) -> Array:
    """Zhuang et al. 2020, algorithm 2."""
    m, s = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        m_hat = nesterov_mean(m, g, b1, t) if nesterov else m / (1 - b1**t)
        w = w - rate(step) * m_hat / (np.sqrt(s / (1 - b2**t)) + eps)
    return w


def adan(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.98,
    b2: float = 0.92,
    b3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
    weight_decay: float = 0.0,
    decay: str = "added",
) -> Array:
    """Xie et al. 2022, algorithm 1, with corrected biases; decays are one minus the paper's."""
    m, v, n, last = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), gradients[0]
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g - last)
        n = b3 * n + (1 - b3) * (g + (1 - b2) * (g - last)) ** 2
        last = g
        scale = np.sqrt(n / (1 - b3**t) + eps_root) + eps
        move = rate(step) * (m / (1 - b1**t) + (1 - b2) * v / (1 - b2**t)) / scale
        shrinkage = rate(step) * weight_decay
        w = w - move - shrinkage * w if decay == "added" else (w - move) / (1 + shrinkage)
    return w


def yogi(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-3,
    eps_root: float = 0.0,
    initial_accumulator_value: float = 1e-6,
    initial_mean: float = 1e-6,
    bias_correction: bool = True,
) -> Array:
    """Zaheer et al. 2018, algorithm 2, with the corrections of Optax or without."""
    m, v = np.full_like(w, initial_mean), np.full_like(w, initial_accumulator_value)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g**2) * g**2
        m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if bias_correction else (m, v)
        w = w - rate(step) * m_hat / (np.sqrt(v_hat + eps_root) + eps)
    return w


def optimistic_adam(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    nesterov: bool = True,
) -> Array:
    """Daskalakis et al. 2018, algorithm 1, where alpha and beta are 1; the first direction is its own predecessor."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    directions: list[Array] = []
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = nesterov_mean(m, g, b1, t) if nesterov else m / (1 - b1**t)
        directions.append(m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps))
        last = directions[max(step - 1, 0)]
        w = w - rate(step) * ((alpha + beta) * directions[-1] - beta * last)
    return w


def adopt(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.9999,
    eps: float = 1e-6,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_exponent: float = 0.25,
) -> Array:
    """Taniguchi et al. 2024, algorithms 1 and 2: the first gradient starts the second moment."""
    m, v = np.zeros_like(w), gradients[0] ** 2
    for step, g in enumerate(gradients[1:], start=1):
        direction = g / np.maximum(np.sqrt(v), eps)
        if use_clipping:
            direction = np.clip(direction, -(step**clip_exponent), step**clip_exponent)
        m = b1 * m + (1 - b1) * direction
        v = b2 * v + (1 - b2) * g**2
        w = w - rate(step) * (b1 * m + (1 - b1) * direction if nesterov else m)
    return w


def ademamix(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.9999,
    alpha: float = 5.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Array:
    """Pagliardini et al. 2024, algorithm 1, with alpha and beta_3 that stay."""
    fast, slow, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        fast = b1 * fast + (1 - b1) * g
        slow = b3 * slow + (1 - b3) * g
        v = b2 * v + (1 - b2) * g**2
        direction = (fast / (1 - b1**t) + alpha * slow) / (
            np.sqrt(v / (1 - b2**t) + eps_root) + eps
        )
        w = w - rate(step) * (direction + weight_decay * w)
    return w


def madgrad(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    eps: float = 1e-6,
) -> Array:
    """Defazio & Jelassi 2021, algorithm 1, with eps in the learning rate too, and L2 decay."""
    first, s, v = w, np.zeros_like(w), np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        scale = (rate(step) + eps) * np.sqrt(step + 1)
        s = s + scale * g
        v = v + scale * g**2
        z = first - s / (np.cbrt(v) + eps)
        w = momentum * w + (1 - momentum) * z
    return w


def acprop(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    weight_decay: float = 0.0,
    center: str = "before",
) -> Array:
    """Zhuang et al. 2021, the asynchronous update, with corrected biases; the first one is the gradient."""
    m, s, s_hat = np.zeros_like(w), np.zeros_like(w), np.ones_like(w)
    for step, g in enumerate(gradients):
        w = w - rate(step) * (g / (np.sqrt(s_hat) + eps) + weight_decay * w)
        mean = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - (m if center == "before" else mean)) ** 2 + eps_root
        s_hat = s / (1 - b2 ** (step + 1))
        m = mean
    return w


def cautious_adamw(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    scaling: str = "count",
) -> Array:
    """Liang et al. 2024, algorithm 2; or with the scale of the authors' code."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        agree = np.sign(m) == np.sign(g)
        scale = (
            w.size / (np.count_nonzero(agree) + 1)
            if scaling == "count"
            else 1 / max(np.count_nonzero(agree) / w.size, 1e-3)
        )
        w = w - rate(step) * (scale * np.where(agree, u, 0) + weight_decay * w)
    return w


def mars(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.95,
    b2: float = 0.99,
    gamma: float = 0.025,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    start: str = "none",
) -> Array:
    """Yuan et al. 2024, algorithm 2 (MARS-AdamW), with the approximate correction."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    last = gradients[0] if start == "none" else np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        c = g + gamma * b1 / (1 - b1) * (g - last)
        length = np.sqrt(np.sum(c**2))
        c = c / length if length > 1 else c
        m = b1 * m + (1 - b1) * c
        v = b2 * v + (1 - b2) * c**2
        last = g
        w = w - rate(step) * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * w)
    return w


def ranger(
    w: Any,
    gradients: Any,
    learning_rate: float = 1e-3,
    b1: float = 0.95,
    b2: float = 0.999,
    eps: float = 1e-5,
    threshold: float = 5.0,
    sync_period: int = 6,
    slow_step_size: float = 0.5,
    weight_decay: float = 0.0,
) -> Any:
    """Return the weights after steps of RAdam, every few of which go back to slow weights."""
    m, v, slow = np.zeros_like(w), np.zeros_like(w), w
    longest = 2 / (1 - b2) - 1
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        direction = m / (1 - b1**t)
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length >= threshold:
            r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            direction = r**0.5 * direction / (np.sqrt(v / (1 - b2**t)) + eps)
        w = w - learning_rate * (direction + weight_decay * w)
        if t % sync_period == 0:
            w = slow = slow + slow_step_size * (w - slow)
    return w


def swats(
    w: Any,
    gradients: Any,
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-9,
) -> Any:
    """Return the weights after steps of algorithm 1 of Keskar & Socher 2017, for one leaf by itself."""
    m, v, mean_rate, rate = np.zeros_like(w), np.zeros_like(w), 0.0, None
    for k, g in enumerate(gradients, 1):
        if rate is not None:
            m = b1 * m + g
            w = w - (1 - b1) * rate * m
            continue
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = -learning_rate * np.sqrt(1 - b2**k) / (1 - b1**k) * m / (np.sqrt(v) + eps)
        w = w + p
        if np.sum(p * g) != 0:
            found = np.sum(p * p) / -np.sum(p * g)
            mean_rate = b2 * mean_rate + (1 - b2) * found
            if k > 1 and abs(mean_rate / (1 - b2**k) - found) < eps:
                rate, m = mean_rate / (1 - b2**k), np.zeros_like(w)
    return w


def adam_mini(
    w: Any,
    gradients: Any,
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    blocks: str = "leaf",
    decay: bool = True,
) -> Any:
    """Return the weights after steps of AdamW with one second moment for each block."""
    kept = {"leaf": [], "row": [0], "column": [w.ndim - 1]}[blocks] if w.ndim else []
    others = tuple(axis for axis in range(w.ndim) if axis not in kept)
    m, v = np.zeros_like(w), 0.0
    for t, g in enumerate(gradients, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.mean(g**2, others, keepdims=True)
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        w = w - learning_rate * (step + (weight_decay * w if decay else 0.0))
    return w


def references() -> References:
    """Return the functions of this module that are optimizers, by name."""
    functions = [value for value in globals().values() if inspect.isfunction(value)]
    return {f.__name__: f for f in functions if "rate" in inspect.signature(f).parameters}
