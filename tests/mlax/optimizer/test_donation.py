"""A training step can be given the buffers of weights and state: it overwrites all of them and keeps no array
alive.

`donate_argnums` tells `jax.jit` so. XLA then lets outputs take the buffers of inputs
(`alias_size_in_bytes`). Donating a buffer twice, or one that is still needed, is an error at best.
"""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, Variable, optim
from mlax.experimental.optim import Shampoo
from tests.mlax.generated_optimizers import (
    CASES,
    MODULES,
    arguments,
    case_name,
    every_case,
    is_key,
    optimizer_class,
    rate_name,
)
from tests.mlax.optim.transformations import examples as transformations
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python


def weights() -> Any:
    return {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": [jnp.ones(()), None]}


EVERY: dict[str, tuple[Any, dict[str, Any]]] = {
    f"{name}-{case_name(options)}": (
        optimizer_class(MODULES[name])(**options),
        arguments(name, weights()),
    )
    for name, options in CASES
} | {
    name: (optimizer, transformations.arguments(optimizer))
    for name, optimizer in transformations.EXAMPLES.items()
}
every_optimizer = pytest.mark.parametrize(("optimizer", "given"), EVERY.values(), ids=EVERY)


def gradients_at(weights: Any) -> Any:
    return jax.tree.map(lambda w: jnp.cos(3 * w), weights)


def buffer(x: Any) -> Any:
    return jax.random.key_data(x) if is_key(x) else x


def pointers(tree: Any) -> list[int]:
    return [buffer(x).unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def size(tree: Any) -> int:
    return sum(buffer(x).nbytes for x in jax.tree.leaves(tree))


@every_case
def test_buffers_of_a_new_state_are_its_own(name: str, options: dict[str, Any]) -> None:
    """Eagerly and under `jit`: none is shared with the weights, with a learning rate that was given, or inside."""
    given = weights(), jnp.float32(0.1)
    for make in (MODULES[name].init, jax.jit(MODULES[name].init, static_argnames=tuple(options))):
        state = make(given[0], **{rate_name(name): given[1]}, **options)
        everything = pointers((given, state))
        assert len(set(everything)) == len(everything)


@every_optimizer
def test_a_donated_step_writes_over_weights_and_state(
    optimizer: Any, given: dict[str, Any]
) -> None:
    """Twice: what comes out can be given up in its turn."""

    def train(weights: Any, state: Any) -> Any:
        # The gradients are made from the weights, as in training: MasterWeights alone would not read them.
        return optimizer.apply_gradients(gradients_at(weights), state, weights, **given)

    trees = weights(), optimizer.init(weights())
    compiled = jax.jit(train, donate_argnums=(0, 1)).lower(*trees).compile(QUICKLY)
    written_over = size(trees) - size(unread(optimizer, trees[1]))
    assert compiled.memory_analysis().alias_size_in_bytes == written_over
    for _ in range(2):
        before, trees = trees, compiled(*trees)
        kept = jax.tree.leaves(unread(optimizer, before[1]))
        assert all(x.is_deleted() for x in jax.tree.leaves(before) if not any(x is k for k in kept))
        assert len(set(pointers(trees))) == len(pointers(trees))


def unread(optimizer: Any, state: Any) -> Any:
    """Return what a step writes into the state without reading it: `jit` leaves such arguments out, and frees none."""
    if isinstance(optimizer, optim.KeepNorm):
        return state.norm
    every_step = getattr(optimizer, "interval", None) == 1
    return state.roots if isinstance(optimizer, Shampoo) and every_step else ()


@every_optimizer
def test_no_array_is_kept(optimizer: Any, given: dict[str, Any]) -> None:
    """After an eager step each array goes with its last name: no cache has it, and no cycle."""
    w, g = weights(), gradients_at(weights())
    state = optimizer.init(w)
    result = optimizer.apply_gradients(g, state, w, **given)
    assert len(set(pointers(result))) == len(pointers(result))
    everything = (w, g, state, result)
    references = [weakref.ref(x) for x in jax.tree.leaves(everything)]
    del w, g, state, result, everything
    assert [reference() for reference in references if reference() is not None] == []


def test_updates_take_the_buffers_of_the_gradients() -> None:
    optimizer = optim.Adam(0.1)
    trees = gradients_at(weights()), optimizer.init(weights())
    compiled = jax.jit(optimizer.step, donate_argnums=(0, 1)).lower(*trees).compile()
    assert compiled.memory_analysis().alias_size_in_bytes == size(trees)


class Net(Module):
    """Nodes of each kind: those that a step changes, and those that it hands on."""

    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    scale: Parameter[Array] = Parameter(1.0, frozen=True)
    mean: Variable[Array] = Variable(0.0)
    count: Variable[Array] = Variable(0)
    key: Variable[Array] = Variable()

    def set_up(self, x: Float[Array, "in"], rng: Array) -> Self:
        kernel = jax.random.normal(rng, (x.size, 2), x.dtype)
        return self.replace(kernel=Parameter(kernel), key=Variable(jax.random.key(1)))

    def forward(self, x: Float[Array, "in"]) -> tuple[Float[Array, "out"], Self]:
        key, used = jax.random.split(self.key.data)
        y = self.scale.data * x @ self.kernel.data + jax.random.normal(used, (2,), x.dtype)
        mean, count = 0.9 * self.mean.data + y.mean(), self.count.data + 1
        return y, self.replace(mean=Variable(mean), count=Variable(count), key=Variable(key))


def loss_fn(net: Net, x: Array) -> tuple[Array, Net]:
    y, net = net(x)
    return (y**2).sum(), net


def new_net() -> Net:
    """Return a net that shares no arrays: one default array serves all modules of a class."""
    return jax.tree.map(jnp.copy, mlax.set_up(Net(), jnp.ones(3), rng=jax.random.key(0)))


OPTIMIZER = optim.AdamW(0.1, stochastic_rounding=True)


def train_step(net: Any, state: Any, x: Array) -> Any:
    (_, net), gradients = mlax.value_and_grad(loss_fn)(net, x)
    return OPTIMIZER.update(net, gradients, state)


def train_steps(net: Any, state: Any, xs: Array) -> Any:
    """Several steps in one call, as in the examples."""
    return jax.lax.scan(lambda run, x: (train_step(*run, x), None), (net, state), xs)[0]


def as_it_is(net: Net) -> Net:
    return net


def narrow(net: Net) -> Net:
    """Return a net that is stored in bfloat16, where its data are inexact."""

    def cast(x: Array) -> Array:
        return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(cast, net)


@pytest.mark.optimized
def test_results_in_the_order_of_what_is_donated_are_written_in_place() -> None:
    """JAX matches buffers with results by order: what docs/training.md says of `apply_gradients` itself."""
    weights = {"a": jnp.ones(2**14), "b": jnp.ones(2**14)}
    optimizer = optim.Adam()
    state = optimizer.init(weights)

    def in_order(weights: Any, state: Any, gradients: Any) -> Any:
        return optimizer.apply_gradients(gradients, state, weights)

    def temporaries(step: Any, donated: tuple[int, int], *trees: Any) -> int:
        compiled = jax.jit(step, donate_argnums=donated).lower(*trees).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert temporaries(in_order, (0, 1), weights, state, weights) < weights["a"].nbytes
    assert temporaries(optimizer.apply_gradients, (1, 2), weights, state, weights) > size(weights)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("step", "form", "dtype"),
    [
        (train_step, as_it_is, jnp.float32),
        (train_steps, as_it_is, jnp.float32),
        (train_steps, mlax.pack, jnp.float32),
        (train_step, narrow, jnp.bfloat16),
    ],
    ids=["one", "several", "packed", "rounded stochastically"],
)
def test_a_donated_step_writes_over_a_whole_model(
    step: Callable[..., Any], form: Callable[..., Any], dtype: Any
) -> None:
    """Including frozen parameters and Variables, changed or not. Afterwards no more arrays are alive than
    before.
    """
    net = form(new_net())
    trees: Any = (net, OPTIMIZER.init(net))
    x = jnp.ones(3 if step is train_step else (2, 3), dtype)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*trees, x).compile()
    assert compiled.memory_analysis().alias_size_in_bytes == size(trees)
    del net
    gc.collect()  # what other tests have left
    alive = size(jax.live_arrays())
    for _ in range(2):
        before, trees = trees, compiled(*trees, x)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        assert len(set(pointers(trees))) == len(pointers(trees))
        del before
        assert size(jax.live_arrays()) == alive


