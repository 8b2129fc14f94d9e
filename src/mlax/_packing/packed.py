"""Packed trees: all small leaves of one dtype in one flat array, so that a step pays only once for them.

A jitted call costs one to two microseconds for each array that it returns. With many small arrays,
a training step consists of little else. A `Packed` is a tree of few arrays. It unpacks itself
inside the step, where no array crosses the jit boundary.
"""

import math
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

from mlax._jax.trees import flatten
from mlax._module import calls
from mlax._module.module import HasForward, Module, is_module
from mlax._module.nodes import ENode
from mlax._packing.layout import PackedLayout, Place
from mlax.tree import describe, structure_differences

__all__ = ["Packed", "is_packed", "layouts"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T", covariant=True)


class Packed(Module, Generic[T]):
    """A tree with its small leaves in flat arrays, one for each dtype. `pack` makes it.

    It is a Module, so it can be used wherever a model can. `filter` and `partition` see a flat
    array as one node.

    Attributes:
        small: The flat arrays: `float32`, and separately `float32 frozen` and `float32 variable`
            for leaves that are not trained.
        large: All other leaves, by their path in the tree.
        layout: Where each leaf is stored. Static.
    """

    small: dict[str, ENode[Any]]
    large: dict[str, ENode[Any]]
    layout: PackedLayout

    def unpack(self) -> T:
        """Return the tree.

        Nodes that were filtered out have `data=None`; bare arrays that were filtered out are None.
        The flat arrays may have changed their dtype, or gained leading axes, since the tree was
        packed.

        Raises:
            ValueError: A flat array has a different length than when it was packed.
        """
        from mlax._packing.flat import split  # imported on first use: most programs do not pack

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
        """Pack a tree with the same structure, shapes and dtypes in the same way as this one.

        Args:
            tree: The tree that `unpack` returned, with other arrays in it.
            before: Optional. The tree that `unpack` of this very Packed returned. If all leaves of
                a flat array are the same objects in `tree` and `before`, the flat array is reused;
                without `before`, all are built anew.

        Raises:
            ValueError: The structure is different, or the shape or dtype of a leaf.
        """
        from mlax._packing.flat import join

        data = [
            self._data("small" if place.packed else "large", place.home)
            for place in self.layout.places
        ]
        there = [None if one is None else True for one in data]
        like = self.layout.tree(there)
        given = iter(_leaves_of("tree", tree, like))
        kept = iter([] if before is None else _leaves_of("before", before, like))
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

    def _shapes(self, key: str) -> tuple[tuple[int, ...], ...]:
        return tuple(place.shape for place in self.layout.inside(key))

    def _data(self, field: str, key: str) -> Any:
        nodes = self.small if field == "small" else self.large
        if key not in nodes:
            raise ValueError(
                f"Packed: {field}[{key!r}] is missing, but it held leaves of the packed tree; replace the data "
                "of nodes, not the nodes"
            )
        return nodes[key].data

    def _original(self) -> Any:
        return self.layout.numbered()

    def _unpacked(self) -> Any:
        tree: Any = self.unpack()
        return tree if is_module(tree) else self

    @classmethod
    def _unpickled(cls, small: Any, large: Any, numbered: Any, places: Any) -> Self:
        return cls(small, large, PackedLayout.restored(numbered, places))

    def __reduce__(self) -> tuple[Any, ...]:
        # A treedef cannot be pickled, but the tree of numbers built from it can.
        places = tuple(map(tuple, self.layout.places))
        numbered = self.layout.numbered()
        return type(self)._unpickled, (dict(self.small), dict(self.large), numbered, places)

    if TYPE_CHECKING:

        def forward(
            self: "Packed[HasForward[P, tuple[R, S]]]", *args: P.args, **kwargs: P.kwargs
        ) -> tuple[R, "Packed[S]"]: ...

        def __call__(
            self: "Packed[HasForward[P, tuple[R, S]]]", *args: P.args, **kwargs: P.kwargs
        ) -> tuple[R, "Packed[S]"]: ...

    else:

        def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            """Unpack and call the model. Return its result, and the changed model packed as before."""
            before = self.unpack()
            result, after = calls.run_instead(before, args, kwargs)
            return result, self.repack(after, before)

        def __getattr__(self, name: str) -> NoReturn:
            cure = ""
            if not name.startswith("_"):
                cure = "; it is packed: packed.unpack() returns the original tree"
            raise AttributeError(f"Packed has no attribute {name!r}{cure}")

        def __getitem__(self, key: Any) -> NoReturn:
            raise TypeError(
                f"Packed has no item {key!r}; it is packed: packed.unpack() returns the original tree"
            )


def _leaves_of(name: str, tree: Any, packed: Any) -> list[Any]:
    leaves, treedef = flatten(tree)
    if treedef != flatten(packed)[1]:
        first, *more = structure_differences(tree, packed)
        raise ValueError(
            f"Packed.repack: {name} has a different structure than the tree that was packed ({first}"
            f"{f', and {len(more)} more' if more else ''}); pack it again: mlax.pack(tree)"
        )
    return leaves


def _refuse_other(place: Place, leaf: Any, data: Any) -> None:
    """Raise an error unless a leaf has the shape and dtype of the one stored in `data`."""
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", None)
    if place.packed:
        shape = (*data.shape[:-1], *place.shape)
    if (getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) != (shape, dtype):
        expected = place.like(data) if place.packed else data
        raise ValueError(
            f"Packed.repack: {place.path} must be {describe(expected)} as before, got {describe(leaf)}"
        )


def is_packed(node: object) -> TypeGuard[Packed[Any]]:
    """Whether `node` is a Packed."""
    return isinstance(node, Packed)


def layouts(tree: Any) -> list[PackedLayout]:
    """Return the layouts of all Packed in a tree, in their order."""
    return [node.layout for node in flatten(tree, is_leaf=is_packed)[0] if is_packed(node)]
