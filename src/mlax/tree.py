"""Leaves and their paths: how trees are described, named and compared, and when they are refused.

A tree is what JAX calls a PyTree. Its structure consists of containers; everything else is a leaf.
`None` belongs to the structure: it marks a place without a leaf.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, TreeDef, UnsortableError, flatten, flatten_with_path

__all__ = [
    "are_namesakes",
    "describe",
    "dotted",
    "flatten_given",
    "is_frozen_otherwise",
    "keystr",
    "leaves_by_name",
    "mismatches",
    "path_text",
    "refuse_shared",
    "structure_differences",
    "tree_equal",
]

# Long enough for any number or name, short enough for one line of a message.
_LONGEST_REPR = 60


def describe(leaf: object) -> str:
    """Return the dtype and shape of an array, `float32[2,3]`; otherwise value and type, `1.0 (float)`."""
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        sizes = map(str, cast("tuple[object, ...]", shape))
        return f"{getattr(dtype, 'name', dtype)}[{','.join(sizes)}]"
    if leaf is None:
        return "None"
    text = repr(leaf).replace("\n", " ")
    if len(text) > _LONGEST_REPR:
        text = f"{text[: _LONGEST_REPR - 3]}..."
    return f"{text} ({type(leaf).__name__})"


def are_namesakes(cls: type, other: type) -> bool:
    """Return whether two different classes have the same name: one was defined again, as in a notebook."""
    names = [(each.__module__, each.__qualname__) for each in (cls, other)]
    return cls is not other and names[0] == names[1]


_REDEFINED = " (the class was defined again)"


def keystr(path: KeyPath) -> str:
    """Return a key path as the Python expression that reaches the leaf: `['dense'][0].w`."""
    return jax.tree_util.keystr(path)


def path_text(path: KeyPath) -> str:
    """Return a key path as it is read inside a model: `layers[0].kernel`; for the whole tree, `""`."""
    return keystr(path).removeprefix(".")


def dotted(path: KeyPath) -> str:
    """Return a key path as names and numbers joined by dots, `layers.0.kernel`; for the whole tree, `""`.

    The array inside a node has the path of the node. Two paths give the same text only if a key of
    a dict contains a dot.
    """
    parts: list[str] = []
    for key in path:
        match key:
            case GetAttrKey() if str(key):  # empty for the array inside a node
                parts.append(key.name)
            case SequenceKey():
                parts.append(str(key.idx))
            case DictKey() | FlattenedIndexKey():
                parts.append(str(key.key))
            case _ if part := str(key).removeprefix("."):
                parts.append(part)
            case _:
                pass
    return ".".join(parts)


def flatten_given(
    name: str, tree: object, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[tuple[KeyPath, Any]], TreeDef]:
    """Return the leaves with their paths, and the structure, of a tree that a user hands over.

    Args:
        name: What the tree is called in messages.
        tree: The tree.
        is_leaf: Whether a node counts as a leaf.

    Raises:
        TypeError: The keys of a dict cannot be sorted.
    """
    try:
        return flatten_with_path(tree, is_leaf)
    except UnsortableError as error:
        raise TypeError(f"{name}: {error}") from None


def leaves_by_name(where: str, name: str, tree: object) -> tuple[dict[str, Any], TreeDef]:
    """Return the leaves of a tree by dotted path, in their order, and its structure.

    Args:
        where: The function that calls, for the error message: `mlax.save`.
        name: What that function calls the tree.
        tree: The tree.

    Raises:
        ValueError: Two leaves have the same dotted path. The message names both.
    """
    found, treedef = flatten_with_path(tree)
    leaves = {dotted(path): leaf for path, leaf in found}
    if len(leaves) < len(found):
        seen: dict[str, KeyPath] = {}
        for path, _ in found:
            other = seen.setdefault(dotted(path), path)
            if other is not path:
                raise ValueError(
                    f"{where}: {name}{keystr(other)} and {name}{keystr(path)} have the same path, "
                    f"{dotted(path)!r}; rename a key"
                )
    return leaves, treedef


def tree_equal(*trees: object) -> bool:
    """Return whether all trees have the same structure and the same leaves.

    Arrays are equal if they have the same shape, dtype and values; NaN equals NaN, and a NumPy
    array can equal a JAX array. Other leaves are equal if they have the same type and `==` returns True.
    Nothing is promoted. Arrays must be concrete, and not deleted: otherwise JAX raises its error. So do
    leaves and static data whose `==` raises one.

    Args:
        trees: Any number of trees. Fewer than two are always equal.

    Raises:
        TypeError: The keys of a dict cannot be sorted.
        ValueError: Arrays are sharded over several processes, and this one sees no difference in its parts.
    """
    try:
        return _equal(*trees)
    except UnsortableError as error:
        raise TypeError(f"tree_equal: {error}") from None


def _equal(first: object = None, *others: object) -> bool:
    leaves, treedef = flatten(first)
    unknown: list[Any] = []
    for other in others:
        other_leaves, other_treedef = flatten(other)
        if treedef != other_treedef:
            return False
        for a, b in zip(leaves, other_leaves, strict=True):
            equal = _leaf_equal(a, b)
            if equal is None:
                unknown.append(a)
            elif not equal:
                return False
    if unknown:
        raise ValueError(
            f"tree_equal: {describe(unknown[0])} is sharded over several processes, each of which has a part, "
            "so that this one cannot tell.\n  Gather both trees first, in all processes: "
            "jax.experimental.multihost_utils.process_allgather(tree, tiled=True)."
        )
    return True


def _leaf_equal(a: Any, b: Any) -> bool | None:
    """Return whether two leaves are equal; None if other processes have parts of them, and here they are equal."""
    if not (_is_array(a) and _is_array(b)):
        same: object = type(a) is type(b) and a == b
        return same is True or (isinstance(same, np.bool_) and bool(cast("Any", same)))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = _here(a), _here(b)
    if _is_shared(a) or _is_shared(b):
        return a is b or (None if _parts_equal(a, b) else False)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    # `a != a` finds NaN in every dtype, including those that `np.isnan` does not support.
    return bool(np.all((a == b) | ((a != a) & (b != b))))  # noqa: PLR0124


def _is_shared(array: Any) -> bool:
    """Whether an array is on the devices of several processes."""
    return isinstance(array, jax.Array) and not is_tracer(array) and not array.is_fully_addressable


def _here(array: Any) -> Any:
    """Return an array of which each process has all elements as an array of this one."""
    whole = _is_shared(array) and array.is_fully_replicated
    return array.addressable_data(0) if whole else array


def _parts_equal(a: Any, b: Any) -> bool:
    """Return whether those parts of two arrays are equal that this process has of both."""
    if not _is_shared(a):
        a, b = b, a
    for part in a.addressable_shards:
        if not _is_shared(b):
            others = [b[part.index]]
        else:
            others = [x.data for x in b.addressable_shards if x.index == part.index]
        if not all(_leaf_equal(part.data, other) for other in others):
            return False
    return True


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def refuse_shared(where: str, name: str, tree: object) -> None:
    """Raise an error if a tree holds the same array object in two places.

    After the first step, the two places would be two different weights. And a jitted function that
    donates the tree's buffers (`donate_argnums`) crashes if it is given the same array twice, even
    an empty one.

    Args:
        where: The function that calls, for the error message: `Adam.init`.
        name: What that function calls the tree: `weights`.
        tree: The tree. Tracers are not checked: under `jit` each place has its own.

    Raises:
        ValueError: An array is in two places. The message names both.
    """
    given, _ = flatten(tree)
    if len(set(map(id, given))) == len(given):
        return
    seen: dict[int, KeyPath] = {}
    for path, leaf in flatten_with_path(tree)[0]:
        if not _is_array(leaf) or is_tracer(leaf):
            continue
        if id(leaf) in seen:
            raise ValueError(
                f"{where}: {name}{keystr(seen[id(leaf)])} and {name}{keystr(path)} are the same array "
                f"({describe(leaf)}); copy it, or keep it in one place and use it twice"
            )
        seen[id(leaf)] = path


def mismatches(
    name: str, tree: object, reference_name: str, reference: object, suffix: str = ""
) -> Iterator[str]:
    """Yield a line for each leaf or container of `tree` that does not correspond to one of `reference`.

    Leaves correspond if they have the same place in the same containers, and the same shape and
    dtype.

    Args:
        name: What to call `tree` in the lines.
        tree: The tree to find fault with.
        reference_name: What to call `reference` in the lines.
        reference: The tree that is right. Its leaves may be `jax.ShapeDtypeStruct`.
        suffix: Follows the path of a leaf of `reference`, as in
            `weights['w'] in slot_dtype: float32[2]`.
    """
    children, node = _children(tree)
    reference_children, reference_node = _children(reference)
    if node is None or reference_node is None:
        # At least one is a leaf; the other may be a leaf, None or a container.
        if describe(tree) != describe(reference) or node is not reference_node:
            yield f"{name}: {_summary(tree)}, but {reference_name}{suffix}: {_summary(reference)}"
    elif node[0] is not reference_node[0]:
        if type(None) in (node[0], reference_node[0]):
            yield f"{name}: {_summary(tree)}, but {reference_name}{suffix}: {_summary(reference)}"
        else:
            again = _REDEFINED if are_namesakes(node[0], reference_node[0]) else ""
            yield f"{name}: a different container, {_summary(tree)} instead of {_summary(reference)}{again}"
    elif is_frozen_otherwise(tree, reference):
        yield f"{name}.frozen: {node[1]}, but {reference_name}.frozen: {reference_node[1]}"
    else:
        for key, child in reference_children.items():
            if key in children:
                yield from mismatches(
                    name + key, children[key], reference_name + key, child, suffix
                )
        for key, child in reference_children.items():
            if key not in children:
                yield from (f"{name}{key}{path}: missing" for path in _paths(child))
        for key, child in children.items():
            if key not in reference_children:
                yield from (f"{name}{key}{path}: not in {reference_name}" for path in _paths(child))
        if children.keys() == reference_children.keys() and node != reference_node:
            found = _static_differences(node[1], reference_node[1])
            for field, value, expected in found:
                yield f"{name}.{field}: {value}, but {reference_name}.{field}: {expected}"
            if not found:
                yield f"{name}: static data in {_summary(tree)} differs from that in {reference_name}"


def is_frozen_otherwise(tree: object, reference: object) -> bool:
    """Return whether one of two nodes is frozen, and the other is not."""
    frozen = getattr(tree, "frozen", None)
    return isinstance(frozen, bool) and getattr(reference, "frozen", None) is (not frozen)


def structure_differences(
    tree: object,
    other: object,
    is_leaf: Callable[[Any], bool] = lambda _: False,
    path: str = "",
) -> list[str]:
    """Return how the structures of two trees differ, a line for each place: `layers[0].width: 3 against 4`.

    Args:
        tree: A tree.
        other: Another tree.
        is_leaf: Whether a node counts as a leaf, besides what is one to JAX. Leaves do not differ.
        path: The path of both.
    """
    if is_leaf(tree) and is_leaf(other):
        return []
    children, node = _children(tree)
    others, other_node = _children(other)
    place = path.removeprefix(".") or "the tree"
    if node is None or other_node is None or node[0] is not other_node[0]:
        if node is other_node:
            return []
        again = node and other_node and are_namesakes(node[0], other_node[0])
        return [f"{place}: {_kind(tree)} against {_kind(other)}{_REDEFINED if again else ''}"]
    lines = [
        f"{path}.{name}".removeprefix(".") + f": {value} against {other_value}"
        for name, value, other_value in _static_differences(node[1], other_node[1])
    ]
    for key in {**children, **others}:
        inside = f"{path}{key}"
        if key in children and key in others:
            lines += structure_differences(children[key], others[key], is_leaf, inside)
        else:
            pair = [_kind(each[key]) if key in each else "nothing" for each in (children, others)]
            lines.append(f"{inside.removeprefix('.')}: {pair[0]} against {pair[1]}")
    if not lines and node != other_node:
        lines.append(f"{place}: different static data in two {_kind(tree)}")
    return lines


def _kind(tree: object) -> str:
    node = _children(tree)[1]
    return "a leaf" if node is None else "None" if tree is None else node[0].__name__


def _static_differences(aux_data: Any, other: Any) -> list[tuple[str, str, str]]:
    """Return the name and both values of each static field that differs, if aux data can tell."""
    differences = getattr(aux_data, "differences", None)
    found: list[tuple[str, Any, Any]] = differences(other) if differences else []
    return [(name, *_told_apart(*values)) for name, *values in found]


def _told_apart(value: object, other: object) -> tuple[str, str]:
    """Return texts of two values that differ; with their types if the values look the same."""
    texts = [
        repr(one) if len(repr(one)) <= _LONGEST_REPR else describe(one) for one in (value, other)
    ]
    return (texts[0], texts[1]) if texts[0] != texts[1] else (describe(value), describe(other))


def _children(tree: object) -> tuple[dict[str, Any], tuple[type, Any] | None]:
    """Return the children of a container by key, and its type and aux data; for a leaf, no children and None."""
    entries, treedef = flatten_with_path(tree, is_leaf=lambda x: x is not tree)
    return {keystr(path): child for path, child in entries}, cast("Any", treedef).node_data()


def _paths(tree: object) -> list[str]:
    """Return the paths of all leaves; for an empty container or None, its own path."""
    return [keystr(path) for path, _ in flatten_with_path(tree)[0]] or [""]


def _summary(tree: object) -> str:
    """Describe a leaf; name a container by its type."""
    node = _children(tree)[1]
    return describe(tree) if node is None or tree is None else node[0].__name__
