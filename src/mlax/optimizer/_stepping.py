"""The parts of `init` and `step` that are not arithmetic of a leaf.

Everything here works under `jit`, `vmap` and `eval_shape`. A state keeps its shapes, dtypes and
weak types from `init` on, so that a loop over `step` is compiled only once.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._checking import predicates
from mlax._jax.trees import flatten_with_path
from mlax._module.branches import INode
from mlax.optimizer._hyperparameters import HELD, Number, is_schedule
from mlax.optimizer._specified import specifications
from mlax.tree import describe, keystr
from mlax.typing import Real, Weights, checked

__all__ = [
    "apply_updates",
    "folded",
    "follow_schedules",
    "initial",
    "key",
    "merged",
    "no_steps",
    "one_more",
    "refuse_complex",
    "renewed",
    "scalar",
    "trainable",
]

T = TypeVar("T")


def no_steps() -> Array:
    """Return the step count of a new state: an int32 zero of shape ()."""
    return jnp.zeros((), jnp.int32)


def one_more(count: Array, *intervals: int) -> Array:
    """Return a count of steps after one more step.

    Args:
        count: int32, shape ().
        *intervals: Positive, static. With intervals, the count begins again at 0 where it would be
            a multiple of all of them. Without, it stays at 2**31 - 1 once it is there.
    """
    return _increased(count, math.lcm(*intervals) if intervals else None)


_LAST = 2**31 - 1


def _count(count: Array, cycle: int | None) -> Array:
    if cycle is None:
        return jnp.minimum(count, _LAST - 1) + 1
    return jnp.where(count < min(cycle - 1, _LAST), count + 1, 0)


# Outside `jit` one operation instead of two; inside, these are part of the program around.
_increased: Callable[[Array, int | None], Array] = jax.jit(_count, static_argnums=1, inline=True)


@overload
def initial(value: Number) -> Array: ...
@overload
def initial(value: None) -> None: ...
def initial(value: Number | None) -> Array | None:
    """Return the value of a schedulable hyperparameter in a new state.

    Args:
        value: A number, an array of shape (), a schedule, or None.

    Returns:
        An array of shape () in JAX's default float dtype, never the buffer that was passed in. For
        a schedule: its value at step 0. For None: None.
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


def follow_schedules(state: T) -> T:
    """Return a state in which each hyperparameter with a schedule has its value for this step.

    All other numbers are copied into new buffers, because the state that is passed in may be
    donated.

    Args:
        state: The state before the step, with the number of steps done as `step`.

    Raises:
        TypeError: A schedule did not return a real scalar.
    """
    before: Any = state
    h: object = before.hyperparameters
    values: dict[str, Any] = {}
    for name, spec in specifications(type(h)).items():
        given = getattr(h, name)
        if spec.schedulable and is_schedule(given):
            values[name] = _scheduled(given, before.step)
        elif spec.schedulable and given is HELD:
            values[name] = jnp.array(getattr(before, name), copy=True)
    if jax.tree.leaves(h):
        values["hyperparameters"] = jax.tree.map(_copy, h)
    return cast("T", before._replace(**values))


def _copy(value: Any) -> Array:
    return jnp.array(value, copy=True)


def asked(schedule: Any, step: Any) -> Any:
    """Return what a schedule returns. An error that it raises gets a note that says which schedule it was."""
    return predicates.asked(f"the schedule {schedule!r}", schedule, (step,), lambda: describe(step))


def _scheduled(schedule: Any, step: Array) -> Array:
    value: Any = asked(schedule, step)
    return _real(value, "a schedule must return", lambda: f" from {schedule!r}")


def _real(value: object, what: str, whence: Callable[[], str] = str) -> Array:
    array: Any = None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        # As a float, an integer may have more than 32 bits.
        array = jnp.asarray(float(value) if type(value) is int else cast("Any", value))
    if array is None or array.shape != () or jnp.iscomplexobj(array) or array.dtype == bool:
        raise TypeError(f"{what} a real scalar, got {describe(value)}{whence()}")
    return jnp.array(array, dtype=jnp.result_type(float), copy=True)


def scalar(value: Real, name: str = "a number") -> Array:
    """Return a number as an array of shape () in JAX's default float dtype, such as states hold.

    Args:
        value: The number.
        name: What it is, for messages: `PolyakSGD: value`.

    Raises:
        TypeError: It is a boolean or a complex number, or has axes, or a float cannot hold it.
    """
    return _real(value, f"{name} must be")


def key(seed: int) -> Array:
    """Return a PRNG key of shape (), to be held in a state."""
    return jax.random.key(seed)


def folded(key: Array, step: Array | int) -> Array:
    """Return the PRNG key for one step.

    Args:
        key: The state's key, which does not change.
        step: Number of steps done: int32, shape (). If a state has several keys, the number of the
            key.
    """
    return jax.random.fold_in(key, step)


def renewed(key: Array, step: Array) -> Array:
    """Return the state's PRNG key for the next step: the same one, as long as the count of steps changes.

    Args:
        key: The state's key.
        step: Number of steps done before this one: int32, shape ().
    """
    return jnp.where(step < _LAST, key, folded(key, step))


def refuse_complex(weights: Any, name: str, reason: str) -> None:
    """Raise an error for complex leaves.

    Args:
        weights: A tree of arrays.
        name: The optimizer, for the message: `Rprop`.
        reason: The reason: `the sign of a complex gradient is not defined`.

    Raises:
        TypeError: Names each complex leaf.
    """
    lines = [
        f"weights{keystr(path)}: {describe(leaf)}"
        for path, leaf in flatten_with_path(weights)[0]
        if jnp.iscomplexobj(leaf)
    ]
    if lines:
        raise TypeError(
            f"{name}: complex leaves are not supported: {reason}:\n  " + "\n  ".join(lines)
        )


@checked
def apply_updates(updates: Weights, weights: Weights) -> Weights:
    """Return the weights after a step: `weights + updates`, leaf by leaf, in the same dtypes.

    In half precision, the updates were rounded and the sum is rounded again. An optimizer's
    `apply_gradients` and `update` round only once, and stochastically if asked to: see
    docs/half_precision.md.

    Raises:
        LeafMismatchError: Updates and weights do not correspond.
    """

    def add(update: Any, weight: Any) -> Array:
        return lax.add(weight, update)  # promotes nothing, even if checks are off

    result: Weights = jax.tree.map(add, updates, weights)
    return result


apply_updates.__module__ = "mlax.optim"  # its public place, which error messages name


def trainable(tree: T) -> T:
    """Return the part of a tree that an optimizer trains. For a Module: its unfrozen parameters; otherwise the
    whole tree.
    """
    node: object = tree
    return cast("T", node.filter()) if isinstance(node, INode) else tree


def merged(weights: T, model: T) -> T:
    """Return a Module with its unfrozen parameters replaced by `weights`; for any other tree, `weights` itself."""
    node: object = weights
    return cast("T", node.combine(cast("Any", model))) if isinstance(node, INode) else weights
