"""Packed trees: all small leaves of one dtype in one flat array, so that a step does not pay for each of them.

A jitted call costs one to two microseconds for each array that it returns. With many small arrays a training step is
little else. A `Packed` is a tree of few arrays that unpacks itself inside the step, where that costs no boundary.
"""

import inspect
import math
from collections.abc import Callable, Container, Hashable, Iterator
from itertools import chain, count
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    Self,
    TypeGuard,
    TypeVar,
    cast,
)

import jax
import numpy as np
from jaxtyping import Array

from mlax._jax import is_inexact, is_key, is_tracer
from mlax._named import leaves_by_name
from mlax._packed_layout import PackedLayout, Place
from mlax._trees import TreeDef, flatten
from mlax._unset import refuse_unset
from mlax.module import HasForward, Module
from mlax.state import ENode, Parameter, Variable, is_leaf_state
from mlax.tree import describe, refuse_shared

__all__ = ["DEFAULT_THRESHOLD", "Packed", "is_packed", "layouts", "pack"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T", covariant=True)

DEFAULT_THRESHOLD = 2**15
"""Bytes below which a leaf is packed; docs/packing.md says how it was measured."""


_WEIGHT: Parameter[Any] = Parameter()


class Packed(Module, Generic[T]):
    """A tree with its small leaves in flat arrays, one for each dtype; `pack` makes it.

    It is a Module: what takes a model takes it too. `filter` and `partition` see a flat array as one node.

    Attributes:
        small: The flat arrays: `float32`, and apart `float32 frozen` and `float32 variable` for what is not trained.
        large: All other leaves, by their path in the tree.
        layout: What lies where. Static.
    """

    small: dict[str, ENode[Any]]
    large: dict[str, ENode[Any]]
    layout: PackedLayout

    def unpack(self) -> T:
        """Return the tree. Of what was filtered out of this, the node has `data=None` in it; a bare array is None.

        Arrays may have changed their dtype since they were packed, and have got axes in front.

        Raises:
            ValueError: A flat array has another length.
        """
        from mlax._flat import split  # only what packs pays for importing it

        leaves: list[Any] = [None] * len(self.layout.places)
        for key, numbers in self.layout.flats.items():
            flat = self._data("small", key)
            if flat is None:
                continue
            shapes = self._shapes(key)
            length = sum(map(math.prod, shapes))
            if getattr(flat, "shape", ())[-1:] != (length,):
                raise ValueError(
                    f"Packed.unpack: small[{key!r}] must have a last axis of {length}, got {describe(flat)}"
                )
            for number, leaf in zip(numbers, split(flat, shapes), strict=True):
                leaves[number] = leaf
        for number, place in enumerate(self.layout.places):
            if not place.packed:
                leaves[number] = self._data("large", place.home)
        return cast("T", self.layout.tree(leaves))

    def repack(self, tree: Any, before: Any = None) -> Self:
        """Return another tree of the same structure, shapes and dtypes, packed as this one is.

        Args:
            tree: What `unpack` gave, with other arrays in it.
            before: What `unpack` of this very Packed gave, not of another: a flat array of which `tree` holds every
                leaf, the same object as `before`, is kept as it is here. Without it all are made anew.

        Raises:
            ValueError: The structure is another one, or the shape or dtype of a leaf.
        """
        from mlax._flat import join

        data = [
            self._data("small" if place.packed else "large", place.home)
            for place in self.layout.places
        ]
        there = [None if one is None else True for one in data]
        treedef = flatten(self.layout.tree(there))[1]
        given = iter(self._leaves_of("tree", tree, treedef))
        kept = iter([] if before is None else self._leaves_of("before", before, treedef))
        small, large = dict(self.small), dict(self.large)
        inside: dict[str, list[Any]] = {}
        changed: dict[str, None] = {}
        for place, old_data in zip(self.layout.places, data, strict=True):
            if old_data is None:
                continue
            leaf, old = next(given), next(kept, None)
            if leaf is not old:
                _refuse_other(place, leaf, old_data)
            if not place.packed:
                large[place.home] = large[place.home].with_data(leaf)
                continue
            inside.setdefault(place.home, []).append(leaf)
            if leaf is not old:
                changed[place.home] = None
        for key in changed:
            small[key] = small[key].with_data(join(inside[key], self._shapes(key)))
        return self.replace(small=small, large=large)

    def _leaves_of(self, name: str, tree: Any, expected: TreeDef) -> list[Any]:
        leaves, treedef = flatten(tree)
        if treedef != expected:
            raise ValueError(
                f"Packed.repack: {name} has another structure than the tree that was packed; pack it anew: "
                "mlax.pack(tree)"
            )
        return leaves

    def _shapes(self, key: str) -> tuple[tuple[int, ...], ...]:
        return tuple(place.shape for place in self.layout.inside(key))

    def _data(self, field: str, key: str) -> Any:
        nodes = self.small if field == "small" else self.large
        if key not in nodes:
            raise ValueError(
                f"Packed: {field}[{key!r}] is missing, leaves of the tree that was packed lie there; replace the data "
                "of nodes, not the nodes"
            )
        return nodes[key].data

    if TYPE_CHECKING:

        def forward(
            self: "Packed[HasForward[P, tuple[R, S]]]", *args: P.args, **kwargs: P.kwargs
        ) -> tuple[R, "Packed[S]"]: ...

        def __call__(
            self: "Packed[HasForward[P, tuple[R, S]]]", *args: P.args, **kwargs: P.kwargs
        ) -> tuple[R, "Packed[S]"]: ...

    else:

        def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            """Unpack, call the model, and return its result and the model, packed as before."""
            before = self.unpack()
            result, after = before(*args, **kwargs)
            return result, self.repack(after, before)

        def __getattr__(self, name: str) -> NoReturn:
            cure = ""
            if not name.startswith("_"):
                cure = "; it is packed, and packed.unpack() gives the tree that was"
            raise AttributeError(f"Packed has no attribute {name!r}{cure}")

        def __getitem__(self, key: Any) -> NoReturn:
            raise TypeError(
                f"Packed has no item {key!r}; it is packed, and packed.unpack() gives the tree that was"
            )


def _refuse_other(place: Place, leaf: Any, data: Any) -> None:
    """Refuse a leaf of another shape or dtype than the one that lies in `data`, or is it."""
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", None)
    if place.packed:
        shape = (*data.shape[:-1], *place.shape)
    if (getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) != (shape, dtype):
        expected = place.like(data) if place.packed else data
        raise ValueError(
            f"Packed.repack: {place.path} must be {describe(expected)} as before, got {describe(leaf)}"
        )


def pack(
    tree: S,
    *,
    threshold: int = DEFAULT_THRESHOLD,
    group: Callable[[str, Array], Hashable | None] | None = None,
) -> Packed[S]:
    """Return a tree with all small leaves of one dtype in one flat array; `unpack` gives it back.

    Of a Module, unfrozen parameters, frozen ones and variables lie in flat arrays of their own, so that `filter` and
    optimizers find what they look for. Of a tree without States, floating-point and complex arrays count as parameters,
    others as variables. Random keys, nodes of your own classes, and a leaf that would be alone stay as they are.

    Args:
        tree: A Module that is set up, or any tree of arrays. None in it stays.
        threshold: Size in bytes from which a leaf is not packed.
        group: Of a path, `"layers.0.kernel"`, and an array. Leaves with different answers do not share a flat
            array; for None the leaf is not packed.

    Raises:
        TypeError: `tree` holds something else than arrays, or a Packed; `threshold` is no integer; `group` is no
            function, or gives something unhashable.
        ValueError: A node is UNSET, an array is in two places, two leaves have one path, arrays to be packed
            together are on different devices, or `threshold` is negative.
    """
    from mlax._flat import join

    where = "mlax.pack"
    least = _threshold(threshold)
    if group is not None and not callable(group):
        raise TypeError(
            f"{where}: group must be a function of a path and an array, got {describe(group)}"
        )
    if group is not None:
        _refuse_other_arguments(where, group)
    if layouts(tree):
        raise TypeError(f"{where}: tree is packed already, or holds a Packed; unpack it first")
    refuse_unset(where, "tree", tree, "set up first: model = mlax.set_up(model, x, rng=key)")
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
    """Return the paths of what is to share a flat array, by all that it has in common."""
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


def layouts(tree: Any) -> list[PackedLayout]:
    """Return the layouts of all that is packed in a tree, in their order."""
    return [node.layout for node in flatten(tree, is_leaf=is_packed)[0] if is_packed(node)]


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
    except ValueError:  # of a function in C, whose arguments nobody knows
        return


def _bytes(array: Any) -> int:
    size: int = array.size * array.dtype.itemsize
    return size


def is_packed(node: object) -> TypeGuard[Packed[Any]]:
    """Whether `node` is a Packed."""
    return isinstance(node, Packed)


def _nodes(where: str, given: dict[str, Any], tree: Any) -> Iterator[ENode[Any]]:
    """Yield a node for each leaf: of the class of the node that it is from, or what a bare array counts as."""
    owners = [
        node
        for node in flatten(tree, is_leaf=is_leaf_state)[0]
        for _ in range(len(flatten(node)[0]))
    ]
    for (path, leaf), owner in zip(given.items(), owners, strict=True):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                f"{where}: {path or 'tree'} is {describe(leaf)}, which has no values; give arrays, or write "
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
            f"{where}: group must give something hashable or None, got {describe(answer)} for {path!r}"
        ) from None
    return cast("Hashable", answer)


def _name(home: tuple[Any, ...], taken: Container[str], *, plain: bool) -> str:
    """Return the key of a flat array: `float32 frozen`, and with a group `float32 matrix`."""
    answer, cls, frozen, dtype = home
    kind = "variable" if cls is Variable else "frozen" if frozen else ""
    told = "" if plain else answer if isinstance(answer, str) else repr(answer)
    name = " ".join(filter(None, (dtype.name, kind, told)))
    numbered = (f"{name} ({number})" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _refuse_different_devices(where: str, paths: list[str], nodes: dict[str, ENode[Any]]) -> None:
    """Refuse arrays that somebody put on different devices: JAX computes nothing with both."""
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
                "apart: group=lambda path, array: array.device"
            )
