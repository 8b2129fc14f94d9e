"""Saving and loading: any tree of arrays, in one safetensors file that NumPy, PyTorch and MLX open too.

    mlax.save("model.safetensors", model)
    model = mlax.load("model.safetensors", like=model)

A leaf's name in the file is its dotted path, `layers.0.kernel`. What is static (fields of modules, hyperparameters,
schedules) is written beside it as text, and compared on loading.
"""

import contextlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar, cast

import jax
import numpy as np

from mlax._module.static_texts import static_texts
from mlax._module.unset import refuse_unset
from mlax._saving.leaves import ArrayType, array_type, as_in, decoded, encoded, stored_type
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

__all__ = ["flatten", "load", "load_metadata", "save", "unflatten"]

T = TypeVar("T")
_Path: TypeAlias = str | os.PathLike[str]


def flatten(tree: object) -> dict[str, Any]:
    """Return the leaves of a tree by dotted path: `{"layers.0.kernel": ...}`.

    Attributes, indices and keys of dicts are joined as they are. A Parameter or Variable that holds one array adds
    nothing to the path, and the path of a tree that is one leaf is the empty string.

    Args:
        tree: Any tree.

    Raises:
        ValueError: Two leaves have the same path, as in `{"a.b": x, "a": {"b": y}}`.
    """
    return leaves_by_name("mlax.flatten", "tree", tree)[0]


def unflatten(flat: Mapping[str, Any], like: T, *, strict: bool = True) -> T:
    """Return a tree like another, with leaves from a dict of dotted paths.

    Args:
        flat: Arrays and numbers by path, from `flatten` or another library.
        like: Says structure, shapes, dtypes and the kind of each leaf: where it has a JAX array or a
            `jax.ShapeDtypeStruct`, the result has a JAX array.
        strict: Whether everything has to fit. Otherwise what does not is reported as a warning, and keeps the value
            that `like` has.

    Raises:
        LeafMismatchError: A leaf is missing, unexpected, or has another shape or dtype; names all of them.
        TypeError: `flat` is no dict of arrays by path.
        ValueError: A leaf is traced by `jit` or another transformation, where `like` has a NumPy array or a number.
    """
    where = "mlax.unflatten"
    target = _Target(where, like)
    _require_named(where, flat)
    found: dict[str, ArrayType] = {}
    for name, leaf in flat.items():
        with _complaining(where, "flat", name):
            found[name] = array_type(leaf)
    names = target.fitting("`flat`", found, None, strict)
    values: dict[str, Any] = {}
    for name in names:
        value = flat[name]  # which the caller may write to if it is NumPy's
        copy = value if isinstance(value, jax.Array) else np.array(value)
        with _complaining(where, "flat", name):
            values[name] = target.placed(name, copy)
    return cast("T", target.filled(values))


def _require_named(where: str, flat: object) -> None:
    """Refuse what is no dict with paths for keys."""
    expected = "`flat` must be a dict of arrays by dotted path, as mlax.flatten returns"
    if not isinstance(flat, Mapping):
        raise TypeError(f"{where}: {expected}, got {describe(flat)}")
    for name in cast("Any", flat):
        if not isinstance(name, str):
            raise TypeError(f"{where}: {expected}, got the key {describe(name)}")


def save(path: _Path, tree: object, metadata: Mapping[str, str] | None = None) -> None:
    """Save a tree in one safetensors file, which replaces what is there as a whole or not at all.

    Whenever the process is stopped, the path holds the old file or the new one. When this returns, the new one is on
    the disk.

    Args:
        path: The file; its folder has to be there. Of a symbolic link what it points to.
        tree: JAX arrays of any dtype, PRNG keys included, NumPy arrays and Python numbers. Arrays on several devices
            are gathered, one after the other.
        metadata: Strings to keep with it; `load_metadata` returns them.

    Raises:
        TypeError: A leaf is no array or number, or the metadata are no strings.
        ValueError: A node is UNSET, or an array cannot be read: donated, inside `jit`, on another process.
        OSError: The file cannot be written.
    """
    where = "mlax.save"
    refuse_unset(where, "tree", tree, "set up first (mlax.set_up)")
    leaves, _ = leaves_by_name(where, "tree", tree)
    entries: list[Entry] = []
    dtypes: dict[str, str] = {}
    for name, leaf in leaves.items():
        with _complaining(where, "tree", name):
            entry, dtype = encoded(_storable(name), leaf)
        entries.append(entry)
        if dtype is not None:
            dtypes[name] = dtype
    own = json.dumps({"dtypes": dtypes, "static": dict(static_texts(tree))})
    strings = {"mlax": own, **_strings(where, metadata or {})}
    with replacing(Path(path)) as file:
        write(file, entries, strings)


