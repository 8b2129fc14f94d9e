"""Numbers in nested states, and states that move to another optimizer."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import mlax
from mlax import LeafMismatchError, experimental, optim
from mlax.tree import tree_equal

pytestmark = pytest.mark.one_python


def is_kernel(path: str, w: Any) -> bool:
    return path.endswith("kernel")


WEIGHTS = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 3)), "none": None}
GRADIENTS = {"bias": jnp.arange(2.0), "kernel": jnp.full((2, 3), 0.5), "none": None}
NESTED = optim.AccumulateGradients(
    optim.MultiOptimizer(
        [optim.Lookahead(optim.Muon(0.02)), optim.DecayWeights(optim.Adam(1e-3), 0.1)], [is_kernel]
    ),
    2,
)
RATES = ["inner.inner.0.inner.learning_rate", "inner.inner.1.inner.learning_rate"]


def test_numbers_are_found_and_set_by_path() -> None:
    state = NESTED.init(WEIGHTS)
    assert [*optim.learning_rates(state)] == RATES
    assert optim.numbers(state)["inner.inner.1.weight_decay"] == jnp.float32(0.1)
    new = optim.with_numbers(state, {RATES[0]: 0.5, "inner.inner.1.weight_decay": jnp.float32(0)})
    assert optim.learning_rates(new)[RATES[0]] == 0.5
    assert optim.learning_rates(new)[RATES[1]] == optim.learning_rates(state)[RATES[1]]
    assert optim.numbers(new)["inner.inner.1.weight_decay"] == 0
    assert jax.tree.structure(new) == jax.tree.structure(state)
    NESTED.step(GRADIENTS, new, WEIGHTS)
    halved = jax.jit(lambda s, x: optim.with_numbers(s, {RATES[0]: x}))(state, 0.25)
    assert optim.learning_rates(halved)[RATES[0]] == 0.25


def test_numbers_in_chains_of_optax_beside_models_and_under_vmap() -> None:
    chain = optax.chain(optax.clip(1.0), optim.to_optax(experimental.optim.ScheduleFreeSGD(0.1)))
    run = ("model", chain.init(WEIGHTS))
    run = optim.with_numbers(run[1:], {"0.1.learning_rate": 0.2})
    assert optim.learning_rates(run) == {"0.1.learning_rate": jnp.float32(0.2)}
    sweep = jax.vmap(lambda rate: optim.adam.init(jnp.ones(2), learning_rate=rate))(jnp.ones(3))
    rates = jnp.array([1.0, 2.0, 3.0])
    assert tree_equal(optim.with_numbers(sweep, {"learning_rate": rates}).learning_rate, rates)
    assert optim.numbers(optim.Frozen().init({})) == {}


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"inner.lr": 1.0}, ValueError, "no number at 'inner.lr'; it has inner.learning_rate"),
        ({"inner.learning_rate": -1.0}, ValueError, "inner.learning_rate must be >= 0"),
        (
            {"inner.learning_rate": jnp.ones(2)},
            TypeError,
            r"of shape \(\) or \(\), got float32\[2\]",
        ),
        ({"inner.learning_rate": "fast"}, TypeError, "must be a real number"),
        ({"inner.learning_rate": True}, TypeError, "must be a real number"),
        (0.1, TypeError, "expected a dict of numbers by path, got 0.1"),
    ],
)
def test_numbers_that_are_refused(values: Any, error: Any, message: str) -> None:
    state = optim.ClipGradients(optim.SGD(0.1), max_norm=1.0).init(WEIGHTS)
    with pytest.raises(error, match=message):
        optim.with_numbers(state, values)


def test_numbers_with_a_schedule_are_not_set() -> None:
    state = optim.SGD(optim.cosine_decay(1.0, 10)).init(WEIGHTS)
    assert optim.learning_rates(state)["learning_rate"] == 1.0
    with pytest.raises(ValueError, match=r"learning_rate follows .*\n.*optim\.migrate"):
        optim.with_numbers(state, {"learning_rate": 0.1})


def stepped(optimizer: Any, steps: int = 3) -> Any:
    state, weights = optimizer.init(WEIGHTS), WEIGHTS
    for _ in range(steps):
        weights, state = optimizer.apply_gradients(GRADIENTS, state, weights)
    return state


def test_wrappers_are_added_and_left_out(tmp_path: Path) -> None:
    adam = optim.Adam(1e-3)
    state = stepped(adam)
    mlax.save(tmp_path / "adam", state)
    loaded = mlax.load(tmp_path / "adam", like=adam.init(WEIGHTS))
    clipped = optim.AverageWeights(optim.ClipGradients(optim.Adam(3e-4, b1=0.5), max_norm=1.0))
    new = optim.migrate(loaded, clipped, WEIGHTS)
    assert tree_equal(new.inner.inner.m, state.m)
    assert new.inner.inner.step == 3
    assert new.step == 0
    assert new.inner.inner.learning_rate == jnp.float32(3e-4)
    clipped.step(GRADIENTS, new, WEIGHTS)
    assert tree_equal(optim.migrate(new, adam, WEIGHTS), state)
    assert tree_equal(jax.jit(lambda s: optim.migrate(s, adam, WEIGHTS))(new), state)


def test_weights_are_distributed_differently_and_slots_have_another_dtype() -> None:
    state = stepped(optim.Adam(1e-3))
    twice = optim.MultiOptimizer(
        [optim.Adam(1e-3), optim.Adam(1e-4, slot_dtype=jnp.bfloat16, stochastic_rounding=True)],
        [is_kernel],
    )
    new = optim.migrate(state, twice, WEIGHTS)
    assert tree_equal(new.inner[0].m["kernel"], state.m["kernel"])
    assert tree_equal(new.inner[1].m["bias"], state.m["bias"].astype(jnp.bfloat16))
    assert new.inner[0].step.unsafe_buffer_pointer() != new.inner[1].step.unsafe_buffer_pointer()
    back = optim.migrate(new, optim.Adam(1e-3), WEIGHTS)
    assert tree_equal(back.m["kernel"], state.m["kernel"])
    # Counts go with the weights, not with the place of the optimizer.
    later = twice.step(GRADIENTS, new, WEIGHTS)[1]
    uneven = later._replace(inner=(new.inner[0], later.inner[1]))
    swapped = optim.MultiOptimizer(twice.optimizers[::-1], [lambda path, w: path == "bias"])
    again = optim.migrate(uneven, optim.KeepNorm(swapped), WEIGHTS)
    assert (again.inner.inner[0].step, again.inner.inner[1].step) == (4, 3)
    line = r"step: inner\.0\.step \(3\) and inner\.1\.step \(4\) differ"
    with pytest.raises(LeafMismatchError, match=line):
        optim.migrate(uneven, optim.Adam(1e-3), WEIGHTS)
    with pytest.raises(LeafMismatchError, match="may differ"):
        jax.jit(lambda old: optim.migrate(old, optim.Adam(1e-3), WEIGHTS))(uneven)
    with pytest.warns(UserWarning, match=line):
        assert optim.migrate(uneven, optim.Adam(1e-3), WEIGHTS, strict=False).step == 3


def test_counts_go_with_the_weights_where_there_are_no_slots() -> None:
    parts = [optim.SGD(0.1, momentum=None), optim.SGD(0.2, momentum=None)]
    state = optim.MultiOptimizer(parts, [is_kernel]).init(WEIGHTS)
    state = mlax.at(state, lambda s: s.inner[0].step).set(jnp.int32(5))
    swapped = optim.MultiOptimizer(parts, [lambda path, w: path == "bias"])
    assert [part.step for part in optim.migrate(state, swapped, WEIGHTS).inner] == [0, 5]


def test_the_report_names_what_continues_starts_and_is_dropped() -> None:
    state = optim.AverageWeights(optim.SGD(0.1)).init(WEIGHTS)
    new = optim.ClipGradients(
        optim.MultiOptimizer([optim.SGD(0.2), optim.Frozen()], [is_kernel]), max_norm=1.0
    )
    told: list[str] = []
    with pytest.warns(UserWarning, match=r"velocity\.bias: float32\[2\], only in the old state"):
        optim.migrate(state, new, WEIGHTS, strict=False, report=told.append)
    lines = told[0].split("\n  ")
    for line in (
        "step starts as in init",
        "inner.inner.0.velocity continues inner.velocity",
        "inner.inner.0.step continues inner.step",
        "average is dropped",
        "inner.velocity.bias is dropped",
    ):
        assert line in lines


def test_what_does_not_continue_is_named() -> None:
    state = stepped(optim.ClipGradients(optim.Adam(), max_norm=1.0))
    more = {**WEIGHTS, "bias": jnp.ones(3), "more": jnp.ones(1)}
    with pytest.raises(LeafMismatchError) as caught:
        optim.migrate(state, optim.SkipNonFinite(optim.Adam()), more)
    for line in (
        "inner.m.bias: float32[3], but float32[2] in the old state",
        "inner.v.more: float32[1], but nothing in the old state",
    ):
        assert line in str(caught.value)
    with pytest.warns(UserWarning, match=r"inner\.m\.more") as warned:
        new = optim.migrate(state, optim.SkipNonFinite(optim.Adam()), more, strict=False)
    assert warned[0].filename == __file__
    assert tree_equal(new.inner.m["kernel"], state.inner.m["kernel"])
    assert tree_equal(new.inner.m["more"], jnp.zeros(1))
    with pytest.raises(
        LeafMismatchError,
        match="the state: Lion, but the old state has Adam",
    ):
        optim.migrate(state, optim.Lion(), WEIGHTS)
    with pytest.raises(TypeError, match="expected the state of an optimizer"):
        optim.migrate(WEIGHTS, optim.Lion(), WEIGHTS)
    with pytest.raises(TypeError, match="an instance, not the class"):
        optim.migrate(state, optim.Lion, WEIGHTS)


def test_slots_become_int8_and_back() -> None:
    """Each is the nearest that there is; small leaves stay as they are."""
    weights = {"w": jnp.ones((4, 64)), "b": jnp.ones(2)}
    gradients = {"w": jnp.linspace(-1, 1, 256).reshape(4, 64), "b": jnp.ones(2)}
    wide, narrow = optim.Adam(1e-3), optim.Adam(1e-3, slot_dtype="int8")
    state = wide.step(gradients, wide.init(weights), weights)[1]
    new = optim.migrate(state, narrow, weights)
    assert jax.tree.structure(new) == jax.tree.structure(narrow.init(weights))
    back = optim.migrate(new, wide, weights)
    assert tree_equal(back.m, optim.slot_values(new.m))
    assert jnp.allclose(back.m["w"], state.m["w"], atol=0.1 / 127)
    assert jnp.allclose(jnp.sqrt(back.v["w"]), jnp.sqrt(state.v["w"]), atol=0.03 / 255)
    assert tree_equal(optim.migrate(new, narrow, weights), new)
    assert back.step == 1


def test_a_class_takes_the_place_of_another() -> None:
    state = stepped(optim.ClipGradients(optim.Adam(1e-3), max_norm=1.0))
    new = optim.migrate(state, optim.AdamW(1e-3), WEIGHTS, replaced={optim.Adam: optim.AdamW})
    assert tree_equal((new.step, new.m, new.v), (state.inner.step, state.inner.m, state.inner.v))
    with pytest.raises(LeafMismatchError, match=r"replaced=\{Adam: AdamW\}"):
        optim.migrate(state, optim.AdamW(1e-3), WEIGHTS)
    for other in optim.Muon(), optim.Lion():  # Adam has all that they have, and more
        with pytest.raises(LeafMismatchError) as caught:
            optim.migrate(state, other, WEIGHTS)
        assert "replaced" not in str(caught.value)
    with pytest.raises(ValueError, match="replaced has SGD, but the old state has Adam, Clip"):
        optim.migrate(state, optim.AdamW(), WEIGHTS, replaced={optim.SGD: optim.AdamW})
    with pytest.raises(LeafMismatchError, match=r"v_max\.bias: .* nothing in the old state"):
        optim.migrate(state, optim.AMSGrad(), WEIGHTS, replaced={optim.Adam: optim.AMSGrad})
    state = stepped(optim.AMSGrad())
    with pytest.raises(LeafMismatchError, match=r"v_max\.bias: .* only in the old state"):
        optim.migrate(state, optim.Adam(), WEIGHTS, replaced={optim.AMSGrad: optim.Adam})


def test_differences_are_named_by_their_place_inside_wrappers() -> None:
    def make(b1: Any, momentum: Any) -> Any:
        parts = [optim.KeepNorm(optim.SGD(0.1, momentum=momentum)), optim.Adam(b1=b1)]
        return optim.ClipGradients(optim.MultiOptimizer(parts, [is_kernel]), max_norm=1.0)

    state = make(0.5, None).init(WEIGHTS)
    with pytest.raises(
        ValueError, match=r"state has different hyper.*\n.*jnp\.asarray.*optim\.migrate"
    ) as caught:
        make(jnp.float32(0.5), 0.9).step(GRADIENTS, state, WEIGHTS)
    assert str(caught.value).splitlines()[0].partition("hyperparameters: ")[2] == (
        "optimizer.optimizers[0].optimizer.momentum is None in the state, a number in the optimizer; "
        "optimizer.optimizers[1].b1 is 0.5 in the state, an array in the optimizer."
    )


def test_floats_given_as_arrays_are_numbers() -> None:
    """They are leaves of the hyperparameters of a state; those of Optax are in a dict."""
    adam = optim.Adam(1e-3, b1=jnp.float32(0.5))
    state = optim.ClipGradients(adam, max_norm=jnp.float32(2.0)).init(WEIGHTS)
    names = ["hyperparameters.max_norm", "inner.learning_rate", "inner.hyperparameters.b1"]
    assert sorted(optim.numbers(state)) == sorted(names)
    new = optim.with_numbers(state, {names[0]: 3.0, names[2]: 0.75})
    assert (new.hyperparameters.max_norm, new.inner.hyperparameters.b1) == (3, 0.75)
    with pytest.raises(ValueError, match=r"inner.hyperparameters.b1 must be .*, got 1.5"):
        optim.with_numbers(state, {names[2]: 1.5})
    again = optim.migrate(new, adam, WEIGHTS)
    assert again.hyperparameters.b1 == 0.5

    def factory(learning_rate: Any, b1: Any) -> Any:
        return optim.to_optax(optim.Adam(learning_rate, b1=b1))

    tx = optax.chain(optax.inject_hyperparams(factory)(lambda step: 0.1 / (1 + step), 0.5))
    injected = tx.init(WEIGHTS)
    assert sorted(optim.numbers(injected)) == ["0.hyperparams.b1", "0.hyperparams.learning_rate"]
    new = optim.with_numbers(injected, {"0.hyperparams.b1": 0.75})
    assert tx.update(GRADIENTS, new, WEIGHTS)[1][0].hyperparams["b1"] == 0.75
    with pytest.raises(ValueError, match="learning_rate follows"):
        optim.with_numbers(injected, {"0.hyperparams.learning_rate": 0.5})
