"""Losses and recurrent layers of arrays that several devices share."""

import pytest

from tests.mlax.devices import run_on_devices

pytestmark = pytest.mark.one_python

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
import mlax
from mlax import losses, nn

mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
logits, targets = jnp.arange(8.0) / 3, jax.nn.softmax(jnp.ones(8))
for loss, *more in (
    (losses.cross_entropy, jnp.int32(2)), (losses.cross_entropy, targets),
    (losses.poly_cross_entropy, jnp.int32(7)), (losses.nll, jnp.int8(2)),
):
    gradient = jax.jit(jax.grad(loss))
    expected = gradient(logits, *more)
    with jax.set_mesh(mesh):
        found = gradient(jax.device_put(logits, P("d")), *more)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)

mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
x = jax.random.normal(jax.random.key(0), (4, 3, 2))
for cell in (nn.GRUCell(4), nn.LSTMCell(4)):
    model = mlax.set_up(nn.Batched(nn.Recurrent(cell)), x, rng=jax.random.key(1))
    parts = jax.shard_map(lambda x: model(x)[0], mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    np.testing.assert_allclose(parts(x), model(x)[0], rtol=1e-6)
"""


def test_parts_make_the_whole() -> None:
    run_on_devices(2, SCRIPT)
