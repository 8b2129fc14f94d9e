"""What is saved comes back: every dtype, shape, kind of leaf and tree, bit for bit."""

import enum
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlax
from mlax import Container, Parameter, Variable, optim
from mlax._module.static_texts import dotted
from tests.mlax.devices import run_on_devices
from tests.mlax.trees import modules

pytestmark = pytest.mark.one_python

REAL = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "bfloat16", "float32", "float64", "int2", "uint2", "int4", "uint4"),
    *("float4_e2m1fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"),
    *("float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"),
]
DTYPES = [*REAL, "complex64", "complex128"]
WIDE = {"uint64", "int64", "float64", "complex128"}


class Pair(NamedTuple):
    first: Any
    second: Any = None


class Color(enum.IntEnum):
    RED = 1


def bits(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Return a NumPy array of any bits that the dtype can have: NaN of many kinds, subnormals, infinities."""
    numpy_dtype = np.dtype(getattr(jnp, dtype))
    data = np.random.default_rng(seed).integers(0, 256, (*shape, numpy_dtype.itemsize), np.uint8)
    array = data.reshape(-1).view(numpy_dtype).reshape(shape)
    if dtype == "bool":
        return (data[..., 0] & 1).astype(bool)
    if dtype.endswith(("int2", "int4", "float4_e2m1fn")):
        return array.astype(np.float32).astype(numpy_dtype)
    return array


def identical(a: Any, b: Any) -> bool:
    """Return whether two trees are of the same structure, kinds of leaf, dtypes and bits."""
    (leaves, treedef), (others, structure) = jax.tree.flatten(a), jax.tree.flatten(b)
    return treedef == structure and all(map(identical_leaves, leaves, others))


def identical_leaves(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return a.dtype == b.dtype and identical_leaves(*map(jax.random.key_data, (a, b)))
    if isinstance(a, jax.Array):
        if a.aval != b.aval or a.sharding != b.sharding or a.committed != b.committed:
            return False
    elif not isinstance(a, np.ndarray | np.generic):
        return repr(a) == repr(b)
    x, y = np.asarray(a), np.asarray(b)
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def saved_and_loaded(path: Path, tree: Any) -> Any:
    file = path / "tree.safetensors"
    mlax.save(file, tree)
    return mlax.load(file, like=tree)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape(dtype: str, tmp_path: Path) -> None:
    """As NumPy arrays and scalars, and as JAX arrays."""
    tree: dict[str, Any] = {
        str(i): bits(dtype, shape, i)
        for i, shape in enumerate(
            [(), (1,), (0,), (3,), (2, 0, 3), (5, 7), (1, 2, 3, 1, 2), (257,)]
        )
    }
    tree["scalar"] = tree["3"][0]
    assert identical(saved_and_loaded(tmp_path, tree), tree)
    with jax.enable_x64(dtype in WIDE):
        tree = {key: jnp.array(value) for key, value in tree.items()}
        assert tree["3"].dtype == dtype
        assert identical(saved_and_loaded(tmp_path, tree), tree)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys(implementation: str, tmp_path: Path) -> None:
    """Of every kind and shape; they draw what the saved ones draw."""
    key = jax.random.key(7, impl=implementation)
    tree = {"one": key, "more": jax.random.split(key, (2, 3)), "none": key.reshape(1)[:0]}
    loaded = saved_and_loaded(tmp_path, tree)
    assert identical(loaded, tree)
    assert jax.random.bits(loaded["one"]) == jax.random.bits(key)


def test_numbers(tmp_path: Path) -> None:
    """Python's come back as Python's."""
    tree = [True, False, 0, -1, 2**63 - 1, -(2**63), 0.0, -0.0, 1e-320, float("inf"), 1j, -0.0 + 2j]
    tree += [float("nan"), Color.RED]
    assert identical(saved_and_loaded(tmp_path, tree), tree)
    assert saved_and_loaded(tmp_path, tree)[-1] is Color.RED


@pytest.mark.parametrize(
    "tree",
    [
        {},
        None,
        [None, (), {"a": None}],
        jnp.arange(3),
        5,
        {"": jnp.ones(1), "a": {"": 2}},
        {"a.b": 1, "c/d": 2, "e": {" ": 3}, "\n": 4, '"': 5, "π.é": 6, "\U0001f600": 7, "a": 8},
        {1: 2, 3: [4]},
        {(1, "x"): 2},
        OrderedDict([("z", 1), ("a", 2)]),
        Pair(1, Pair(2.0)),
        Parameter(jnp.ones(2)),
        Parameter({"a": jnp.ones(2), "b": (jnp.zeros(1), None)}),
        Variable(jax.random.key(0)),
        Container([Parameter(jnp.ones(2)), {"x": Variable(jnp.arange(2))}]),
        Parameter(None),
        np.ones(3)[::-1],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.broadcast_to(np.float32(1), (2, 3)),
    ],
)
def test_trees(tree: Any, tmp_path: Path) -> None:
    assert identical(saved_and_loaded(tmp_path, tree), tree)
    assert identical(mlax.unflatten(mlax.flatten(tree), like=tree), tree)


LEAVES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.none(),
    st.builds(
        bits,
        st.sampled_from(DTYPES),
        st.sampled_from([(), (0,), (2,), (1, 3)]),
        st.integers(0, 9),
    ),
)
KEYS = st.text("ab0. é", min_size=1, max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)


@given(TREES)
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    """Comes back, or is refused because two of its paths are the same."""
    paths = [dotted(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if len(set(paths)) < len(paths):
        with pytest.raises(ValueError, match="have the same path"):
            mlax.flatten(tree)
        return
    assert list(mlax.flatten(tree)) == paths
    folder = tmp_path_factory.getbasetemp()
    assert identical(saved_and_loaded(folder, tree), tree)
    assert identical(mlax.unflatten(mlax.flatten(tree), like=tree), tree)


@given(modules)
def test_any_module(tmp_path_factory: pytest.TempPathFactory, module: Any) -> None:
    """Comes back into itself and into its shapes."""
    folder = tmp_path_factory.getbasetemp()
    if any(
        node is mlax.UNSET for node in jax.tree.leaves(module, is_leaf=lambda n: n is mlax.UNSET)
    ):
        with pytest.raises(ValueError, match=r"mlax\.save: .* UNSET"):
            mlax.save(folder / "tree.safetensors", module)
        return
    assert identical(saved_and_loaded(folder, module), module)
    shapes = jax.eval_shape(lambda: module)
    assert identical(mlax.load(folder / "tree.safetensors", like=shapes), module)


def test_loaded_state_runs_without_a_retrace(tmp_path: Path) -> None:
    """What is loaded has the types of what was saved, and its buffers can be given away."""
    weights = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3, jnp.bfloat16)}
    optimizer = optim.Adam(learning_rate=1e-3, b2=0.9)
    state = optimizer.init(weights)
    traces: list[None] = []

    def step(weights: Any, state: Any) -> Any:
        traces.append(None)
        return optimizer.apply_gradients(weights, state, weights)

    jitted = jax.jit(step, donate_argnums=(0, 1))
    weights, state = jitted(weights, state)
    weights, state = saved_and_loaded(tmp_path, (weights, state))
    copy = saved_and_loaded(tmp_path, (weights, state))
    first = jitted(weights, state)
    assert identical(jitted(*copy), first)
    assert len(traces) == 1
    assert (
        jitted._cache_size() <= 1
    )  # 0 where other tests have filled the cache that all functions share


def test_weak_types_become_strong(tmp_path: Path) -> None:
    tree = {"x": jnp.asarray(1.0)}
    assert tree["x"].weak_type
    assert not saved_and_loaded(tmp_path, tree)["x"].weak_type


def test_loaded_arrays_share_no_memory_with_numpy(tmp_path: Path) -> None:
    """NumPy arrays can be written to; JAX arrays keep their values."""
    like = jax.eval_shape(lambda: {"x": jnp.zeros(1 << 16)})
    memory = np.zeros((1 << 18) + 64, np.uint8)
    start = -memory.ctypes.data % 64  # JAX keeps memory that is aligned so
    flat = {"x": memory[start : start + (1 << 18)].view(np.float32)}
    made, copied = mlax.unflatten(flat, like=like), mlax.unflatten(flat, like=flat)
    flat["x"][:] = 1
    assert float(made["x"].sum()) == 0
    assert copied["x"].sum() == 0
    loaded = saved_and_loaded(tmp_path, flat)
    loaded["x"][0] = 5
    assert loaded["x"][0] == 5


def test_kinds_of_leaves_are_those_of_like(tmp_path: Path) -> None:
    """Whatever was saved."""
    file = tmp_path / "x"
    mlax.save(file, {"x": np.float32(1.5), "n": 3})
    loaded = mlax.load(file, like={"x": jnp.ones(()), "n": np.array(0)})
    assert identical(loaded, {"x": jnp.asarray(1.5, jnp.float32) + 0, "n": np.array(3)})
    mlax.save(file, {"x": jnp.float32(1.5)})
    assert identical(mlax.load(file, like={"x": np.float32(0)}), {"x": np.float32(1.5)})


def test_one_array_in_two_places_is_saved_twice(tmp_path: Path) -> None:
    x = jnp.arange(3.0)
    loaded = saved_and_loaded(tmp_path, [x, x])
    assert identical(loaded, [x, x])
    assert loaded[0] is not loaded[1]


def test_metadata(tmp_path: Path) -> None:
    """Strings go with the file and come back."""
    strings = {"epoch": "3", "": "", "ü": '"\n\U0001f600', "__metadata__x": "y", "x": "00000000"}
    mlax.save(tmp_path / "x", [1], metadata=strings)
    assert mlax.load_metadata(tmp_path / "x") == strings
    assert mlax.load(tmp_path / "x", like=[0]) == [1]
    mlax.save(str(tmp_path / "x"), [1])
    assert mlax.load_metadata(str(tmp_path / "x")) == {}


def test_bytes_are_a_function_of_the_tree(tmp_path: Path) -> None:
    """And wide elements stand first, aligned."""
    tree = {"a": np.ones(3, bool), "b": np.ones(3, np.float16), "c": np.ones(2), "d": jnp.ones(5)}
    for size in range(8):
        for name in "xy":
            mlax.save(tmp_path / name, tree, {"k": "v" * size})
        data = (tmp_path / "x").read_bytes()
        assert data == (tmp_path / "y").read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        assert start % 8 == 0
        assert data[start:] == b"".join(np.asarray(tree[name]).tobytes() for name in "cdba")


SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np, mlax
from jax.sharding import NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
tree = {
    "split": jax.device_put(jnp.arange(6.0).reshape(2, 3), split),
    "whole": jax.device_put(jnp.arange(3), whole),
    "keys": jax.device_put(jax.random.split(jax.random.key(0), 2), split),
    "second": jax.device_put(jnp.ones(2), jax.devices()[1]),
    "free": jnp.ones(2),
}
mlax.save(sys.argv[1], tree)
shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
for like in (tree, shapes):
    loaded = mlax.load(sys.argv[1], like=like)
    assert mlax.tree_equal(loaded, tree), loaded
    for name, x in tree.items():
        assert loaded[name].sharding.is_equivalent_to(x.sharding, x.ndim), name
    assert loaded["free"].committed == (like is shapes)
"""


def test_sharding_is_that_of_like(tmp_path: Path) -> None:
    """Arrays on several devices are gathered, and spread again."""
    run_on_devices(2, SHARDED, str(tmp_path / "x"))
