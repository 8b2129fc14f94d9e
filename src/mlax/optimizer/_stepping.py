"""What `init` and `step` of an optimizer are made of, apart from the arithmetic of a leaf.

Everything here works under `jit`, `vmap` and `eval_shape`, and keeps the shapes, dtypes and weak types of a state the
same from `init` on, so that a loop over `step` compiles once.
"""

from typing import Any, TypeVar, cast, overload

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax.trees import flatten_with_path
from mlax._module.branches import INode
from mlax.optimizer._hyperparameters import HELD, Number, is_schedule
from mlax.tree import describe, keystr
from mlax.typing import Weights, checked

__all__ = [
    "apply_updates",
    "current",
    "folded",
    "initial",
    "key",
    "merged",
    "no_steps",
    "refuse_complex",
    "scalar",
    "selected",
]

T = TypeVar("T")


def no_steps() -> Array:
    """Return the count of steps in a new state: an int32 zero of shape ()."""
    return jnp.zeros((), jnp.int32)


@overload
def initial(value: Number) -> Array: ...
@overload
def initial(value: None) -> None: ...
def initial(value: Number | None) -> Array | None:
    """Return what a new state holds for a schedulable hyperparameter.

    Args:
        value: A number, an array of shape (), a schedule, or None.

    Returns:
        An array of shape () in JAX's default float dtype, never the buffer that was given; of a schedule its value at
        step 0. None for None.
    """
    if value is None:
        return None
    if is_schedule(value):
        return _scheduled(value, no_steps())
    if cast("object", value) is HELD:
        raise ValueError(
            "these hyperparameters belong to a state, which holds some of the numbers; "
            "make a new state from the optimizer that made it"
        )
    return jnp.array(value, dtype=jnp.result_type(float), copy=True)


@overload
def current(hyperparameter: Number, step: Array, held: Array) -> Array: ...
@overload
def current(hyperparameter: Number | None, step: Array, held: Array | None) -> Array | None: ...
def current(hyperparameter: Number | None, step: Array, held: Array | None) -> Array | None:
    """Return the value of a schedulable hyperparameter in this step.

    Args:
        hyperparameter: As the state's hyperparameters have it: a schedule, or anything else.
        step: Number of steps done: int32, shape ().
        held: What the state holds.

    Returns:
        The schedule's value at `step`, in JAX's default float dtype; without a schedule what is held. A buffer of its
        own: the state that it goes into may be donated.

    Raises:
        TypeError: The schedule did not return a real scalar.
    """
    if is_schedule(hyperparameter):
        return _scheduled(hyperparameter, step)
    return None if held is None else jnp.array(held, copy=True)


def _scheduled(schedule: Any, step: Array) -> Array:
    value: Any = schedule(step)
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != () or jnp.iscomplexobj(array) or array.dtype == bool:
        raise TypeError(
            f"a schedule must return a real scalar, got {describe(value)} from {schedule!r}"
        )
    return jnp.array(array, dtype=jnp.result_type(float), copy=True)


def scalar(value: float | Array) -> Array:
    """Return what a new state holds for a scalar of the algorithm: shape (), in JAX's default float dtype."""
    return initial(value)


def key(seed: int) -> Array:
    """Return a PRNG key of shape (), for a state to hold."""
    return jax.random.key(seed)


def folded(key: Array, step: Array | int) -> Array:
    """Return the PRNG key of one step.

    Args:
        key: The state's, which stays the same.
        step: Number of steps done: int32, shape (). Of a state with several keys, also which of them this is.
    """
    return jax.random.fold_in(key, step)


def refuse_complex(weights: Any, name: str, reason: str) -> None:
    """Refuse complex leaves.

    Args:
        weights: A tree of arrays.
        name: Who refuses: `Rprop`.
        reason: Why: `the sign of a complex gradient is not defined`.

    Raises:
        TypeError: Naming each complex leaf.
    """
    lines = [
        f"weights{keystr(path)}: {describe(leaf)}"
        for path, leaf in flatten_with_path(weights)[0]
        if jnp.iscomplexobj(leaf)
    ]
    if lines:
        raise TypeError(f"{name}: complex leaves are refused, {reason}:\n  " + "\n  ".join(lines))


@checked
def apply_updates(updates: Weights, weights: Weights) -> Weights:
    """Return the weights after a step: `weights + updates`, leaf by leaf, in the same dtypes.

    In half precision the updates have been rounded before, and the sum is again. An optimizer's `apply_gradients` and
    `update` round once, stochastically if it is to: docs/half_precision.md.

    Raises:
        LeafMismatchError: Updates and weights do not correspond.
    """

    def add(update: Any, weight: Any) -> Array:
        return lax.add(weight, update)  # promotes nothing, also where checks are off

    result: Weights = jax.tree.map(add, updates, weights)
    return result


apply_updates.__module__ = "mlax.optim"  # where people know it from, and messages call it so


def selected(tree: T) -> T:
    """Return what an optimizer works on: of a Module its unfrozen parameters, any other tree itself."""
    node: object = tree
    return cast("T", node.filter()) if isinstance(node, INode) else tree


def merged(weights: T, model: T) -> T:
    """Return a Module with its unfrozen parameters replaced by `weights`; of any other tree, `weights`."""
    node: object = weights
    return cast("T", node.combine(cast("Any", model))) if isinstance(node, INode) else weights
