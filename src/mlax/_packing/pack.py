"""`pack`: decides which leaves of a tree share a flat array, and names it."""

import inspect
from collections.abc import Callable, Container, Hashable, Iterator
from itertools import chain, count
from typing import (
    Any,
    TypeVar,
    cast,
)

import jax
import numpy as np
from jaxtyping import Array

from mlax._jax.dtypes import is_inexact, is_key
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import flatten
from mlax._module.nodes import ENode, Parameter, Variable, is_leaf_state
from mlax._module.unset import refuse_unset
from mlax._packing.layout import PackedLayout, Place
from mlax._packing.packed import Packed, layouts
from mlax.tree import describe, leaves_by_name, refuse_shared

__all__ = ["DEFAULT_THRESHOLD", "pack"]

S = TypeVar("S")

DEFAULT_THRESHOLD = 2**15
"""Leaves with fewer bytes than this are packed; docs/packing.md has the measurements."""


_WEIGHT: Parameter[Any] = Parameter()


@trimmed
def pack(
    tree: S,
    *,
    threshold: int = DEFAULT_THRESHOLD,
    group: Callable[[str, Array], Hashable | None] | None = None,
) -> Packed[S]:
    """Pack the small leaves of a tree: all those of one dtype go into one flat array.

    Use it if a training step has many small arrays: each array that crosses the boundary of a
    jitted function costs time, one to two microseconds if it is returned. `Packed.unpack` returns
    the tree.

    The unfrozen parameters, frozen parameters and variables of a Module are kept in separate flat
    arrays, so that `filter` and optimizers still find them. In other trees, floating-point and
    complex arrays count as parameters, and other arrays as variables. PRNG keys, nodes of your own
    classes, and a leaf that would be alone in a flat array are not packed.

    Args:
        tree: A Module that has been set up, or any tree of arrays. None in it stays None.
        threshold: Leaves with fewer bytes than this are packed.
        group: Optional. Takes the path of a leaf, `"layers.0.kernel"`, and its array. Only leaves
            with equal results share a flat array; if the result is None, the leaf is not packed.

    Raises:
        TypeError: `tree` holds something other than arrays, or a Packed; `threshold` is not an
            integer; `group` is not a function, or returns something unhashable.
        ValueError: A node is UNSET, an array is in two places, two leaves have the same path,
            arrays to be packed together are on different devices, or `threshold` is negative.
    """
    from mlax._packing.flat import join

    where = "mlax.pack"
    least = _threshold(threshold)
    if group is not None and not callable(group):
        raise TypeError(
            f"{where}: group must be a function of a path and an array, got {describe(group)}"
        )
    if group is not None:
        _refuse_other_arguments(where, group)
    if layouts(tree):
        raise TypeError(f"{where}: tree is already packed, or holds a Packed; unpack it first")
    refuse_unset(
        where, "tree", tree, "set up the model first, model = mlax.set_up(model, x, rng=key)"
    )
    refuse_shared(where, "tree", tree)
    given, treedef = leaves_by_name(where, "tree", tree)
    nodes = dict(zip(given, _nodes(where, given, tree), strict=True))
    names: dict[str, str] = {}
    small: dict[str, ENode[Any]] = {}
    for shared, paths in _together(where, nodes, least, group).items():
        _refuse_different_devices(where, paths, nodes)
        key = _name(shared, small, plain=group is None)
        names |= dict.fromkeys(paths, key)
        arrays = [nodes[path].data for path in paths]
        small[key] = nodes[paths[0]].with_data(join(arrays, tuple(array.shape for array in arrays)))
    places = tuple(
        Place(path, node.data.shape, node.data.dtype.name, names.get(path, path), path in names)
        for path, node in nodes.items()
    )
    large = {path: node for path, node in nodes.items() if path not in names}
    return Packed(small, large, PackedLayout.of(treedef, places))


