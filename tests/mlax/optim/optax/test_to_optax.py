"""Optimizers of mlax used in Optax (chained, masked, accumulated, injected) take the same steps as by
themselves.
"""

import importlib
import re
import sys
from typing import Annotated, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
import pytest
from jaxtyping import Array

from mlax import Module, Parameter, Variable, optim
from mlax.optim.transformations._protocol import arguments_of
from mlax.optimizer import number
from mlax.tree import tree_equal
from mlax.typing import LeafMismatchError
from tests.mlax.generated_optimizers import close, types

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {
    "w": jnp.linspace(-1, 1, 6).reshape(2, 3),
    "v": jnp.linspace(0.5, 1, 2),
    "none": None,
    "b": [jnp.ones(3)],
}
MASK: Any = {"w": True, "v": True, "none": None, "b": [False]}


def is_vector(path: str, weight: Array) -> bool:
    return weight.ndim == 1


# Each with what its `step` reads beside the gradients: nothing, the weights, the loss.
OPTIMIZERS: dict[str, optim.OptimizerLike] = {
    "sgd": optim.SGD(0.1, momentum=0.9),
    "adam": optim.Adam(0.1),
    "adafactor": optim.Adafactor(0.1, min_dim_size_to_factor=2),
    "polyak_sgd": optim.PolyakSGD(),
    "lion": optim.Lion(0.1),
    "muon": optim.Muon(0.1),
    "clipped": optim.ClipGradients(optim.AdamW(0.1), max_norm=0.5),
    "multi": optim.MultiOptimizer([optim.PolyakSGD(), optim.Adam()], [is_vector]),
}
every_one = pytest.mark.parametrize("name", OPTIMIZERS)


def gradients_of(weights: Any) -> Any:
    return jax.tree.map(lambda w: jnp.cos(3 * w), weights)


def loss_of(weights: Any) -> Array:
    return sum((jnp.sum(w**2) for w in jax.tree.leaves(weights)), jnp.float32(0))


def run(
    transformation: Any, steps: int, weights: Any = WEIGHTS, gradients: Any = gradients_of
) -> Any:
    """Return the weights after some steps of Optax's loop, as one scan: the state is stable."""

    def body(carry: Any, _: None) -> Any:
        weights, state = carry
        updates, state = transformation.update(
            gradients(weights), state, weights, value=loss_of(weights)
        )
        return (optax.apply_updates(weights, updates), state), None

    start = (weights, transformation.init(weights))
    return jax.lax.scan(body, start, None, length=steps)[0][0]


@every_one
def test_optimizers_give_the_same_results_in_optax(name: str) -> None:
    """In a chain, on a part of the weights, on the mean of two gradients, past a NaN, looking ahead."""
    optimizer: Any = OPTIMIZERS[name]
    alone = optim.to_optax(optimizer)

    def native(steps: int, weights: Any, gradients: Any = gradients_of, loss: Any = loss_of) -> Any:
        takes_loss = "value" in (arguments_of(optimizer) or ())
        state = optimizer.init(weights)
        for _ in range(steps):
            given = {"value": loss(weights)} if takes_loss else {}
            weights, state = optimizer.apply_gradients(gradients(weights), state, weights, **given)
        return weights

    def results() -> Any:
        part = {**WEIGHTS, "b": [None]}
        rest = {**WEIGHTS, "w": None, "v": None}
        whole = native(2, WEIGHTS)
        value = loss_of(WEIGHTS)
        split = native(1, part, loss=lambda _: value)
        return {
            "chain": (run(optax.chain(optax.zero_nans(), optax.chain(alone)), 2), whole),
            "named": (run(optax.named_chain(("mlax", alone)), 2), whole),
            "finite": (run(optax.apply_if_finite(alone, 3), 2), whole),
            "accumulated": (run(optax.MultiSteps(alone, 2), 4), whole),
            "masked": (run(optax.masked(alone, MASK), 1)["w"], split["w"]),
            "partition": (
                run(optax.partition({True: alone, False: optax.set_to_zero()}, MASK), 1),
                {**split, "b": WEIGHTS["b"]},
            ),
            "both": (
                run(optax.partition({True: alone, False: optim.to_optax(optimizer)}, MASK), 1),
                {**split, "b": native(1, rest, loss=lambda _: value)["b"]},
            ),
        }

    for wrapper, (found, expected) in jax.jit(results)().items():
        assert close(found, expected), wrapper


# mlax's and Optax's own, with the same hyperparameters.
PAIRS: dict[str, tuple[Any, Any]] = {
    "sgd": (lambda rate: optim.to_optax(optim.SGD(rate, momentum=0.9)), optax.sgd),
    "adam": (lambda rate: optim.to_optax(optim.Adam(rate)), optax.adam),
    "lion": (lambda rate: optim.to_optax(optim.Lion(rate)), optax.lion),
    "adafactor": (lambda rate: optim.to_optax(optim.Adafactor(rate)), optax.adafactor),
}


