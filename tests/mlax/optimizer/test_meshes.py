"""Every optimizer on a mesh of devices: the step of one device, and a state that stays where it is."""

import pytest

from tests.mlax.devices import run_on_devices

pytestmark = pytest.mark.one_python

# Thirty optimizers are in one program, with a scan over steps: it is only traced if a step returns the types that it is
# given, which say on Explicit axes where arrays lie. (Programs of ten are compiled as fast, one of all takes half as
# long again.)
SCRIPT = """
import collections, functools, re, warnings
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import mlax
from mlax import optim
from mlax.optimizer import normals
from tests.mlax import generated_optimizers as generated
from tests.mlax.optim.transformations import examples

warnings.simplefilter("ignore")  # of narrow slots
PLACES = {"a": P("data", None), "b": P(None, "data"), "b0": P("data", "model"), "bias": P()}
SHAPES = {"a": (16, 8), "b": (8, 16), "b0": (8, 8), "bias": (8,)}
PARTS = {".*": P("data")}
WHOLE = ("adam ", "lamb ", "muon ", "adafactor {'min", "soap {", "AverageWeights")

cases = {}
for name, options in generated.CASES:
    if not options or not generated.is_elementwise(name):
        optimizer = generated.optimizer_class(generated.MODULES[name])(**options)
        cases[f"{name} {options or ''}"] = optimizer, functools.partial(generated.arguments, name)
for name, optimizer in examples.EXAMPLES.items():
    cases[name] = optimizer, lambda _, optimizer=optimizer: examples.arguments(optimizer)

def tree(seed, *steps):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=(*steps, *shape)).astype(np.float32) for k, shape in SHAPES.items()}

def init(weights):
    return {case: cases[case][0].init(weights[case]) for case in weights}

def steps(weights, states, gradients):
    def body(run, gradients):
        weights, states = run
        moved = {
            case: optimizer.step(gradients[case], states[case], weights[case], **arguments(gradients[case]))
            for case in weights for optimizer, arguments in (cases[case],)
        }
        updates, states = ({case: pair[i] for case, pair in moved.items()} for i in (0, 1))
        return (jax.tree.map(jnp.add, weights, updates), states), None
    return jax.lax.scan(body, (weights, states), gradients)[0]

def run_steps(*trees):
    after, text, names = ({}, {}), "", [*trees[0]]
    for first in range(0, len(names), 30):
        some = [{case: tree[case] for case in names[first : first + 30]} for tree in trees]
        program = jax.jit(steps).lower(*some).compile()
        for all_of_them, found in zip(after, program(*some)):
            all_of_them.update(found)
        text += program.as_text()
    return after, text

def arrays(tree):
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}

def placed(tree, mesh, *before):
    return {
        case: {k: jax.device_put(x, NamedSharding(mesh, P(*before, *PLACES[k]))) for k, x in leaves.items()}
        for case, leaves in tree.items()
    }

def places(tree):
    return {path: x.sharding.spec[: x.ndim] for path, x in arrays(tree).items() if x.ndim}

def same_places(a, b):
    a, b = ({p: (*s, *[None] * 2)[:2] for p, s in places(t).items()} for t in (a, b))
    assert a.keys() == b.keys()
    assert not (moved := {p: (a[p], b[p]) for p in a if a[p] != b[p]}), moved

def same_numbers(tree, expected):
    for path, x in arrays(tree).items():
        if not generated.is_key(x):
            y = np.asarray(expected[path])
            largest = np.abs(y).max(initial=0)
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * largest, err_msg=path)

def noise(weights):
    return normals(weights, jax.random.key(0), 1.0, None)

clipped = optim.ClipGradients(optim.Adam(), max_norm=1.0)
all_weights, all_gradients = (dict.fromkeys(cases, tree(*seed)) for seed in ((0,), (1, 2)))
expected = arrays(run_steps(all_weights, init(all_weights), all_gradients)[0])
some_weights = {case: tree(0) for case in cases if case.startswith(WHOLE)}
some_gradients = dict.fromkeys(some_weights, tree(1, 20))
assert len(some_weights) >= len(WHOLE), some_weights.keys()
expected_of_some = arrays(jax.jit(steps)(some_weights, init(some_weights), some_gradients))
for kind in AxisType.Auto, AxisType.Explicit:
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        weights, gradients = placed(all_weights, mesh), placed(all_gradients, mesh, None)
        states = init(weights)
        same_places(jax.jit(init)(weights), states)
        for case, (optimizer, _) in cases.items():
            there = jax.tree.map(lambda x: x.sharding, weights[case])
            planned = optim.state_shardings(optimizer, all_weights[case], there)
            same_places(jax.device_put(states[case], planned), states[case])
        after, programs = run_steps(weights, states, gradients)
    same_places(after, (weights, states))
    same_numbers(after, expected)
    # Elementwise optimizers send nothing. Those that see a matrix as a whole gather each array of it once, over one
    # axis of the mesh after the other: Muon the direction; Shampoo the gradient and the mean; SOAP these, and what it
    # rotates back; Dion the momentum and the directions; GaLore the gradient, again at the steps at which it is
    # decomposed, and the direction. The others send sums over leaves, rows and columns, of all their options together.
    found = collections.defaultdict(collections.Counter)
    for line in programs.splitlines():
        for operation in re.findall("= .*? (all-[a-z-]+?|collective-permute|reduce-scatter)(?:-start)?[(]", line):
            names = [name for name in re.findall("/([a-z0-9_]+)/jit", line) if name in generated.MODULES]
            found[operation]["".join(names)] += 1
    most = {
        "all-gather": {"": 8, "dion": 13, "galore": 24, "muon": 9, "shampoo": 12, "soap": 24},
        "all-reduce": {
            "": 92, "adafactor": 68, "adamp": 41, "came": 26, "dog": 14, "fromage": 16, "lamb": 16, "lars": 32,
            "mars": 8, "novograd": 16, "polyak_sgd": 16, "sgdp": 40, "sm3": 2, "tiger": 8,
        },
    }
    assert found.keys() == most.keys(), found
    assert all(n <= most[operation].get(name, 0) for operation in found for name, n in found[operation].items()), found
    # A global norm is one all-reduce of numbers. Its branches, for squares that overflow or vanish, are not taken.
    with jax.set_mesh(mesh):
        weights = jax.device_put(tree(0), NamedSharding(mesh, P("data")))
        state = clipped.init(weights)
        text = jax.jit(clipped.step).lower(weights, state, weights).compile().as_text()
    taken = text[text.index("ENTRY") :]
    assert re.findall("(all-[a-z-]+?|collective-permute|reduce-scatter)(?:-start)?[(]", taken) == ["all-reduce"]
    # Whole weights with a sharded state (ZeRO-1). On Auto axes, only `out_shardings` keeps weights whole.
    with jax.set_mesh(mesh):
        weights = jax.device_put(some_weights, NamedSharding(mesh, P()))
        gradients = jax.device_put(some_gradients, NamedSharding(mesh, P()))
        planned = {
            case: optim.state_shardings(cases[case][0], w, mlax.shardings(w, mesh, PARTS))
            for case, w in some_weights.items()
        }
        run = weights, jax.device_put(init(weights), planned)
        places_of_run = jax.tree.map(lambda x: x.sharding, run)
        after = jax.jit(steps, out_shardings=places_of_run)(*run, gradients)
        numbers = noise(tree(0))
        for made in noise, jax.jit(noise):
            there = made(placed({"": tree(0)}, mesh)[""])
            same_places(there, placed({"": numbers}, mesh)[""])
            same_numbers(there, arrays(numbers))
    assert any(any(places(state).values()) for state in after[1].values())
    same_places(after, run)
    same_numbers(after, expected_of_some)
"""


def test_steps_on_a_mesh_are_those_of_one_device() -> None:
    run_on_devices(8, SCRIPT)
