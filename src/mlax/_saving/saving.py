"""Saving and loading: any tree of arrays, in one safetensors file that NumPy, PyTorch and MLX can open too.

    mlax.save("model.safetensors", model)
    model = mlax.load("model.safetensors", like=model)

In the file a leaf has its dotted path as its name, `layers.0.kernel`. Static data (static fields of
modules, hyperparameters, schedules) are written beside the arrays as text and compared when the
file is loaded.
"""

import contextlib
import json
import os
import stat
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

import jax
import numpy as np

from mlax._jax.tracebacks import trimmed
from mlax._module.static_texts import static_texts
from mlax._module.unset import refuse_unset
from mlax._saving.changes import Described, changes, shown_name
from mlax._saving.contents import Contents, classes_by_path
from mlax._saving.leaves import (
    ArrayType,
    array_type,
    as_in,
    as_jax,
    decoded,
    encoded,
    is_known,
    stored_type,
)
from mlax._saving.replacing import replacing
from mlax._saving.safetensors import (
    DamagedError,
    Entry,
    File,
    is_strings,
    parsed,
    read_arrays,
    read_header,
    write,
)
from mlax.tree import describe, leaves_by_name
from mlax.typing._complaints import LeafMismatchError

__all__ = ["flatten", "load", "load_contents", "load_metadata", "save", "unflatten"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _NamedTuple(Protocol):
    def _asdict(self) -> dict[str, Any]: ...


N = TypeVar("N", bound=_NamedTuple)

NO_LIKE: Any = object()  # None is a tree
_Path: TypeAlias = str | os.PathLike[str]


@trimmed
def flatten(tree: object) -> dict[str, Any]:
    """Return the leaves of a tree by dotted path: `{"layers.0.kernel": ...}`.

    Attributes, indices and keys of dicts are joined with dots. The array inside a Parameter or
    Variable has the path of that node. If the tree is a single leaf, its path is the empty string.

    Args:
        tree: Any tree.

    Raises:
        ValueError: Two leaves have the same path, as in `{"a.b": x, "a": {"b": y}}`.
    """
    return leaves_by_name("mlax.flatten", "tree", tree)[0]


# With the last alone, pyright and ty take the 0 in `like=(model, 0)` for a `Literal[0]`. `tuple[*Ts]` is enough for
# pyright, wherever the 0 is. ty has to be told what is last.
@overload
def unflatten(flat: Mapping[str, Any], like: N, *, strict: bool = ...) -> N: ...
@overload
def unflatten(
    flat: Mapping[str, Any], like: tuple[*Ts, bool], *, strict: bool = ...
) -> tuple[*Ts, bool]: ...
@overload
def unflatten(
    flat: Mapping[str, Any], like: tuple[*Ts, int], *, strict: bool = ...
) -> tuple[*Ts, int]: ...
@overload
def unflatten(flat: Mapping[str, Any], like: tuple[*Ts], *, strict: bool = ...) -> tuple[*Ts]: ...
@overload
def unflatten(flat: Mapping[str, Any], like: T, *, strict: bool = ...) -> T: ...
@trimmed
def unflatten(flat: Mapping[str, Any], like: Any, *, strict: bool = True) -> Any:
    """Return a tree like another, with leaves from a dict of dotted paths.

    Args:
        flat: Arrays and numbers by path, from `flatten` or another library.
        like: Determines the structure of the result, and the shape, dtype and kind of each leaf.
            For a JAX array or a `jax.ShapeDtypeStruct`, the result has a JAX array.
        strict: Whether everything has to fit. If False, leaves that do not fit keep the value from
            `like`, with a warning.

    Raises:
        LeafMismatchError: A leaf is missing, unexpected, or has a different shape or dtype. The
            message names all such leaves.
        TypeError: `flat` is not a dict of arrays by path.
        ValueError: A leaf is a tracer (of `jit` or another transformation), but `like` has a NumPy
            array or a number in its place.
    """
    where = "mlax.unflatten"
    target = _Target(where, like)
    _require_named(where, flat)
    found: dict[str, ArrayType] = {}
    for name, leaf in flat.items():
        with _complaining(where, "flat", name):
            found[name] = array_type(leaf)
    names = target.fitting("`flat`", found, None, {}, strict)
    values: dict[str, Any] = {}
    for name in names:
        value = flat[name]  # copied if it is a NumPy array: the caller may write to it later
        copy = value if isinstance(value, jax.Array) else np.array(value)
        with _complaining(where, "flat", name):
            values[name] = target.placed(name, copy)
    return target.filled(values)


def _require_named(where: str, flat: object) -> None:
    """Raise an error unless `flat` is a dict with strings as keys."""
    expected = "`flat` must be a dict of arrays by dotted path, as mlax.flatten returns"
    if not isinstance(flat, Mapping):
        raise TypeError(f"{where}: {expected}, got {describe(flat)}")
    for name in cast("Any", flat):
        if not isinstance(name, str):
            raise TypeError(f"{where}: {expected}, got the key {describe(name)}")


@trimmed
def save(path: _Path, tree: object, metadata: Mapping[str, str] | None = None) -> None:
    """Save a tree in one safetensors file.

    An existing file is replaced as a whole or not at all: whenever the process is stopped, the path
    holds the old file or the new one. When this function returns, the new one is on the disk.

    Args:
        path: The file; its folder has to exist. If it is a symbolic link, the target is written.
        tree: JAX arrays of any dtype including PRNG keys, NumPy arrays and Python numbers. Arrays
            on several devices are gathered one at a time.
        metadata: Strings to keep in the file; `load_metadata` returns them.

    Raises:
        TypeError: A leaf is not an array or a number, or the metadata are not strings.
        ValueError: A node is UNSET, or an array cannot be read: it was donated, is traced by `jit`,
            or is on another process.
        OSError: The file cannot be written.
    """
    where = "mlax.save"
    refuse_unset(where, "tree", tree, "set up the model first (mlax.set_up)")
    leaves, _ = leaves_by_name(where, "tree", tree)
    entries: list[Entry] = []
    dtypes: dict[str, str] = {}
    for name, leaf in leaves.items():
        with _complaining(where, "tree", name):
            entry, dtype = encoded(_storable(name), leaf)
        entries.append(entry)
        if dtype is not None:
            dtypes[name] = dtype
    own = {"dtypes": dtypes, "static": dict(static_texts(tree)), **_numbered(classes_by_path(tree))}
    strings = {"mlax": json.dumps(own), **_strings(where, metadata or {})}
    with replacing(Path(path)) as file:
        write(file, entries, strings)


def _numbered(classes: Mapping[str, str]) -> dict[str, Any]:
    """Return the classes of nodes as a file has them: each name once, and its number for each node."""
    numbers: dict[str, int] = {}
    nodes = {path: numbers.setdefault(cls, len(numbers)) for path, cls in classes.items()}
    return {"nodes": nodes, "classes": [*numbers]}


def _storable(name: str) -> str:
    """Return a name if the format allows it."""
    if name == "__metadata__":
        raise ValueError("the format reserves this name for metadata; rename it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("this name is not valid Unicode; rename it") from None
    return name


def _strings(where: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in metadata.items():
        for text in (key, value):
            if not isinstance(cast("object", text), str):
                raise TypeError(
                    f"{where}: metadata must be strings, got {describe(text)} at {key!r}; "
                    "convert it with json.dumps"
                )
            with _complaining(where, "metadata", key):
                _storable(text)
        if key.split(".")[0] == "mlax":
            raise ValueError(
                f"{where}: metadata keys that begin with 'mlax' are reserved; rename {key!r}"
            )
    return metadata


@overload
def load(path: _Path) -> dict[str, Any]: ...
@overload
def load(path: _Path, like: N, *, strict: bool = ...) -> N: ...
@overload
def load(path: _Path, like: tuple[*Ts, bool], *, strict: bool = ...) -> tuple[*Ts, bool]: ...
@overload
def load(path: _Path, like: tuple[*Ts, int], *, strict: bool = ...) -> tuple[*Ts, int]: ...
@overload
def load(path: _Path, like: tuple[*Ts], *, strict: bool = ...) -> tuple[*Ts]: ...
@overload
def load(path: _Path, like: T, *, strict: bool = ...) -> T: ...
@trimmed
def load(path: _Path, like: Any = NO_LIKE, *, strict: bool = True) -> Any:
    """Return a tree like another, with leaves from a safetensors file; or all arrays of the file by name.

    Everything is compared before any array is read. Nothing in the file is ever executed.

    Args:
        path: A file written by `save` or by another program.
        like: Determines the structure of the result, and the shape, dtype, sharding and kind of
            each leaf: a model, or what `jax.eval_shape` returns for one. Its values are not used.
            JAX arrays in the result are never weakly typed. Without it, the result is a dict of
            arrays by dotted path: JAX arrays, or NumPy arrays if JAX does not have the dtype
            (64 bits without `jax_enable_x64`).
        strict: Whether everything has to fit, including static fields. If False, leaves that do not
            fit keep the value from `like`, with a warning.

    Raises:
        LeafMismatchError: A leaf is missing, unexpected, or has a different shape or dtype, or
            static data differ. The message names all differences, also names that may have been
            changed and classes with other names.
        ValueError: The file is damaged or not a safetensors file; or a node of `like` is UNSET.
        OSError: The file cannot be read.
    """
    where = "mlax.load"
    if like is not NO_LIKE:
        refuse_unset(where, "like", like, "pass the model that mlax.set_up returns")
    target = None if like is NO_LIKE else _Target(where, like)
    with _opened(where, path) as (file, header):
        own = _own(header.metadata)
        found = {
            name: stored_type(entry, own.dtypes.get(name)) for name, entry in header.entries.items()
        }
        if target is not None:
            names = target.fitting(str(path), found, own.static, own.classes, strict)
        else:
            names = [*found]
            _refuse_unknown(where, found)
        values: dict[str, Any] = {}
        for name, data in read_arrays(file, header, names):
            array = decoded(data, header.entries[name], own.dtypes.get(name))
            values[name] = as_jax(array) if target is None else target.placed(name, array)
    return values if target is None else target.filled(values)


def _refuse_unknown(where: str, found: Mapping[str, ArrayType]) -> None:
    for name, kind in found.items():
        if not is_known(kind):
            raise ValueError(
                f"{where}: {shown_name(name)} has the dtype {kind.dtype}, which JAX does not have.\n"
                f"  Pass a `like` with the arrays that you need, and strict=False."
            )


@trimmed
def load_contents(path: _Path) -> Contents:
    """Return what is in a file, without the values of its arrays: print it for a table.

    Neither the code that made what was saved is needed, nor a `like`.

    Args:
        path: A file written by `save` or by another program.

    Returns:
        Shapes and dtypes of the arrays; static values and qualified names of classes, as text; and
        the metadata. Files of older versions of mlax have no classes, and those of other programs
        neither these nor static values.

    Raises:
        ValueError: The file is damaged or not a safetensors file.
        OSError: The file cannot be read.
    """
    with _opened("mlax.load_contents", path) as (_, header):
        own = _own(header.metadata)
        arrays = {
            name: stored_type(entry, own.dtypes.get(name)) for name, entry in header.entries.items()
        }
        return Contents(arrays, dict(own.static or {}), dict(own.classes), _others(header.metadata))


@trimmed
def load_metadata(path: _Path) -> dict[str, str]:
    """Return the metadata of a file: the strings given to `save`, or written by another program.

    No array is read.

    Raises:
        ValueError: The file is damaged or not a safetensors file.
        OSError: The file cannot be read.
    """
    with _opened("mlax.load_metadata", path) as (_, header):
        return _others(header.metadata)


def _others(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key != "mlax"}


@contextlib.contextmanager
def _opened(where: str, path: _Path) -> Generator[tuple[BinaryIO, File], None, None]:
    if Path(path).exists() and not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{where}: {path} is not a file")
    with open(path, "rb") as file:
        try:
            yield file, read_header(file)
        except DamagedError as error:
            raise ValueError(
                f"{where}: {path} is damaged or not a safetensors file: {error}"
            ) from None


class _Own(NamedTuple):
    """What mlax writes beside the arrays. For files of other programs `static` is None: it is unknown."""

    dtypes: Mapping[str, str]
    static: Mapping[str, str] | None
    classes: Mapping[str, str]


def _own(metadata: Mapping[str, str]) -> _Own:
    if "mlax" not in metadata:
        return _Own({}, None, {})
    own = parsed(metadata["mlax"].encode(errors="surrogatepass"))
    parts = [own.get("dtypes"), own.get("static"), _classes(own)]
    if not all(map(is_strings, parts)):
        raise DamagedError("its metadata under 'mlax' were not written by mlax")
    return _Own(*cast("Any", parts))


def _classes(own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classes of nodes by path; None if they are not as `_numbered` writes them."""
    names: Any = own.get("classes", [])
    nodes: Any = own.get("nodes", {})
    try:
        return {path: names[number] for path, number in nodes.items()}
    except (AttributeError, LookupError, TypeError):
        return None


class _Target:
    """The tree to fill, and which leaves fit into it."""

    def __init__(self, where: str, like: object) -> None:
        self._where = where
        self._like = like
        self._leaves, self._treedef = leaves_by_name(where, "like", like)
        self._types: dict[str, ArrayType] = {}
        for name, leaf in self._leaves.items():
            with _complaining(where, "like", name):
                self._types[name] = array_type(leaf)

    def fitting(
        self,
        source: str,
        found: Mapping[str, ArrayType],
        static: Mapping[str, str] | None,
        classes: Mapping[str, str],
        strict: bool,
    ) -> list[str]:
        """Return the names of the leaves that fit. If some do not, raise an error or warn.

        Args:
            source: Where the leaves come from, for the message.
            found: The arrays that there are.
            static: The static data there; None if unknown.
            classes: The classes of nodes there, as far as they are known.
            strict: Whether to raise an error.
        """
        expected = dict(static_texts(self._like)) if static is not None else {}
        # An older mlax wrote tuples of one item without the comma.
        older = {(name, text.replace(",)", ")")): text for name, text in expected.items()}
        static = {name: older.get((name, text), text) for name, text in (static or {}).items()}
        there = Described(found, static, classes)
        here = Described(self._types, expected, classes_by_path(self._like))
        lines, others = changes(there, here)
        # A flat array of packed leaves has static text too: the list of these leaves.
        fits = [
            name
            for name, kind in self._types.items()
            if found.get(name) == kind and static.get(name) == expected.get(name)
        ]
        listed = "".join(f"\n  {line}" for line in others + lines)
        if not lines:
            if others:
                warnings.warn(
                    f"{self._where}: everything in {source} fits `like`, but classes have other names:{listed}",
                    stacklevel=4,
                )
            return fits
        if strict:
            raise LeafMismatchError(
                f"{self._where}: {source} and `like` differ (strict=False loads what fits):{listed}"
            )
        kept = self._leaves.keys() - fits
        if any(isinstance(self._leaves[name], jax.ShapeDtypeStruct) for name in kept):
            raise LeafMismatchError(
                f"{self._where}: {source} and `like` differ, and `like` has only shapes, no values to keep:{listed}"
            )
        warnings.warn(
            f"{self._where}: {source} and `like` differ; only leaves that fit are loaded:{listed}",
            stacklevel=4,
        )
        return fits

    def placed(self, name: str, value: Any) -> Any:
        """Return a value as the same kind of thing that `like` has in its place."""
        return as_in(self._leaves[name], value)

    def filled(self, values: Mapping[str, Any]) -> Any:
        """Return the tree with some leaves replaced."""
        return self._treedef.unflatten(
            values.get(name, leaf) for name, leaf in self._leaves.items()
        )


@contextlib.contextmanager
def _complaining(where: str, tree: str, name: str) -> Generator[None, None, None]:
    """Prefix errors with the function, tree and leaf that they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {shown_name(name)} in `{tree}`: {error}") from None