@pytest.mark.parametrize("name", PAIRS)
def test_inside_optax_they_are_as_optax_s_own(name: str) -> None:
    """Clipped, accumulated, with an injected schedule, and looking ahead."""
    ours, theirs = PAIRS[name]
    momentum = {"momentum": 0.9} if name == "sgd" else {}

    def wrapped(factory: Any, **static: Any) -> Any:
        schedule = optax.linear_schedule(0.1, 0.01, 3)
        inside = optax.inject_hyperparams(factory, static_args=tuple(static))(schedule, **static)
        accumulated = optax.MultiSteps(inside, 2).gradient_transformation()
        return run(optax.chain(optax.clip_by_global_norm(1.0), accumulated), 8)

    def ahead(inside: Any) -> Any:
        transformation = optax.lookahead(inside, 2, 0.5)
        weights = optax.LookaheadParams.init_synced(WEIGHTS)
        state = transformation.init(weights)
        for _ in range(3):
            updates, state = transformation.update(gradients_of(weights.fast), state, weights)
            weights = optax.apply_updates(weights, updates)
        return weights

    @jax.jit
    def both() -> Any:
        return (
            (wrapped(ours), ahead(ours(0.1))),
            (wrapped(lambda rate: theirs(rate, **momentum)), ahead(theirs(0.1, **momentum))),
        )

    assert close(*both(), rtol=3e-6)


def test_a_step_that_optax_leaves_out_leaves_no_trace() -> None:
    """A gradient with a NaN in it changes neither weights nor the state of the optimizer."""
    transformation = optax.apply_if_finite(optim.to_optax(optim.Adam()), 3)
    state = transformation.init(WEIGHTS)
    broken = jax.tree.map(lambda w: w * jnp.nan, WEIGHTS)
    updates, after = transformation.update(broken, state, WEIGHTS)
    assert tree_equal(updates, jax.tree.map(jnp.zeros_like, WEIGHTS))
    assert tree_equal(after.inner_state, state.inner_state)


def test_weights_averaged_by_optax() -> None:
    """Schedule-free, around an optimizer of ours or Optax's own."""

    @jax.jit
    def both() -> Any:
        return [
            run(optax.contrib.schedule_free(inside, 0.1, b1=0.9), 4)
            for inside in (optim.to_optax(optim.RMSprop(0.1)), optax.rmsprop(0.1))
        ]

    assert close(*both(), rtol=3e-6)


def injected(**given: Any) -> Any:
    return optax.inject_hyperparams(lambda rate: optim.to_optax(optim.Adam(rate)))(**given)


def test_injected_rates_share_one_trace() -> None:
    """Changed in Optax's state between steps, or scheduled there."""
    transformation = injected(rate=0.1)
    traces = 0

    @jax.jit
    def update(state: Any) -> Any:
        nonlocal traces
        traces += 1
        return transformation.update(WEIGHTS, state, WEIGHTS)

    state = transformation.init(WEIGHTS)
    assert types(jax.eval_shape(update, state)[1]) == types(state)
    updates, state = update(state)
    before = optim.Adam(0.1).init(WEIGHTS)
    assert close(updates, optim.Adam(0.1).step(WEIGHTS, before)[0])
    state.hyperparams["rate"] = jnp.float32(0.0)
    updates, state = update(state)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(updates))
    assert state.inner_state.learning_rate == 0
    assert traces == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: optim.ClipGradients(optim.DecayWeights(optim.SGD(rate), rate), max_norm=1e3),
        lambda rate: optim.MultiOptimizer(
            [optim.SGD(rate), optim.Lookahead(optim.Adam(rate), 1)], [is_vector]
        ),
    ],
    ids=["wrapped", "several"],
)
def test_injected_numbers_reach_the_innermost(make: Any) -> None:
    """An optimizer that is made of others holds its numbers at any depth."""
    transformation = optax.inject_hyperparams(lambda rate: optim.to_optax(make(rate)))(rate=9.0)
    state = transformation.init(WEIGHTS)
    state.hyperparams["rate"] = jnp.float32(0.25)
    updates, state = transformation.update(WEIGHTS, state, WEIGHTS)
    optimizer: Any = make(0.25)
    expected, after = optimizer.step(WEIGHTS, optimizer.init(WEIGHTS), WEIGHTS)
    assert close((updates, state.inner_state), (expected, after))


class Stepwise(optim.Optimizer):
    """Its step would branch on `limit`."""

    limit: Annotated[float, number(at_least=0)] = 0.5


