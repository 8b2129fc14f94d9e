"""The safetensors file format: eight bytes that say how long the header is, the header (JSON), and the arrays.

https://huggingface.co/docs/safetensors describes it. A header gives dtype, shape and place of every array, and
strings under `__metadata__`. Files may come from strangers: a header has at most 10 MB, and all that it says is
checked against the size of the file before an array is read or allocated.

It is read and written here, not by the package `safetensors`: the stable NumPy functions of that have no bfloat16 and
no complex128, its raw ones changed between 0.7 and 0.8 (dicts with bytes, then TensorSpec with pointers), and neither
syncs a file or replaces one. The format itself is one page and does not change. Tests compare with the package.

Files written here also carry a checksum of the whole file, so that a damaged one is an error and no wrong number. It
stands at the very beginning of the header, in the place of zeros that it was computed with.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeGuard, cast

import numpy as np

__all__ = [
    "DamagedError",
    "Entry",
    "File",
    "is_strings",
    "parsed",
    "read_arrays",
    "read_header",
    "write",
]

# Bits of an element, of every dtype that the format has.
_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}  # fmt: skip

# Python's objects for a header take up to 50 times its bytes (lists in lists), and are made before they can be
# checked: 500 MB with this. Other readers allow 100 MB. It is enough for 90,000 arrays with paths of 30 characters.
_LONGEST_HEADER = 10_000_000
_MOST_AXES = 64  # NumPy's limit
_CHUNK = 1 << 24
_BEGINNING = b'{"__metadata__":{"mlax.crc32":"'
_NO_CHECKSUM = b"00000000"


class DamagedError(ValueError):
    """A file is not what the format says; in one phrase that follows the name of the file."""


@dataclass(frozen=True)
class Entry:
    """One array of a file.

    Attributes:
        name: Its key.
        dtype: As the format calls it.
        shape: Its shape.
        data: Returns the bytes that are written, as `uint8[n]`. Not needed to read.
        begin: Where its bytes begin, counted from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], np.ndarray[Any, Any]] | None = None
    begin: int = 0

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return math.prod(self.shape) * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class File:
    """What a header says.

    Attributes:
        entries: The arrays by name.
        metadata: The strings; those of mlax included, but for the checksum.
        start: Where the header ends and the arrays begin.
        checksum: Of the whole file, and what it comes to down to the end of the header; None if the file has none.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    start: int
    checksum: tuple[int, int] | None = field(default=None)


def write(file: BinaryIO, entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
    """Write a whole file, from its first byte on.

    Args:
        file: Where to; seekable.
        entries: The arrays. `begin` is not used: wide elements come first, so that all are aligned.
        metadata: Strings.

    Raises:
        ValueError: The header would be longer than `read_header` accepts.
    """
    entries = sorted(entries, key=lambda entry: -_BITS[entry.dtype])
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
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"the paths and metadata need a header of {len(text):,} bytes; {_LONGEST_HEADER:,} are the most; "
            "save in several files"
        )
    head = len(text).to_bytes(8, "little") + text
    file.write(head)
    checksum = zlib.crc32(head)
    for entry in entries:
        assert entry.data is not None
        data = entry.data()
        file.write(cast("Any", data))
        checksum = zlib.crc32(cast("Any", data), checksum)
    file.seek(8 + len(_BEGINNING))
    file.write(f"{checksum:08x}".encode())


def read_header(file: BinaryIO) -> File:
    """Return what the header of a file says, all of it checked.

    Raises:
        DamagedError: The file is truncated, or is not what it says; in one phrase that says how.
    """
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise DamagedError(f"it has {size} bytes")
    length = int.from_bytes(_exactly(file, 8), "little")
    if length > _LONGEST_HEADER:
        raise DamagedError(
            f"it announces a header of {length:,} bytes; {_LONGEST_HEADER:,} are the most"
        )
    if 8 + length > size:
        raise DamagedError(f"it announces a header of {length:,} bytes and has {size:,} in all")
    text = _exactly(file, length)
    header = parsed(text)
    metadata = header.pop("__metadata__", None)
    if metadata is None:  # MLX writes null where it was given none
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
        raise DamagedError(f"its header describes {8 + length + end:,} bytes, it has {size:,}")
    checksum = _checksum(text)
    if checksum is None and any(key.split(".")[0] == "mlax" for key in metadata):
        raise DamagedError(
            "its checksum is missing; if another program wrote it anew, "
            "let that leave out the metadata that begin with 'mlax'"
        )
    metadata.pop("mlax.crc32", None)
    return File(entries, metadata, 8 + length, checksum)


def read_arrays(
    file: BinaryIO, header: File, names: Iterable[str]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield name and bytes, `uint8[n]`, of some arrays, in the order of the file; then verify the checksum.

    Without a checksum only what is asked for is read.

    Raises:
        DamagedError: The file ends early, or its checksum is wrong; as in `read_header`.
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


def parsed(text: bytes) -> dict[str, Any]:
    """Return a JSON object, a header or what stands in one; refuse anything else."""
    if not text.startswith(b"{"):
        raise DamagedError("its header is no JSON object")
    try:
        header: object = json.loads(text.decode(), object_pairs_hook=_without_twins)
    except RecursionError:
        raise DamagedError("its header is nested too deeply") from None
    except ValueError as error:
        raise DamagedError(f"its header is no JSON ({error})") from None
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
            raise DamagedError(f"{name!r} is described by other things than sizes")
        if len(shape) > _MOST_AXES:
            raise DamagedError(f"{name!r} has {len(shape)} axes")
        entry = Entry(name, dtype, tuple(shape), begin=begin)
        if math.prod(shape) * _BITS[dtype] != 8 * (end - begin):
            raise DamagedError(
                f"{name!r} has other bytes ({begin} to {end}) than its dtype and shape"
            )
        yield name, entry


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _checksum(text: bytes) -> tuple[int, int] | None:
    """Return the checksum in a header, and that of the bytes down to the header's end."""
    start = len(_BEGINNING)
    digits = text[start : start + len(_NO_CHECKSUM)]
    if not text.startswith(_BEGINNING) or not all(digit in b"0123456789abcdef" for digit in digits):
        return None
    head = len(text).to_bytes(8, "little") + _BEGINNING + _NO_CHECKSUM
    rest = memoryview(text)[start + len(_NO_CHECKSUM) :]
    return int(digits, 16), zlib.crc32(rest, zlib.crc32(head))
