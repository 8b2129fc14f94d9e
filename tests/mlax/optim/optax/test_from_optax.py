"""Gradient transformations of Optax as optimizers of mlax: the same numbers, under the dtype rule."""

import pickle
import re
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
import pytest
from jaxtyping import Array

import mlax
from mlax import Module, Parameter, Variable, optim, runtime_checks
from mlax.tree import tree_equal
from mlax.typing import LeafMismatchError
from tests.mlax.generated_optimizers import types

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"w": jnp.linspace(-1, 1, 6).reshape(2, 3), "none": None, "b": [jnp.ones(3)]}
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)
LOSS = jnp.float32(1.5)

TRANSFORMATIONS: dict[str, Any] = {
    "adafactor": optax.adafactor,
    "adamw": lambda: optax.adamw(0.1),
    "chain": lambda: optax.chain(
        optax.adaptive_grad_clip(0.1), optax.add_noise(0.1, 0.1, key=0), optax.trace(0.9)
    ),
    "finite": lambda: optax.apply_if_finite(optax.adam(0.1), 2),
    "identity": optax.identity,
    "injected": lambda: optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.0, 3)),
    "lbfgs": lambda: optax.lbfgs(0.1, linesearch=None),
    "momo": optax.contrib.momo,
    "muon": lambda: optax.contrib.muon(0.1),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "plateau": lambda: optax.chain(
        optax.sgd(0.1, momentum=0.9, nesterov=True), optax.contrib.reduce_on_plateau()
    ),
    "polyak_sgd": optax.polyak_sgd,
    "prodigy": optax.contrib.prodigy,
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
}


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


# Optax gives rates of schedules as float32 arrays, which promote; and has no complex form of these.
UNSTABLE: dict[Any, set[str]] = {
    jnp.float32: set(),
    jnp.bfloat16: {"injected"},
    jnp.complex64: {
        *("lbfgs", "momo", "multi_steps", "muon", "polyak_sgd", "prodigy", "schedule_free")
    },
}


@pytest.mark.parametrize("dtype", UNSTABLE)
def test_states_and_updates_are_stable(dtype: Any) -> None:
    """In shape, dtype and weak type, from `init` on, and so in a scan."""
    weights, gradients = cast(WEIGHTS, dtype), cast(GRADIENTS, dtype)
    for name in TRANSFORMATIONS.keys() - UNSTABLE[dtype]:
        optimizer = optim.from_optax(TRANSFORMATIONS[name]())
        state: Any = jax.eval_shape(optimizer.init, weights)

        def step(state: Any, optimizer: Any = optimizer) -> Any:
            given = {} if optimizer.arguments == frozenset() else {"value": LOSS}
            return optimizer.step(gradients, state, weights, **given)

        assert types(jax.eval_shape(step, state)) == types((weights, state)), name


@pytest.mark.parametrize("name", ["adamw", "injected", "multi_steps", "plateau"])
def test_numbers_are_optax_s(name: str) -> None:
    """Bit for bit in a loop, here and there, and back again."""
    transformation = TRANSFORMATIONS[name]()
    optimizer = optim.from_optax(transformation)
    back = optim.to_optax(optimizer)

    def loop(update: Any, state: Any) -> Any:
        def body(carry: Any, _: None) -> Any:
            weights, state = carry
            updates, state = update(cast(weights, jnp.float32), state, weights, value=LOSS)
            return (optax.apply_updates(weights, updates), state), None

        return jax.lax.scan(body, (WEIGHTS, state), None, length=3)[0]

    @jax.jit
    def results() -> Any:
        expected, state = loop(transformation.update, transformation.init(WEIGHTS))
        ours, our_state = loop(optimizer.step, optimizer.init(WEIGHTS))
        again, again_state = loop(back.update, back.init(WEIGHTS))
        return [
            (expected, state),
            (ours, our_state.inner),
            (again, again_state.inner),
            our_state.step,
        ]

    expected, ours, again, step = results()
    assert step == 3
    assert tree_equal(expected, ours, again)


def test_there_and_back_is_the_optimizer() -> None:
    """Bit for bit as Adam alone, and in its wrappers."""
    adam = optim.Adam(0.1)
    there = optim.from_optax(optim.to_optax(adam))
    for wrap in (
        lambda optimizer: optimizer,
        lambda optimizer: optim.AccumulateGradients(optimizer, 2),
        lambda optimizer: optim.MultiOptimizer([optimizer, optim.Frozen()], [lambda p, w: True]),
        optim.MasterWeights,
    ):
        expected: Any = wrap(adam)
        optimizer: Any = wrap(there)

        @jax.jit
        def run(one: Any = expected, other: Any = optimizer) -> Any:
            results: list[Any] = []
            for optimizer in (one, other):
                weights, state = WEIGHTS, optimizer.init(WEIGHTS)
                for _ in range(2):
                    weights, state = optimizer.apply_gradients(GRADIENTS, state, weights)
                results.append(weights)
            return results

        assert tree_equal(*run())


