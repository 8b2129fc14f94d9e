"""`at`: changed copies of a tree, with other values at places that a function names."""

from collections.abc import Callable
from types import GeneratorType
from typing import Any, Generic, TypeVar, cast

from mlax._jax.recursion import make_room
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import KeyPath, class_of, flatten
from mlax._module.parts import parts_of, with_changes
from mlax._module.places import depth_of
from mlax._module.recording import Place, is_place, path_of, place_text, value_at
from mlax.tree import describe

__all__ = ["At", "at"]

T = TypeVar("T")
V = TypeVar("V")


@trimmed
def at(tree: T, where: Callable[[T], V]) -> "At[T, V]":
    """Name places in a tree, to read what is there or to make a copy with other values there.

        model = mlax.at(model, lambda m: m.blocks[0].dropout.rate).set(0.1)
        rates = mlax.at(model, lambda m: [b.dropout.rate for b in m.blocks])
        model = rates.apply(lambda values: [value / 2 for value in values])

    A place is what attributes and items lead to: a module, a node, its `data` or `frozen`, a static
    field, None, and what is in tuples, NamedTuples, lists, dicts and dataclasses. `where` is called
    with a stand-in for the tree, which records the path. Fields, items, slices, loops, `len` and
    `isinstance` work as on the tree; calls, properties, arithmetic and comparisons do not.

    Args:
        tree: A model, an optimizer state, or any other PyTree.
        where: A function of the tree that returns a place, or a tuple, list or dict of places.

    Raises:
        AttributeError: A name is not that of a field. The message says which fields there are.
        LookupError: There is no such item.
        TypeError: `where` needs more than places, or returns anything else.
        ValueError: Two places are the same, or one is inside the other.
    """
    if not callable(where):
        raise TypeError(
            f"mlax.at: `where` must be a function of the tree, got {describe(where)}.\n"
            "  For example: mlax.at(model, lambda m: m.layers[0].kernel)"
        )
    return At(tree, where(cast("T", Place((), tree))))


class At(Generic[T, V]):
    """Places in a tree. `mlax.at` makes it.

    Values have the form of what `where` returned: one value, or a tuple, list or dict of values.
    """

    __slots__ = ("_form", "_kind", "_places", "_tree")

    def __init__(self, tree: T, found: Any) -> None:
        self._tree = tree
        self._kind = type(found)
        self._places, self._form = flatten(found, _is_no_container)
        for place in self._places:
            _check(place)
        if not self._places:
            raise ValueError(f"mlax.at: `where` must return places in the tree, got {found!r}")
        _refuse_overlaps([path_of(place) for place in self._places])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._tree, self._form.unflatten(self._places))

    def __repr__(self) -> str:
        texts = [place_text(path_of(place)) for place in self._places]
        return f"<mlax.at: {', '.join(texts)} in {class_of(self._tree).__name__}>"

    def get(self) -> V:
        """Return the value at the place; for several places, a tuple, list or dict of values."""
        values: V = self._form.unflatten(map(value_at, self._places))
        return values

    @trimmed
    def set(self, value: V) -> T:
        """Return a copy of the tree with other values.

        Everything that is not on the way to a place stays the same object. Each module on the way
        is copied once, with `replace`, which checks all its new values together.

        Args:
            value: The new value. For several places: as many, in a tuple, list or dict.

        Raises:
            TypeError: A value is not valid for its field.
            ValueError: There are more or fewer values than places.
        """
        values = self._spread(value)
        changes = [(path_of(place), new) for place, new in zip(self._places, values, strict=True)]
        make_room(depth_of(self._tree))
        tree: T = _changed(self._tree, changes, ())
        return tree

    @trimmed
    def apply(self, function: Callable[[V], V]) -> T:
        """Return a copy of the tree with other values, computed from the present ones: `set(function(get()))`.

        Args:
            function: From the present value to the new one. For several places it is called once,
                with a tuple, list or dict of all values, and returns as many.

        Raises:
            TypeError: A value is not valid for its field.
            ValueError: There are more or fewer values than places.
        """
        return self.set(function(self.get()))

    def _spread(self, value: Any) -> list[Any]:
        """Return the new value of each place."""
        if {class_of(value), self._kind} == {tuple, list}:
            value = self._kind(value)
        try:
            return self._form.flatten_up_to(value)
        except ValueError:
            places = self._form.unflatten(self._places)
            raise ValueError(
                f"mlax.at: the new values must have the form of the places, {places}, got {describe(value)}.\n"
                "  For several, apply hands over all values at once: .apply(lambda values: [f(v) for v in values])"
            ) from None


def _is_no_container(node: object) -> bool:
    return is_place(node) or not isinstance(node, (tuple, list, dict))


def _check(found: Any) -> None:
    """Refuse what `where` may not return."""
    if isinstance(found, GeneratorType):
        got, cure = "a generator", "Use a list: [... for ... in ...]"
    elif not is_place(found):
        got, cure = describe(found), "Use the argument of `where`: lambda m: m.layers[0].kernel"
    elif not path_of(found):
        got, cure = "the whole tree", "Use the tree itself, without mlax.at."
    else:
        return
    raise TypeError(
        f"mlax.at: `where` must return a place in the tree, or several in a tuple, list or dict, got {got}.\n"
        f"  {cure}"
    )


def _refuse_overlaps(paths: list[KeyPath]) -> None:
    """Raise an error if a path is given twice, or is inside another."""
    given = set[KeyPath]()
    for path in sorted(paths, key=len):
        for length in range(1, len(path) + 1):
            outer = path[:length]
            if outer not in given:
                continue
            if outer == path:
                raise ValueError(
                    f"mlax.at: `where` returned {place_text(path)} twice.\n  Return each place once."
                )
            raise ValueError(
                f"mlax.at: {place_text(path)} is inside {place_text(outer)}, and `where` returned both.\n"
                "  Change one after the other, with two calls of mlax.at."
            )
        given.add(path)


def _changed(node: Any, changes: list[tuple[KeyPath, Any]], path: KeyPath) -> Any:
    """Return a copy of a node with other values at paths, or the node itself if all are the same objects.

    Args:
        node: The node.
        changes: Paths from the node, none inside another, with new values. The path of the node
            itself is `()`.
        path: The path to the node, for messages.
    """
    if not changes[0][0]:
        return changes[0][1]
    inside: dict[Any, list[tuple[KeyPath, Any]]] = {}
    for (key, *rest), new in changes:
        inside.setdefault(key, []).append((tuple(rest), new))
    parts = parts_of(node)
    new_parts = {key: _changed(parts[key], inner, (*path, key)) for key, inner in inside.items()}
    new_parts = {key: part for key, part in new_parts.items() if part is not parts[key]}
    if not new_parts:
        return node
    try:
        return with_changes(node, new_parts)
    except Exception as error:
        if path and not hasattr(error, "__notes__"):
            error.add_note(f"in mlax.at: {place_text(path)}")
        raise