def test_what_a_step_branches_on_is_not_injected() -> None:
    """Optax makes arrays of all numbers; the error says what to do, and that works."""
    message = re.escape("limit must be a number, got 0.5 (float32[]); the step branches on it")
    factory = optax.inject_hyperparams(lambda limit: optim.to_optax(Stepwise(limit=limit)))
    with pytest.raises(TypeError, match=f"Stepwise: {message}.*name it in static_args"):
        factory(0.5).init(WEIGHTS)


@pytest.mark.parametrize("jitted", [False, True])
def test_injected_numbers_count_in_each_step(jitted: bool) -> None:
    """Those of the optimizer and of what is around it, without `static_args`; they may change."""

    def make(rate: Any, b1: Any, limit: Any) -> optim.ClipGradients[Any, ...]:
        return optim.ClipGradients(optim.Adam(rate, b1=b1, eps=1e-3), max_norm=limit)

    def factory(rate: Any, b1: Any, limit: Any) -> optax.GradientTransformation:
        return optim.to_optax(make(rate, b1, limit))

    numbers = {"rate": 0.1, "b1": 0.5, "limit": 0.25}
    transformation = optax.inject_hyperparams(factory)(**numbers)
    state = transformation.init(WEIGHTS)
    update = jax.jit(transformation.update) if jitted else transformation.update
    optimizer: Any = make(**numbers)
    compared = optimizer.init(WEIGHTS)
    updates, state = update(WEIGHTS, state, WEIGHTS)
    expected, compared = optimizer.step(WEIGHTS, compared, WEIGHTS)
    assert close(updates, expected)
    state.hyperparams["b1"] = jnp.float32(0.75)
    optimizer = make(rate=0.1, b1=0.75, limit=0.25)
    adam = compared.inner._replace(hyperparameters=optimizer.optimizer.held())
    compared = compared._replace(inner=adam, hyperparameters=optimizer.held())
    updates, _ = update(WEIGHTS, state, WEIGHTS)
    expected, _ = optimizer.step(WEIGHTS, compared, WEIGHTS)
    assert close(updates, expected)


def test_numbers_in_the_state_are_the_optimizer_s_unless_it_was_given_an_array() -> None:
    """`optax.tree.set` changes a Python number; an array is injected again in each step."""
    for rate, expected in ((0.1, 0.5), (jnp.float32(0.1), jnp.float32(0.1))):
        transformation = optim.to_optax(optim.SGD(rate))
        state = transformation.init(WEIGHTS)
        assert optax.tree.get(state, "learning_rate") == jnp.float32(0.1)
        state = optax.tree.set(state, learning_rate=jnp.float32(0.5))
        updates, state = transformation.update(WEIGHTS, state)
        assert optax.tree.get(state, "learning_rate") == expected
        assert close(updates, jax.tree.map(lambda w, r=expected: -r * w, WEIGHTS))


def test_optax_rounds_what_it_injects_to_the_weights() -> None:
    """In bfloat16 weights the rate is a bfloat16; the state holds float32 all the same, in every step."""
    weights = jax.tree.map(lambda w: w.astype(jnp.bfloat16), WEIGHTS)
    transformation = optax.inject_hyperparams(lambda rate: optim.to_optax(optim.SGD(rate)))(0.1)
    state = transformation.init(weights)
    for _ in range(2):
        updates, state = transformation.update(weights, state, weights)
        assert state.inner_state.learning_rate == jnp.bfloat16(0.1)
        assert state.inner_state.learning_rate.dtype == jnp.float32
        assert jax.tree.leaves(updates)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_what_half_precision_cannot_hold_is_not_injected(dtype: Any) -> None:
    """0.999 would be 1, or 1e-8 would be 0: under `jit`, steps would be NaN and no check would see it."""

    def factory(rate: Any, b2: Any, eps: Any) -> Any:
        return optim.to_optax(optim.Adam(rate, b2=b2, eps=eps, slot_dtype=jnp.float32))

    weights = jax.tree.map(lambda w: w.astype(dtype), WEIGHTS)
    rounding = optax.inject_hyperparams(factory)(0.1, 0.999, 1e-8)
    with pytest.raises(
        TypeError, match=r"b2 must be .*32 or wider, .*hyperparam_dtype=jnp\.float32"
    ):
        jax.jit(rounding.init)(weights)
    exact = optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)(0.1, 0.999, 1e-8)
    updates, _ = exact.update(weights, exact.init(weights), weights)
    adam = optim.Adam(0.1, slot_dtype=jnp.float32)
    assert tree_equal(updates, adam.step(weights, adam.init(weights), weights)[0])


