"""Files from strangers, truncated, lying and damaged: an error, and no harm."""

import json
import os
import random
import re
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

import mlax
from mlax._saving.safetensors import Entry, write
from tests.mlax.saving.files import entry, file_of
from tests.mlax.saving.test_round_trip import identical

pytestmark = pytest.mark.one_python

GOOD = file_of({"x": entry()}, bytes(8))


def refused(path: Path, data: bytes, like: Any = None) -> str:
    """Return why a file is not loaded."""
    file = path / "file"
    file.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"mlax\.load: .*/file is damaged or not a safetensors"
    ) as c:
        mlax.load(file, like={"x": jnp.ones(2)} if like is None else like)
    return str(c.value).partition("safetensors file: ")[2]


def test_the_good_file_is_loaded(tmp_path: Path) -> None:
    """From which the others below differ."""
    (tmp_path / "x").write_bytes(GOOD)
    assert mlax.load(tmp_path / "x", like={"x": jnp.ones(2)})["x"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it has only 0 bytes"),
        (b"1234567", "it has only 7 bytes"),
        (GOOD[:8], "it announces a header of"),
        (GOOD[:20], "it announces a header of"),
        (file_of(b"{}", length=3), "it announces a header of 3 bytes but has only 10 bytes in all"),
        (file_of(b"{}", length=2**63), "it announces a header of 9,223,372"),
        (file_of(b"{}", length=2**64 - 1), "it announces a header of"),
        (file_of(b"", length=0), "not a JSON object"),
        (file_of(b"x" * 8), "not a JSON object"),
        (file_of(b"[]"), "not a JSON object"),
        (file_of(b" {}"), "not a JSON object"),
        (file_of(b'{"x":'), "not valid JSON"),
        (file_of(b"{}x"), "not valid JSON"),
        (file_of(b"{\xff}"), "not valid JSON"),
        (file_of(b'{"x":1' + b"0" * 5000 + b"}"), "not valid JSON"),
        (file_of(b'{"x":' * 200_000), "no JSON|nested"),
        (file_of(b'{"x":' + b"[" * 200_000), "nested"),
        (file_of(b'{"x":{},"x":{}}'), "twice"),
        (file_of({"__metadata__": {"a": 1}}), "metadata are not strings"),
        (file_of({"__metadata__": []}), "metadata are not strings"),
        (file_of({"__metadata__": {"a": None}}), "metadata are not strings"),
        (file_of({"__metadata__": False}), "metadata are not strings"),
        (file_of({"x": 1}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": {"dtype": "F32", "shape": [2]}}, bytes(8)), "'x' has no dtype"),
        (
            file_of({"x": entry() | {"more": 1}}, bytes(8)),
            "shape or data_offsets of 'x' are not all sizes",
        ),
        (file_of({"x": entry(dtype="F33")}, bytes(8)), "unknown dtype 'F33'"),
        (file_of({"x": entry(dtype=4)}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": entry(dtype="float32")}, bytes(8)), "unknown dtype"),
        (file_of({"x": entry(shape=[2.0])}, bytes(8)), "not all sizes"),
        (file_of({"x": entry(shape=[True, 2])}, bytes(8)), "not all sizes"),
        (file_of({"x": entry(shape=[-2, -1])}, bytes(8)), "not all sizes"),
        (file_of({"x": entry(shape=[2**64, 0])}, bytes(8)), "not all sizes"),
        (file_of({"x": entry(shape="2")}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": entry(shape=None)}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": entry(shape=[1] * 65)}, bytes(8)), "65 axes"),
        (file_of({"x": entry(shape=[2**62] * 60)}, bytes(8)), "does not fit its dtype and shape"),
        (file_of({"x": entry(shape=[3])}, bytes(8)), "does not fit its dtype and shape"),
        (file_of({"x": entry(offsets=[0])}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": entry(offsets=[0, 4, 8])}, bytes(8)), "'x' has no dtype"),
        (file_of({"x": entry(offsets=[8, 0])}, bytes(8)), "does not fit its dtype and shape"),
        (file_of({"x": entry(offsets=[-8, 0])}, bytes(8)), "not all sizes"),
        (file_of({"x": entry(offsets=[4, 12])}, bytes(12)), "does not begin where"),
        (file_of({"x": entry()}, bytes(7)), "describes .* bytes, but it has"),
        (file_of({"x": entry()}, bytes(9)), "describes .* bytes, but it has"),
        (file_of({"x": entry(), "y": entry()}, bytes(8)), "'y' does not begin where"),
        (file_of({"x": entry(), "y": entry(offsets=[4, 12])}, bytes(12)), "does not begin"),
        (file_of({"x": entry("F32", [2**40], [0, 2**42])}), "describes"),
        (file_of({"x": entry("F4", [3], [0, 1])}, bytes(1)), "does not fit its dtype and shape"),
        (file_of({"x": entry("BOOL", [2], [0, 2])}, b"\1\2"), "bytes that are not valid for bool"),
    ],
    ids=lambda x: f"{x[8:48]!r}" if isinstance(x, bytes) else "",
)
def test_lies_are_refused(data: bytes, why: str, tmp_path: Path) -> None:
    """Each for its own reason."""
    like = {"x": np.zeros(2, bool)} if b"BOOL" in data else None
    assert re.search(why, refused(tmp_path, data, like))


def test_oversized_headers_are_not_read(tmp_path: Path) -> None:
    """Though the file is as large as they say."""
    with (tmp_path / "x").open("wb") as file:
        file.write(file_of(b"{}", length=10_000_001))
        file.truncate(20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError,
            match="announces a header of 10,000,001 bytes, more than the limit of 10,000,000",
        ):
            mlax.load(tmp_path / "x", like=1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    entries = [Entry(f"{i:050000}", "U8", (0,), lambda: np.zeros(0, np.uint8)) for i in range(200)]
    with (
        pytest.raises(ValueError, match="need a header of 10,01"),
        (tmp_path / "y").open("wb") as y,
    ):
        write(y, entries, {})


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":[' + b"{}," * 100_000 + b"0]}",
        b'{"a":[' + b"[]," * 100_000 + b"0]}",
        b'{"a":[' + b"1e9," * 100_000 + b"0]}",
        b'{"' + "\U0001f600".encode() + b'":[' + b"[]," * 100_000 + b"0]}",
        '{"\U0001f600":['.encode() + (b"[" * 300 + b"]" * 300 + b",") * 300 + b"0]}",
        b"{" + b",".join(b'"%x":0' % i for i in range(50_000)) + b"}",
        b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(50_000)) + b"}}",
    ],
    ids=lambda header: header[:24].decode(),
)
def test_a_header_takes_little_memory(header: bytes, tmp_path: Path) -> None:
    """50 times its length at most, whatever is in it: what the limit of its length was made for."""
    (tmp_path / "x").write_bytes(file_of(header))
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, mlax.LeafMismatchError)):
            mlax.load(tmp_path / "x", like=1)
        assert 4 < tracemalloc.get_traced_memory()[1] / len(header) < 50
    finally:
        tracemalloc.stop()


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    mlax.save(tmp_path / "x", {"x": jnp.arange(2.0), "y": 1})
    whole = (tmp_path / "x").read_bytes()
    for size in range(len(whole)):
        assert refused(tmp_path, whole[:size])
    assert refused(tmp_path, whole + b"\0")


