"""Where the leaves of a packed tree are stored: `PackedLayout`, the static part of a `Packed`."""

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast
from weakref import WeakValueDictionary

import jax
from jax.tree_util import DictKey, GetAttrKey

from mlax._jax.trees import KeyPath, TreeDef, flatten
from mlax._module.nodes import is_leaf_state
from mlax._module.static_texts import StaticParts
from mlax._module.written import writable
from mlax._module.written_structures import read_structure, written_structure

__all__ = ["PackedLayout", "Place"]


class Place(NamedTuple):
    """Where one leaf is stored, and its description.

    Attributes:
        path: Its path, `layers.0.kernel`.
        shape: Its shape, without batch axes.
        dtype: The name of its dtype when it was packed.
        home: The key in `small` or `large` of the node that holds it.
        packed: Whether that node is a flat array.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    home: str
    packed: bool

    def like(self, flat: Any) -> jax.ShapeDtypeStruct:
        """Return the leaf's shape and dtype inside a flat array, whose dtype may have changed since packing."""
        return jax.ShapeDtypeStruct((*flat.shape[:-1], *self.shape), flat.dtype)


class PackedLayout(StaticParts):
    """The structure of the tree that was packed, and where each leaf is stored. It is static.

    Equal layouts are one object: JAX compares layouts in each dispatch, by identity first, and only
    if that fails leaf by leaf.

    Attributes:
        treedef: Structure of the tree.
        places: The places of the leaves, in their order.
        flats: For each flat array, by its key: the numbers of its leaves, in their order.
    """

    __slots__ = ("__weakref__", "_hash", "flats", "places", "treedef")
    _known: ClassVar["WeakValueDictionary[PackedLayout, PackedLayout]"] = WeakValueDictionary()

    treedef: TreeDef
    places: tuple[Place, ...]
    flats: Mapping[str, tuple[int, ...]]

    def __init__(self, treedef: TreeDef, places: tuple[Place, ...]) -> None:
        flats: dict[str, list[int]] = {}
        for number, place in enumerate(places):
            if place.packed:
                flats.setdefault(place.home, []).append(number)
        self.treedef = treedef
        self.places = places
        self.flats = {key: tuple(numbers) for key, numbers in flats.items()}
        self._hash = hash(places)

    @classmethod
    def restored(
        cls, numbered: Any, places: tuple[tuple[str, tuple[int, ...], str, str, bool], ...]
    ) -> "PackedLayout":
        """Return the layout with these places, for a tree that `numbered` returned."""
        return cls.of(flatten(numbered)[1], tuple(Place(*place) for place in places))

    @classmethod
    def of(cls, treedef: TreeDef, places: tuple[Place, ...]) -> "PackedLayout":
        """Return the one layout with this structure and these places."""
        layout = cls(treedef, places)
        return cls._known.setdefault(layout, layout)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, PackedLayout)
            and self._hash == other._hash
            and self.places == other.places
            and self.treedef == other.treedef
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        structure = re.sub(r" at 0x[0-9a-f]+", "", str(self.treedef))
        return f"<{_digest(self.places, structure)}>"

    def numbered(self) -> Any:
        """Return the tree with the number of each leaf in its place."""
        return self.treedef.unflatten(range(len(self.places)))

    def static_parts(self) -> tuple[dict[KeyPath, str], Any]:
        """Return a text for each flat array, and the tree of numbers. The texts are the same in every process."""
        texts = {
            (GetAttrKey("small"), DictKey(key)): _digest(
                [(place.path, place.shape) for place in self.inside(key)]
            )
            for key in self.flats
        }
        return texts, self.numbered()

    def inside(self, key: str) -> tuple[Place, ...]:
        """Return the places of the leaves in a flat array."""
        return tuple(self.places[number] for number in self.flats[key])

    def tree(self, leaves: list[Any]) -> Any:
        """Return the tree with these leaves. A leaf that is None was filtered out."""
        tree = self.treedef.unflatten(leaves)
        if all(leaf is not None for leaf in leaves):
            return tree
        # A node that has lost all its leaves becomes an empty node, as `filter` makes it.
        whole: Any = self.treedef.unflatten([True] * len(leaves))
        before, treedef = flatten(whole, is_leaf=is_leaf_state)
        after: list[Any] = cast("Any", treedef).flatten_up_to(tree)
        return treedef.unflatten(
            node.with_data(None)
            if is_leaf_state(node) and _has_leaves(old) and not _has_leaves(node)
            else node
            for old, node in zip(before, after, strict=True)
        )


writable(
    PackedLayout,
    lambda layout: [written_structure(layout.treedef), layout.places],
    lambda text: PackedLayout.of(
        read_structure(text[0]),
        tuple(Place(path, tuple(shape), *rest) for path, shape, *rest in text[1]),
    ),
)


def _digest(leaves: Sequence[Any], structure: str = "") -> str:
    return f"{len(leaves)} leaves, {zlib.crc32(f'{leaves}{structure}'.encode()):08x}"


def _has_leaves(tree: object) -> bool:
    """Return whether a tree has any leaves."""
    return bool(flatten(tree)[0])
