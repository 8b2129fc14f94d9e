"""Optimizers that see a leaf as a whole, in float64 NumPy, written from their papers.

Each is for one array, and a sequence of gradients. Those that see all leaves at once are given them as one vector.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Rate = Callable[[int], float]


def trust_ratio(
    w: Array, d: Array, coefficient: float = 1.0, eps: float = 0.0, least: float = 0.0
) -> float:
    length, way = max(np.linalg.norm(w), least), max(np.linalg.norm(d), least)
    return float(coefficient * length / (way + eps)) if length > 0 and way > 0 else 1.0


def rms(x: Array) -> float:
    return float(np.sqrt(np.mean(x**2)))


def lamb(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Array:
    """You et al. 2020, algorithm 2, with the identity as its scaling function; eps_root as in Optax."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        r = m / (1 - b1 ** (step + 1)) / (np.sqrt(v / (1 - b2 ** (step + 1)) + eps_root) + eps)
        d = r + weight_decay * w
        w = w - rate(step) * trust_ratio(w, d) * d
    return w


def lars(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Array:
    """You et al. 2017, algorithm 1, with the norm of the whole direction and with Nesterov's momentum as in Optax."""
    v = np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        d = rate(step) * trust_ratio(w, g, trust_coefficient, eps) * g
        v = momentum * v + d
        w = w - (d + momentum * v if nesterov else v)
    return w


def fromage(w: Array, gradients: Array, rate: Rate, *, min_norm: float = 1e-6) -> Array:
    """Bernstein et al. 2020, algorithm 1; the smallest norm as in Optax."""
    for step, g in enumerate(gradients):
        eta = rate(step)
        w = (w - eta * trust_ratio(w, g, least=min_norm) * g) / np.sqrt(1 + eta**2)
    return w


def novograd(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Array:
    """Ginsburg et al. 2019, algorithm 1, with eps outside of the root; eps_root as in Optax."""
    m, v = np.zeros_like(w), 0.0
    for step, g in enumerate(gradients):
        square = float(np.sum(g**2))
        v = b2 * v + (1 - b2) * square if step else square
        m = b1 * m + g / (np.sqrt(v + eps_root) + eps) + weight_decay * w
        w = w - rate(step) * m
    return w


def sm3(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    momentum: float | None = 0.9,
    eps: float = 1e-8,
) -> Array:
    """Anil et al. 2019, algorithm SM3-II, element by element; eps under the root as in Optax."""
    mu = [np.zeros(n) for n in w.shape] or [np.zeros(1)]
    m = np.zeros_like(w)
    for step, g in enumerate(gradients):
        direction = np.zeros_like(w)
        after = [np.zeros_like(x) for x in mu]
        for place in np.ndindex(w.shape):
            slices = place or (0,)
            v = min(x[i] for x, i in zip(mu, slices, strict=True)) + g[place] ** 2
            direction[place] = g[place] / np.sqrt(v + eps)
            for x, i in zip(after, slices, strict=True):
                x[i] = max(x[i], v)
        mu = after
        m = direction if momentum is None else momentum * m + (1 - momentum) * direction
        w = w - rate(step) * m
    return w


def adafactor(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    axes: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: (),
    relative_step: bool = False,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    weight_decay_scale: str = "none",
    eps: float = 1e-30,
) -> Array:
    """Shazeer & Stern 2018, algorithm 4, with momentum and weight decay as in Optax; `axes` says what is factored."""
    v, m = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        decay = 1 - max(t - decay_offset, 1) ** -decay_rate
        # The means are linear: those of all of the second moment are the moments of the means.
        v = decay * v + (1 - decay) * (g**2 + eps)
        second = v
        if axes(w.shape):
            a, b = axes(w.shape)
            row, column = v.mean(b, keepdims=True), v.mean(a, keepdims=True)
            second = row * column / row.mean(a, keepdims=True)
        u = g / np.sqrt(second)
        u = u if clipping_threshold is None else u / max(1.0, rms(u) / clipping_threshold)
        rho = min(rate(step), 1 / np.sqrt(t)) if relative_step else rate(step)
        alpha = rho * max(1e-3, rms(w)) if parameter_scale else rho
        m = alpha * u if momentum is None else momentum * m + (1 - momentum) * alpha * u
        factor = {"none": 1.0, "learning_rate": rate(step), "step": alpha}[weight_decay_scale]
        w = w - m - factor * weight_decay * w
    return w


def newton_schulz(
    x: Array, steps: int, coefficients: tuple[float, float, float], eps: float
) -> Array:
    """Jordan 2024: five steps of a quintic polynomial of a matrix over its norm."""
    a, b, c = coefficients
    x = x / (np.linalg.norm(x) + eps)
    for _ in range(steps):
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x


def muon(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    coupled_decay: bool = False,
    nesterov: bool = True,
    bias_correction: bool = True,
    consistent_rms: float | None = None,
    out_in: bool = False,
    sgd: bool = False,
    adam: tuple[float, float] = (0.9, 0.999),
    adam_weight_decay: float = 0.0,
    adam_eps_root: float = 0.0,
    adam_rate: Rate | None = None,
) -> Array:
    """Jordan 2024, in the forms of Optax and of MLX."""
    matrix = w.ndim == 2 or (out_in and w.ndim > 2)
    b1, b2 = adam
    by_adam = not matrix and not sgd
    decay = b1 if by_adam else beta
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, gradient in enumerate(gradients):
        t = step + 1
        g = gradient + weight_decay * w if coupled_decay else gradient
        m = decay * m + (1 - decay) * g
        corrected = bias_correction or by_adam
        now = 1 - decay**t if corrected else 1.0
        ahead = 1 - decay ** (t + 1) if corrected else 1.0
        d = decay * m / ahead + (1 - decay) * g / now if nesterov else m / now
        if by_adam:
            v = b2 * v + (1 - b2) * g**2
            d = d / (np.sqrt(v / (1 - b2**t) + adam_eps_root) + eps) + adam_weight_decay * w
            w = w - (adam_rate or rate)(step) * d
            continue
        if matrix:
            d = d.reshape(len(w), -1)
            d = newton_schulz(d, steps, (3.4445, -4.7750, 2.0315), eps).reshape(w.shape)
            if consistent_rms is not None:
                d = d * max(w.shape[-2:]) ** 0.5 * consistent_rms
            else:
                rows, columns = w.shape[-2:]
                d = d * max(1, rows / columns if out_in else columns / rows) ** 0.5
            d = d if coupled_decay else d + weight_decay * w
        w = w - rate(step) * d
    return w


def prodigy(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float | None = None,
    eps: float = 1e-8,
    d0: float = 1e-6,
    coefficient: float = 1.0,
    weight_decay: float = 0.0,
    safeguard_warmup: bool = False,
) -> Array:
    """Mishchenko & Defazio 2024, algorithm 4, with the bias correction of the authors' code."""
    b3 = np.sqrt(b2) if b3 is None else b3
    first, d, r = w, d0, 0.0
    m, v, s = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        alpha = d * rate(step) * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + d / d0 * alpha * np.vdot(g, first - w)
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * (d * g) ** 2
        s = b3 * s + (d if safeguard_warmup else alpha) / d0 * d * g
        d = max(d, coefficient * r / np.sum(np.abs(s)))
        w = w - alpha * (m / (np.sqrt(v) + d * eps) + weight_decay * w)
    return w


def dadapt_adamw(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    d0: float = 1e-6,
    weight_decay: float = 0.0,
) -> Array:
    """Defazio & Mishchenko 2023, algorithm 5, with the bias correction of the authors' code."""
    root, d, r = np.sqrt(b2), d0, 0.0
    m, v, s = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        t = step + 1
        alpha = d * rate(step) * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = root * r + (1 - root) * alpha * np.vdot(g, s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * alpha * g
        v = b2 * v + (1 - b2) * g**2
        s = root * s + (1 - root) * alpha * g
        d = max(d, r / ((1 - root) * np.sum(np.abs(s))))
        w = w - m / (np.sqrt(v) + eps) - alpha * weight_decay * w
    return w


def dog(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    distance: float | None = None,
    first_rate: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Ivgi et al. 2023, equation 3."""
    first = w
    r = 1e-6 * (1 + float(np.linalg.norm(w))) if distance is None else distance
    r = r if first_rate is None else 0.0
    total = 0.0
    for step, gradient in enumerate(gradients):
        g = gradient + weight_decay * w
        r = max(r, float(np.linalg.norm(w - first)))
        total = total + float(np.sum(g**2))
        eta = r / np.sqrt(total + eps)
        eta = first_rate if first_rate is not None and step == 0 else eta
        w = w - rate(step) * eta * g
    return w


def schedule_free(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    adam: bool,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    power: float = 2.0,
    evaluated: bool = False,
) -> Array:
    """Defazio et al. 2024, algorithm 1 for AdamW and equations 3 to 5 for SGD; `evaluated` gives the mean."""
    x, y, z, v = w, w, w, np.zeros_like(w)
    peak = total = 0.0
    for step, g in enumerate(gradients):
        v = b2 * v + (1 - b2) * g**2
        d = g / (np.sqrt(v / (1 - b2 ** (step + 1))) + eps) if adam else g
        z = z - rate(step) * (d + weight_decay * y)
        peak = max(peak, rate(step))
        total = total + peak**power
        c = peak**power / total if total else 0.0
        x = (1 - c) * x + c * z
        y = b1 * x + (1 - b1) * z
    return x if evaluated else y


def product(x: Array, matrices: dict[int, Array]) -> Array:
    """Multiply an array along each of some axes by a matrix from the left."""
    for axis, matrix in matrices.items():
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def slices(g: Array, axis: int) -> Array:
    return np.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)


def shampoo(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    momentum: float | None = 0.9,
    b2: float | None = None,
    eps: float = 1e-4,
    weight_decay: float = 0.0,
    interval: int = 1,
    longest: int = 1024,
) -> Array:
    """Gupta et al. 2018, algorithm 2, where the sums begin at eps times the identity."""
    axes = [axis for axis, n in enumerate(w.shape) if n <= longest]
    h = {axis: np.zeros((w.shape[axis], w.shape[axis])) for axis in axes}
    roots: dict[int, Array] = {}
    m = np.zeros_like(w)
    for step, g in enumerate(gradients):
        for axis in axes:
            new = slices(g, axis) @ slices(g, axis).T
            h[axis] = h[axis] + new if b2 is None else b2 * h[axis] + (1 - b2) * new
            if step % interval == 0:
                values, vectors = np.linalg.eigh(h[axis] + eps * np.eye(len(h[axis])))
                roots[axis] = vectors @ np.diag(values ** (-1 / (2 * w.ndim))) @ vectors.T
        m = g if momentum is None else momentum * m + (1 - momentum) * g
        w = w - rate(step) * (product(m, roots) + weight_decay * w)
    return w


def soap(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    frequency: int = 10,
    longest: int = 10_000,
    vectors: bool = False,
) -> Array:
    """Vyas et al. 2024, algorithms 3 and 4, and as in the authors' code a first step that only finds bases."""
    axes = [axis for axis, n in enumerate(w.shape) if n <= longest and (w.ndim >= 2 or vectors)]
    moments = {axis: np.zeros((w.shape[axis], w.shape[axis])) for axis in axes}
    bases: dict[int, Array] = {}
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        d = np.zeros_like(w)
        if step:
            turned = {axis: basis.T for axis, basis in bases.items()}
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * product(g, turned) ** 2
            m_hat, v_hat = m / (1 - b1**step), v / (1 - b2**step)
            d = product(product(m_hat, turned) / (np.sqrt(v_hat) + eps), bases)
        w = w - rate(step) * (d + weight_decay * w)
        for axis in axes:
            moments[axis] = b2 * moments[axis] + (1 - b2) * slices(g, axis) @ slices(g, axis).T
            if step == 0:
                bases[axis] = np.linalg.eigh(moments[axis])[1][:, ::-1]
            elif step % frequency == 0:
                bases[axis] = np.linalg.qr(moments[axis] @ bases[axis])[0]
    return w


def singular_vectors(g: Array, rank: int) -> Array:
    """Return the leading right singular vectors of a matrix, in which the largest number is positive."""
    found = np.linalg.svd(g)[2].T[:, :rank]
    return found * np.sign(found[abs(found).argmax(0), range(found.shape[1])])


def galore(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    rank: int = 128,
    interval: int = 200,
    scale: float = 0.25,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Zhao et al. 2024, algorithm 2; for more rows than columns with the other side projected, as they say."""
    tall = w.ndim == 2 and w.shape[0] >= w.shape[1]
    w, gradients = (w.T, np.swapaxes(gradients, 1, 2)) if tall else (w, gradients)
    m, v, p = 0.0, 0.0, np.eye(1)
    for step, g in enumerate(gradients):
        if w.ndim == 2 and step % interval == 0:
            p = singular_vectors(g.T, rank)
        r = p.T @ g if w.ndim == 2 else g
        m, v = b1 * m + (1 - b1) * r, b2 * v + (1 - b2) * r**2
        n = m / (1 - b1 ** (step + 1)) / (np.sqrt(v / (1 - b2 ** (step + 1))) + eps)
        w = w - rate(step) * ((scale * p @ n if w.ndim == 2 else n) + weight_decay * w)
    return w.T if tall else w


def dion(
    w: Array,
    gradients: Array,
    rate: Rate,
    *,
    first: Array,
    momentum: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    adam: tuple[float, float] = (0.9, 0.95),
    out_in: bool = False,
) -> Array:
    """Ahn et al. 2025, algorithm 1, from its first directions; others as AdamW does."""
    if w.ndim != 2:
        b1, b2 = adam
        m, v = np.zeros_like(w), np.zeros_like(w)
        for step, g in enumerate(gradients):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            d = m / (1 - b1 ** (step + 1)) / (np.sqrt(v / (1 - b2 ** (step + 1))) + eps)
            w = w - rate(step) * (d + weight_decay * w)
        return w
    outputs, inputs = w.shape if out_in else w.shape[::-1]
    m, q = np.zeros_like(w), first
    for step, g in enumerate(gradients):
        b = m + g
        p, upper = np.linalg.qr(b @ q)
        p = p * np.sign(np.diag(upper))
        r = b.T @ p
        m = b - (1 - momentum) * p @ r.T
        q = r / (np.linalg.norm(r, axis=0) + eps)
        w = w - rate(step) * ((outputs / inputs) ** 0.5 * p @ q.T + weight_decay * w)
    return w
