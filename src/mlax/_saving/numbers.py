"""The numbers that a tree holds for hyperparameters: learning rates, and others that may change between steps."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, GetAttrKey

from mlax._jax.trees import KeyPath, flatten_with_path
from mlax._module.static_texts import AN_ARRAY, IN_THE_STATE, static_texts
from mlax.tree import dotted

__all__ = ["Injected", "difference", "injected_numbers", "nodes_in", "number_path", "number_paths"]


def nodes_in(
    tree: object, is_one: Callable[[object], bool], path: KeyPath = ()
) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the NamedTuples of a kind in a tree with their paths, each before those inside it."""
    for inner, node in flatten_with_path(tree, is_one)[0]:
        if is_one(node):
            here = (*path, *inner)
            yield here, node
            for name, value in node._asdict().items():
                yield from nodes_in(value, is_one, (*here, GetAttrKey(name)))


def _is_injected(tree: object) -> bool:
    """Return whether a tree is a state of `optax.inject_hyperparams`."""
    return isinstance(getattr(tree, "hyperparams", None), dict) and hasattr(tree, "inner_state")


class Injected(NamedTuple):
    """A number of `optax.inject_hyperparams`.

    Attributes:
        path: Where it is.
        inside: Where the state is in which it replaces the number of the same name in each step.
        value: The number.
        schedule: The state of its schedule; None if it has none.
    """

    path: str
    inside: str
    value: Any
    schedule: Any

    def replaces(self, path: str) -> bool:
        """Return whether it replaces the number at a path."""
        name = self.path.rpartition(".")[2]
        return path.startswith(f"{self.inside}.") and path.rpartition(".")[2] == name


def injected_numbers(tree: object) -> Iterator[Injected]:
    """Yield the numbers of `optax.inject_hyperparams` in a tree."""
    for path, node in nodes_in(tree, _is_injected):
        inside = dotted((*path, GetAttrKey("inner_state")))
        schedules = getattr(node, "hyperparams_states", {})
        for name, value in node.hyperparams.items():
            if jnp.issubdtype(jnp.result_type(value), jnp.floating):
                place = dotted((*path, GetAttrKey("hyperparams"), DictKey(name)))
                yield Injected(place, inside, value, schedules.get(name))


def number_paths(tree: object) -> list[str]:
    """Return the paths of the numbers that stay as they are in a step, unlike those with a schedule."""
    found = [path for name, text in static_texts(tree) if (path := _path(name, text))]
    for injected in injected_numbers(tree):
        found = [path for path in found if not injected.replaces(path)]
        found += [injected.path] if injected.schedule is None else []
    return found


def _path(name: str, text: str) -> str:
    """Return the path of the number that a hyperparameter has according to its text; "" if it has none."""
    return name if text == AN_ARRAY else number_path(name) if text == IN_THE_STATE else ""


def number_path(path: str) -> str:
    """Return where a state holds the number of a hyperparameter; "" if the path is not that of one."""
    *state, hyperparameters, name = ["", *path.split(".")]
    return ".".join([*state[1:], name]) if hyperparameters == "hyperparameters" else ""


def difference(there: Any, here: Any) -> str:
    """Return how numbers in a file differ from those in `like`, which have the same shape; "" if they do not."""
    differ = ~((there == here) | ((there != there) & (here != here)))  # noqa: PLR0124
    if not differ.any():
        return ""
    if there.shape == ():
        return f"{there:g}, but {here:g} in `like`"
    first = tuple(map(int, np.argwhere(differ)[0]))
    return (
        f"{differ.sum()} of {differ.size} differ, such as {there[first]:g}, but {here[first]:g} in `like`, "
        f"at [{', '.join(map(str, first))}]"
    )
