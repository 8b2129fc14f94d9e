"""Other programs read what mlax writes, and mlax reads what they write.

PyTorch is no dependency of the tests. Its reader is the one of `safetensors`, whose bytes are compared here; so are
files written by hand from the description of the format. Tried by hand with PyTorch 2.13.0 and safetensors 0.8.0: all
dtypes of FORMATS, three shapes each, both ways, bit for bit.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import mlax
from mlax import Module, Parameter
from tests.mlax.saving.files import file_of
from tests.mlax.saving.test_round_trip import bits, identical

# What each calls a dtype.
FORMATS = {
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16"},
    **{"uint32": "U32", "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16"},
    **{"bfloat16": "BF16", "float32": "F32", "float64": "F64", "complex64": "C64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0"},
    **{"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ"},
}
NUMPY = [name for name in FORMATS if not name.startswith(("bfloat", "float8"))]
MLX = [name for name in FORMATS if name != "float64" and not name.startswith("float8")]


def arrays(dtypes: list[str]) -> dict[str, Any]:
    """Return a tree with arrays of each dtype and of several shapes."""
    return {
        dtype: {
            "x": bits(dtype, (3, 5), 1),
            "scalar": bits(dtype, ()),
            "empty": bits(dtype, (0, 2)),
        }
        for dtype in dtypes
    }


def raw(array: Any) -> bytes:
    """Return the bytes of an array."""
    if isinstance(array, mx.array):
        array = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return np.asarray(array).tobytes()


def test_the_reference_reads_every_dtype(tmp_path: Path) -> None:
    """Names, dtypes, shapes and bytes; the strings too."""
    tree = arrays(list(FORMATS))
    mlax.save(tmp_path / "x", tree, {"note": "é"})
    flat = mlax.flatten(tree)
    theirs = dict(safetensors.deserialize((tmp_path / "x").read_bytes()))
    assert theirs.keys() == flat.keys()
    for name, array in flat.items():
        assert theirs[name]["dtype"] == FORMATS[name.partition(".")[0]]
        assert tuple(theirs[name]["shape"]) == array.shape
        assert bytes(theirs[name]["data"]) == array.tobytes()
    with safetensors.safe_open(tmp_path / "x", "numpy") as file:
        assert file.metadata()["note"] == "é"


def test_safetensors_numpy(tmp_path: Path) -> None:
    """Both ways."""
    tree = arrays(NUMPY)
    mlax.save(tmp_path / "x", tree)
    flat = mlax.flatten(tree)
    theirs = safetensors.numpy.load_file(tmp_path / "x")
    assert theirs.keys() == flat.keys()
    for name, array in flat.items():
        assert (theirs[name].dtype, theirs[name].shape) == (array.dtype, array.shape)
        assert raw(theirs[name]) == raw(array)
    assert identical(mlax.unflatten(theirs, like=tree), tree)
    safetensors.numpy.save_file(theirs, tmp_path / "y", {"a": "b"})
    assert identical(mlax.load(tmp_path / "y", like=tree), tree)
    assert mlax.load_metadata(tmp_path / "y") == {"a": "b"}


def test_mlx(tmp_path: Path) -> None:
    """Both ways; MLX knows the suffix only, and neither float64 nor narrow floats."""
    tree = arrays(MLX)
    mlax.save(tmp_path / "x.safetensors", tree)
    flat = mlax.flatten(tree)
    theirs: Any = mx.load(str(tmp_path / "x.safetensors"))
    assert theirs.keys() == flat.keys()
    for name, array in flat.items():
        dtype = name.partition(".")[0]
        assert theirs[name].dtype == (mx.bool_ if dtype == "bool" else getattr(mx, dtype))
        assert theirs[name].shape == array.shape
        assert raw(theirs[name]) == raw(array)
    mx.save_safetensors(str(tmp_path / "y.safetensors"), theirs, {"a": "b"})
    assert identical(mlax.load(tmp_path / "y.safetensors", like=tree), tree)
    assert mlax.load_metadata(tmp_path / "y.safetensors")["a"] == "b"


def test_mlx_without_metadata(tmp_path: Path) -> None:
    """It writes null for them."""
    path = tmp_path / "x.safetensors"
    mx.save_safetensors(str(path), {"w": mx.ones(3)})
    assert b'"__metadata__":null' in path.read_bytes()
    assert mlax.load(path, like={"w": jnp.zeros(3)})["w"].tolist() == [1, 1, 1]
    assert mlax.load_metadata(path) == {}
    mlx.nn.Linear(2, 1).save_weights(str(path))
    layer = mlax.load(path, like={"weight": jnp.zeros((1, 2)), "bias": jnp.zeros(1)})
    assert layer["weight"].any()
    safetensors.numpy.save_file({"w": np.ones(3)}, path)  # which leaves them out
    assert mlax.load_metadata(path) == {}


def test_what_the_format_lacks_is_readable_still(tmp_path: Path) -> None:
    """Complex128 as pairs, keys as their words, the bits of int4 in a byte each; and the names of all."""
    key = jax.random.key(5)
    tree = {"c": np.array([1 + 2j]), "k": key, "i": jnp.array([-1, 3], jnp.int4), "": np.float32(1)}
    mlax.save(tmp_path / "x", tree)
    theirs = safetensors.numpy.load_file(tmp_path / "x")
    assert theirs["c"].tolist() == [[1.0, 2.0]]
    assert theirs["k"].tolist() == jax.random.key_data(key).tolist()
    assert theirs["i"].tolist() == [0b1111, 0b0011]
    assert theirs[""] == 1


class Linear(Module):
    """As PyTorch has it."""

    weight: Parameter
    bias: Parameter


@pytest.mark.parametrize("order", [("weight", "bias"), ("bias", "weight")])
def test_a_file_by_hand(order: tuple[str, str], tmp_path: Path) -> None:
    """As PyTorch writes one: dotted names, metadata that say so, a header padded with blanks, in any order."""
    weight, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    data = {"weight": weight, "bias": bias}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        begin, end = end, end + data[name].nbytes
        header[f"fc.{name}"] = {
            "data_offsets": [begin, end],
            "shape": data[name].shape,
            "dtype": "F32",
        }
    text = json.dumps(header).encode()
    content = file_of(text + b" " * 13, b"".join(data[name].tobytes() for name in order))
    (tmp_path / "x").write_bytes(content)
    like = {"fc": Linear(Parameter(jnp.zeros((2, 3))), Parameter(jnp.zeros(2)))}
    loaded = mlax.load(tmp_path / "x", like=like)
    assert loaded["fc"].weight.data.tolist() == weight.tolist()
    assert loaded["fc"].bias.data.tolist() == [1, 1]
    assert mlax.load_metadata(tmp_path / "x") == {"format": "pt"}


def test_dtypes_that_jax_lacks_are_named(tmp_path: Path) -> None:
    """As the format calls them."""
    header = {"x": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    (tmp_path / "x").write_bytes(file_of(header, bytes(3)))
    with pytest.raises(mlax.LeafMismatchError, match=r"x: F6_E2M3\[4\], but float32\[4\]"):
        mlax.load(tmp_path / "x", like={"x": jnp.ones(4)})
    assert safetensors.deserialize((tmp_path / "x").read_bytes())