def test_a_donated_loop_compiles_once() -> None:
    """Weights and state may be given away; nothing that comes back is another shape of program."""
    transformation = optax.chain(optim.to_optax(optim.Adam()), optax.trace(0.9))
    traces = 0

    def step(weights: Any, state: Any) -> Any:
        nonlocal traces
        traces += 1
        updates, state = transformation.update(gradients_of(weights), state, weights)
        return optax.apply_updates(weights, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    weights = jax.tree.map(lambda w: w + 0, WEIGHTS)
    state = transformation.init(weights)
    for _ in range(3):
        weights, state = jitted(weights, state)
    assert traces == 1
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(weights))


class Line(Module):
    """With a parameter that trains, one that does not, and a count."""

    slope: Parameter[Array] = Parameter()
    offset: Parameter[Array] = Parameter()
    calls: Variable[Array] = Variable()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.slope.data * x + self.offset.data, self


def test_a_module_is_trained_by_its_filtered_tree() -> None:
    model = Line(
        Parameter(jnp.ones(2)), Parameter(jnp.ones(2), frozen=True), Variable(jnp.int32(3))
    )
    weights = model.filter()
    transformation = optax.chain(optax.add_decayed_weights(0.1), optim.to_optax(optim.Adam(0.1)))
    updates, _ = transformation.update(weights, transformation.init(weights), weights)
    trained = optax.apply_updates(weights, updates).combine(model)
    assert close(trained.slope.data, jnp.full(2, 0.9))
    assert tree_equal((trained.offset, trained.calls), (model.offset, model.calls))


@pytest.mark.parametrize("tree", [{}, None, [None], {"z": jnp.ones(2, jnp.complex64)}], ids=str)
def test_trees_of_every_kind(tree: Any) -> None:
    """Empty ones and complex ones too."""
    transformation = optim.to_optax(optim.Adam(0.5))
    updates, _ = transformation.update(tree, transformation.init(tree), tree)
    # The first step of Adam is the sign of the gradient, but for the rounding of 1 - b2.
    assert close(updates, jax.tree.map(lambda w: -0.5 * w, tree), rtol=1e-5)


class Halving:
    """A handwritten optimizer. It takes any keyword argument, and its state is not a NamedTuple."""

    def init(self, weights: Any) -> Any:
        return {"seen": jnp.zeros((), jnp.int32)}

    def step(self, gradients: Any, state: Any, params: Any, **given: Any) -> Any:
        seen = state["seen"] + len(given)
        return jax.tree.map(lambda w: -0.5 * w, params), {"seen": seen}


def test_an_optimizer_of_one_s_own() -> None:
    """It is given all keyword arguments, and the weights, without which it cannot do."""
    transformation = optim.to_optax(Halving())
    state = transformation.init(WEIGHTS)
    updates, state = transformation.update(WEIGHTS, state, WEIGHTS, a=1, b=2)
    assert tree_equal(updates, jax.tree.map(lambda w: -0.5 * w, WEIGHTS))
    assert state["seen"] == 2
    with pytest.raises(ValueError, match=r"^Halving: update needs the weights"):
        transformation.update(WEIGHTS, state)


class Other(NamedTuple):
    step: int


def test_what_is_refused() -> None:
    """Objects that are not optimizers; states of others; updates that would be promoted; a missing loss."""
    for wrong in (optim.Adam, optax.adam(0.1), None):
        with pytest.raises(
            TypeError, match=r"^to_optax: expected an object with init and step( \(.*\))?, got"
        ):
            optim.to_optax(wrong)  # type: ignore[arg-type]
    adam = optim.to_optax(optim.Adam())
    state = adam.init(WEIGHTS)
    with pytest.raises(ValueError, match=r"b1 is 0\.9 in the state, 0\.5 in the optimizer"):
        optim.to_optax(optim.Adam(b1=0.5)).update(WEIGHTS, state)
    for stranger in (None, Other(1), {"step": 1}):
        with pytest.raises(TypeError, match=r"expected a state from Adam\.init"):
            adam.update(WEIGHTS, stranger)
    half = jax.tree.map(lambda w: w.astype(jnp.float16), WEIGHTS)
    with pytest.raises(LeafMismatchError, match=r"gradients\['b'\]\[0\]: float16\[3\], but"):
        adam.update(half, state, WEIGHTS)
    polyak = optim.to_optax(optim.PolyakSGD())
    with pytest.raises(TypeError, match="needs `value`"):
        polyak.update(WEIGHTS, polyak.init(WEIGHTS))


def test_without_optax(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get it; a broken Optax shows its own error."""
    transformation = optax.sgd(0.1)
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=re.escape('to_optax needs Optax: pip install "mlax[opt')):
        optim.to_optax(optim.Adam())
    with pytest.raises(ImportError, match=re.escape('from_optax needs Optax: pip install "mlax[')):
        optim.from_optax(transformation)

    def broken(name: str) -> Any:
        raise ModuleNotFoundError(name="what Optax needs")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError) as caught:
        optim.to_optax(optim.Adam())
    assert caught.value.name == "what Optax needs"
