"""Gradient clipping: by the norm of all gradients, by leaf, by element, or relative to the weights.

Half precision is computed in float32. Results have the structure, shapes and dtypes of the
gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import compute_dtype
from mlax._jax.tracing import cond, is_tracer
from mlax._jax.trees import leaves
from mlax._packing.weights import refuse_packed
from mlax.leafwise import map_leaves, norm
from mlax.leafwise._elements import divide
from mlax.leafwise._norms import root_of, scaled_norm, sum_of_squares
from mlax.optimizer._hyperparameters import not_negative, number
from mlax.optimizer._specified import normalised
from mlax.typing import Scalar, Weights, checked

__all__ = [
    "clip_grad_adaptive",
    "clip_grad_leaf_norm",
    "clip_grad_norm",
    "clip_grad_value",
    "global_norm",
]

# PyTorch and MLX add this to a norm before they divide by it.
_EPS = 1e-6

# Gradients with a larger norm are divided by this first: the norm may overflow, and its reciprocal underflow.
_LARGE = 2.0**100


@checked
def global_norm(tree: Weights) -> Scalar:  # pyright: ignore[reportInvalidTypeVarUse]
    """Return the Euclidean norm of all elements of all leaves: √Σ|x|².

    Squares neither overflow nor underflow: leaves of 1e30 have a norm in float32.

    Args:
        tree: Inexact arrays.

    Returns:
        Shape (), in JAX's default float dtype; 0 for a tree without leaves.
    """
    all_leaves: list[Array] = leaves(tree)
    if not all_leaves:
        return jnp.zeros((), jnp.result_type(float))
    squares = jnp.sum(lax.concatenate([*map(_jitted_squares, all_leaves)], 0))
    size = sum(leaf.size for leaf in all_leaves)

    def norm_of_norms() -> Array:
        return norm(lax.concatenate([*map(_jitted_norm, all_leaves)], 0))

    # Where several devices have parts of leaves, they agree on these sums, and on nothing else.
    return root_of(squares, size, norm_of_norms)


def _default(leaf: Array) -> tuple[Any, Any]:
    """Return JAX's default float dtype, and the dtype for norms of a leaf: if the default is float64, float32 leaves
    are computed in it, and do not overflow.
    """
    default = jnp.result_type(float)
    return default, np.promote_types(compute_dtype(leaf.dtype), default)


def _squares(leaf: Array) -> Array:
    default, wide = _default(leaf)
    return sum_of_squares(leaf.astype(wide)).astype(default)[None]


def _norm(leaf: Array) -> Array:
    default, wide = _default(leaf)
    return norm(leaf, dtype=wide).real.astype(default)[None]


# Traced once for each shape.
_jitted_squares: Callable[[Array], Array] = jax.jit(_squares)
_jitted_norm: Callable[[Array], Array] = jax.jit(_norm)


def _short_norm(leaf: Array) -> Array:
    default, wide = _default(leaf)
    return scaled_norm(leaf.astype(wide) / _LARGE).astype(default)[None]


_jitted_short_norm: Callable[[Array], Array] = jax.jit(_short_norm)


def _in_range(length: Array, short_norm: Callable[[], Array]) -> tuple[Array, Array]:
    """Return what to multiply gradients by first, and their norm after that, which does not overflow.

    Args:
        length: The norm, infinite if it overflows; or norms, of any shape.
        short_norm: Returns the norm of the gradients divided by `_LARGE`; called if one is infinite.
    """
    large = length > _LARGE
    first = jnp.where(large, 1 / _LARGE, 1.0).astype(length.dtype)
    infinite = jnp.isinf(length)
    usual = jnp.where(infinite, 0.0, length) * first
    return first, jnp.where(infinite, cond(jnp.any(infinite), short_norm, lambda: usual), usual)


@checked
def clip_grad_norm(
    gradients: Weights, max_norm: float | Scalar, *, error_if_non_finite: bool = False
) -> tuple[Weights, Scalar]:
    """Scale all gradients by the same number, so that their global norm is at most `max_norm`.

    ```text
    g ← g min(1, max_norm / (‖g‖ + 10⁻⁶))
    ```

    As in MLX and PyTorch. Optax's `clip_by_global_norm` does not add 1e-6.

    Args:
        gradients: Inexact arrays.
        max_norm: Largest norm, >= 0: a number, or an array of shape ().
        error_if_non_finite: Whether to raise an error if the norm is infinite or NaN. Not under
            `jit`, where it is not known.

    Returns:
        The clipped gradients, and the norm before clipping: shape (), in JAX's default float dtype.

    Raises:
        FloatingPointError: The norm is not finite, and `error_if_non_finite`.
        TypeError: `error_if_non_finite` under `jit` or another transformation.
        ValueError: `max_norm` is negative or NaN.
    """
    limit = not_negative("clip_grad_norm: max_norm", max_norm)
    length = global_norm(gradients)
    if error_if_non_finite:
        _refuse_non_finite(length)

    def short_norm() -> Array:
        return norm(lax.concatenate([*map(_jitted_short_norm, leaves(gradients))], 0))

    first, short = _in_range(length, short_norm)
    scale = jnp.minimum(limit / (short + _EPS), 1 / first)
    (clipped,) = map_leaves(_scaled, None, (gradients,), (), first=first, scale=scale)
    return clipped, length


def _refuse_non_finite(length: Array) -> None:
    if is_tracer(length):
        raise TypeError(
            "clip_grad_norm: error_if_non_finite needs the norm, which is not known under jit.\n"
            "  Check the norm that is returned, or skip such steps: optim.SkipNonFinite."
        )
    if not jnp.isfinite(length):
        raise FloatingPointError(f"clip_grad_norm: the norm of the gradients is {length}")


def _scaled(_: None, g: Array, *, first: Array, scale: Array) -> tuple[Array]:
    return (scale * (first * g),)


@checked
def clip_grad_leaf_norm(gradients: Weights, max_norm: float | Scalar) -> Weights:
    """Scale each gradient separately, so that its norm is at most `max_norm`.

    Each leaf is clipped as `clip_grad_norm` clips the whole tree.

    Args:
        gradients: Inexact arrays.
        max_norm: Largest norm of a leaf, >= 0: a number, or an array of shape ().

    Raises:
        ValueError: `max_norm` is negative or NaN.
    """
    refuse_packed(gradients, "clip_grad_leaf_norm")
    limit = not_negative("clip_grad_leaf_norm: max_norm", max_norm)
    (clipped,) = map_leaves(_limited, None, (gradients,), (), limit=limit)
    return clipped


def _limited(_: None, g: Array, *, limit: Array) -> tuple[Array]:
    first, short = _in_range(norm(g).real, lambda: scaled_norm(g / _LARGE))
    ratio = jnp.minimum(limit.real / (short + _EPS), 1 / first)
    return (g * first.astype(g.dtype) * ratio.astype(g.dtype),)


@checked
def clip_grad_value(gradients: Weights, max_value: float | Scalar) -> Weights:
    """Clip each element to between `-max_value` and `max_value`; if it is complex, clip its magnitude.

    Args:
        gradients: Inexact arrays.
        max_value: Largest magnitude, >= 0: a number, or an array of shape ().

    Raises:
        ValueError: `max_value` is negative or NaN.
    """
    limit = not_negative("clip_grad_value: max_value", max_value)
    (clipped,) = map_leaves(_between, None, (gradients,), (), limit=limit)
    return clipped


def _between(_: None, g: Array, *, limit: Array) -> tuple[Array]:
    if not jnp.iscomplexobj(g):
        return (jnp.clip(g, -limit, limit),)
    return (_shortened(g, jnp.abs(g), limit.real, lambda: jnp.abs(g / _LARGE)),)


@checked
def clip_grad_adaptive(
    gradients: Weights,
    weights: Weights,
    clipping: float | Scalar = 0.01,
    eps: float = 1e-3,
) -> Weights:
    """Scale the gradient of each unit, so that its norm is at most a fraction of the norm of the unit's weights.

    ```text
    gᵢ ← gᵢ min(1, clipping · max(‖wᵢ‖, eps) / ‖gᵢ‖)
    ```

    Norms are taken along some of the axes, as in Optax: of a leaf with 2 or 3 axes, along the
    first; with more, along all but the last. A leaf with at most one axis longer than 1 is a single
    unit.

    Args:
        gradients: Inexact arrays.
        weights: Like the gradients.
        clipping: The fraction, >= 0: a number, or an array of shape ().
        eps: Lower bound for the norm of a unit's weights, > 0.

    Raises:
        ValueError: `clipping` is negative or NaN, or `eps` is not positive.

    References:
        Brock et al. 2021, https://arxiv.org/abs/2102.06171
    """
    refuse_packed(gradients, "clip_grad_adaptive")
    limit = not_negative("clip_grad_adaptive: clipping", clipping)
    least = normalised("clip_grad_adaptive: eps", eps, number(above=0))
    (clipped,) = map_leaves(_adapted, least, (gradients, weights), (), limit=limit)
    return clipped


def _adapted(eps: float, g: Array, w: Array, *, limit: Array) -> tuple[Array]:
    axes = _unit_axes(g)
    length = norm(g, over=axes).real
    most = limit.real * jnp.maximum(norm(w, over=axes).real, eps)
    return (_shortened(g, length, most, lambda: scaled_norm(g / _LARGE, axes)),)


def _shortened(g: Array, length: Array, most: Array, short_norm: Callable[[], Array]) -> Array:
    """Return gradients of the given length, scaled down to at most `most`."""
    first, short = _in_range(length, short_norm)
    ratio = divide(most, jnp.where(short > 0, short, 1.0))
    return jnp.where(length > most, g * first.astype(g.dtype) * ratio.astype(g.dtype), g)


def _unit_axes(x: Array) -> tuple[int, ...]:
    """Return the axes that a unit has. With length 1 along them, norms broadcast with the leaf."""
    axes: Sequence[int] = range(x.ndim)
    if sum(size != 1 for size in x.shape) > 1:
        axes = (0,) if x.ndim <= 3 else range(x.ndim - 1)
    return tuple(axes)


# Their public place, which error messages name.
for _function in (
    clip_grad_adaptive,
    clip_grad_leaf_norm,
    clip_grad_norm,
    clip_grad_value,
    global_norm,
):
    _function.__module__ = "mlax.optim"
