"""`rename`, `transform` and `ignore` of `mlax.load`: which leaves an array of a file becomes, and how."""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast

import jax
import jax.numpy as jnp
import numpy as np

from mlax._jax.dtypes import is_key
from mlax._saving.changes import layout_hint, shown_name
from mlax._saving.leaves import ArrayType, is_known
from mlax._saving.reading import Source
from mlax._saving.target import Comparison, Target
from mlax.tree import describe
from mlax.typing._complaints import LeafMismatchError

__all__ = ["Ignore", "Plan", "Rename", "Transform"]

_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Rename: TypeAlias = Callable[[str], str | Sequence[str] | None]
Transform: TypeAlias = Callable[[str, _Array], _Array | np.generic | jax.Array]
Ignore: TypeAlias = Callable[[str], bool]


class _Use(NamedTuple):
    """One place that an array goes to: a leaf, or one of the arrays that a leaf is the stack of.

    Attributes:
        path: The path of the leaf.
        number: Which of the arrays in the stack; None if there is no stack.
        kind: Shape and dtype that the place has.
    """

    path: str
    number: int | None
    kind: ArrayType

    def __str__(self) -> str:
        return self.path if self.number is None else f"{self.path}[{self.number}]"


@dataclass(frozen=True)
class _Unchecked:
    """Shape and dtype of an array of which only the name is compared: all of these are equal."""

    shape: tuple[int, ...] = field(compare=False)
    dtype: str = field(compare=False)