class Line(Module):
    """With a parameter that trains, one that does not, and a count."""

    slope: Parameter[Array] = Parameter()
    offset: Parameter[Array] = Parameter()
    calls: Variable[Array] = Variable()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.slope.data * x + self.offset.data, self


def test_a_module_is_updated() -> None:
    """Its unfrozen parameters, and nothing else."""
    model = Line(
        Parameter(jnp.ones(2)), Parameter(jnp.ones(2), frozen=True), Variable(jnp.int32(3))
    )
    optimizer = optim.from_optax(optax.sgd(0.5))
    trained, state = optimizer.update(model, model.filter(), optimizer.init(model))
    assert tree_equal(trained.slope.data, jnp.full(2, 0.5))
    assert tree_equal((trained.offset, trained.calls), (model.offset, model.calls))
    assert state.step == 1


@pytest.mark.parametrize("tree", [{}, None, [None]], ids=str)
def test_trees_without_leaves(tree: Any) -> None:
    optimizer = optim.from_optax(optax.adam(0.1))
    updates, state = optimizer.step(tree, optimizer.init(tree), tree)
    assert tree_equal(updates, tree)
    assert state.step == 1


def test_keyword_arguments_go_to_transformations_that_take_some() -> None:
    """Alone, and beside an optimizer that takes others; a name that no optimizer takes is refused."""
    factor = optax.GradientTransformationExtraArgs(
        lambda params: (), lambda u, s, p=None, *, factor, **_: (optax.tree.scale(factor, u), s)
    )
    optimizer = optim.from_optax(factor)
    doubled = jax.tree.map(lambda g: 2 * g, GRADIENTS)
    assert tree_equal(optimizer.step(GRADIENTS, optimizer.init(WEIGHTS), factor=2)[0], doubled)
    both = optim.MultiOptimizer(
        [optimizer, optim.from_optax(optax.identity())], [lambda path, w: True]
    )
    assert both.arguments is None
    updates, _ = both.step(GRADIENTS, both.init(WEIGHTS), WEIGHTS, factor=2, value=LOSS)
    assert tree_equal(updates, doubled)
    accumulated = optim.from_optax(optax.MultiSteps(factor, 1).gradient_transformation())
    updates, _ = accumulated.step(GRADIENTS, accumulated.init(WEIGHTS), WEIGHTS, factor=2)
    assert tree_equal(updates, doubled)
    plain = optim.from_optax(optax.GradientTransformation(factor.init, lambda u, s, p=None: (u, s)))
    with pytest.raises(TypeError, match="no optimizer inside takes factor"):
        plain.step(GRADIENTS, plain.init(WEIGHTS), factor=2)


def careless() -> Any:
    """Return a transformation that keeps its arguments, Python numbers and weak types."""

    def init(params: Any) -> Any:
        return {"params": params, "count": 0, "rate": 1.0, "weak": jnp.asarray(1.0)}

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return state["params"], {**state, "count": state["count"] + 1, "weak": 2.0}

    return optax.GradientTransformation(init, update)


def test_a_careless_transformation_is_mended() -> None:
    """Arrays in buffers of their own, of the same types in each step: it can be donated and scanned."""
    optimizer = optim.from_optax(careless())
    weights = jax.tree.map(lambda w: w + 0, WEIGHTS)
    state = optimizer.init(weights)
    assert state.inner["count"].dtype == jnp.int32
    updates, after = optimizer.step(GRADIENTS, state, weights)
    assert types(after) == types(state)
    assert not any(leaf[2] for leaf in jax.tree.leaves(types(after), is_leaf=is_type))
    jitted = jax.jit(optimizer.apply_gradients, donate_argnums=(1, 2))
    weights, after = jitted(GRADIENTS, after, weights)
    weights, after = jitted(GRADIENTS, after, weights)
    assert jitted._cache_size() == 1
    assert after.inner["count"] == 3
    # What was not donated is still there.
    assert tree_equal(updates, state.inner["params"], WEIGHTS)