def mlax_file(own: Any, arrays: dict[str, Any], data: bytes) -> bytes:
    """Return a file with a right checksum and any metadata of mlax."""
    text = own if isinstance(own, str) else json.dumps(own)
    header = {"__metadata__": {"mlax.crc32": "0" * 8, "mlax": text}, **arrays}
    whole = file_of(json.dumps(header, separators=(",", ":")).encode(), data)
    return whole.replace(b"0" * 8, f"{zlib.crc32(whole):08x}".encode(), 1)


def test_checksum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """Computed with zeros in its place: what `mlax_file` does, which the tests below build on."""
    own = {"dtypes": {}, "static": {}}
    (tmp_path / "x").write_bytes(mlax_file(own, {"x": entry()}, bytes(8)))
    assert mlax.load(tmp_path / "x", like={"x": jnp.ones(2)})["x"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("own", "arrays", "why"),
    [
        ("", {}, "not a JSON object"),
        ("{", {}, "not valid JSON"),
        ("{\ud800", {}, "not valid JSON"),
        ({}, {}, "not written by mlax"),
        ({"dtypes": [], "static": {}}, {}, "not written by mlax"),
        ({"dtypes": {"x": 1}, "static": {}}, {}, "not written by mlax"),
        ({"dtypes": {}, "static": {"x": []}}, {}, "not written by mlax"),
        ({"dtypes": {"x": "complex128"}, "static": {}}, {"x": entry()}, "cannot be 'complex128'"),
        ({"dtypes": {"x": "int4"}, "static": {}}, {"x": entry()}, "cannot be 'int4'"),
        ({"dtypes": {"x": "float64"}, "static": {}}, {"x": entry()}, "cannot be 'float64'"),
        ({"dtypes": {"x": "object"}, "static": {}}, {"x": entry()}, "cannot be 'object'"),
        ({"dtypes": {"x": "key<"}, "static": {}}, {"x": entry("U32")}, "unrecognized PRNG"),
        (
            {"dtypes": {"x": "key<evil>"}, "static": {}},
            {"x": entry("U32")},
            'PRNG implementation "evil"',
        ),
        ({"dtypes": {"x": "key<rbg>"}, "static": {}}, {"x": entry("U32")}, "be 'key<rbg>'"),
    ],
    ids=str,
)
def test_metadata_that_mlax_never_wrote(own: Any, arrays: Any, why: str, tmp_path: Path) -> None:
    assert why in refused(tmp_path, mlax_file(own, arrays, bytes(8 if arrays else 0)))


