"""The safetensors file format: the length of the header in eight bytes, the header (JSON), the arrays.

It is described at https://huggingface.co/docs/safetensors. The header holds dtype, shape and
position of every array, and strings under `__metadata__`. Files may come from strangers. So the
header may have at most 10 MB, and everything in it is checked against the size of the file before
an array is read or memory allocated for it.

Why not the package `safetensors`: its stable NumPy functions have neither bfloat16 nor complex128,
its raw ones changed between 0.7 and 0.8 (dicts of bytes, then TensorSpec with pointers), and none
of them syncs a file or replaces one as a whole. The format itself takes one page and does not
change. Tests compare with the package.

Files written here also have a checksum of the whole file, so that a damaged file is an error and
not a wrong number. It stands at the very beginning of the header. It is computed with zeros in its
own place.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, cast

import numpy as np

__all__ = [
    "LONGEST_HEADER",
    "DamagedError",
    "Entry",
    "File",
    "is_strings",
    "is_written",
    "parsed",
    "read_arrays",
    "read_header",
    "write",
]

# Bits per element, for every dtype of the format.
_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}  # fmt: skip

# The Python objects made from a header take up to 50 times its size (lists in lists), and they exist before
# they can be checked. So this limit means at most 500 MB; other readers allow headers of 100 MB. It is enough
# for 90,000 arrays with paths of 30 characters.
LONGEST_HEADER = 10_000_000
_MOST_AXES = 64  # NumPy's limit
_CHUNK = 1 << 24
_BEGINNING = b'{"__metadata__":{"mlax.crc32":"'
_NO_CHECKSUM = b"00000000"


class DamagedError(ValueError):
    """A file contradicts the format. The message is one phrase that follows the name of the file."""


@dataclass(frozen=True)
class Entry:
    """One array of a file.

    Attributes:
        name: Its key.
        dtype: Its dtype as the format calls it.
        shape: Its shape.
        data: Returns the bytes to write, as `uint8[n]`. Not needed for reading.
        begin: Where its bytes begin, counted from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], np.ndarray[Any, Any]] | None = None
    begin: int = 0

    @property
    def size(self) -> int:
        """Its number of bytes."""
        return math.prod(self.shape) * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class File:
    """The contents of a header.

    Attributes:
        entries: The arrays by name.
        metadata: The strings, including mlax's own except for the checksum.
        start: Where the header ends and the arrays begin.
        checksum: The checksum of the whole file that the header states, and the one computed up to
            the end of the header; None if the header states none.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    start: int
    checksum: tuple[int, int] | None = field(default=None)


def write(file: BinaryIO, entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
    """Write a whole file, starting with its first byte.

    Args:
        file: The file to write to; seekable.
        entries: The arrays, in any order: wide elements are written first, so that all are aligned.
            `begin` is ignored.
        metadata: Strings.

    Raises:
        ValueError: The header would be longer than `read_header` accepts.
    """
    entries = _in_order(entries)
    head = _head(entries, metadata)
    file.write(head)
    checksum = zlib.crc32(head)
    for entry in entries:
        assert entry.data is not None
        data = entry.data()
        file.write(cast("Any", data))
        checksum = zlib.crc32(cast("Any", data), checksum)
    file.seek(8 + len(_BEGINNING))
    file.write(_text(checksum))


def is_written(path: Path, entries: Iterable[Entry], metadata: Mapping[str, str]) -> bool:
    """Whether there is a file as `write` would write it, to judge by its header, which has a checksum of all."""
    entries = _in_order(entries)
    head = _head(entries, metadata)
    try:
        with path.open("rb") as file:
            found = file.read(len(head))
    except OSError:
        return False
    place = slice(8 + len(_BEGINNING), 8 + len(_BEGINNING) + len(_NO_CHECKSUM))
    if found[: place.start] + _NO_CHECKSUM + found[place.stop :] != head:
        return False
    checksum = zlib.crc32(head)
    for entry in entries:
        assert entry.data is not None
        checksum = zlib.crc32(cast("Any", entry.data()), checksum)
    return found[place] == _text(checksum)


def _text(checksum: int) -> bytes:
    return f"{checksum:08x}".encode()


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return the arrays in the order in which they are written."""
    return sorted(entries, key=lambda entry: -_BITS[entry.dtype])


