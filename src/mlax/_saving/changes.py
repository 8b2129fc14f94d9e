"""What changed between the contents of a file and a tree: a line for each path, with guesses at what was renamed."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from mlax.tree import describe

__all__ = ["Changes", "Described", "changes", "layout_hint", "shown_name"]


class Described(NamedTuple):
    """A tree or file in words: shapes and dtypes of arrays, static values and classes of nodes, by dotted path.

    Static values and classes are empty if nothing is known about them on one of the two sides. `aliases` is
    what messages say behind the names of arrays of `like`.
    """

    arrays: Mapping[str, Any]
    static: Mapping[str, str]
    classes: Mapping[str, str]
    aliases: Mapping[str, str] = MappingProxyType({})

    def entries(self) -> dict[str, tuple[Any, str | None]]:
        """Return for each path the array and the static value there."""
        names = {**self.arrays, **self.static}
        return {name: (self.arrays.get(name), self.static.get(name)) for name in names}

    def with_renamed(self, renames: "list[_Rename]") -> "Described":
        """Return the same with other names."""
        names: dict[_Path, str] = {(*before, old): new for before, old, new in renames}
        return Described(*({_new_name(name, names): part[name] for name in part} for part in self))


_Path: TypeAlias = tuple[str, ...]


class _Rename(NamedTuple):
    """One part of a path that has another name in `like`: the path before it, and its name in both."""

    before: _Path
    old: str
    new: str


_ROUNDS = 4  # a part inside a part that was renamed, and so on


class Changes(NamedTuple):
    """Lines for a message: what does not fit, and nodes whose class has another name."""

    misfits: list[str]
    classes: list[str]


def changes(found: Described, like: Described, optional: Collection[str] = ()) -> Changes:
    """Return a line for each array, static value and class that a file and `like` do not have in common.

    If a name is only in the file, and another one in its place only in `like`, with the same arrays
    or static values inside, they are told as one change: it may have been renamed, unless it is part
    of another optimizer.

    Args:
        found: The file.
        like: `like`.
        optional: Paths in `like` that the file need not have.
    """
    lines: list[str] = []
    expected = like.entries()
    guess = "is it" if any(like.aliases.values()) else "renamed from"
    for _ in range(_ROUNDS):
        renames = _renames(found, like)
        if not renames:
            break
        found = found.with_renamed(renames)
        entries = found.entries()
        inside = Counter(start for name in expected for start in _starts([name]))
        fitting = Counter(
            start
            for name, entry in expected.items()
            if entries.get(name) == entry
            for start in _starts([name])
        )
        for before, old, new in renames:
            path = (*before, new)
            what = f" ({fitting[path]} of {inside[path]} values inside fit)"
            name, there = ".".join(path), shown_name(".".join((*before, old)))
            lines.append(
                f"{shown_name(name)}{_aliases_inside(name, like.aliases)}: missing; {guess} {there}?"
                f"{'' if inside[path] == 1 else what}"
            )
    lines += _differences(found.arrays, like.arrays, describe, like.aliases, optional)
    lines += _differences(found.static, like.static, str, {}, optional)
    return Changes(lines, list(_changed_classes(found, like)))


def _aliases_inside(path: str, aliases: Mapping[str, str]) -> str:
    """Return the first alias of an array at or below a path, with dots if there are more arrays."""
    inside = [alias for name, alias in aliases.items() if f"{name}.".startswith(f"{path}.")]
    first = next(filter(None, inside), "")
    return first if len(inside) == 1 or not first else f"{first[:-1]}, ...)"


def _changed_classes(found: Described, like: Described) -> Iterator[str]:
    """Yield a line for each node whose class has another name in `like`; that it was moved does not count."""
    for path, cls in like.classes.items():
        # The name of an optimizer's class is a static value as well.
        if _is_other_class(found, like, path) and path not in like.static:
            old = found.classes[path]
            yield f"{shown_name(path) if path else 'the whole tree'}: {old}, but {cls} in `like`"


def _is_other_class(found: Described, like: Described, path: str) -> bool:
    """Whether the node at a path has a class of another name in `like`."""
    cls = like.classes.get(path, "")
    return found.classes.get(path, cls).rpartition(".")[2] != cls.rpartition(".")[2]


def _other_optimizers(found: Described, like: Described) -> set[str]:
    """Return where hyperparameters are of another optimizer in `like`, and where the states are that hold them.

    Between these, equal values mean nothing.
    """
    paths = {path for path in like.static if _is_other_class(found, like, path)}
    return paths | {path.rpartition(".")[0] for path in paths}


def _renames(found: Described, like: Described) -> list[_Rename]:
    """Return what may have been renamed: first what explains most, then what is spelled most alike."""
    here, there = found.entries(), like.entries()
    others = _other_optimizers(found, like)
    inside_found, inside_like = _starts(here), _starts(there)
    places: dict[tuple[_Path, _Path, Any], list[str]] = defaultdict(list)
    for before, part, after, value in _parts(here, there, inside_like):
        places[before, after, value].append(part)
    votes = Counter(
        _Rename(before, old, new)
        for before, new, after, value in _parts(there, here, inside_found)
        for old in places.get((before, after, value), ())
        if not (old.isdigit() and new.isdigit()) and ".".join(before) not in others
    )

    def alike(rename: _Rename) -> float:
        return difflib.SequenceMatcher(None, rename.old, rename.new).ratio()

    chosen: list[_Rename] = []
    taken: set[tuple[_Path, str, bool]] = set()
    for rename in sorted(votes, key=lambda one: (votes[one], alike(one)), reverse=True):
        ends = {(rename.before, rename.old, True), (rename.before, rename.new, False)}
        if not ends & taken:
            chosen.append(rename)
            taken |= ends
    return chosen


def _starts(names: Iterable[str]) -> set[_Path]:
    """Return all paths that lead to names or into them."""
    split = [tuple(name.split(".")) for name in names]
    return {parts[: i + 1] for parts in split for i in range(len(parts))}


def _parts(
    names: Mapping[str, Any], others: Mapping[str, Any], starts: set[_Path]
) -> Iterator[tuple[_Path, str, _Path, Any]]:
    """Yield each part of each name that the others lack, if they lack the path up to it too: with what stands before
    it and after it, and the value.
    """
    for name in names:
        if name not in others:
            parts = tuple(name.split("."))
            for i, part in enumerate(parts):
                if parts[: i + 1] not in starts:
                    yield parts[:i], part, parts[i + 1 :], names[name]


def _new_name(name: str, names: Mapping[_Path, str]) -> str:
    """Return a path in which one part is renamed, if a path that leads to it is among those with new names."""
    parts = name.split(".")
    for i in range(len(parts)):
        if new := names.get(tuple(parts[: i + 1])):
            return ".".join((*parts[:i], new, *parts[i + 1 :]))
    return name


def _differences(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    shown: Callable[[Any], str],
    aliases: Mapping[str, str],
    optional: Collection[str],
) -> Iterator[str]:
    """Yield a line for each path at which two dicts differ."""
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name not in found:
            if name not in optional:
                yield f"{shown_name(name)}{aliases.get(name, '')}: missing, `like` has {shown(expected[name])}"
        elif name not in expected:
            yield f"{shown_name(name)}: {shown(found[name])}, not in `like`"
        elif found[name] != expected[name]:
            yield (
                f"{shown_name(name)}{aliases.get(name, '')}: {shown(found[name])}, "
                f"but {shown(expected[name])} in `like`{layout_hint(found[name], expected[name])}"
            )


def layout_hint(found: Any, expected: Any) -> str:
    """Return the end of a line about two arrays of which one may be a transpose of the other, or ""."""
    shape, target = getattr(found, "shape", ()), getattr(expected, "shape", ())
    if shape == target or sorted(shape) != sorted(target):
        return ""
    return "; its transpose fits" if len(shape) == 2 else "; it has the same axes in another order"


def shown_name(name: str) -> str:
    """Return a name for a message. Names in a stranger's file may contain anything."""
    return name if name and name.isprintable() else repr(name)
