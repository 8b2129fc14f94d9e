"""Gradients at other weights than those that are trained: SAM, ASAM and the extragradient method."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import class_of
from mlax.leafwise import map_leaves
from mlax.leafwise._elements import divide
from mlax.optim.clipping import global_norm
from mlax.optimizer import merged, trainable
from mlax.optimizer._hyperparameters import not_negative, number
from mlax.optimizer._specified import normalised
from mlax.tree import describe, flatten_given, mismatches
from mlax.typing import LeafMismatchError, checks_enabled

__all__ = ["extragradient", "sam"]

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W", bound=Any)  # so that checkers take any expression with the parameter of a lambda


@trimmed
def sam(
    value_and_grad: Callable[Concatenate[W, P], tuple[R, W]],
    rho: ArrayLike = 0.05,
    *,
    adaptive: bool = False,
    eta: float = 0.01,
) -> Callable[Concatenate[W, P], tuple[R, W]]:
    """Return a function like `value_and_grad` whose gradients are those at the weights uphill.

    ```text
    SAM:   g = ∇f(w + ρ ∇f(w) / ‖∇f(w)‖)
    ASAM:  g = ∇f(w + ρ T² ∇f(w) / ‖T ∇f(w)‖),  T = |w| + η, for each element
    ```

        value_and_grad = optim.sam(mlax.value_and_grad(loss_fn))
        (loss, model), gradients = value_and_grad(model, x, y)
        model, state = optimizer.update(model, gradients, state)

    Take the step from the weights themselves, as always, with any optimizer. The value, and with it
    the model that a loss function returns, is that at these weights. A step takes twice as long.

    Args:
        value_and_grad: What `mlax.value_and_grad` or `jax.value_and_grad` returns: a function of the
            weights or the model and other arguments, which returns a value and gradients.
        rho: Distance to go uphill, >= 0: a number, or an array of shape ().
        adaptive: Whether to go further where weights are large: ASAM, with `rho` about 10 times as
            large.
        eta: Added to the magnitudes of weights in ASAM, >= 0.

    Raises:
        TypeError: `value_and_grad` is not such a function, or returns something else; or `rho` or `eta`
            is not a number.
        ValueError: `rho` or `eta` is negative or NaN.

    References:
        Foret et al. 2021, https://arxiv.org/abs/2010.01412
        Kwon et al. 2021, https://arxiv.org/abs/2102.11600
    """
    distance = not_negative("sam: rho", rho)
    least = normalised("sam: eta", eta, number(at_least=0))

    def perturbed(weights: Any, gradients: Any) -> Any:
        both = weights, gradients
        if not adaptive:
            (moved,) = map_leaves(_uphill, None, both, (), factor=_ratio(distance, gradients))
            return moved
        (scaled,) = map_leaves(_scaled, least, both, ())
        (moved,) = map_leaves(_adaptively, least, both, (), factor=_ratio(distance, scaled))
        return moved

    return _at("sam", value_and_grad, perturbed)


@trimmed
def extragradient(
    value_and_grad: Callable[Concatenate[W, P], tuple[R, W]], step_size: ArrayLike
) -> Callable[Concatenate[W, P], tuple[R, W]]:
    """Return a function like `value_and_grad` whose gradients are those after a step downhill.

    ```text
    g = ∇f(w − step_size · ∇f(w))
    ```

    Steps along it, from the weights themselves, converge in games, where those along the gradient
    turn in circles. Descend in the weights of one player and ascend in those of the other by the
    sign of the value that each one's part of the gradients belongs to.

    Args:
        value_and_grad: As for `sam`.
        step_size: >= 0: a number, or an array of shape (). Usually the learning rate.

    Raises:
        TypeError: `value_and_grad` is not such a function, or returns something else; or `step_size` is
            not a number.
        ValueError: `step_size` is negative or NaN.

    References:
        Korpelevich 1976; Gidel et al. 2019, https://arxiv.org/abs/1802.10551
    """
    factor = -not_negative("extragradient: step_size", step_size)

    def perturbed(weights: Any, gradients: Any) -> Any:
        (moved,) = map_leaves(_uphill, None, (weights, gradients), (), factor=factor)
        return moved

    return _at("extragradient", value_and_grad, perturbed)


def _at(
    name: str,
    value_and_grad: Callable[Concatenate[W, P], tuple[R, W]],
    perturbed: Callable[[Any, Any], Any],
) -> Callable[Concatenate[W, P], tuple[R, W]]:
    """Return a function that returns the value at the weights, and the gradients at perturbed ones."""
    if not callable(cast("object", value_and_grad)):
        raise TypeError(
            f"{name}: value_and_grad must be a function, got {describe(value_and_grad)}.\n  {_CURE}"
        )

    @trimmed
    @functools.wraps(value_and_grad)
    def wrapped(weights: W, /, *args: P.args, **kwargs: P.kwargs) -> tuple[R, W]:
        before = trainable(weights)
        flatten_given(f"{name}: weights", before)
        value, gradients = _both(name, value_and_grad(weights, *args, **kwargs), before)
        there = merged(perturbed(before, gradients), weights)
        return value, value_and_grad(there, *args, **kwargs)[1]

    return wrapped


_CURE = "Pass mlax.value_and_grad(loss_fn), or jax.value_and_grad(loss_fn)."


def _both(name: str, result: Any, weights: Any) -> Any:
    """Return a value and gradients; raise an error if they are not that.

    Raises:
        TypeError: They are something else, such as gradients alone.
        LeafMismatchError: The gradients do not correspond to the weights.
    """
    if class_of(result) is not tuple or len(result) != 2:
        raise TypeError(
            f"{name}: value_and_grad must return a value and gradients, got {describe(result)}.\n  {_CURE}"
        )
    if checks_enabled() and (lines := [*mismatches("gradients", result[1], "weights", weights)]):
        raise LeafMismatchError(
            f"{name}: gradients that do not correspond to the weights (no implicit promotion):\n  "
            + "\n  ".join(lines)
        )
    return result


def _ratio(rho: Array, gradients: Any) -> Array:
    """Return rho divided by the norm of gradients, 0 if they are all 0."""
    norm = global_norm(gradients)
    ratio = divide(rho, jnp.where(norm > 0, norm, 1.0))
    return jnp.where(norm > 0, ratio, 0.0)


def _uphill(_: None, w: Array, g: Array, *, factor: Array) -> tuple[Array]:
    return (w + factor * g.conj(),)


def _scaled(eta: float, w: Array, g: Array) -> tuple[Array]:
    return (g * (jnp.abs(w) + eta).astype(g.dtype),)


def _adaptively(eta: float, w: Array, g: Array, *, factor: Array) -> tuple[Array]:
    scale = (jnp.abs(w) + eta).astype(g.dtype)
    return (w + factor * scale * scale * g.conj(),)