def _head(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file and its length before it, without the checksum."""
    header: dict[str, Any] = {
        "__metadata__": {"mlax.crc32": _NO_CHECKSUM.decode(), **metadata},
    }
    end = 0
    for entry in entries:
        begin, end = end, end + entry.size
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(
            f"the paths and metadata need a header of {len(text):,} bytes, more than the limit of "
            f"{LONGEST_HEADER:,}; save in several files"
        )
    return len(text).to_bytes(8, "little") + text


def read_header(file: BinaryIO) -> File:
    """Return the contents of a file's header, after checking all of it.

    Raises:
        DamagedError: The file is truncated or contradicts the format; the message is one phrase
            that says how.
    """
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise DamagedError(f"it has only {size} bytes")
    length = int.from_bytes(_exactly(file, 8), "little")
    if length > LONGEST_HEADER:
        raise DamagedError(
            f"it announces a header of {length:,} bytes, more than the limit of {LONGEST_HEADER:,}"
        )
    if 8 + length > size:
        raise DamagedError(
            f"it announces a header of {length:,} bytes but has only {size:,} bytes in all"
        )
    text = _exactly(file, length)
    header = parsed(text)
    metadata = header.pop("__metadata__", None)
    if metadata is None:  # MLX writes null if it is given no metadata
        metadata = {}
    if not is_strings(metadata):
        raise DamagedError("its metadata are not strings")
    entries = dict(_entries(header))
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.size)):
        if entry.begin != end:
            raise DamagedError(f"{entry.name!r} does not begin where the array before it ends")
        end += entry.size
    if 8 + length + end != size:
        raise DamagedError(f"its header describes {8 + length + end:,} bytes, but it has {size:,}")
    checksum = _checksum(text)
    if checksum is None and any(key.split(".")[0] == "mlax" for key in metadata):
        raise DamagedError(
            "its checksum is missing; if another program has rewritten it, "
            "make that program leave out the metadata whose keys begin with 'mlax'"
        )
    metadata.pop("mlax.crc32", None)
    return File(entries, metadata, 8 + length, checksum)


def read_arrays(
    file: BinaryIO, header: File, names: Iterable[str]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield names and bytes (`uint8[n]`) of some arrays in the order of the file, then verify the checksum.

    If the file has no checksum, only these arrays are read; otherwise the whole file.

    Raises:
        DamagedError: The file ends early or its checksum is wrong; as in `read_header`.
    """
    wanted = set(names)
    checksum = header.checksum[1] if header.checksum else 0
    for entry in sorted(header.entries.values(), key=lambda entry: (entry.begin, entry.size)):
        if entry.name in wanted:
            file.seek(header.start + entry.begin)
            data = np.empty(entry.size, np.uint8)
            if cast("Any", file).readinto(data) != entry.size:
                raise DamagedError("it ends early")
            if header.checksum:
                checksum = zlib.crc32(cast("Any", data), checksum)
            yield entry.name, data
        elif header.checksum:
            file.seek(header.start + entry.begin)
            for done in range(0, entry.size, _CHUNK):
                checksum = zlib.crc32(_exactly(file, min(_CHUNK, entry.size - done)), checksum)
    if header.checksum and checksum != header.checksum[0]:
        raise DamagedError("its checksum is wrong: it was damaged or changed since it was written")


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise DamagedError("it ends early")
    return data


def parsed(text: bytes, what: str = "its header") -> dict[str, Any]:
    """Return the object in a JSON text: a header, a string of the metadata, or an index.

    Raises:
        DamagedError: The text is not a JSON object; `what` names it in the message.
    """
    if not text.startswith(b"{"):
        raise DamagedError(f"{what} is not a JSON object")
    try:
        header: object = json.loads(text.decode(), object_pairs_hook=_without_twins)
    except RecursionError:
        raise DamagedError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise DamagedError(f"{what} is not valid JSON ({error})") from None
    return cast("dict[str, Any]", header)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def is_strings(value: Any) -> TypeGuard[dict[str, str]]:
    """Return whether a value from JSON is a dict of strings."""
    return isinstance(value, dict) and all(
        isinstance(text, str) for text in cast("dict[str, Any]", value).values()
    )


def _entries(header: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    for name, value in header.items():
        match value:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **others}:
                pass
            case _:
                raise DamagedError(f"{name!r} has no dtype, shape and data_offsets")
        if dtype not in _BITS:
            raise DamagedError(f"{name!r} has the unknown dtype {dtype!r}")
        if others or not all(_is_count(number) for number in (*shape, begin, end)):
            raise DamagedError(f"the shape or data_offsets of {name!r} are not all sizes")
        if len(shape) > _MOST_AXES:
            raise DamagedError(f"{name!r} has {len(shape)} axes")
        entry = Entry(name, dtype, tuple(shape), begin=begin)
        if math.prod(shape) * _BITS[dtype] != 8 * (end - begin):
            raise DamagedError(
                f"{name!r} has bytes {begin} to {end}, which does not fit its dtype and shape"
            )
        yield name, entry


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _checksum(text: bytes) -> tuple[int, int] | None:
    """Return the checksum that a header states, and the one computed up to the header's end; None without one."""
    start = len(_BEGINNING)
    digits = text[start : start + len(_NO_CHECKSUM)]
    if not text.startswith(_BEGINNING) or not all(digit in b"0123456789abcdef" for digit in digits):
        return None
    head = len(text).to_bytes(8, "little") + _BEGINNING + _NO_CHECKSUM
    rest = memoryview(text)[start + len(_NO_CHECKSUM) :]
    return int(digits, 16), zlib.crc32(rest, zlib.crc32(head))
