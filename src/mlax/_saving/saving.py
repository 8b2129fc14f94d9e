"""Saving and loading: any tree of arrays, in one safetensors file that NumPy, PyTorch and MLX can open too.

    mlax.save("model.safetensors", model)
    model = mlax.load("model.safetensors", like=model)

In the file a leaf has its dotted path as its name, `layers.0.kernel`. Static data (static fields of
modules, hyperparameters, schedules) are written beside the arrays as text and compared when the
file is loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast, overload

import jax
import numpy as np
from jax.typing import DTypeLike

from mlax._jax.tracebacks import trimmed
from mlax._module.static_texts import static_texts
from mlax._module.unset import refuse_unset
from mlax._saving.changes import shown_name
from mlax._saving.contents import Contents, classes_by_path
from mlax._saving.leaves import ArrayType, array_type, as_jax, encoded, is_known
from mlax._saving.reading import AnyPath, opened
from mlax._saving.renaming import Ignore, Plan, Rename, Transform
from mlax._saving.replacing import in_turn, replacing
from mlax._saving.safetensors import Entry, is_written, write
from mlax._saving.target import Target, complaining
from mlax.tree import describe, leaves_by_name

__all__ = ["flatten", "load", "load_contents", "load_metadata", "save", "unflatten"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _NamedTuple(Protocol):
    def _asdict(self) -> dict[str, Any]: ...


N = TypeVar("N", bound=_NamedTuple)

NO_LIKE: Any = object()  # None is a tree


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
    target = Target(where, like)
    _require_named(where, flat)
    found: dict[str, ArrayType] = {}
    for name, leaf in flat.items():
        with complaining(where, "flat", name):
            found[name] = array_type(leaf)
    names, misfits, classes = target.compared(found, target.types)
    target.refuse("`flat`", misfits, classes, target.types.keys() - names, strict)
    target.warn("`flat`", misfits, classes)
    values: dict[str, Any] = {}
    for name in names:
        value = flat[name]  # copied if it is a NumPy array: the caller may write to it later
        copy = value if isinstance(value, jax.Array) else np.array(value)
        with complaining(where, "flat", name):
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
def save(path: AnyPath, tree: object, metadata: Mapping[str, str] | None = None) -> None:
    """Save a tree in one safetensors file.

    An existing file is replaced as a whole or not at all: whenever the process is stopped, the path
    holds the old file or the new one. When this function returns, the new one is on the disk.

    A program of several processes (`jax.distributed`) may call this in one of them or in all, with one path: the first
    one writes, and the others wait until the file is there.

    Args:
        path: The file; its folder has to exist. If it is a symbolic link, the target is written.
        tree: JAX arrays of any dtype including PRNG keys, NumPy arrays and Python numbers. Arrays
            on several devices are gathered one at a time. Of several processes, each must have all of every array.
        metadata: Strings to keep in the file; `load_metadata` returns them.

    Raises:
        TypeError: A leaf is not an array or a number, or the metadata are not strings.
        ValueError: A node is UNSET, or an array cannot be read: it was donated, is traced by `jit`,
            or is sharded over several processes. Orbax saves such arrays, and
            `jax.experimental.multihost_utils.process_allgather` gathers them.
        OSError: The file cannot be written.
    """
    where = "mlax.save"
    refuse_unset(where, "tree", tree, "set up the model first (mlax.set_up)")
    leaves, _ = leaves_by_name(where, "tree", tree)
    entries: list[Entry] = []
    dtypes: dict[str, str] = {}
    for name, leaf in leaves.items():
        with complaining(where, "tree", name):
            entry, dtype = encoded(_storable(name), leaf)
        entries.append(entry)
        if dtype is not None:
            dtypes[name] = dtype
    own = {"dtypes": dtypes, "static": dict(static_texts(tree)), **_numbered(classes_by_path(tree))}
    strings = {"mlax": json.dumps(own), **_strings(where, metadata or {})}
    if not (jax.distributed.is_initialized() and jax.process_count() > 1):
        with replacing(Path(path)) as file:
            write(file, entries, strings)
        return
    with in_turn(Path(path).resolve().parent):
        if not is_written(Path(path), entries, strings):
            with replacing(Path(path), f".{jax.process_index()}") as file:
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
            with complaining(where, "metadata", key):
                _storable(text)
        if key.split(".")[0] == "mlax":
            raise ValueError(
                f"{where}: metadata keys that begin with 'mlax' are reserved; rename {key!r}"
            )
    return metadata


@overload
def load(path: AnyPath) -> dict[str, Any]: ...
@overload
def load(
    path: AnyPath,
    like: N,
    *,
    rename: Rename | None = ...,
    transform: Transform | None = ...,
    ignore: Ignore | None = ...,
    dtype: DTypeLike | None = ...,
    strict: bool = ...,
) -> N: ...
@overload
def load(
    path: AnyPath,
    like: tuple[*Ts, bool],
    *,
    rename: Rename | None = ...,
    transform: Transform | None = ...,
    ignore: Ignore | None = ...,
    dtype: DTypeLike | None = ...,
    strict: bool = ...,
) -> tuple[*Ts, bool]: ...
@overload
def load(
    path: AnyPath,
    like: tuple[*Ts, int],
    *,
    rename: Rename | None = ...,
    transform: Transform | None = ...,
    ignore: Ignore | None = ...,
    dtype: DTypeLike | None = ...,
    strict: bool = ...,
) -> tuple[*Ts, int]: ...
@overload
def load(
    path: AnyPath,
    like: tuple[*Ts],
    *,
    rename: Rename | None = ...,
    transform: Transform | None = ...,
    ignore: Ignore | None = ...,
    dtype: DTypeLike | None = ...,
    strict: bool = ...,
) -> tuple[*Ts]: ...
@overload
def load(
    path: AnyPath,
    like: T,
    *,
    rename: Rename | None = ...,
    transform: Transform | None = ...,
    ignore: Ignore | None = ...,
    dtype: DTypeLike | None = ...,
    strict: bool = ...,
) -> T: ...
@trimmed
def load(
    path: AnyPath,
    like: Any = NO_LIKE,
    *,
    rename: Rename | None = None,
    transform: Transform | None = None,
    ignore: Ignore | None = None,
    dtype: DTypeLike | None = None,
    strict: bool = True,
) -> Any:
    """Return a tree like another, with leaves from safetensors files; or all arrays of the files by name.

    Names, shapes and dtypes are compared before any array is read; what `transform` returns is compared as it
    comes. Nothing in a file is ever executed.

    Args:
        path: A file written by `save` or by another program. Or the index of a model in several files,
            `model.safetensors.index.json`, which are beside it.
        like: Determines the structure of the result, and the shape, dtype, sharding and kind of
            each leaf: a model, or what `jax.eval_shape` returns for one. Its values are not used;
            but if a state has another number in the file than in `like`, such as a learning rate,
            there is a warning.
            JAX arrays in the result are never weakly typed. Without it, the result is a dict of
            arrays by dotted path: JAX arrays, or NumPy arrays if JAX does not have the dtype
            (64 bits without `jax_enable_x64`).
        rename: For a file with other names: returns the name of a leaf in the file, given its path in
            `like`, as `mlax.flatten` spells it. A list of names means that the leaf is the stack of
            these arrays, as in a `Repeat`; None, that it keeps its value. Several leaves may have the
            same name. With it, static fields are not compared.
        transform: For other layouts or dtypes: returns what to load, `transform(path, array)`, given
            the path in `like` and the NumPy array of the file, which is read-only. It is called for
            each array of a stack before they are stacked.
        ignore: Says of a name in the file whether it is no mistake that no leaf has it.
        dtype: For inference: the dtype of all floating-point arrays in the result, such as
            `jnp.bfloat16`, whatever floating-point dtype they have in the file and in `like`. Each
            number is rounded once, after `transform`. Other arrays, Python numbers, and Variables,
            such as running statistics, keep their dtypes.
        strict: Whether everything has to fit, including static fields. If False, leaves that do not
            fit keep the value from `like`, with a warning.

    Raises:
        LeafMismatchError: A leaf is missing, unexpected, or has a different shape or dtype, or
            static data differ. The message names all differences, also names that may have been
            changed and classes with other names.
        TypeError: `rename` or `transform` returns something else than a name or an array; `dtype` is
            not a floating-point dtype, or `like` has the state of an optimizer beside it.
        ValueError: A file is damaged or not a safetensors file, or contradicts its index; a node of
            `like` is UNSET; or `rename` returns more or fewer names than a stack has arrays.
        OSError: A file cannot be read.
    """
    where = "mlax.load"
    if like is NO_LIKE:
        if any(given is not None for given in (rename, transform, ignore, dtype)):
            raise TypeError(
                f"{where}: rename, transform, ignore and dtype say how arrays become leaves of `like`.\n"
                f"  Pass a `like`, or change the dict of arrays that mlax.load(path) returns."
            )
        with opened(where, path) as source:
            _refuse_unknown(where, source.types)
            return {name: as_jax(array) for name, array in source.arrays(source.types)}
    refuse_unset(where, "like", like, "pass the model that mlax.set_up returns")
    target = Target(where, like, dtype)
    plan = Plan(where, target, rename, transform)
    with opened(where, path) as source:
        fits, misfits, classes = plan.compared(source, ignore)
        kept = target.types.keys() - fits - target.defaults.keys()
        target.refuse(str(path), misfits, classes, kept, strict, plan.cure(source))
        values, late = plan.values(source, fits, strict)
    values |= target.defaults
    target.refuse(str(path), late, classes, target.types.keys() - values, strict)
    target.warn(str(path), misfits + late, classes)
    target.warn_of_numbers(str(path), values)
    return target.filled(values)


def _refuse_unknown(where: str, found: Mapping[str, ArrayType]) -> None:
    for name, kind in found.items():
        if not is_known(kind):
            raise ValueError(
                f"{where}: {shown_name(name)} has the dtype {kind.dtype}, which JAX does not have.\n"
                f"  Pass a `like` with the arrays that you need, and strict=False."
            )


@trimmed
def load_contents(path: AnyPath) -> Contents:
    """Return what is in a file, without the values of its arrays: print it for a table.

    Neither the code that made what was saved is needed, nor a `like`.

    Args:
        path: A file written by `save` or by another program, or an index, as for `load`.

    Returns:
        Shapes and dtypes of the arrays; static values and qualified names of classes, as text; and
        the metadata. Files of older versions of mlax have no classes, and those of other programs
        neither these nor static values.

    Raises:
        ValueError: A file is damaged or not a safetensors file, or contradicts its index.
        OSError: A file cannot be read.
    """
    with opened("mlax.load_contents", path) as source:
        return Contents(source.types, source.static or {}, source.classes, source.metadata)


@trimmed
def load_metadata(path: AnyPath) -> dict[str, str]:
    """Return the metadata of a file: the strings given to `save`, or written by another program.

    No array is read.

    Args:
        path: A file, or an index, as for `load`: the strings of all its files.

    Raises:
        ValueError: A file is damaged or not a safetensors file, or contradicts its index.
        OSError: A file cannot be read.
    """
    with opened("mlax.load_metadata", path) as source:
        return source.metadata
