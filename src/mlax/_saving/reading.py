"""What is read from: one safetensors file, or several with an index, which look like one from here on.

Large models come as files of a few gigabytes each and an index, `model.safetensors.index.json`, whose
`weight_map` says which file an array is in. An index is told from a safetensors file by its first
bytes: as the length of a header, those of a JSON text would be absurd.
"""

import contextlib
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from mlax._saving.changes import shown_name
from mlax._saving.leaves import ArrayType, decoded, stored_type
from mlax._saving.safetensors import (
    LONGEST_HEADER,
    DamagedError,
    File,
    is_strings,
    parsed,
    read_arrays,
    read_header,
)

__all__ = ["AnyPath", "Source", "opened"]

AnyPath: TypeAlias = str | os.PathLike[str]


class _Own(NamedTuple):
    """What mlax writes beside the arrays. For files of other programs `static` is None: it is unknown."""

    dtypes: Mapping[str, str]
    static: Mapping[str, str] | None
    classes: Mapping[str, str]


class _Part(NamedTuple):
    """One open file."""

    path: Path
    file: BinaryIO
    header: File
    own: _Own
    types: Mapping[str, ArrayType]


class Source:
    """One open file, or several with an index.

    Attributes:
        types: Shape and dtype of each array, by name.
        static: The static values that mlax has written, by path; None if they are unknown.
        classes: The classes of nodes, by path.
        metadata: The strings of all files, without those of mlax.
    """

    def __init__(self, where: str, parts: list[_Part]) -> None:
        self._where = where
        self._parts = parts
        self.types = {name: kind for part in parts for name, kind in part.types.items()}
        statics = [part.own.static for part in parts if part.own.static is not None]
        self.static: dict[str, str] | None = None
        if len(statics) == len(parts):
            self.static = {path: text for static in statics for path, text in static.items()}
        self.classes = {path: cls for part in parts for path, cls in part.own.classes.items()}
        self.metadata = {
            key: text
            for part in parts
            for key, text in part.header.metadata.items()
            if key != "mlax"
        }

    def arrays(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield names and values of some arrays in the order of the files; see `decoded`.

        Raises:
            ValueError: A file is damaged.
        """
        wanted = set(names)
        for path, file, header, own, types in self._parts:
            with _complaining(self._where, path):
                for name, data in read_arrays(file, header, wanted & types.keys()):
                    yield name, decoded(data, header.entries[name], own.dtypes.get(name))


@contextlib.contextmanager
def opened(where: str, path: AnyPath) -> Generator[Source, None, None]:
    """Yield what a path leads to: a safetensors file, or an index with its files.

    All files are open until the end, so nothing that is read comes from a file that has replaced one of them.

    Args:
        where: The function to name in errors.
        path: The file or the index.

    Raises:
        OSError: A file cannot be read or is missing, or the path is not that of a file.
        ValueError: A file is damaged or neither of the two, or the index and its files contradict each other.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(where, path))
        if not _is_index(file):
            yield Source(where, [_part(where, path, file)])
            return
        places = _places(where, path, file)
        files = [path.with_name(name) for name in sorted(set(places.values()))]
        if missing := [one.name for one in files if not one.exists()]:
            raise FileNotFoundError(
                f"{where}: {path} names files that are not beside it: {', '.join(map(shown_name, missing))}.\n"
                f"  Copy them to {path.parent}."
            )
        parts = [_part(where, one, stack.enter_context(_opened(where, one))) for one in files]
        _check_index(where, path, places, parts)
        yield Source(where, parts)


def _opened(where: str, path: Path) -> BinaryIO:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        inside = [
            *sorted(path.glob("*.safetensors.index.json")),
            *sorted(path.glob("*.safetensors")),
        ]
        cure = f"\n  Pass a file in it, such as {inside[0]}" if inside else ""
        raise OSError(f"{where}: {path} is not a file{cure}")
    return open(path, "rb")


def _part(where: str, path: Path, file: BinaryIO) -> _Part:
    with _complaining(where, path):
        header = read_header(file)
        own = _own(header.metadata)
        types = {
            name: stored_type(entry, own.dtypes.get(name)) for name, entry in header.entries.items()
        }
        return _Part(path, file, header, own, types)


@contextlib.contextmanager
def _complaining(
    where: str, path: Path, kind: str = "a safetensors file"
) -> Generator[None, None, None]:
    """Turn a DamagedError into a ValueError that names the function and the file."""
    try:
        yield
    except DamagedError as error:
        raise ValueError(f"{where}: {path} is damaged or not {kind}: {error}") from None


def _is_index(file: BinaryIO) -> bool:
    beginning = file.read(8)
    file.seek(0)
    length = int.from_bytes(beginning, "little")
    return beginning.startswith(b"{") and length > LONGEST_HEADER


def _places(where: str, path: Path, file: BinaryIO) -> dict[str, str]:
    """Return for each array the name of the file that an index says it is in."""
    with _complaining(where, path, "an index of safetensors files"):
        size = os.fstat(file.fileno()).st_size
        if size > LONGEST_HEADER:
            raise DamagedError(f"it has {size:,} bytes, more than the limit of {LONGEST_HEADER:,}")
        places: Any = parsed(file.read(), "its text").get("weight_map")
        if not is_strings(places) or not places:
            raise DamagedError("it has no weight_map of names and files")
        for name in places.values():
            if name != os.path.basename(name) or "\\" in name or name in {"", ".", ".."}:
                raise DamagedError(f"its weight_map has {name!r}, which is not a file beside it")
    return places


def _check_index(where: str, path: Path, places: Mapping[str, str], parts: list[_Part]) -> None:
    """Raise an error unless each array is in one file, and in the one that the index says.

    Arrays that the index leaves out are read like all others.
    """
    found: dict[str, list[str]] = {name: [] for name in places}
    for part in parts:
        for name in part.types:
            found.setdefault(name, []).append(part.path.name)
    wrong = [
        f"\n  {shown_name(name)}: in {' and in '.join(files) or 'none of them'}; "
        f"the index says {places.get(name, 'nothing')}"
        for name, files in found.items()
        if len(files) != 1 or (name in places and files[0] != places[name])
    ]
    if wrong:
        raise ValueError(
            f"{where}: {path} and its files contradict each other; are they from one version of the model?"
            f"{''.join(wrong)}"
        )


def _own(metadata: Mapping[str, str]) -> _Own:
    if "mlax" not in metadata:
        return _Own({}, None, {})
    own = parsed(metadata["mlax"].encode(errors="surrogatepass"))
    parts = [own.get("dtypes"), own.get("static"), _classes(own)]
    if not all(map(is_strings, parts)):
        raise DamagedError("its metadata under 'mlax' were not written by mlax")
    return _Own(*cast("Any", parts))


def _classes(own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classes of nodes by path; None if they are not as `mlax.save` writes them."""
    names: Any = own.get("classes", [])
    nodes: Any = own.get("nodes", {})
    try:
        return {path: names[number] for path, number in nodes.items()}
    except (AttributeError, LookupError, TypeError):
        return None
