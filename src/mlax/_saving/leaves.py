"""How leaves are stored in a safetensors file and read back: exactly, whatever their dtype.

The format has most dtypes. The others are stored in a form that every reader knows, and the
metadata name the real dtype: complex128 is stored as pairs of float64 along one more axis, PRNG
keys as their uint32 data, narrow dtypes as bytes with the same bits.
"""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from mlax._jax.dtypes import canonical, is_key
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import class_of
from mlax._saving.safetensors import DamagedError, Entry
from mlax.tree import describe

__all__ = [
    "ArrayType",
    "array_type",
    "as_in",
    "as_jax",
    "decoded",
    "encoded",
    "is_floating",
    "is_known",
    "rounded",
    "stored_type",
]

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
    "F8_E8M0": np.dtype(jnp.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(jnp.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(jnp.float8_e5m2fnuz),
}
_FORMATS: dict[str, str] = {dtype.name: form for form, dtype in _DTYPES.items()}

# NumPy keeps each element in a byte, of which only some bits are used.
_NARROW = ("int2", "uint2", "int4", "uint4", "float4_e2m1fn")
# Dtypes of one byte that the format does not have.
_BYTES = {
    name: np.dtype(getattr(jnp, name))
    for name in (*_NARROW, "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz")
    if hasattr(jnp, name)  # not every JAX has all of them
}

_KNOWN: dict[str, np.dtype[Any]] = {
    dtype.name: dtype for dtype in (*_DTYPES.values(), *_BYTES.values(), np.dtype(np.complex128))
}

# The dtypes that Python's numbers are stored in.
_NUMBERS = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


class ArrayType(NamedTuple):
    """The shape of an array and the name of its dtype."""

    shape: tuple[int, ...]
    dtype: str


def array_type(leaf: Any) -> ArrayType:
    """Return the shape and dtype that a leaf has as an array. Python numbers have 64 bits.

    Raises:
        TypeError: The leaf cannot be stored; the message is one phrase.
        ValueError: Without x64, JAX has no values of this dtype; the message is one phrase.
    """
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        dtype: Any = leaf.dtype
        result = ArrayType(leaf.shape, dtype.name)
        if not is_key(dtype) and canonical(dtype) != dtype:
            raise ValueError(f"{describe(leaf)}: JAX has {result.dtype} only with jax_enable_x64")
        return result
    if _is_numpy(leaf):
        if leaf.dtype.name in _KNOWN and not issubclass(class_of(leaf), np.ma.MaskedArray):
            return ArrayType(leaf.shape, leaf.dtype.name)
    elif (number := _number_type(leaf)) is not None:
        return ArrayType((), number.name)
    raise TypeError(f"{describe(leaf)}: only arrays and numbers can be saved")


def _is_numpy(leaf: object) -> bool:
    return isinstance(leaf, np.ndarray | np.generic)


def _number_type(leaf: object) -> np.dtype[Any] | None:
    """Return the dtype that a Python number is stored in, or None for anything else."""
    return next((np.dtype(_NUMBERS[kind]) for kind in _NUMBERS if isinstance(leaf, kind)), None)


def encoded(name: str, leaf: Any) -> tuple[Entry, str | None]:
    """Return a leaf's entry in the file, and the name of its real dtype if it is stored as another.

    Raises:
        TypeError: As `array_type`.
        ValueError: Its values cannot be read, or need more than 64 bits; the message is one phrase.
    """
    shape, dtype = array_type(leaf)
    if isinstance(leaf, jax.ShapeDtypeStruct) or is_tracer(leaf):
        raise ValueError(f"{describe(leaf)} has no values; save outside jit and eval_shape")
    if isinstance(leaf, jax.Array):
        if leaf.is_deleted():
            raise ValueError(f"{describe(leaf)} has been deleted (donated by donate_argnums?)")
        if not leaf.is_fully_addressable:
            if not leaf.is_fully_replicated:
                raise ValueError(
                    f"{describe(leaf)} is sharded over several processes, each of which has a part.\n"
                    "  Save the tree with Orbax, or gather it first, in all processes: "
                    "jax.experimental.multihost_utils.process_allgather(tree, tiled=True)."
                )
            leaf = leaf.addressable_data(0)
    elif not _is_numpy(leaf):
        try:
            leaf = np.array(leaf, _number_type(leaf))
        except OverflowError:
            raise ValueError("this integer needs more than 64 bits") from None
    if is_key(leaf.dtype):
        implementation = str(jax.random.key_impl(leaf))
        shape += _key_type(implementation).shape
        return Entry(
            name, "U32", shape, lambda: _bytes(jax.random.key_data(leaf), "uint32")
        ), f"key<{implementation}>"
    if dtype == "complex128":
        return Entry(name, "F64", (*shape, 2), lambda: _bytes(leaf, dtype)), dtype
    if dtype in _BYTES:
        return Entry(name, "U8", shape, lambda: _bytes(leaf, dtype)), dtype
    return Entry(name, _FORMATS[dtype], shape, lambda: _bytes(leaf, dtype)), None


def _bytes(leaf: Any, dtype: str) -> np.ndarray[Any, Any]:
    array = np.asarray(leaf)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return _clean(little.view(np.uint8), dtype)


def _clean(data: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return the bytes that NumPy itself writes for these values. A bool, for instance, is 0 or 1."""
    clean: Any = data
    if dtype == "bool":
        clean = data != 0
    elif dtype in _NARROW:
        clean = data.view(_BYTES[dtype]).astype(np.float32).astype(_BYTES[dtype])
    return cast("np.ndarray[Any, Any]", clean.view(np.uint8))


def stored_type(entry: Entry, stated: str | None) -> ArrayType:
    """Return the shape and dtype of the array that an entry of a file stands for.

    Args:
        entry: The entry.
        stated: The real dtype according to the metadata, if they have one for this entry.

    Raises:
        DamagedError: The metadata contradict the entry.
    """
    shape = entry.shape
    if stated is None:
        # Dtypes that JAX does not have (F4) keep the name that the format has for them.
        return ArrayType(
            shape, _DTYPES[entry.dtype].name if entry.dtype in _DTYPES else entry.dtype
        )
    if stated == "complex128" and entry.dtype == "F64" and shape[-1:] == (2,):
        return ArrayType(shape[:-1], stated)
    if stated in _BYTES and entry.dtype == "U8":
        return ArrayType(shape, stated)
    if stated.startswith("key<") and entry.dtype == "U32":
        key = _key_type(stated[4:-1])
        axes = len(shape) - len(key.shape)
        if axes >= 0 and shape[axes:] == key.shape:
            return ArrayType(shape[:axes], key.dtype)
    raise DamagedError(f"{entry.name!r} is {entry.dtype}{list(shape)} and cannot be {stated!r}")


def is_known(kind: ArrayType) -> bool:
    """Whether arrays of this dtype can be made."""
    return kind.dtype in _KNOWN or kind.dtype.startswith("key<")


def is_floating(dtype: str) -> bool:
    """Whether a dtype with this name is a real floating-point dtype that JAX has."""
    return dtype in _KNOWN and jnp.issubdtype(_KNOWN[dtype], jnp.floating)


def rounded(value: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return a NumPy array in another floating-point dtype, each number rounded once; itself if it has the dtype."""
    if value.dtype == dtype:
        return value
    with np.errstate(over="ignore", under="ignore"):
        if value.dtype.itemsize > 4 and dtype.itemsize < 4 and dtype != np.float16:
            # To these dtypes NumPy would round by way of float32, to nearest both times. If the first rounding makes
            # odd numbers of all that are not exact, the second one is right.
            near = value.astype(np.float32)
            even = (near.view(np.uint32) & np.uint32(1)) == 0
            up = np.float32(np.inf)
            value = np.where(
                even & (near != value) & ~np.isnan(value),
                np.nextafter(near, np.where(value > near, up, -up)),
                near,
            )
        return value.astype(dtype, order="C")


@functools.cache
def _key_type(implementation: str) -> ArrayType:
    """Return the shape of one key's data, and the name of its dtype."""
    try:
        key = jax.eval_shape(lambda: jax.random.key(0, impl=implementation))
    except ValueError as error:  # no such implementation is registered with JAX
        raise DamagedError(str(error)) from None
    return ArrayType(jax.eval_shape(jax.random.key_data, key).shape, key.dtype.name)


def decoded(data: np.ndarray[Any, Any], entry: Entry, stated: str | None) -> Any:
    """Return the array with these bytes: a JAX array for keys, otherwise a NumPy array.

    Raises:
        DamagedError: No array of this dtype has such bytes.
    """
    shape, dtype = stored_type(entry, stated)
    if stated is not None and dtype.startswith("key<"):
        words = data.view(np.uint32).reshape(entry.shape)
        return cast("Any", jax.random.wrap_key_data(jnp.array(words), impl=stated[4:-1]))
    if dtype in ("bool", *_NARROW) and not np.array_equal(_clean(data, dtype), data):
        raise DamagedError(f"{entry.name!r} has bytes that are not valid for {dtype}")
    return cast("Any", data).view(_KNOWN[dtype]).reshape(shape)


def as_in(leaf: Any, value: Any) -> Any:
    """Return a value as the same kind of thing as a leaf: JAX array on its devices, NumPy array, or number.

    Args:
        leaf: A leaf of `like`.
        value: An array with its shape, of the dtype that the result is to have. If it is a NumPy
            array, nobody else may use it: JAX may keep its memory.

    Raises:
        ValueError: The value is a tracer and the leaf a NumPy array or number; the message is one
            phrase.
    """
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        sharding = leaf.sharding if _is_placed(leaf) else None
        if sharding is not None and not sharding.is_fully_addressable:
            return _on_processes(value, sharding)
        if isinstance(value, jax.Array):
            return value if sharding is None else jax.device_put(value, sharding)
        return jax.device_put(np.asarray(value), sharding)
    if is_tracer(value):
        raise ValueError(
            f"{describe(value)} has no value, but {describe(leaf)} in `like` needs one"
        )
    if _is_numpy(leaf):
        dtype = leaf.dtype if leaf.dtype.name == value.dtype.name else value.dtype
        array: Any = np.array(value, dtype)
        return array if issubclass(class_of(leaf), np.ndarray) else array[()]
    return type(leaf)(np.asarray(value).item())


def _on_processes(value: Any, sharding: jax.sharding.Sharding) -> Any:
    """Return an array on the devices of several processes, each of which has the whole value and takes its part."""
    if not is_key(value.dtype):
        whole = np.asarray(value)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])
    words = np.asarray(jax.random.key_data(value))
    implementation: Any = jax.random.key_impl(value)

    def keys(words: Any) -> Any:
        return cast("Any", jax.random.wrap_key_data(words, impl=implementation))

    return cast("Any", jax.jit(keys, out_shardings=sharding)(words))


def as_jax(value: Any) -> Any:
    """Return an array as a JAX array if JAX has its dtype; otherwise, without x64, as it is. See `as_in`."""
    if isinstance(value, jax.Array) or canonical(value.dtype) != value.dtype:
        return value
    return jax.device_put(value)


def _is_placed(leaf: Any) -> bool:
    """Return whether a leaf says which devices it must be on. Inside `jit` leaves have no devices."""
    if is_tracer(leaf):
        return False
    return isinstance(leaf, jax.ShapeDtypeStruct) or getattr(leaf, "committed", False)
