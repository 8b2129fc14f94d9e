"""Safetensors files by hand, from the description of the format."""

import json
from typing import Any


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a file with any header, true or not.

    Args:
        header: What becomes JSON; bytes are taken as they are.
        data: What follows it.
        length: What the first eight bytes say; the truth by default.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """Return what a header says of one array."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}