def is_type(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 3 and isinstance(x[2], bool)


def test_promoted_updates_are_refused() -> None:
    """Optax's `apply_updates` would cast them silently; the cure in the message works."""
    weights, gradients = cast(WEIGHTS, jnp.bfloat16), cast(GRADIENTS, jnp.bfloat16)
    widening = TRANSFORMATIONS["injected"]()
    optimizer = optim.from_optax(widening)
    message = (
        "from_optax.step: the transformation changed structure, shape or dtype (no implicit promotion); "
        "cast them in Optax: optax.chain(..., optax.stateless(optax.tree.cast_like)):\n"
        "  updates['b'][0]: float32[3], but gradients['b'][0]: bfloat16[3]\n"
        "  updates['w']: float32[2,3], but gradients['w']: bfloat16[2,3]"
    )
    with pytest.raises(LeafMismatchError, match=f"^{re.escape(message)}$"):
        optimizer.step(gradients, optimizer.init(weights), weights)
    cured = optim.from_optax(optax.chain(widening, optax.stateless(optax.tree.cast_like)))
    with runtime_checks(False):
        updates, _ = optimizer.step(gradients, optimizer.init(weights), weights)
    assert types(updates) == types(GRADIENTS)
    rounded, _ = cured.step(gradients, cured.init(weights), weights)
    assert tree_equal(rounded, cast(updates, jnp.bfloat16))


def test_a_state_that_changes_is_refused() -> None:
    """Which Optax's own do where the weights are narrow and the gradients wide, which is refused before."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return updates, {"seen": state["seen"].astype(jnp.float16), "new": jnp.zeros(())}

    optimizer = optim.from_optax(
        optax.GradientTransformation(lambda _: {"seen": jnp.zeros(2)}, update)
    )
    with pytest.raises(LeafMismatchError) as caught:
        optimizer.step(GRADIENTS, optimizer.init(WEIGHTS))
    assert "state.inner['seen']: float16[2], but that before the step['seen']: float32[2]" in str(
        caught.value
    )
    assert "state.inner['new']: not in that before the step" in str(caught.value)
    adam = optim.from_optax(optax.adam(0.1))
    half = cast(WEIGHTS, jnp.bfloat16)
    with pytest.raises(LeafMismatchError, match=r"from_optax.step: .*\n  gradients\['b'\]\[0\]: f"):
        adam.step(GRADIENTS, adam.init(half), half)
    with pytest.raises(LeafMismatchError, match=r"weights\['n'\]: int32\[2\]"):
        adam.init({"n": jnp.zeros(2, jnp.int32)})


def test_equal_where_the_transformation_is_the_same() -> None:
    """It is a value, static to `jit`; a state of another is refused, and can be moved."""
    transformation = optax.adam(0.1)
    optimizer = optim.from_optax(transformation)
    assert optimizer == optim.from_optax(transformation)
    assert hash(optimizer) == hash(optim.from_optax(transformation))
    other = optim.from_optax(optax.adam(0.1))
    assert optimizer != other
    state = optimizer.init(WEIGHTS)
    assert state.hyperparameters == optimizer
    assert state.hyperparameters.step(GRADIENTS, state)[1].step == 1
    with pytest.raises(ValueError, match=r"made with a different transformation.*_replace\(inner="):
        other.step(GRADIENTS, state)
    moved = other.init(WEIGHTS)._replace(inner=state.inner)
    assert tree_equal(other.step(GRADIENTS, moved)[0], optimizer.step(GRADIENTS, state)[0])
    with pytest.raises(TypeError, match=r"expected a state from FromOptax\.init, got None"):
        optimizer.step(GRADIENTS, None)
    stateless = optim.from_optax(optax.GradientTransformation(init_nothing, negate))
    assert pickle.loads(pickle.dumps(stateless)) == stateless


def test_a_saved_state_goes_into_a_new_transformation(tmp_path: Path) -> None:
    """This is needed if training continues in another process."""
    optimizer, other = (optim.from_optax(optax.adam(0.1)) for _ in range(2))
    _, state = optimizer.step(GRADIENTS, optimizer.init(WEIGHTS))
    mlax.save(tmp_path / "state.safetensors", state)
    loaded = mlax.load(tmp_path / "state.safetensors", like=other.init(WEIGHTS))
    assert tree_equal(other.step(GRADIENTS, loaded)[0], optimizer.step(GRADIENTS, state)[0])


def init_nothing(params: Any) -> Any:
    return ()


def negate(updates: Any, state: Any, params: Any = None) -> Any:
    return jax.tree.map(jnp.negative, updates), state


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (optax.adam, "; call the function, and pass what it returns"),
        (optim.Adam(), "; an optimizer of mlax does not need from_optax"),
        (optax.MultiSteps(optax.sgd(1), 2), "; use MultiSteps(...).gradient_transformation()"),
        (None, "None"),
    ],
    ids=["function", "optimizer", "MultiSteps", "None"],
)
def test_other_objects_are_refused(given: Any, cure: str) -> None:
    message = "from_optax: expected an optax.GradientTransformation, got"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}.*{re.escape(cure)}$"):
        optim.from_optax(given)


def test_arguments_that_optax_needs_are_named() -> None:
    optimizer = optim.from_optax(optax.lbfgs())
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(
        TypeError, match=r"from_optax\.step: .*'value', 'grad'.*\n.*step\(\.\.\., value"
    ):
        optimizer.step(jnp.ones(2), state, jnp.ones(2))