def _together(
    where: str,
    nodes: dict[str, ENode[Any]],
    least: int,
    group: Callable[[str, Array], Hashable | None] | None,
) -> dict[tuple[Any, ...], list[str]]:
    """Return the paths of leaves that are to share a flat array, by the properties they share."""
    together: dict[tuple[Any, ...], list[str]] = {}
    for path, node in nodes.items():
        data = node.data
        if type(node) not in (Parameter, Variable) or is_key(data.dtype) or _bytes(data) >= least:
            continue
        answer = True if group is None else _answer(where, path, group(path, data))
        if answer is not None:
            shared = answer, type(node), getattr(node, "frozen", False), data.dtype
            together.setdefault(shared, []).append(path)
    return {shared: paths for shared, paths in together.items() if len(paths) > 1}


def _threshold(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise TypeError(
            f"mlax.pack: threshold must be a number of bytes, an integer, got {describe(given)}"
        )
    if given < 0:
        raise ValueError(f"mlax.pack: threshold must be >= 0, got {given}")
    return int(cast("Any", given))


def _refuse_other_arguments(where: str, group: Callable[..., Any]) -> None:
    try:
        inspect.signature(group).bind("path", None)
    except TypeError as error:
        raise TypeError(
            f"{where}: group must be a function of a path and an array, got {describe(group)}: {error}"
        ) from None
    except ValueError:  # the signature of a function in C may be unknown
        return


def _bytes(array: Any) -> int:
    size: int = array.size * array.dtype.itemsize
    return size


def _nodes(where: str, given: dict[str, Any], tree: Any) -> Iterator[ENode[Any]]:
    """Yield a node for each leaf, of the class of the node it is in; for a bare array, of the class it counts
    as.
    """
    owners = [
        node
        for node in flatten(tree, is_leaf=is_leaf_state)[0]
        for _ in range(len(flatten(node)[0]))
    ]
    for (path, leaf), owner in zip(given.items(), owners, strict=True):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                f"{where}: {path or 'tree'} is {describe(leaf)}, which has no values; pass arrays, or use "
                "jax.eval_shape(mlax.pack, tree)"
            )
        if is_leaf_state(owner):
            yield owner.with_data(leaf)
            continue
        try:
            node = Variable(leaf)
        except TypeError as error:
            problem = str(error).partition("\n")[0].replace("Variable.data", path or "tree")
            raise TypeError(f"{where}: {problem}") from None
        data: Any = node.data
        yield _WEIGHT.with_data(data) if is_inexact(data.dtype) else node


def _answer(where: str, path: str, answer: Any) -> Hashable | None:
    try:
        hash(answer)
    except TypeError:
        raise TypeError(
            f"{where}: group must return something hashable or None, got {describe(answer)} for {path!r}"
        ) from None
    return cast("Hashable", answer)


def _name(home: tuple[Any, ...], taken: Container[str], *, plain: bool) -> str:
    """Return the key of a flat array: `float32 frozen`, or with a group `float32 matrix`."""
    answer, cls, frozen, dtype = home
    kind = "variable" if cls is Variable else "frozen" if frozen else ""
    told = "" if plain else answer if isinstance(answer, str) else repr(answer)
    name = " ".join(filter(None, (dtype.name, kind, told)))
    numbered = (f"{name} ({number})" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _refuse_different_devices(where: str, paths: list[str], nodes: dict[str, ENode[Any]]) -> None:
    """Raise an error for arrays committed to different devices: JAX cannot compute with both at once."""
    first: tuple[str, Any] | None = None
    for path in paths:
        array = nodes[path].data
        if is_tracer(array) or not array.committed:
            continue
        devices = array.sharding.device_set
        if first is None:
            first = path, devices
        elif devices != first[1]:
            raise ValueError(
                f"{where}: {first[0]} and {path} are on different devices and cannot share a flat array; pack them "
                "separately: group=lambda path, array: array.device"
            )
