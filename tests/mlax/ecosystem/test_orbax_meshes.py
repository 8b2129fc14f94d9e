"""Orbax saves a run on eight devices, and restores it on eight, four, one, and on those of two processes."""

from pathlib import Path

import pytest

from tests.mlax.devices import run_in_processes, run_on_devices

pytestmark = pytest.mark.one_python

# Training goes on with all kinds of states: elementwise, factored, a tuple of slots for each weight, of matrices, in
# eight bits, of wrappers; and a packed model. The states of all optimizers are restored with numbers of their own.
COMMON = """
import functools, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import mlax
from mlax import nn, optim
from tests.mlax import generated_optimizers as generated

folder, x = Path(sys.argv[1]), np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
adam = optim.Adam(0.01)
OPTIMIZERS = {
    "adam": adam,
    "adafactor": optim.Adafactor(0.01, min_dim_size_to_factor=2, momentum=0.9),
    "sm3": optim.SM3(0.01),
    "muon": optim.Muon(0.01),
    "int8": optim.Adam(0.01, slot_dtype="int8", stochastic_rounding=True),
    "wrapped": optim.AverageWeights(optim.AccumulateGradients(optim.ClipGradients(adam, max_norm=1.0), 2)),
}

def start():
    model = mlax.set_up(nn.Batched(nn.Linear(128)), x[:1], rng=jax.random.key(0))
    models = {name: model for name in OPTIMIZERS}
    packed = mlax.pack(model)
    states = {name: optimizer.init(model) for name, optimizer in OPTIMIZERS.items()}
    return models | {"packed": packed}, states | {"packed": adam.init(packed)}

def mesh_of(count):
    return jax.make_mesh((count,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])

@functools.cache
def places(mesh, rule=P("d")):
    models, _ = shapes = jax.eval_shape(start)
    of_models = mlax.shardings(models, mesh, {r".*\\.(kernel|float32)": rule})
    of_states = {
        name: optim.state_shardings(OPTIMIZERS.get(name, adam), model, of_models[name])
        for name, model in models.items()
    }
    return mlax.abstract(shapes, (of_models, of_states)), (of_models, of_states)

def losses_of(models, x):
    found = {name: jnp.mean(jnp.square(model(x)[0] - 1)) for name, model in models.items()}
    return sum(found.values()), found

def step(run, x):
    models, states = run
    gradients, losses = jax.grad(losses_of, has_aux=True)(models, x)
    moved = {
        name: OPTIMIZERS.get(name, adam).update(models[name], gradients[name], states[name])
        for name in models
    }
    return tuple({name: pair[i] for name, pair in moved.items()} for i in (0, 1)), losses

def some(run, names):
    return tuple({name: part[name] for name in names} for part in run)

def compiled(mesh, names, rule=P("d")):
    there = some(places(mesh, rule)[1], names)
    return jax.jit(step, donate_argnums=0, out_shardings=(there, NamedSharding(mesh, P())))

def batch(mesh):
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, P("d")), lambda part: x[part])

def restored(mesh, rule=P("d")):
    with ocp.StandardCheckpointer() as checkpointer:
        run = checkpointer.restore(folder / "run", places(mesh, rule)[0])
    for leaf, like in zip(jax.tree.leaves(run), jax.tree.leaves(places(mesh, rule)[0]), strict=True):
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    return run

@functools.cache
def states_on(mesh):
    weights = {"w": jax.ShapeDtypeStruct((16, 8), np.float32), "b": jax.ShapeDtypeStruct((8,), np.float32)}
    there = {"w": NamedSharding(mesh, P("d")), "b": NamedSharding(mesh, P())}
    states = {}
    for name, module in generated.MODULES.items():
        optimizer = generated.optimizer_class(module)()
        places = optim.state_shardings(optimizer, weights, there)
        states[name] = mlax.abstract(jax.eval_shape(optimizer.init, weights), places)
    return states

def numbers(states):
    leaves, treedef = jax.tree.flatten(states)
    made = []
    for i, x in enumerate(leaves):
        if generated.is_key(x):
            made.append(np.asarray(jax.random.key_data(jax.random.key(i))))
        else:
            made.append((i + np.arange(x.size)).reshape(x.shape).astype(x.dtype))
    return treedef.unflatten(made)

def check_states(mesh):
    like = states_on(mesh)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder / "states", like)
    assert jax.tree.structure(found) == jax.tree.structure(like)
    for x, wanted, y in zip(*map(jax.tree.leaves, (found, like, numbers(like))), strict=True):
        assert x.dtype == wanted.dtype and x.sharding.is_equivalent_to(wanted.sharding, x.ndim)
        for part in x.addressable_shards:
            data = jax.random.key_data(part.data) if generated.is_key(x) else part.data
            np.testing.assert_array_equal(data, y[part.index])
"""

ON_EIGHT = """
mesh = mesh_of(8)
with jax.set_mesh(mesh):
    program = compiled(mesh, [*OPTIMIZERS, "packed"])
    run = jax.jit(start, out_shardings=places(mesh)[1])()
    run, _ = program(run, batch(mesh))
    before = jax.tree.map(jnp.copy, run)
    mlax.save(folder / "run.safetensors", before)
    with ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(folder / "run", args=ocp.args.StandardSave(run))
        for _ in range(3):  # these write over what is being saved
            run, losses = program(run, batch(mesh))
    again = restored(mesh)
    assert mlax.tree_equal(again, before)
    for _ in range(3):
        again, _ = program(again, batch(mesh))
    assert mlax.tree_equal(again, run)
like = states_on(mesh)
filled = jax.tree.map(
    lambda x, y: jax.device_put(jax.random.wrap_key_data(y) if generated.is_key(x) else y, x.sharding),
    like, numbers(like),
)
double = jax.jit(lambda states: jax.tree.map(lambda x: x if generated.is_key(x) else 2 * x, states), donate_argnums=0)
with ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:
    checkpointer.save(folder / "states", args=ocp.args.StandardSave(filled))
    double(filled)  # writes over what is being saved
for count in 8, 4, 1:
    check_states(mesh_of(count))
for count in 4, 1:
    with jax.set_mesh(mesh_of(count)):
        assert mlax.tree_equal(jax.device_get(restored(mesh_of(count))), jax.device_get(before))
np.savez(folder / "losses.npz", **losses)
"""

IN_TWO = """
check_states(mesh_of(4))
mesh, whole = mesh_of(4), NamedSharding(mesh_of(4), P())
with jax.set_mesh(mesh):
    for rule in P("d"), P():  # the weights in parts, and data parallel
        run = restored(mesh, rule)
        gathered = jax.jit(lambda run: run, out_shardings=whole)(run)
        assert mlax.tree_equal(gathered, mlax.load(folder / "run.safetensors", like=gathered))
        run, program = some(run, ["adam", "packed"]), compiled(mesh, ["adam", "packed"], rule)
        for _ in range(3):
            run, losses = jax.block_until_ready(program(run, batch(mesh)))
        for name, loss in losses.items():
            assert abs(loss - np.load(folder / "losses.npz")[name]) < 1e-6, (name, rule, loss)
"""


def test_a_run_is_restored_on_any_mesh(tmp_path: Path) -> None:
    run_on_devices(8, COMMON + ON_EIGHT, str(tmp_path))
    run_in_processes(2, COMMON + IN_TWO, str(tmp_path))
