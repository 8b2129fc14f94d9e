"""`mlax.load(..., dtype=...)`: a model in half precision from a file in float32."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import mlax
from mlax import Module, Parameter, Variable, optim
from mlax.nn import init

pytestmark = pytest.mark.one_python

BF16 = jnp.dtype(jnp.bfloat16)


class Net(Module):
    kernel: Parameter
    mean: Variable


def trees(dtype: Any = jnp.float32) -> Any:
    """Return a model, and leaves of other kinds."""
    kernel = init.normal(1.0)(jax.random.key(0), (3, 4), jnp.float32)
    net = Net(Parameter(kernel.astype(dtype)), Variable({"of": kernel[0]}))
    kinds = {"count": jnp.arange(3), "key": jax.random.key(1), "spectrum": kernel[0] * 1j}
    return net, mlax.pack(net), {**kinds, "table": np.arange(3.0) / 3, "rate": 0.1}


@pytest.mark.parametrize("own", [jnp.float32, jnp.float16])
def test_floating_leaves_are_cast(own: Any, tmp_path: Path) -> None:
    """Whatever their dtypes in `like`. All else is as in the file."""
    net, _, kinds = trees()
    mlax.save(tmp_path / "x", (net, kinds))
    like = trees(own)[::2]
    loaded = mlax.load(tmp_path / "x", like=like, dtype="bfloat16")
    assert jax.tree.structure(loaded) == jax.tree.structure(like)
    cast = net.replace(kernel=Parameter(net.kernel.data.astype(BF16)))
    assert mlax.tree_equal(loaded, (cast, kinds | {"table": kinds["table"].astype(BF16)}))
    assert type(loaded[1]["table"]) is np.ndarray
    shapes = jax.eval_shape(lambda: trees(own)[0])
    mlax.save(tmp_path / "x", net)
    assert mlax.tree_equal(mlax.load(tmp_path / "x", like=shapes, dtype=BF16), cast)


def test_packed_trees_are_cast(tmp_path: Path) -> None:
    """The Variables in them keep their dtype, too."""
    mlax.save(tmp_path / "x", trees()[1])
    net = mlax.load(tmp_path / "x", like=trees()[1], dtype=jnp.bfloat16).unpack()
    assert mlax.tree_equal(net.kernel.data, trees()[0].kernel.data.astype(BF16))
    assert mlax.tree_equal(net.mean.data, trees()[0].mean.data)


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float32"]
)
def test_each_number_is_rounded_once(dtype: str, tmp_path: Path) -> None:
    """Not by way of float32, where it may become a tie."""
    eps = float(ml_dtypes.finfo(dtype).eps)
    ties = 1 + eps / 2 + np.array([-1, 0, 1]) * eps * 2.0**-24
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, 1e-300]
    mlax.save(tmp_path / "x", [np.array([*ties, *-ties, *special])])
    loaded = mlax.load(tmp_path / "x", like=[jnp.zeros(13)], dtype=dtype)[0].astype(float)
    assert loaded[:6].tolist() == [1, 1, 1 + eps, -1, -1, -1 - eps]
    assert loaded[6:8].tolist() == [0, 0]
    assert np.signbit(loaded[7])
    assert np.isnan(loaded[10])
    assert loaded[12] == 0


def test_after_transform_and_in_stacks(tmp_path: Path) -> None:
    """A stack of arrays is cast one by one; what `transform` returns may have any floating-point dtype."""
    parts = [np.float32([1.5, 2]), np.float32([3, 1 + 2**-9])]
    mlax.save(tmp_path / "x", parts)
    seen: list[Any] = []

    def transform(path: str, array: Any) -> Any:
        seen.append(array.dtype)
        return array[::-1].astype(np.float64)

    like = {"w": jnp.zeros((2, 2)), "same": jnp.ones(3), "kept": np.ones(2)}
    names = {"w": ["0", "1"]}.get
    loaded = mlax.load(tmp_path / "x", like, rename=names, transform=transform, dtype=BF16)
    assert seen == [np.float32] * 2
    assert loaded["w"].tolist() == [[2, 1.5], [1, 3]]
    assert [leaf.dtype for leaf in loaded.values()] == [BF16] * 3


def test_what_is_refused(tmp_path: Path) -> None:
    weights = {"w": jnp.ones(2)}
    state = optim.ClipGradients(optim.Adam(), max_norm=1.0).init(weights)
    mlax.save(tmp_path / "x", weights)

    def refusal(like: Any, dtype: Any = BF16) -> str:
        with pytest.raises((TypeError, mlax.LeafMismatchError)) as caught:
            mlax.load(tmp_path / "x", like=like, dtype=dtype)
        return str(caught.value)

    assert refusal((weights, state)).startswith(
        "mlax.load: dtype is for models, got a `like` with the state of an optimizer at 1, 1.inner.\n  "
    )
    assert "optimizer at 0.0, 0.1" in refusal([optax.adam(0.1).init(weights)])
    assert refusal(weights, int).startswith("mlax.load: dtype must be a floating-point dtype")
    assert refusal(weights, "half past").startswith("mlax.load: dtype must be a dtype of JAX")
    assert refusal({"w": jnp.ones(3)}).endswith("  w: float32[2], but float32[3] in `like`")
    assert refusal({"w": jnp.ones(2, int)}).endswith("  w: float32[2], but int32[2] in `like`")
    with pytest.raises(TypeError, match="Pass a `like`"):
        mlax.load(tmp_path / "x", dtype=BF16)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
