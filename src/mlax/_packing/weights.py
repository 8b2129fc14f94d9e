"""What weights the leaves of a tree are, where some lie together in a flat array of a `Packed`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mlax._jax.trees import KeyPath, TreeDef, flatten, flatten_with_path
from mlax._packing.packed import Packed, is_packed
from mlax.tree import describe, dotted, keystr

__all__ = ["WeightsIn", "refuse_packed", "weights_in"]


class WeightsIn(NamedTuple):
    """One leaf of a tree, and the weights in it: itself, or those that are packed in it.

    Attributes:
        path: Where the leaf is.
        leaf: The leaf.
        weights: Path and array of each weight; where it is packed, path, shape and dtype.
        packed: Whether the leaf is a flat array.
    """

    path: KeyPath
    leaf: Any
    weights: tuple[tuple[str, Any], ...]
    packed: bool


def weights_in(tree: Any) -> tuple[list[WeightsIn], TreeDef]:
    """Return what weights the leaves of a tree are, those inside of every Packed in it included; and its structure."""
    found: list[WeightsIn] = []
    for path, node in flatten_with_path(tree, is_leaf=is_packed)[0]:
        if is_packed(node):
            found += _inside(path, node)
        else:
            found.append(WeightsIn(path, node, ((dotted(path), node),), packed=False))
    return found, flatten(tree)[1]


def _inside(path: KeyPath, packed: Packed[Any]) -> Iterator[WeightsIn]:
    prefix = f"{dotted(path)}." if path else ""
    for inner, leaf in flatten_with_path(packed)[0]:
        field, key = inner[0].name, inner[1].key
        if field == "large":
            yield WeightsIn((*path, *inner), leaf, ((prefix + key, leaf),), packed=False)
        else:
            places = packed.layout.inside(key)
            weights = tuple((prefix + place.path, place.like(leaf)) for place in places)
            yield WeightsIn((*path, *inner), leaf, weights, packed=True)


def refuse_packed(weights: Any, name: str, when: str = "") -> None:
    """Refuse flat arrays of packed weights, where what an algorithm does depends on which weight an element is of.

    Args:
        weights: A tree of arrays; those that are None in it are not looked at.
        name: Who refuses: `Muon`.
        when: The options that make it so: `factored or momentum is not None`.

    Raises:
        TypeError: Naming each flat array, and some of the weights in it.
    """
    entries = [
        entry
        for path, node in flatten_with_path(weights, is_leaf=is_packed)[0]
        if is_packed(node)
        for entry in _inside(path, node)
        if entry.packed
    ]
    if not entries:
        return
    lines = [
        f"weights{keystr(entry.path)}: {describe(entry.leaf)}, {len(entry.weights)} weights: "
        + ", ".join([*(path for path, _ in entry.weights[:3]), *["..."][: len(entry.weights) - 3]])
        for entry in entries
    ]
    options = f" ({when})" if when else ""
    raise TypeError(
        f"{name}: packed weights are refused, it computes with each weight as a whole{options}, and here several are "
        "one array:\n  "
        + "\n  ".join(lines)
        + "\n  Unpack them, or pack only what another optimizer moves: what `group` gives None for stays as it is.\n"
        "    mlax.pack(model, group=lambda path, w: None if w.ndim == 2 else 'rest')\n"
        "    optim.MultiOptimizer([this, other], [lambda path, w: w.ndim == 2])"
    )
