"""A state for another optimizer: with a wrapper more or fewer, or with other hyperparameters."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from mlax._int8 import Int8, encoded, is_int8
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import class_of, flatten_with_path
from mlax.optim._numbers import is_state, numbers, states_in
from mlax.optim.transformations._protocol import OptimizerLike
from mlax.optim.transformations._wrapping import Wrapper, as_optimizer
from mlax.optim.transformations.frozen import Frozen
from mlax.optim.transformations.multi_optimizer import MultiOptimizer
from mlax.optimizer import slot_values
from mlax.tree import describe, dotted, leaves_by_name
from mlax.typing import LeafMismatchError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    S = TypeVar("S", default=Any)
else:
    from typing import TypeVar

    S = TypeVar("S")

__all__ = ["migrate"]


@trimmed
def migrate(
    state: object,
    optimizer: OptimizerLike[S, ...],
    weights: Any,
    *,
    replaced: Mapping[type[Any], type[Any]] | None = None,
    strict: bool = True,
) -> S:
    """Return a state for another optimizer, with everything from an old state that fits.

        state = optim.migrate(state, optim.ClipGradients(optim.Adam(3e-4), max_norm=1.0), weights)

    It is `optimizer.init(weights)` with slots, counts and the algorithm's own scalars of the old
    state, for each optimizer whose class is in both: an `Adam` continues, whatever wraps it now.
    Leaves are found by their path in the weights, so the weights may be distributed differently
    over the optimizers of a `MultiOptimizer`. They are copied, and cast to another `slot_dtype`; to
    int8 they are rounded to nearest.

    Numbers such as learning rates are those of the new optimizer; for the old ones,
    `with_numbers(new, numbers(old))`. Wrappers that are added start as in `init`, and the state of
    wrappers that are left out is dropped.

    Args:
        state: The old state, or a tree with several.
        optimizer: The optimizer to continue with.
        weights: The weights now, or the model.
        replaced: Classes of the old state with those that continue in their place, such as
            `{optim.Adam: optim.AdamW}`: what has the same name and shape in both has the same meaning.
        strict: Whether each leaf of an optimizer that is not a wrapper must continue. If False, others
            start as in `init`, with a warning.

    Raises:
        LeafMismatchError: A leaf has no counterpart, or one of another shape. The message names all.
        TypeError: There is no state in `state`, or `optimizer` is not an optimizer.
        ValueError: `replaced` has a class that is not in the old state.
    """
    where = "optim.migrate"
    try:
        as_optimizer(optimizer)
    except TypeError as error:
        raise TypeError(f"{where}: expected {error}, got {describe(optimizer)}") from None
    made: Any = optimizer.init(weights)
    old: dict[type, list[dict[str, Any]]] = {}
    for _, node in states_in(state):
        old.setdefault(class_of(node.hyperparameters), []).append(_own_leaves(node))
    if not old:
        raise TypeError(f"{where}: expected the state of an optimizer, got {describe(state)}")
    had = ", ".join(sorted(each.__name__ for each in old))
    for before, after in (replaced or {}).items():
        if before not in old:
            raise ValueError(
                f"{where}: replaced has {before.__name__}, but the old state has {had}"
            )
        old[after] = old.get(after, []) + old[before]
    chosen = numbers(made)
    kept: dict[str, Any] = {}
    misfits: list[str] = []
    seen: dict[type, int] = {}
    for path, node in states_in(made):
        cls = class_of(node.hyperparameters)
        count = seen[cls] = seen.get(cls, -1) + 1
        others = old.get(cls, [])
        if not others and issubclass(cls, _WRAPPERS):
            continue
        # First the one in the same place among those of its class.
        candidates = [*others[count : count + 1], *others[:count], *others[count + 1 :]]
        for name, leaf in _own_leaves(node).items():
            place = ".".join(filter(None, [dotted(path), name]))
            if place in chosen:
                continue
            found = [there[name] for there in candidates if name in there]
            fitting = [one for one in found if _fits(one, leaf)]
            if fitting:
                kept |= _continued(place, fitting[0], leaf)
            elif found:
                misfits.append(
                    f"{place}: {describe(leaf)}, but {describe(found[0])} in the old state"
                )
            elif others:
                misfits.append(f"{place}: {describe(leaf)}, but nothing in the old state")
        if not others:
            misfits.append(
                f"{dotted(path) or 'the state'}: {cls.__name__}, but the old state has {had}"
                f"{_cure(cls, {*_own_leaves(node)} - {*numbers(node)}, old)}"
            )
    if misfits:
        lines = "".join(f"\n  {line}" for line in misfits)
        if strict:
            raise LeafMismatchError(
                f"{where}: not everything continues (strict=False starts the rest as in init):{lines}"
            )
        warnings.warn(f"{where}: these start as in init:{lines}", stacklevel=3)
    leaves, treedef = leaves_by_name(where, "state", made)
    result: S = treedef.unflatten(kept.get(name, leaf) for name, leaf in leaves.items())
    return result


_WRAPPERS = (Wrapper, MultiOptimizer, Frozen)
"""Classes that may be added or left out, because nothing in their own part of the state has to continue."""


def _own_leaves(state: Any) -> dict[str, Any]:
    """Return the leaves of a state by path, without those of states inside it. An `Int8` is a leaf."""
    found = flatten_with_path(state._asdict(), lambda node: is_state(node) or is_int8(node))[0]
    return {dotted(path): leaf for path, leaf in found if not is_state(leaf)}


def _cure(cls: type, names: set[str], old: Mapping[type, list[dict[str, Any]]]) -> str:
    """Return the end of a line about a class that is not in the old state: one there may have what it needs."""
    for other, nodes in old.items():
        if not issubclass(other, _WRAPPERS) and all(names <= node.keys() for node in nodes):
            return (
                f" (is it the same but for its name? replaced={{{other.__name__}: {cls.__name__}}})"
            )
    return ""


def _fits(old: Any, new: Any) -> bool:
    """Return whether a leaf can continue as another: only floating-point dtypes and int8 slots may differ."""
    floating = all(is_int8(each) or jnp.issubdtype(each.dtype, jnp.floating) for each in (old, new))
    return old.shape == new.shape and (old.dtype == new.dtype or floating)


def _continued(place: str, old: Any, new: Any) -> dict[str, Any]:
    """Return by path the leaves with which a leaf continues as another."""
    if is_int8(old) and is_int8(new) and old.scales.shape == new.scales.shape:
        found = Int8(*(jnp.array(each, copy=True) for each in old))
    elif is_int8(new):
        values: Any = slot_values(old)
        found = encoded(values, new)
    else:
        return {place: jnp.array(slot_values(old) if is_int8(old) else old, new.dtype, copy=True)}
    return {f"{place}.{name}": each for name, each in found._asdict().items()}