class Plan:
    """Which arrays of a file become which leaves.

    Raises:
        LeafMismatchError: A leaf is to keep its value, but has none.
        TypeError: `rename` returns something that is not a name, a list of names or None.
        ValueError: A list is not as long as the stack.
    """

    def __init__(
        self, where: str, target: Target, rename: Rename | None, transform: Transform | None
    ) -> None:
        self._where = where
        self._target = target
        self._is_renamed = rename is not None
        self._transform = transform
        self._uses: dict[str, list[_Use]] = {}
        for path, kind in target.types.items():
            for name, use in self._uses_of(path, kind, rename):
                self._uses.setdefault(name, []).append(use)

    def _uses_of(
        self, path: str, kind: ArrayType, rename: Rename | None
    ) -> Sequence[tuple[str, _Use]]:
        if rename is None:
            return [(path, _Use(path, None, kind))]
        call = f"{self._where}: rename({path!r})"
        with _noting(f"in {call}"):
            names: object = rename(path)
        if isinstance(names, str):
            return [(names, _Use(path, None, kind))]
        if names is None:
            if not self._target.has_value(path):
                raise LeafMismatchError(
                    f"{call} returned None, but `like` has no value to keep there, only {describe(kind)}"
                )
            return []
        if not _are_names(names):
            raise TypeError(
                f"{call} must return a name, a list of names or None, got {describe(names)}"
            )
        if kind.shape[:1] != (len(names),):
            raise ValueError(
                f"{call} returned {len(names)} name{'' if len(names) == 1 else 's'} for a stack, "
                f"but `like` has {describe(kind)} there"
            )
        inner = ArrayType(kind.shape[1:], kind.dtype)
        return [(name, _Use(path, i, inner)) for i, name in enumerate(names)]

    def compared(self, source: Source, ignore: Ignore | None) -> Comparison:
        """Compare what is in a file with what should be there, as far as this is known before an array is read.

        The names that fit, in the result, are paths in `like`.
        """
        found = {
            name: kind
            for name, kind in source.types.items()
            if name in self._uses or ignore is None or not ignore(name)
        }
        if not self._is_renamed and self._transform is None:
            types = {
                path: self._target.accepted(path, kind, found.get(path, kind))
                for path, kind in self._target.types.items()
            }
            return self._target.compared(found, types, source.static, source.classes)
        static, classes = (None, {}) if self._is_renamed else (source.static, source.classes)
        names, misfits, others = self._target.compared(
            {name: _Unchecked(*kind) for name, kind in found.items()},
            {name: _Unchecked(*uses[0].kind) for name, uses in self._uses.items()},
            static,
            classes,
            {name: _aliases(name, uses) for name, uses in self._uses.items()},
        )
        there = set(names)
        fits: dict[str, bool] = {}
        lines: dict[str, str] = {}
        for name, uses in self._uses.items():
            for use in uses:
                fits[use.path] = fits.get(use.path, True) and name in there
                kind = found.get(name, use.kind)
                expected = self._target.accepted(use.path, use.kind, kind)
                if not is_known(kind) or (self._transform is None and kind != expected):
                    lines.setdefault(use.path, _misfit(name, use, kind))
        filled = [path for path, all_there in fits.items() if all_there and path not in lines]
        return Comparison(filled, [*misfits, *lines.values()], others)

    def cure(self, source: Source) -> str:
        """Return what helps with a file of another program, for a message."""
        if source.static is not None or self._is_renamed or self._transform is not None:
            return ""
        return "If another program wrote it: rename= says what its names are, transform= changes layouts and dtypes."

    def values(
        self, source: Source, paths: Collection[str], strict: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the values of leaves by path, and a line for each leaf that `transform` has not made fit.

        Args:
            source: The file.
            paths: The leaves to read.
            strict: Whether values do not matter once one does not fit.
        """
        wanted = set(paths)
        uses = {
            name: [use for use in uses if use.path in wanted] for name, uses in self._uses.items()
        }
        left = Counter(use.path for found in uses.values() for use in found)
        stacks: dict[str, Any] = {}
        values: dict[str, Any] = {}
        misfits: dict[str, str] = {}
        for name, array in source.arrays(name for name, found in uses.items() if found):
            for use in uses[name]:
                given = self._transformed(use.path, array)
                kind = ArrayType(given.shape, given.dtype.name)
                if kind != self._target.accepted(use.path, use.kind, kind):
                    line = _misfit(name, use, kind, "transform returned ")
                    misfits.setdefault(use.path, line)
                if use.path in misfits or (misfits and strict):
                    continue
                value = self._target.cast(use.path, given)
                if use.number is None:
                    # Nobody else has the memory of what was read or cast.
                    mine = value is array or value is not given
                    whole = value if mine else _copied(value)
                else:
                    if use.path not in stacks:
                        stacks[use.path] = _empty(self._target.types[use.path], value.dtype)
                    stacks[use.path][use.number] = value
                    left[use.path] -= 1
                    if left[use.path]:
                        continue
                    whole = _finished(stacks.pop(use.path))
                placed = self._target.placed(use.path, whole)
                # The memory of a stack is freed before the next one is copied to a device.
                values[use.path] = placed if use.number is None else jax.block_until_ready(placed)
        return values, [misfits[path] for path in self._target.types if path in misfits]

    def _transformed(self, path: str, array: Any) -> Any:
        """Return what `transform` makes of an array, as a NumPy array unless it is one of keys."""
        if self._transform is None:
            return array
        if not is_key(array.dtype):
            array.flags.writeable = False  # other leaves may be made of it, too
        call = f"{self._where}: transform({path!r}, {describe(array)})"
        with _noting(f"in {call}"):
            value: Any = cast("Any", self._transform)(path, array)
        if isinstance(value, jax.Array):
            return value if is_key(value.dtype) else np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"{call} must return an array, got {describe(value)}")
        return cast("Any", value)


def _copied(value: Any) -> Any:
    """Return an array with memory of its own, which JAX may keep."""
    return value if isinstance(value, jax.Array) else np.array(value, order="C")


def _empty(kind: ArrayType, dtype: Any) -> Any:
    """Return what takes the arrays of a stack by their numbers."""
    return [None] * kind.shape[0] if is_key(dtype) else np.empty(kind.shape, dtype)


def _finished(stack: Any) -> Any:
    return jnp.stack(cast("Any", stack)) if isinstance(stack, list) else stack


def _aliases(name: str, uses: Sequence[_Use]) -> str:
    """Return in brackets what an array is in `like`, for a message; "" if it has the same name there."""
    paths = " and ".join(map(str, uses))
    return "" if paths == name else f" ({shown_name(paths)})"


def _misfit(name: str, use: _Use, kind: ArrayType, how: str = "") -> str:
    hint = layout_hint(kind, use.kind)
    return (
        f"{shown_name(name)}{_aliases(name, [use])}: {how}{describe(kind)}, "
        f"but {describe(use.kind)} in `like`{hint}"
    )


def _are_names(names: object) -> TypeGuard[Sequence[str]]:
    return isinstance(names, Sequence) and all(
        isinstance(name, str) for name in cast("Sequence[object]", names)
    )


@contextlib.contextmanager
def _noting(text: str) -> Generator[None, None, None]:
    """Add a note to errors of functions of the user's."""
    try:
        yield
    except Exception as error:
        error.add_note(text)
        raise
