"""The weights in a tree, including those that are packed into flat arrays."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mlax._jax.trees import KeyPath, TreeDef, flatten, flatten_with_path
from mlax._packing.packed import Packed, is_packed
from mlax.tree import describe, dotted, keystr

__all__ = ["WeightsIn", "refuse_packed", "weights_in"]


class WeightsIn(NamedTuple):
    """One leaf of a tree, and the weights it holds: itself, or those packed into it.

    Attributes:
        path: The path of the leaf.
        leaf: The leaf.
        weights: For each weight its path, and its array; or, if it is packed, its shape and dtype.
        packed: Whether the leaf is a flat array.
    """

    path: KeyPath
    leaf: Any
    weights: tuple[tuple[str, Any], ...]
    packed: bool


def weights_in(tree: Any) -> tuple[list[WeightsIn], TreeDef]:
    """Return the weights in each leaf of a tree, looking inside every Packed; and the tree's structure."""
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
    """Raise an error if weights are packed. Used by algorithms that treat a weight as a whole, not by element.

    Args:
        weights: A tree of arrays. None in it is ignored.
        name: The optimizer, for the message: `Muon`.
        when: The options that make it so: `factored or momentum is not None`.

    Raises:
        TypeError: Names each flat array, and some of the weights in it.
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
        f"{name}: weights must not be packed{options}, because it computes with each weight as a whole; "
        "these arrays hold several:\n  "
        + "\n  ".join(lines)
        + "\n  Unpack them. Or pack only weights of another optimizer: `group` returns None for the rest.\n"
        "    mlax.pack(model, group=lambda path, w: None if w.ndim == 2 else 'rest')\n"
        "    optim.MultiOptimizer([this, other], [lambda path, w: w.ndim == 2])"
    )
