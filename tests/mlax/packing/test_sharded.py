"""Packed trees on several devices."""

import pytest

from tests.mlax.devices import run_on_devices

pytestmark = pytest.mark.one_python

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import mlax
from mlax import optim
from mlax.tree import tree_equal

mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
flat, everywhere = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
tree = {"a": jnp.arange(8.0), "b": jnp.arange(12.0).reshape(4, 3), "c": jnp.ones(4)}
packed = mlax.pack(tree)
sharded = jax.device_put(packed, flat)
assert sharded.small["float32"].data.sharding == flat
assert tree_equal(sharded.unpack(), tree)
assert tree_equal(mlax.pack(jax.device_put(tree, flat)).unpack(), tree)
mixed = {"a": jax.device_put(tree["a"], flat), "b": jax.device_put(tree["b"], everywhere)}
assert tree_equal(mlax.pack(mixed).unpack(), mixed)

def loss(packed):
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in packed.unpack().values())

def step(packed, state):
    return optimizer.update(packed, jax.grad(loss)(packed), state)

optimizer = optim.SGD(0.1)
expected, _ = jax.jit(step)(packed, optimizer.init(packed))
moved, _ = jax.jit(step, out_shardings=(flat, None))(sharded, optimizer.init(sharded))
assert moved.small["float32"].data.sharding == flat
np.testing.assert_allclose(moved.small["float32"].data, expected.small["float32"].data, rtol=1e-6)

def total(packed, x):
    return jax.lax.psum(loss(packed) * jnp.sum(x), "d")

x = jnp.arange(8.0)
manual = jax.jit(jax.shard_map(jax.grad(total), mesh=mesh, in_specs=(P(), P("d")), out_specs=P()))
found, gradient = manual(packed, x), jax.grad(loss)(packed)
np.testing.assert_allclose(
    found.small["float32"].data, 28 * gradient.small["float32"].data, rtol=1e-6
)

# The same where the type says how an array is sharded.
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
flat, everywhere = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
tree = {"a": jnp.arange(8.0), "b": jnp.arange(12.0).reshape(4, 3), "c": jnp.ones(4)}
packed = mlax.pack(tree)
sharded = jax.device_put(packed, flat)
gradient = jax.grad(loss)(packed)
for transform in (lambda f: f, jax.jit):
    assert tree_equal(transform(lambda p: p.unpack())(sharded), tree)
    for mixed in (jax.device_put(tree, flat), jax.device_put(tree, flat) | {"b": tree["b"]}):
        mixed["c"] = jax.device_put(mixed["c"], everywhere)
        mixed["b"] = jax.device_put(mixed["b"], NamedSharding(mesh, P("d", None)))
        assert tree_equal(transform(mlax.pack)(mixed), packed)
found = jax.jit(jax.grad(loss))(sharded)
assert found.small["float32"].data.sharding == flat
np.testing.assert_allclose(found.small["float32"].data, gradient.small["float32"].data, rtol=1e-6)
with jax.set_mesh(mesh):
    moved, _ = jax.jit(step)(sharded, optimizer.init(sharded))
assert moved.small["float32"].data.sharding == flat
np.testing.assert_allclose(moved.small["float32"].data, expected.small["float32"].data, rtol=1e-6)

def again(packed, x):
    before = packed.unpack()
    return packed.repack(before | {"c": before["c"] * x})

xs = jnp.arange(4.0)
ensemble = jax.tree.map(lambda x: jnp.stack([x] * 4), packed)
for function in (jax.grad(loss), lambda p: p.unpack(), lambda p: mlax.pack(p.unpack())):
    found = jax.jit(jax.vmap(function))(jax.device_put(ensemble, flat))
    wanted = jax.vmap(function)(ensemble)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert x.sharding.spec[0] == "d"
        np.testing.assert_allclose(x, y, rtol=1e-6)
many = jax.vmap(again, in_axes=(None, 0))
found = jax.jit(many)(jax.device_put(packed, everywhere), jax.device_put(xs, flat))
assert tree_equal(found, many(packed, xs))

one, two, *_ = jax.devices()
apart = {key: jax.device_put(leaf, one if key == "a" else two) for key, leaf in tree.items()}
try:
    mlax.pack(apart)
except ValueError as error:
    assert "a and b are on different devices" in str(error), error
else:
    raise AssertionError("packed")
packed = mlax.pack(apart, group=lambda path, array: array.device)
assert packed.large.keys() == {"a"}
assert tree_equal(packed.unpack(), apart)
"""


def test_flat_arrays_are_sharded_like_any_array() -> None:
    run_on_devices(4, SCRIPT)
