"""`Entries`: the annotation of slots with one entry for each leaf, whose shape differs from the leaf's.

    row: Annotated[Entries, row_shape]

An entry is an array, or a tuple of arrays, which may be empty. The function in the annotation
returns its shape.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import jax

from mlax._int8 import Range, is_int8
from mlax._jax.trees import class_of, flatten, flatten_with_path
from mlax.tree import describe, keystr, mismatches
from mlax.typing._weights import Signature, as_arrays, faults, refused_leaves

__all__ = [
    "Entries",
    "EntryShape",
    "Shape",
    "entry_mismatches",
    "entry_shapes",
    "expected_entries",
    "per_leaf",
]

Shape: TypeAlias = tuple[int, ...]
"""The shape of an array."""

EntryShape: TypeAlias = Callable[[Any, Shape], Shape | list[Shape]]
"""A function from hyperparameters and a leaf's shape to its entry's shape, or to a list of shapes for a tuple."""

if TYPE_CHECKING:
    Entries: TypeAlias = Any
    """A tree with one entry for each leaf of the weights; see `mlax.typing`."""
else:

    class Entries:
        """One entry for each leaf of the weights. Checked only if `Annotated` with an `EntryShape`."""


def entry_shapes(shape: EntryShape, h: object, leaf: Shape) -> Shape | list[Shape]:
    """Return the shape, or the list of shapes, of a leaf's entry; raise an error if the function returns
    neither.
    """
    shapes = shape(h, leaf)
    for one in shapes if isinstance(shapes, list) else [shapes]:
        if not _is_shape(one):
            name = getattr(shape, "__qualname__", shape)
            raise TypeError(
                f"{name} must return a shape or a list of shapes (tuples of ints), got {shapes!r}"
            )
    return shapes


def per_leaf(h: Any, count: int) -> Sequence[object]:
    """Return the hyperparameters for each of so many leaves, which differ if there are labels of leaves."""
    method = getattr(h, "per_leaf", None)
    return [h] * count if method is None else method(count)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(n, int) for n in cast("tuple[object, ...]", value)
    )


def expected_entries(weights: Signature, shape: EntryShape, h: object) -> Any:
    """Return a tree of entries as `jax.ShapeDtypeStruct`s.

    Args:
        weights: The weights that the entries are for, but in the dtypes of the entries.
        shape: Returns the shapes.
        h: Hyperparameters.
    """
    entries: dict[Any, Any] = {}  # each shape and dtype once: most leaves share theirs with others
    found: list[Any] = []
    for leaf, own in zip(weights.leaves, per_leaf(h, len(weights.leaves)), strict=True):
        key = (leaf, id(own))
        if key not in entries:
            shapes = entry_shapes(shape, own, leaf[0])
            entries[key] = (
                tuple(jax.ShapeDtypeStruct(one, leaf[1]) for one in shapes)
                if isinstance(shapes, list)
                else jax.ShapeDtypeStruct(shapes, leaf[1])
            )
        found.append(entries[key])
    return weights.treedef.unflatten(found)


def entry_mismatches(
    name: str,
    tree: object,
    weights_name: str,
    weights: Signature,
    expected: Any,
    int8: Range | None = None,
) -> Iterator[str]:
    """Yield a line for each entry of `tree` that is missing or not as expected.

    Args:
        name: What to call `tree` in the lines.
        tree: The tree to find fault with.
        weights_name: What to call the tree that the shapes follow from.
        weights: That tree.
        expected: From `expected_entries`.
        int8: Which numbers `tree` holds in eight bits; None if it holds none.
    """
    leaves, structure = flatten(expected)
    like = Signature(structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    found = Signature.of_slots(tree, like, int8)
    if found is not None and found.treedef == structure:
        if found.leaves == like.leaves:
            return
    elif int8 is not None and any(map(is_int8, flatten(tree, is_int8)[0])):
        yield from faults(name, tree, int8)
        tree = as_arrays(tree, expected)
    elif found is None and (refused := refused_leaves(name, tree)):
        yield from refused
        return
    try:
        entries: list[Any] = weights.treedef.flatten_up_to(tree)
    except ValueError:  # not even the containers correspond
        yield from mismatches(name, tree, f"entries for {weights_name}", expected)
        return
    expected_entries: list[Any] = weights.treedef.flatten_up_to(expected)
    paths = flatten_with_path(weights.as_tree())[0]
    for (path, leaf), entry, right in zip(paths, entries, expected_entries, strict=True):
        if _described(entry) != _described(right):
            place = keystr(path)
            yield (
                f"{name}{place}: {_described(entry)}, but expected {_described(right)} "
                f"for {weights_name}{place}: {describe(leaf)}"
            )


def _described(entry: Any) -> str:
    """Describe an array, or a tuple of arrays: `(float32[2], float32[3])`."""
    if class_of(entry) is not tuple:
        return describe(entry)
    return f"({', '.join(map(_described, entry))})"
