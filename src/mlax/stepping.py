"""What `init` and `step` of an optimizer are made of, apart from the arithmetic of a leaf.

Everything here works under `jit`, `vmap` and `eval_shape`, and keeps the shapes, dtypes and weak types of a state the
same from `init` on, so that a loop over `step` compiles once.
"""

import inspect
import warnings
from typing import Any, TypeVar, cast, overload

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax import epsilon
from mlax._weights import slot_dtype_of
from mlax.branch import INode
from mlax.hyperparameters import HELD, Dtype, Number, is_schedule
from mlax.tree import describe, keystr
from mlax.typing import Weights, checked

__all__ = ["apply_updates", "current", "initial", "merged", "no_steps", "selected", "zeros"]

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
        The schedule's value at `step`, in JAX's default float dtype; without a schedule `held`.

    Raises:
        TypeError: The schedule did not return a real scalar.
    """
    return _scheduled(hyperparameter, step) if is_schedule(hyperparameter) else held


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
    return array.astype(jnp.result_type(float))


def zeros(weights: Weights, slot_dtype: Dtype | None, decay: Number | None = None) -> Weights:
    """Return a slot that begins at zero: like the weights, leaf by leaf in shape, dtype and sharding.

    Args:
        weights: Inexact arrays.
        slot_dtype: A real dtype for all leaves instead of their own; its complex counterpart where a leaf is complex.
        decay: What the slot is multiplied by in each step, to warn where its dtype is too narrow for that.
    """

    def zero(path: Any, leaf: Any) -> Array:
        dtype = leaf.dtype if slot_dtype is None else slot_dtype_of(leaf.dtype, slot_dtype)
        if isinstance(decay, float):
            stalls.setdefault(dtype, path) if 1 - decay < epsilon(dtype) / 4 else None
        return jnp.zeros_like(leaf, dtype=dtype)

    stalls: dict[Any, Any] = {}
    slot: Weights = jax.tree_util.tree_map_with_path(zero, weights)
    for dtype, path in stalls.items():
        warnings.warn(
            f"a slot in {dtype.name} (for weights{keystr(path)}) never decays at {decay} a step: each change "
            "is rounded away. Give slot_dtype=jnp.float32, or a smaller decay.",
            UserWarning,
            stacklevel=_outside(),
        )
    return slot


def _outside() -> int:
    """Return the stack level of the first caller outside this library and the optimizers generated for it."""
    level, frame = 0, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "mlax",
        "mlax_optimizers",
    ):
        level, frame = level + 1, frame.f_back
    return level


@checked
def apply_updates(updates: Weights, weights: Weights) -> Weights:
    """Return the weights after a step: `weights + updates`, leaf by leaf, in the same dtypes.

    Raises:
        LeafMismatchError: Updates and weights do not correspond.
    """

    def add(update: Any, weight: Any) -> Array:
        # lax.add promotes nothing, also where checks are off.
        return lax.add(jnp.asarray(weight), jnp.asarray(update))

    result: Weights = jax.tree.map(add, updates, weights)
    return result


def selected(tree: T) -> T:
    """Return what an optimizer works on: of a Module its unfrozen parameters, any other tree itself."""
    node: object = tree
    return cast("T", node.filter()) if isinstance(node, INode) else tree


def merged(weights: T, model: T) -> T:
    """Return a Module with its unfrozen parameters replaced by `weights`; of any other tree, `weights`."""
    node: object = weights
    return cast("T", node.combine(cast("Any", model))) if isinstance(node, INode) else weights