def _storable(name: str) -> str:
    """Return a name that the format allows."""
    if name == "__metadata__":
        raise ValueError("the format keeps this name for metadata; rename it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("this name is no valid Unicode; rename it") from None
    return name


def _strings(where: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in metadata.items():
        for text in (key, value):
            if not isinstance(cast("object", text), str):
                raise TypeError(
                    f"{where}: metadata are strings, got {describe(text)} at {key!r}; json.dumps makes one of it"
                )
            with _complaining(where, "metadata", key):
                _storable(text)
        if key.split(".")[0] == "mlax":
            raise ValueError(
                f"{where}: metadata that begin with 'mlax' are its own; rename {key!r}"
            )
    return metadata


def load(path: _Path, like: T, *, strict: bool = True) -> T:
    """Return a tree like another, with leaves from a safetensors file.

    Everything is compared before an array is read. Nothing that a file says is ever run.

    Args:
        path: A file of `save`, or of another program.
        like: Says structure, shapes, dtypes, sharding and the kind of each leaf: a model, or what `jax.eval_shape`
            returns for one. Its values are not used, and JAX arrays come back strongly typed.
        strict: Whether everything has to fit, static fields included. Otherwise what does not is reported as a
            warning, and keeps the value that `like` has.

    Raises:
        LeafMismatchError: A leaf is missing, unexpected, or has another shape or dtype, or something static differs;
            names all of them.
        ValueError: The file is damaged or no safetensors file; or a node of `like` is UNSET.
        OSError: The file cannot be read.
    """
    where = "mlax.load"
    refuse_unset(
        where, "like", like, "its shape not known; give the model as mlax.set_up returns it"
    )
    target = _Target(where, like)
    with _opened(where, path) as (file, header):
        own = _own(header.metadata)
        found = {
            name: stored_type(entry, own.dtypes.get(name)) for name, entry in header.entries.items()
        }
        names = target.fitting(str(path), found, own.static, strict)
        values: dict[str, Any] = {}
        for name, data in read_arrays(file, header, names):
            array = decoded(data, header.entries[name], own.dtypes.get(name))
            values[name] = target.placed(name, array)
    return cast("T", target.filled(values))


def load_metadata(path: _Path) -> dict[str, str]:
    """Return the strings that `save` was given as `metadata`, or that another program wrote. Reads no array.

    Raises:
        ValueError: The file is damaged or no safetensors file.
        OSError: The file cannot be read.
    """
    with _opened("mlax.load_metadata", path) as (_, header):
        return {key: value for key, value in header.metadata.items() if key != "mlax"}


@contextlib.contextmanager
def _opened(where: str, path: _Path) -> Generator[tuple[BinaryIO, File], None, None]:
    if Path(path).exists() and not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{where}: {path} is no file")
    with open(path, "rb") as file:
        try:
            yield file, read_header(file)
        except DamagedError as error:
            raise ValueError(
                f"{where}: {path} is damaged, or no safetensors file: {error}"
            ) from None


class _Own(NamedTuple):
    """What mlax writes beside the arrays; nothing, and `static` unknown, in files of others."""

    dtypes: Mapping[str, str]
    static: Mapping[str, str] | None


def _own(metadata: Mapping[str, str]) -> _Own:
    if "mlax" not in metadata:
        return _Own({}, None)
    own = parsed(metadata["mlax"].encode(errors="surrogatepass"))
    parts = [own.get("dtypes"), own.get("static")]
    if not all(map(is_strings, parts)):
        raise DamagedError("its metadata 'mlax' are not what mlax writes")
    return _Own(*cast("Any", parts))


class _Target:
    """The tree that is to be filled, and what fits into it."""

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
        strict: bool,
    ) -> list[str]:
        """Return the names of the leaves that fit; refuse all, or warn, where some do not.

        Args:
            source: Where the leaves come from.
            found: What there is.
            static: What is static there; None where that is not known.
            strict: Whether to refuse.
        """
        lines = list(_differences(found, self._types, describe))
        expected = dict(static_texts(self._like)) if static is not None else {}
        static = static or {}
        lines += _differences(static, expected, str)
        # A flat array of packed leaves has a text of its own: which leaves they are.
        fits = [
            name
            for name, kind in self._types.items()
            if found.get(name) == kind and static.get(name) == expected.get(name)
        ]
        if not lines:
            return fits
        listed = "".join(f"\n  {line}" for line in lines)
        if strict:
            raise LeafMismatchError(
                f"{self._where}: {source} and `like` differ (strict=False loads what fits):{listed}"
            )
        kept = self._leaves.keys() - fits
        if any(isinstance(self._leaves[name], jax.ShapeDtypeStruct) for name in kept):
            raise LeafMismatchError(
                f"{self._where}: {source} and `like` differ, and `like` has shapes only, no values to keep:{listed}"
            )
        warnings.warn(
            f"{self._where}: {source} and `like` differ, only what fits is loaded:{listed}",
            stacklevel=3,
        )
        return fits

    def placed(self, name: str, value: Any) -> Any:
        """Return a value as the kind of thing that `like` has there."""
        return as_in(self._leaves[name], value)

    def filled(self, values: Mapping[str, Any]) -> Any:
        """Return the tree with some leaves replaced."""
        return self._treedef.unflatten(
            values.get(name, leaf) for name, leaf in self._leaves.items()
        )


def _differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], shown: Callable[[Any], str]
) -> Iterator[str]:
    """Yield a line for each path at which two dicts differ."""
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name not in found:
            yield f"{_shown(name)}: missing, `like` has {shown(expected[name])}"
        elif name not in expected:
            yield f"{_shown(name)}: {shown(found[name])}, not in `like`"
        elif found[name] != expected[name]:
            yield f"{_shown(name)}: {shown(found[name])}, but {shown(expected[name])} in `like`"


def _shown(name: str) -> str:
    """Return a name for a message. Those in the file of a stranger may hold anything."""
    return name if name and name.isprintable() else repr(name)


@contextlib.contextmanager
def _complaining(where: str, tree: str, name: str) -> Generator[None, None, None]:
    """Say in errors what they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {_shown(name)} in `{tree}`: {error}") from None
