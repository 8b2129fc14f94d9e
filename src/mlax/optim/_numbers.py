"""The numbers that states hold for their hyperparameters, by path, however optimizers are nested."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey
from jax.typing import ArrayLike
from jaxtyping import Array

from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of
from mlax._saving.numbers import injected_numbers, nodes_in
from mlax.optimizer import HELD, LEAF, Optimizer
from mlax.optimizer._specified import Specification, normalised, specifications
from mlax.tree import describe, dotted, leaves_by_name

__all__ = ["learning_rates", "numbers", "with_numbers"]

T = TypeVar("T")


def is_state(tree: object) -> bool:
    """Return whether a tree is the state of an optimizer."""
    return isinstance(getattr(tree, "hyperparameters", None), Optimizer) and hasattr(
        tree, "_asdict"
    )


def states_in(tree: object) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the states in a tree with their paths, each before those inside it."""
    return nodes_in(tree, is_state)


class _Number(NamedTuple):
    """A number in a state.

    Attributes:
        value: The number.
        schedule: The schedule that it follows; `HELD` or None if it follows none.
        spec: What it may be; None if that is not known.
    """

    value: Any
    schedule: Any
    spec: Specification | None


def _found(state: object) -> dict[str, _Number]:
    """Return the numbers in a state by path."""
    found = _own_numbers(state)
    for injected in injected_numbers(state):
        found = {path: number for path, number in found.items() if not injected.replaces(path)}
        found[injected.path] = _Number(jnp.asarray(injected.value), injected.schedule, None)
    return found


def all_numbers(state: object) -> set[str]:
    """Return the paths of all numbers in a state, also of those that Optax replaces in each step."""
    return {*_own_numbers(state), *_found(state)}


def _own_numbers(state: object) -> dict[str, _Number]:
    """Return the numbers that states of mlax hold, by path."""
    found: dict[str, _Number] = {}
    for path, node in states_in(state):
        h = node.hyperparameters
        for name, spec in specifications(class_of(h)).items():
            if spec.schedulable and getattr(node, name) is not None:
                number = _Number(getattr(node, name), getattr(h, name), spec)
                found[dotted((*path, GetAttrKey(name)))] = number
            elif getattr(h.outline, name) is LEAF:
                number = _Number(getattr(h, name), None, spec)
                found[dotted((*path, GetAttrKey("hyperparameters"), GetAttrKey(name)))] = number
    return found


@trimmed
def numbers(state: object) -> dict[str, Array]:
    """Return the hyperparameters that a state holds as numbers, by path: `{"inner.learning_rate": ...}`.

    They are those that may change between steps: learning rates, weight decay, and all others that
    `mlax-codegen show` calls schedulable. The value of a schedule is that of the last step.
    Other hyperparameters are numbers of the state if they were given as arrays, and so are those of
    `optax.inject_hyperparams`.

    Args:
        state: The state of an optimizer, or a tree with several: of wrappers, of `to_optax` inside a
            chain of Optax, or a model and a state.

    Returns:
        Arrays of the state, by the path that `mlax.flatten` and `mlax.save` give them.
    """
    return {path: number.value for path, number in _found(state).items()}


@trimmed
def learning_rates(state: object) -> dict[str, Array]:
    """Return the learning rates in a state by path: those of `numbers` that are called `learning_rate`.

    Args:
        state: As for `numbers`.
    """
    return {path: value for path, value in numbers(state).items() if _last(path) == "learning_rate"}


def _last(path: str) -> str:
    return path.rpartition(".")[2]


@trimmed
def with_numbers(state: T, values: Mapping[str, ArrayLike]) -> T:
    """Return a state with other numbers in place of some of those that `numbers` returns.

        rates = optim.learning_rates(state)
        state = optim.with_numbers(state, {path: rate / 2 for path, rate in rates.items()})

    Works under `jit` and `vmap` too. Nothing is compiled again for other values.

    Args:
        state: As for `numbers`.
        values: A number, or an array of shape () or that of the number in the state, by path.

    Raises:
        TypeError: A value is not a real number, or has another shape.
        ValueError: The state holds no number at a path; a value is out of bounds; or the number has
            a schedule, which would replace it in the next step.
    """
    where = "optim.with_numbers"
    if not isinstance(cast("object", values), Mapping):
        raise TypeError(
            f"{where}: expected a dict of numbers by path, got {describe(values)}.\n"
            "  For all learning rates: {path: 0.1 for path in optim.learning_rates(state)}."
        )
    found = _found(state)
    leaves, treedef = leaves_by_name(where, "state", state)
    for path, value in values.items():
        if path not in found:
            raise ValueError(f"{where}: {_unknown(path, found)}")
        before, schedule, spec = found[path]
        if schedule not in (None, HELD):
            raise ValueError(
                f"{where}: {path} follows {schedule!r}, which would replace the number in the next step.\n"
                f"  Continue with an optimizer that has a number there: optim.migrate(state, optimizer, weights)."
            )
        leaves[path] = _like(before, value, f"{where}: {path}", spec)
    return cast("T", treedef.unflatten(leaves.values()))


def _unknown(path: str, found: Mapping[str, Any]) -> str:
    if not found:
        return f"the state holds no numbers, got a value for {path!r}"
    return f"the state holds no number at {path!r}; it has {', '.join(found)}"


def _like(before: Array, value: ArrayLike, place: str, spec: Specification | None) -> Array:
    """Return a number as an array like the one that it replaces, if the hyperparameter accepts it."""
    array: Any = value if is_tracer(value) else np.asarray(value)
    if array.shape not in ((), before.shape) or not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(
            f"{place} must be a real number of shape () or {before.shape}, got {describe(value)}"
        )
    for each in () if is_tracer(value) else np.ravel(array):
        if spec is not None:
            normalised(place, each.item(), spec)
    return jnp.array(jnp.broadcast_to(array, before.shape), before.dtype, copy=True)