def test_narrow_dtypes_have_no_other_bytes(tmp_path: Path) -> None:
    own = {"dtypes": {"x": "int4"}, "static": {}}
    data = mlax_file(own, {"x": entry("U8", [2], [0, 2])}, b"\1\x18")
    assert "that are not valid for int4" in refused(tmp_path, data, {"x": jnp.ones(2, jnp.int4)})


def test_files_written_anew_by_others_say_what_to_leave_out(tmp_path: Path) -> None:
    """Their metadata describe the file that mlax wrote, not this one."""
    header = {"__metadata__": {"mlax": "{}", "mlax.crc32": "0" * 8}, "x": entry()}
    assert "leave out the metadata whose keys begin with 'mlax'" in refused(
        tmp_path, file_of(header, bytes(8))
    )


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_folders_and_pipes_are_refused(kind: str, tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    (os.mkdir if kind == "folder" else os.mkfifo)(tmp_path / "x")
    with pytest.raises(OSError, match="is not a file"):
        mlax.load(tmp_path / "x", like=1)
    with pytest.raises(FileNotFoundError):
        mlax.load(tmp_path / "y", like=1)


TREE: dict[str, Any] = {
    "layers": [{"kernel": jnp.arange(6.0).reshape(2, 3)}, {"kernel": jnp.ones(3, jnp.bfloat16)}],
    "key": jax.random.key(3),
    "flags": np.array([True, False]),
    "z": np.array([1 + 2j]),
    "i4": jnp.arange(3, dtype=jnp.int4),
    "empty": jnp.zeros((0, 3)),
    "epoch": 3,
}


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return a file with some changes, most of them in its header."""
    changed = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        end = max(1, min(len(changed), rng.choice((8, header, header, header, len(data)))))
        at = rng.randrange(end)
        match rng.randrange(7):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice(b'0123456789,:[]{}"eE-. \\Fx\0\xff')
            case 2:
                del changed[at : at + rng.choice((1, 1, 2, 8, 50))]
            case 3:
                changed[at:at] = bytes(rng.choices(b'019,:[]{}"-.\0\xff', k=rng.choice((1, 2, 9))))
            case 4:
                changed[at:at] = changed[at : at + rng.choice((1, 4, 40))]
            case 5:
                number = rng.choice((0, 1, 7, 2**31, 2**63, 2**64 - 1, len(data), header))
                changed[:8] = number.to_bytes(8, "little")
            case _:
                at = rng.choice((8, header, len(data)))
                changed[at:] = changed[at:] + bytes(rng.choice((0, 1, 8)))
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def sealed(data: bytes) -> bytes:
    """Return a file with its length and checksum put right again, as somebody with bad intentions would."""
    at = data.find(b'"mlax.crc32":"')
    text = data[8:]
    start = int.from_bytes(data[:8], "little")
    if at < 0 or start > len(text):
        return data
    at += len(b'"mlax.crc32":"')
    blank = data[:at] + b"0" * 8 + data[at + 8 :]
    return data[:at] + f"{zlib.crc32(blank):08x}".encode() + data[at + 8 :]


def fuzzed(path: Path, count: int, make: Callable[[random.Random], bytes], like: Any) -> Any:
    """Yield bytes and result of every mutated file that is loaded; nothing but errors comes of the others."""
    rng = random.Random(0)
    tracemalloc.start()
    try:
        for _ in range(count):
            data = make(rng)
            path.write_bytes(data)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            try:
                loaded = mlax.load(path, like=like)
            except (ValueError, mlax.LeafMismatchError):
                loaded = None
            _, peak = tracemalloc.get_traced_memory()
            path.unlink()  # a new file each time: ext4 takes its time over one that is written again
            assert peak - before < 1 << 20, "allocates more than a file of 1.5 kB can need"
            if loaded is not None:
                yield data, loaded
    finally:
        tracemalloc.stop()


def test_damage_never_gives_a_wrong_value(tmp_path: Path) -> None:
    """Of 7,000 damaged files each is refused, or what is loaded is what was saved."""
    mlax.save(tmp_path / "x", TREE)
    data = (tmp_path / "x").read_bytes()
    intact = 0
    for _, loaded in fuzzed(tmp_path / "y", 7000, lambda rng: mutated(rng, data), TREE):
        assert identical(loaded, TREE)
        intact += 1
    assert intact < 700  # bytes replaced by what they were


def test_lies_are_read_as_the_reference_does_or_refused(tmp_path: Path) -> None:
    """Of 5,000 files that somebody gave a right checksum, or none; `safetensors` reads those that are loaded too."""
    like = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.int16), "c": 1}
    mlax.save(tmp_path / "x", like)
    own = (tmp_path / "x").read_bytes()
    header = json.loads(own[8 : 8 + int.from_bytes(own[:8], "little")])
    del header["__metadata__"]
    foreign = file_of(header, own[8 + int.from_bytes(own[:8], "little") :])
    assert mlax.load(tmp_path / "x", like=like)["c"] == 1

    def make(rng: random.Random) -> bytes:
        return mutated(rng, foreign) if rng.random() < 0.6 else sealed(mutated(rng, own))

    count = 0
    for data, loaded in fuzzed(tmp_path / "y", 5000, make, like):
        count += 1
        theirs = dict(safetensors.deserialize(data))
        assert theirs.keys() == loaded.keys()
        for name, array in loaded.items():
            assert tuple(theirs[name]["shape"]) == np.shape(array)
            assert bytes(theirs[name]["data"]) == np.asarray(array).tobytes()
    assert count > 100


def test_reading_takes_the_memory_that_it_gives_back(tmp_path: Path) -> None:
    """One array at a time beside the result; what is not asked for takes none."""
    tree = {str(i): np.zeros(1 << 22, np.uint8) for i in range(8)}
    mlax.save(tmp_path / "x", tree)
    peaks: list[int] = []
    tracemalloc.start()
    try:
        loaded = mlax.load(tmp_path / "x", like=tree)
        peaks.append(tracemalloc.get_traced_memory()[1])
        del loaded
        tracemalloc.reset_peak()
        with pytest.warns(UserWarning, match="not in `like`"):
            mlax.load(tmp_path / "x", like={"3": tree["3"]}, strict=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[0] < 10 << 22
    assert peaks[1] < 4 << 22
