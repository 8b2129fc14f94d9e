"""What one training step sends between devices, beside plain JAX with Optax.

    python -m benchmarks.devices [CASE...]

prints figures of the compiled programs as JSON. It runs in a process of its own: devices can only be simulated when a
process starts.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array
from optax import contrib

import mlax
from benchmarks.agreement import DisagreementError
from benchmarks.effort import Effort
from benchmarks.results import Results
from benchmarks.timing import Progress
from mlax import nn, optim

__all__ = ["CASES", "KINDS", "measure", "sent"]

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
DEVICES, FEATURES, OUTPUTS = 8, 32, 16
QUICKLY: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
}
"""The program is partitioned and fused as always; only the machine code, which is not looked at, is slow."""


@dataclass(frozen=True)
class Placement:
    """Where weights, state and examples lie.

    Args:
        weights: The rules of `mlax.shardings`.
        examples: How the batch is sharded.
        state: As if the weights were sharded by these rules; None: as they are.
        gathered: Whether the loss gathers the weights first.
    """

    weights: Mapping[str, P]
    examples: P
    state: Mapping[str, P] | None = None
    gathered: bool = False


PARTS = {".*": P("devices")}
PLACEMENTS = {
    "data parallel": Placement({}, P("devices")),
    "FSDP": Placement(PARTS, P("devices"), gathered=True),
    "tensor parallel": Placement(
        {
            r"layers\.0\.kernel": P(None, "devices"),
            r"layers\.0\.bias": P("devices"),
            r"layers\.1\.kernel": P("devices", None),
        },
        P(),
    ),
    "ZeRO-1": Placement({}, P("devices"), state=PARTS),
}

RATE, LONGEST = 1e-2, 0.1
OPTIMIZERS: dict[str, tuple[Any, optax.GradientTransformation]] = {
    "Adam": (optim.Adam(RATE), optax.adam(RATE)),
    "AdamW, clipped": (
        optim.AdamW(RATE),
        optax.chain(optax.clip_by_global_norm(LONGEST), optax.adamw(RATE)),
    ),
    "Muon": (optim.Muon(RATE), contrib.muon(RATE)),
}
CASES = {
    f"{placement}, {optimizer}": (placement, optimizer)
    for placement in PLACEMENTS
    for optimizer in OPTIMIZERS
}

Step = Callable[[Any, Any, Array, Array], tuple[Any, Any, Array]]
"""From weights, state, inputs and targets to the next weights and state, and the loss."""


def in_mlax(
    optimizer: Any, clipped: bool, whole: Callable[[Any], Any]
) -> tuple[Callable[[Any], Any], Step]:
    """Return `init` and a step of a model, as users of mlax write it."""

    def squared_error(model: Any, x: Array, y: Array) -> tuple[Array, Any]:
        found, model = whole(model)(x)
        return jnp.mean((found - y) ** 2), model

    def step(model: Any, state: Any, x: Array, y: Array) -> tuple[Any, Any, Array]:
        (loss, _), gradients = mlax.value_and_grad(squared_error)(model, x, y)
        if clipped:
            gradients, _ = optim.clip_grad_norm(gradients, LONGEST)
        model, state = optimizer.update(model, gradients, state)
        return model, state, loss

    return optimizer.init, step


def in_optax(
    optimizer: optax.GradientTransformation, whole: Callable[[Any], Any]
) -> tuple[Callable[[Any], Any], Step]:
    """Return `init` and a step of a dict of arrays, as users of Optax write it."""

    def squared_error(weights: Any, x: Array, y: Array) -> Array:
        w = whole(weights)
        x = jax.nn.relu(x @ w["layers.0.kernel"] + w["layers.0.bias"])
        return jnp.mean((x @ w["layers.1.kernel"] + w["layers.1.bias"] - y) ** 2)

    def step(weights: Any, state: Any, x: Array, y: Array) -> tuple[Any, Any, Array]:
        loss, gradients = jax.value_and_grad(squared_error)(weights, x, y)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, loss

    return optimizer.init, step


def as_weights(init: Callable[[Any], Any], weights: Any, places: Any) -> Any:
    """Return the sharding of each leaf of a state of Optax: that of the weight whose name ends its path."""
    by_name = {name: (w.shape, places[name]) for name, w in weights.items()}
    (anywhere, *_) = places.values()

    def place(path: Any, leaf: Any) -> NamedSharding:
        shape, sharding = by_name.get(getattr(path[-1], "key", ""), ((), None))
        return sharding if leaf.shape == shape else NamedSharding(anywhere.mesh, P())

    return jax.tree_util.tree_map_with_path(place, jax.eval_shape(init, weights))


def programs(case: str) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Yield for each library the compiled program of a step, and the weights after two steps."""
    placement, optimizer = PLACEMENTS[CASES[case][0]], CASES[case][1]
    ours, theirs = OPTIMIZERS[optimizer]
    mesh = jax.make_mesh((DEVICES,), ("devices",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, P())
    sample = jax.ShapeDtypeStruct((FEATURES,), float)
    model = mlax.set_up(nn.MLP(2 * FEATURES, OUTPUTS), sample, rng=jax.random.key(0))
    arrays = mlax.flatten(model)
    x, y = (
        jax.device_put(
            jax.random.normal(jax.random.key(seed), (4 * DEVICES, size)),
            NamedSharding(mesh, placement.examples),
        )
        for seed, size in ((1, FEATURES), (2, OUTPUTS))
    )

    def whole(weights: Any) -> Any:
        return (
            jax.lax.with_sharding_constraint(weights, everywhere) if placement.gathered else weights
        )

    state_rules = placement.weights if placement.state is None else placement.state
    like_weights, like_state = (
        mlax.shardings(model, mesh, rules) for rules in (placement.weights, state_rules)
    )
    weights: Any
    weight_places: Any
    for library in ("mlax", "Optax"):
        if library == "mlax":
            init, step = in_mlax(ours, "clipped" in optimizer, whole)
            weights, weight_places = model, like_weights
            state_places = optim.state_shardings(ours, model, like_state)
        else:
            init, step = in_optax(theirs, whole)
            weights, weight_places = arrays, mlax.flatten(like_weights)
            state_places = as_weights(init, arrays, mlax.flatten(like_state))
        run = jax.device_put((weights, init(weights)), (weight_places, state_places))
        with jax.set_mesh(mesh):
            jitted = jax.jit(step, out_shardings=(weight_places, state_places, everywhere))
            program = jitted.lower(*run, x, y).compile(QUICKLY)
            for _ in range(2):
                *run, _ = program(*run, x, y)
        after = mlax.flatten(run[0]) if library == "mlax" else run[0]
        yield library, program.as_text() or "", {k: np.asarray(w) for k, w in after.items()}


def agree(case: str, mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Compare the weights after some steps.

    Raises:
        DisagreementError: They differ by more than rounding errors.
    """
    for name, expected in theirs.items():
        if not np.allclose(mine[name], expected, rtol=1e-3, atol=1e-4):
            raise DisagreementError(f"{case}: not the same work: {name} differs")


def sent(program: str) -> tuple[Counter[str], int]:
    """Return what a compiled program sends: how many collectives of each kind, and the bytes of their results.

    Only what runs is counted: the branch for a false condition, and the body of a loop as often as it is repeated.
    """
    bodies: dict[str, list[str]] = {}
    lines = list[str]()
    entry = ""
    for line in program.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.-]+) .*\{$", line):
            lines = bodies[head[2]] = []
            entry = head[2] if head[1] else entry
        else:
            lines.append(line)
    return _sent(entry, bodies)


def _sent(name: str, bodies: Mapping[str, list[str]]) -> tuple[Counter[str], int]:
    count, size = Counter[str](), 0
    for line in bodies[name]:
        if found := re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line):
            count[found[2]] += 1
            size += sum(map(_bytes, re.findall(r"([a-z]+\d*)\[([\d,]*)\]", found[1])))
            continue
        times = int(n[1]) if (n := re.search(r'"known_trip_count":\{"n":"(\d+)"', line)) else 1
        one = r"(?:false_computation=|branch_computations=\{|body=|to_apply=|calls=)%?([\w.-]+)"
        for inner in re.findall(one, line):
            more, bigger = _sent(inner, bodies)
            count.update({kind: times * n for kind, n in more.items()})
            size += times * bigger
    return count, size


def _bytes(array: tuple[str, str]) -> int:
    dtype, shape = array
    bits = int(re.sub(r"\D", "", dtype) or 8)
    return math.prod(int(n) for n in shape.split(",") if n) * bits // 8


def figures(case: str) -> dict[str, dict[str, int]]:
    """Return for each library how many collectives there are, in all and of each kind, and their bytes.

    Raises:
        DisagreementError: The libraries do not do the same work.
    """
    found = dict[str, dict[str, int]]()
    weights = dict[str, dict[str, np.ndarray]]()
    for library, program, weights[library] in programs(case):
        count, size = sent(program)
        kinds = {kind: count[kind] for kind in KINDS if count[kind]}
        found[library] = {"collectives": count.total(), "bytes": size, **kinds}
    agree(case, weights["mlax"], weights["Optax"])
    return found


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Count what steps send, in a process with simulated devices."""
    progress(f"compiling {2 * len(CASES)} steps")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.devices", *CASES],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    read: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout)
    for case, libraries in read.items():
        for quantity in ("collectives", "bytes", *KINDS):
            rounds = {name: [one[quantity]] for name, one in libraries.items() if quantity in one}
            results.add("devices", case, quantity, "B" if quantity == "bytes" else "", rounds)


if __name__ == "__main__":
    json.dump({case: figures(case) for case in sys.argv[1:]}, sys.stdout)
