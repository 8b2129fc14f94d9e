"""Files and comparisons in a program of two processes."""

import os
from pathlib import Path

import pytest

from tests.mlax.devices import run_in_processes

pytestmark = pytest.mark.one_python

SCRIPT = """
import os, re, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec as P
import mlax
from mlax import optim

folder, me = Path(sys.argv[1]), jax.process_index()
mesh = jax.make_mesh((4,), ("data",))
everywhere, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

def start(scale):
    weights = {"w": scale * jnp.arange(32.0).reshape(8, 4)}
    return weights, optim.NoisySGD().init(weights), jax.random.split(jax.random.key(1), 4)

whole = jax.jit(start, out_shardings=everywhere)(1.0)
other = jax.jit(start, out_shardings=everywhere)(2.0)
parts = jax.jit(start, out_shardings=mlax.shardings(whole, mesh, {"0.w|2": P("data")}))(1.0)

# All save to one path: one of them writes.
for run in whole, other, whole:
    mlax.save(folder / "run.safetensors", run)
    written = (folder / "run.safetensors").stat()
    multihost_utils.sync_global_devices("saved")
    mlax.save(folder / "run.safetensors", run)
    again = (folder / "run.safetensors").stat()
    assert (written.st_ino, written.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)
    multihost_utils.sync_global_devices("saved again")
mlax.save(folder / f"{me}.safetensors", other)

# Each loads its parts.
for target in mlax.abstract(whole, everywhere), mlax.abstract(parts, jax.tree.map(lambda x: x.sharding, parts)):
    loaded = mlax.load(folder / "run.safetensors", like=target)
    for x, y in zip(jax.tree.leaves(loaded), jax.tree.leaves(target), strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
    gathered = multihost_utils.process_allgather(loaded[0]["w"], tiled=True)
    np.testing.assert_array_equal(gathered, np.arange(32.0).reshape(8, 4))
keys = multihost_utils.process_allgather(jax.random.key_data(loaded[2]), tiled=True)
np.testing.assert_array_equal(keys, jax.random.key_data(start(1.0)[2]))
assert mlax.load(folder / f"{me}.safetensors", like=jax.eval_shape(start, 1.0))[0]["w"][7, 3] == 62

def message(function, *arguments):
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError("no error")

found = message(mlax.save, folder / "parts.safetensors", parts)
assert re.fullmatch(
    "mlax.save: 0.w in `tree`: float32.8,4. is sharded over several processes, each of which has a part.\\n"
    "  Save the tree with Orbax, or gather it first, in all processes: .*process_allgather.*", found
), found
assert not (folder / "parts.safetensors").exists()

assert mlax.tree_equal(whole, whole) and not mlax.tree_equal(whole, other)
assert mlax.tree_equal(whole, mlax.load(folder / "run.safetensors", like=whole))
assert mlax.tree_equal(parts[0], parts[0])
assert not mlax.tree_equal(parts[0], {"w": 2 * parts[0]["w"]})
assert not mlax.tree_equal(parts[0], jax.device_get(other[0]))
assert "process_allgather" in message(mlax.tree_equal, parts[0], {"w": 1 * parts[0]["w"]})
assert "process_allgather" in message(mlax.tree_equal, whole[0], parts[0])
multihost_utils.sync_global_devices("done")
"""


def test_one_of_two_processes_writes_and_both_load(tmp_path: Path) -> None:
    run_in_processes(2, SCRIPT, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["0.safetensors", "1.safetensors", "run.safetensors"]