@pytest.fixture
def without_a_garbage_collector() -> Iterator[None]:
    """Leave only reference counts to free objects. Otherwise it is chance whether a cycle is seen."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_a_garbage_collector")
def test_no_array_of_a_model_is_kept() -> None:
    """Not by setting it up, calling it, taking it apart, packing it, or stepping it."""
    x = jnp.ones(3)
    jax.block_until_ready(train_step(new_net(), OPTIMIZER.init(new_net()), x))  # compiles
    before = {id(array) for array in jax.live_arrays()}
    net = new_net()
    state = OPTIMIZER.init(net)
    (_, called), gradients = mlax.value_and_grad(loss_fn)(net, x)
    parts = net.partition(mlax.is_unfrozen_param, mlax.is_variable)
    whole = parts[0].combine(*parts[1:])
    result = OPTIMIZER.update(called, gradients, state)
    packed = mlax.pack(net)
    unpacked = packed.unpack()
    repacked = packed.repack(unpacked, unpacked)
    prepared = mlax.capture(mlax.training(net, rng=jax.random.key(0)), lambda model: model)
    captured = prepared(x)
    assert mlax.tree_equal(whole, net)
    assert mlax.tree_equal(unpacked, net)
    del net, state, called, gradients, parts, whole, result, packed, unpacked, repacked, _
    del prepared, captured
    assert [array for array in jax.live_arrays() if id(array) not in before] == []
