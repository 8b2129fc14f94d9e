"""Laws for every optimizer that wraps others."""

import pickle
import re
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlax import LeafMismatchError, Module, Parameter, Variable, optim
from mlax.experimental.optim import SophiaH
from mlax.optim.transformations._wrapping import Transformation
from mlax.tree import tree_equal
from tests.mlax.optim.transformations.examples import (
    EXAMPLES,
    EXPORTED,
    SGD,
    arguments,
    first,
    half_of_first,
)

pytestmark = pytest.mark.one_python

every_example = pytest.mark.parametrize("optimizer", EXAMPLES.values(), ids=EXAMPLES)


def weights(dtype: Any = jnp.float32) -> dict[str, Any]:
    return {"a": jnp.full((2, 3), 0.5, dtype), "b": [jnp.arange(3, dtype=dtype), None]}


def gradients(dtype: Any = jnp.float32) -> dict[str, Any]:
    return {"a": jnp.full((2, 3), -0.25, dtype), "b": [jnp.array([1, -2, 3], dtype), None]}


def repr_of_class(value: Any) -> str:
    return type(value).__name__


def inside_of(optimizer: Any) -> list[Any]:
    """Return an optimizer and all that it is made of."""
    several = getattr(optimizer, "optimizers", ()) or [getattr(optimizer, "optimizer", None)]
    return [optimizer, *(x for one in several if one is not None for x in inside_of(one))]


def signature(tree: Any) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def buffers(tree: Any) -> list[int]:
    return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def close(a: Any, b: Any, rtol: float = 1e-6) -> bool:
    """Return whether all leaves are within a tolerance of each leaf's largest value."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(
        bool((jnp.abs(x - y) <= rtol * (jnp.abs(y).max(initial=0.0) + 1e-30)).all())
        for x, y in pairs
    )


def test_every_transformation_has_an_example() -> None:
    assert {type(optimizer) for optimizer in EXAMPLES.values()} == set(EXPORTED)


@every_example
def test_state_stays_the_same_and_the_loop_compiles_once(optimizer: Transformation) -> None:
    """Structure, shapes, dtypes and weak types: under `jit`, eagerly and in a scan; nothing is shared or given away."""
    w, extra = weights(), arguments(optimizer)
    state = optimizer.init(w)
    updates, after = optimizer.step(gradients(), state, w, **extra)
    assert signature(updates) == signature(w)
    assert signature(after) == signature(state)

    step = jax.jit(partial(optimizer.apply_gradients, **extra), donate_argnums=(1, 2))
    eager, eager_state = w, state
    jitted, jitted_state = jax.tree.map(jnp.copy, (w, state))
    for _ in range(4):
        eager, eager_state = optimizer.apply_gradients(gradients(), eager_state, eager, **extra)
        jitted, jitted_state = step(gradients(), jitted_state, jitted)
        for both in (eager, eager_state), (jitted, jitted_state):
            assert len(set(buffers(both))) == len(buffers(both))
    assert step._cache_size() == 1
    assert close((jitted, jitted_state), (eager, eager_state))

    def body(carry: Any, _: None) -> Any:
        return optimizer.apply_gradients(gradients(), carry[1], carry[0], **extra), None

    scanned, _ = jax.lax.scan(body, (w, state), None, length=4)
    assert close(scanned, (eager, eager_state))
    assert not set(buffers(w)) & set(buffers(optimizer.init(w)))


@every_example
def test_eager_steps_compile_nothing_again(
    optimizer: Transformation, caplog: pytest.LogCaptureFixture
) -> None:
    w, extra = weights(), arguments(optimizer)
    state = optimizer.init(w)
    for number in range(8):
        with jax.log_compiles(number >= 4):  # by then each branch has been taken
            w, state = optimizer.apply_gradients(gradients(), state, w, **extra)
    messages = [record.getMessage() for record in caplog.records]
    # A step that is skipped is traced, and no more, so that it says what it lacks.
    assert not [m for m in messages if not re.match(r"Finished tracing (\+ \w+ )?last for", m)]


@every_example
def test_new_weights_are_weights_plus_updates(optimizer: Transformation) -> None:
    """`apply_gradients` is `step` and `apply_updates`."""
    w, extra = weights(), arguments(optimizer)
    state = optimizer.init(w)
    for _ in range(3):
        updates, stepped = optimizer.step(gradients(), state, w, **extra)
        new, state = optimizer.apply_gradients(gradients(), state, w, **extra)
        assert close(optim.apply_updates(updates, w), new, 1e-7)
        assert close(stepped, state, 0.0)
        w = new


@pytest.mark.optimized
@every_example
def test_vmap_is_a_loop(optimizer: Transformation) -> None:
    """Over gradients; one of them is not finite."""
    w, extra = weights(), arguments(optimizer)
    state = optimizer.init(w)
    scales = jnp.array([1.0, jnp.inf, -2.0])

    def step(scale: Any) -> Any:
        g = jax.tree.map(lambda x: scale * x, gradients())
        return optimizer.step(g, state, w, **extra)

    batched, one = jax.jit(jax.vmap(step))(scales), jax.jit(step)
    for i in (0, 2):
        assert close(jax.tree.map(lambda x, i=i: x[i], batched), one(scales[i]))


@every_example
@pytest.mark.parametrize("place", [("a",), ("b", 0)], ids=str)
def test_every_wrong_gradient_is_refused(optimizer: Transformation, place: Any) -> None:
    w, extra = weights(), arguments(optimizer)
    state = optimizer.init(w)
    wrong = jax.tree.map_with_path(
        lambda path, x: (
            x.astype(jnp.bfloat16)
            if tuple(getattr(k, "key", getattr(k, "idx", None)) for k in path) == place
            else x
        ),
        gradients(),
    )
    name = "".join(f"[{key!r}]" for key in place)
    with pytest.raises(LeafMismatchError) as caught:
        optimizer.step(wrong, state, w, **extra)
    assert f"gradients{name}: bfloat16" in str(caught.value)


@every_example
def test_integer_weights_are_refused(optimizer: Transformation) -> None:
    with pytest.raises(LeafMismatchError, match=r"weights\['a'\]: int32"):
        optimizer.init({"a": jnp.arange(3)})


@every_example
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.filterwarnings("ignore:.*bfloat16:UserWarning", "ignore:.*float16:UserWarning")
def test_half_precision_stays(optimizer: Transformation, dtype: Any) -> None:
    w, extra = weights(dtype), arguments(optimizer)
    state = optimizer.init(w)
    updates, after = optimizer.step(gradients(dtype), state, w, **extra)
    assert signature(updates) == signature(w)
    assert signature(after) == signature(state)


@every_example
@pytest.mark.parametrize("tree", [{}, [None, {}]], ids=str)
def test_trees_without_leaves(optimizer: Transformation, tree: Any) -> None:
    extra = arguments(optimizer)
    updates, state = optimizer.step(tree, optimizer.init(tree), tree, **extra)
    assert updates == tree
    assert int(state.step) == 1


class Model(Module):
    a: Parameter
    b: Parameter
    count: Variable


@every_example
def test_a_model_is_updated_as_its_parameters_are(optimizer: Transformation) -> None:
    """Variables stay, and paths are the names of fields."""
    extra = arguments(optimizer)
    w = weights()
    model = Model(Parameter(w["a"]), Parameter(w["b"][0]), Variable(7))
    model_gradients = Model(
        Parameter(gradients()["a"]), Parameter(gradients()["b"][0]), Variable(None)
    )
    new, _ = optimizer.update(model, model_gradients, optimizer.init(model), **extra)
    expected, _ = optimizer.apply_gradients(gradients(), optimizer.init(w), w, **extra)
    assert int(new.count.data) == 7
    assert close((new.a.data, new.b.data), (expected["a"], expected["b"][0]))


@every_example
def test_values(optimizer: Transformation) -> None:
    """Equal copies are equal and have the same hash; they are frozen; their repr is the call that makes them."""
    again = pickle.loads(pickle.dumps(optimizer))
    assert again == optimizer
    assert hash(again) == hash(optimizer)
    assert repr(optimizer).startswith(type(optimizer).__name__ + "(")
    assert optimizer != optim.SkipNonFinite(SGD, 77)
    with pytest.raises(AttributeError):
        optimizer.optimizer = SGD  # type: ignore[attr-defined]


@every_example
def test_states_of_others_are_refused(optimizer: Transformation) -> None:
    w, extra = weights(), arguments(optimizer)
    name = type(optimizer).__name__
    other = optim.SkipNonFinite(SGD, 77)
    with pytest.raises((TypeError, ValueError), match=rf"{name}.step: the state"):
        optimizer.step(gradients(), other.init(w), w, **extra)
    with pytest.raises(TypeError, match=rf"{name}.step: expected a state from {name}.init"):
        optimizer.step(gradients(), None, w, **extra)


@every_example
def test_unknown_arguments_are_refused(optimizer: Transformation) -> None:
    w = weights()
    with pytest.raises(TypeError, match="no optimizer inside takes valu"):
        optimizer.step(gradients(), optimizer.init(w), w, **arguments(optimizer), valu=1.0)


@every_example
def test_eval_shape_and_init_under_jit(optimizer: Transformation) -> None:
    shapes = jax.eval_shape(optimizer.init, weights())
    state = jax.jit(optimizer.init)(weights())
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    assert tree_equal(state, optimizer.init(weights()))


class Own:
    """An optimizer that knows nothing about mlax: no base class, no `apply_gradients`."""

    def init(self, weights: Any) -> Any:
        return {"seen": jnp.zeros((), jnp.int32)}

    def step(self, gradients: Any, state: Any, weights: Any = None) -> Any:
        return jax.tree.map(lambda g: -g, gradients), {"seen": state["seen"] + 1}


def test_trees_among_the_arguments_follow_the_gradients() -> None:
    """In parts, in a wider dtype; the step is that of the optimizer inside alone."""
    sophia = SophiaH(0.1, p=0.5, interval=2)
    w, g = weights(jnp.bfloat16), gradients(jnp.bfloat16)
    several = optim.MultiOptimizer([optim.ClipGradients(sophia, max_norm=9.0), SGD], [first])
    optimizer = optim.MasterWeights(several)
    assert optimizer.trees == {"hessian"}
    _, state = optimizer.step(g, optimizer.init(w), w, hessian=jax.tree.map(jnp.abs, g))
    alone, wide = {"a": weights()["a"]}, {"a": gradients()["a"]}
    hessian = {"a": jnp.abs(wide["a"])}
    expected, _ = sophia.apply_gradients(wide, sophia.init(alone), alone, hessian=hessian)
    assert close(state.master["a"], expected["a"])
    with pytest.raises(LeafMismatchError, match=r"optim.step: .*\n  arguments\['hessian'\]\['b'\]"):
        optimizer.step(g, state, w, hessian={"a": g["a"]})
    with pytest.raises(TypeError, match=r"SophiaH\.apply_gradients needs `hessian`"):
        optimizer.step(g, state, w)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own: optim.AccumulateGradients(own, 1),
        lambda own: optim.AverageWeights(own, 0.5),
        lambda own: optim.ClipGradients(own, max_norm=100.0),
        lambda own: optim.DecayWeights(own, 0.0, independent=True),
        lambda own: optim.Lookahead(own, sync_period=7),
        optim.MasterWeights,
        lambda own: optim.MultiOptimizer([own]),
        lambda own: optim.MultiOptimizer([own, optim.PolyakSGD()], [lambda path, w: True]),
        optim.ReduceOnPlateau,
        lambda own: optim.ScaleUpdates(own, lambda path, w: 1.0),
        optim.SkipNonFinite,
    ],
)
def test_an_optimizer_of_ones_own(wrap: Any) -> None:
    """`init` and `step` are all that is asked for."""
    optimizer = wrap(Own())
    w = weights()
    extra = arguments(optimizer)
    new, state = optimizer.apply_gradients(gradients(), optimizer.init(w), w, **extra)
    assert close(new, jax.tree.map(jnp.subtract, w, gradients()))
    inner = state.inner[0] if isinstance(state.inner, tuple) else state.inner
    assert int(inner["seen"]) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: first_step(optim.ClipGradients(optim.PolyakSGD(), max_norm=1.0)),
            "PolyakSGD.step needs `value`.\n  Pass step(..., value=...): The loss at the weights.",
        ),
        (
            lambda: optim.polyak_sgd.step(weights(), optim.polyak_sgd.init(weights())),  # type: ignore[call-arg]
            "polyak_sgd.step needs `value`.\n  Pass step(..., value=...).",
        ),
        (lambda: optim.Lookahead(optim.Adam), "Lookahead: optimizer must be an object with init"),  # type: ignore[arg-type]
        (lambda: optim.Lookahead(None), "Lookahead: optimizer must be an object with init"),  # type: ignore[arg-type]
        (lambda: optim.Lookahead(SGD, sync_period=0), "sync_period must be >= 1, got 0"),
        (lambda: optim.AccumulateGradients(SGD, 0), "every must be >= 1, got 0"),
        (lambda: optim.AccumulateGradients(SGD, 2.5), "every must be an integer, got 2.5"),  # type: ignore[arg-type]
        (lambda: optim.AverageWeights(SGD, 1.5), "decay must be >= 0 and <= 1, got 1.5"),
        (lambda: optim.ClipGradients(SGD), "at least one of max_norm, max_value, max_leaf_norm"),
        (lambda: optim.ClipGradients(SGD, max_norm=-1.0), "max_norm must be >= 0, got -1.0"),
        (lambda: optim.DecayWeights(SGD, -1.0), "weight_decay must be >= 0, got -1.0"),
        (lambda: optim.MultiOptimizer([]), "optimizers must be a list of optimizers"),
        (lambda: optim.MultiOptimizer([SGD, SGD]), "one filter fewer than optimizers, got 0 for 2"),
        (lambda: optim.MultiOptimizer([SGD, 3], [len]), "optimizers must be"),  # type: ignore[list-item]
        (lambda: optim.ReduceOnPlateau(SGD, rtol=0.0), "rtol or atol must be > 0, both are 0"),
        (lambda: optim.ReduceOnPlateau(SGD, rtol=1.0), "rtol must be >= 0 and < 1, got 1.0"),
        (lambda: optim.ReduceOnPlateau(SGD, min_scale=2.0), "min_scale must be >= 0 and <= 1"),
        (lambda: optim.SkipNonFinite(SGD, -1), "at_most must be >= 0, got -1"),
        (
            lambda: optim.Lookahead(optim.ClipGradients(optim.MasterWeights(SGD), max_norm=1.0)),
            "MasterWeights inside records or skips steps that Lookahead changes",
        ),
        (
            lambda: optim.DecayWeights(optim.PolyakSGD(), 0.1).init(weights()),
            "has none; use independent=True",
        ),
        (
            lambda: optim.ScaleUpdates(SGD, lambda path, w: -1.0).init(weights()),
            "scale must return a finite Python number >= 0, got -1.0",
        ),
        (
            lambda: optim.ScaleUpdates(SGD, lambda path, w: 10**400).init(weights()),
            "scale must return a finite Python number >= 0, got 100000",
        ),
        (lambda: optim.ScaleUpdates(SGD, 0.1), "scale must be a function of a path and a weight"),  # type: ignore[arg-type]
        (
            lambda: optim.MultiOptimizer(
                [SGD, SGD, SGD],
                [lambda path, w: np.bool_(False), lambda path, w: "yes"],  # type: ignore[list-item, return-value]
            ).init(weights()),
            "MultiOptimizer.filters[1] must return True or False, got 'yes' (str) for 'a', float32[2,3].\n",
        ),
        (
            lambda: first_step(optim.DecayWeights(SGD, 0.1, lambda path, w: (w > 0).all())),  # type: ignore[arg-type, return-value]
            "DecayWeights.mask must return True or False, got bool[] for 'a', float32[2,3].\n",
        ),
        (lambda: optim.DecayWeights(SGD, 0.1, {"k": True}), "mask must be a function of a path"),  # type: ignore[arg-type]
        (
            lambda: optim.MultiOptimizer([SGD, SGD], len),  # type: ignore[arg-type]
            "filters must be a list of functions of a path and a weight, got <built-in function len>",
        ),
        (lambda: optim.ClipGradients(optax.adam(1.0)), "(for Optax's, use optim.from_optax)"),  # type: ignore[arg-type]
        (
            lambda: optim.Frozen().apply_gradients(weights(), optim.Frozen().init(weights()), None),
            "Frozen: apply_gradients needs the weights",
        ),
        (
            lambda: optim.ClipGradients(SGD, 1.0).evaluation_weights(
                optim.ClipGradients(SGD, 1.0).init(weights()), weights()
            ),
            "ClipGradients: no optimizer inside has evaluation_weights",
        ),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert message in str(caught.value)


def first_step(optimizer: Any) -> Any:
    return optimizer.step(gradients(), optimizer.init(weights()), weights())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda f: optim.MultiOptimizer([SGD, SGD], [f]), "MultiOptimizer.filters[0]"),
        (lambda f: optim.DecayWeights(SGD, 0.1, f), "DecayWeights.mask"),
        (lambda f: optim.ScaleUpdates(SGD, f), "ScaleUpdates.scale"),
    ],
)
def test_errors_in_a_function_of_paths_say_for_which_weight(make: Any, name: str) -> None:
    with pytest.raises(AttributeError, match="no_such_attribute") as caught:
        first_step(make(lambda path, w: w.no_such_attribute))
    assert caught.value.__notes__ == [f"{name} raised this for 'a', float32[2,3]"]


@pytest.mark.parametrize(
    "value",
    [1.0, 1, np.float32(1), np.int64(1), np.asarray(1.0), jnp.ones((), jnp.bfloat16), jnp.int32(1)],
)
def test_the_loss_may_be_any_real_number(value: Any) -> None:
    for optimizer in (optim.PolyakSGD(), optim.ReduceOnPlateau(optim.PolyakSGD())):
        updates, _ = optimizer.step(jnp.ones(3), optimizer.init(jnp.ones(3)), value=value)
        np.testing.assert_allclose(updates, -np.ones(3) / 3, rtol=1e-6)


@pytest.mark.parametrize("value", ["low", 1j, True, 10**400, np.ones(1)])
def test_the_loss_is_a_real_number(value: Any) -> None:
    plateau, polyak = optim.ReduceOnPlateau(SGD), optim.PolyakSGD()
    with pytest.raises(TypeError, match=r"^ReduceOnPlateau: value must be a real scalar, got "):
        plateau.step(jnp.ones(3), plateau.init(jnp.ones(3)), value=value)
    with pytest.raises(TypeError, match=r"^(PolyakSGD: |polyak_sgd.step: )value must be .*, got "):
        polyak.step(jnp.ones(3), polyak.init(jnp.ones(3)), value=value)


def test_a_skipped_step_says_what_it_lacks() -> None:
    """At once, eagerly as under `jit`: not when the first step is made."""
    decayed, plateau = optim.Adam(weight_decay=0.1), optim.ReduceOnPlateau(SGD)
    for inside, message in ((decayed, "Adam: step needs the weights"), (plateau, "loss")):
        for optimizer in (optim.AccumulateGradients(inside, 3), optim.SkipNonFinite(inside)):
            state = optimizer.init(jnp.ones(2))
            for step in (optimizer.step, jax.jit(optimizer.step)):
                with pytest.raises((TypeError, ValueError), match=message):
                    step(jnp.full(2, jnp.nan), state)


@pytest.mark.parametrize(
    "inside",
    [
        optim.AccumulateGradients(SGD, 2),
        optim.AverageWeights(SGD),
        optim.Lookahead(SGD),
        optim.MasterWeights(SGD),
        optim.SkipNonFinite(SGD),
    ],
    ids=repr_of_class,
)
def test_what_has_the_last_word_is_outside(inside: Any) -> None:
    """A decay in each micro-batch, an average of weights that never were: refused."""
    name = type(inside).__name__
    for outside in (
        lambda: optim.DecayWeights(inside, 0.1),
        lambda: optim.Lookahead(optim.ClipGradients(inside, 1.0)),
        lambda: optim.ReduceOnPlateau(inside),
        lambda: optim.ScaleUpdates(optim.MultiOptimizer([SGD, inside], [first]), half_of_first),
    ):
        with pytest.raises(ValueError, match=f"put {name} outside"):
            outside()


def test_weights_to_evaluate_are_found_inside() -> None:
    """At any depth; behind master weights in the model's dtype."""
    average = optim.AverageWeights(SGD, 0.75, slot_dtype=jnp.float32)
    for optimizer, dtype in (
        (optim.ClipGradients(average, 1.0), jnp.float32),
        (optim.MasterWeights(optim.ClipGradients(average, 1.0)), jnp.bfloat16),
        (optim.AccumulateGradients(average, 1), jnp.float32),
    ):
        w = weights(dtype)
        new, state = optimizer.apply_gradients(gradients(dtype), optimizer.init(w), w)
        found = optimizer.evaluation_weights(state, new)
        expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, w, new)
        assert signature(found) == signature(w)
        assert close(found, expected, 0.01)


def test_arguments_with_defaults_are_passed() -> None:
    """An optimizer whose `step` has `value=None`, not keyword-only, gets the loss too."""
    seen: list[Any] = []

    class Relaxed:
        def init(self, weights: Any) -> Any:
            return ()

        def step(self, gradients: Any, state: Any, weights: Any = None, value: Any = None) -> Any:
            seen.append(value)
            return gradients, state

    for wrap in (optim.ReduceOnPlateau, lambda own: optim.MultiOptimizer([own])):
        optimizer = wrap(Relaxed())  # type: ignore[operator]
        optimizer.step(gradients(), optimizer.init(weights()), weights(), value=jnp.float32(7))
    assert [float(value) for value in seen] == [7, 7]


@every_example
def test_nothing_is_promoted(optimizer: Transformation) -> None:
    """Even if the user asks JAX to promote, and with leaves of different dtypes."""
    extra = arguments(optimizer)
    tree = {"a": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.float16), "c": jnp.ones(2, jnp.bfloat16)}
    if not any(isinstance(inside, optim.Muon) for inside in inside_of(optimizer)):
        tree["d"] = jnp.ones(2, jnp.complex64)
    with jax.numpy_dtype_promotion("strict"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        updates, state = optimizer.step(tree, optimizer.init(tree), tree, **extra)
        assert signature(updates) == signature(tree)
        optimizer.apply_gradients(tree, state, tree, **extra)


def test_a_schedule_inside_is_called_once_in_a_step() -> None:
    """To compare a state's hyperparameters with the optimizer's it need not be."""
    calls: list[Any] = []

    def schedule(step: Any) -> Any:
        calls.append(step)
        return 0.1

    optimizer = optim.SkipNonFinite(optim.ClipGradients(optim.SGD(schedule), 1.0))
    state = optimizer.init(weights())
    calls.clear()
    jax.make_jaxpr(optimizer.step)(gradients(), state, weights())
    assert len(calls) == 1


def test_narrow_slots_are_warned_of() -> None:
    half = {"a": jnp.ones(3, jnp.bfloat16)}
    with pytest.warns(
        UserWarning, match=r"AverageWeights: .*slots is too narrow[^$]*state.average"
    ):
        optim.AverageWeights(optim.SGD(momentum=None)).init(half)
    with pytest.warns(
        UserWarning, match=r"AccumulateGradients: .*slots is too narrow[^$]*state.mean"
    ):
        optim.AccumulateGradients(optim.SGD(momentum=None), 1000).init(half)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optim.AverageWeights(optim.SGD(momentum=None), slot_dtype=jnp.float32).init(half)
        optim.AccumulateGradients(optim.SGD(momentum=None), 4).init(half)


READING = {
    *("AccumulateGradients wide", "AverageWeights", "ClipGradients adaptive", "DecayWeights"),
    *("DecayWeights independent", "Lookahead", "MasterWeights", "nested"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_reads_the_weights_needs_them(name: str) -> None:
    """The others do without."""
    optimizer = EXAMPLES[name]
    state, extra = optimizer.init(weights()), arguments(optimizer)
    if name in READING:
        with pytest.raises(ValueError, match=r"^\w+: step needs the weights"):
            optimizer.step(gradients(), state, **extra)
    else:
        updates, _ = optimizer.step(gradients(), state, **extra)
        expected, _ = optimizer.step(gradients(), state, weights(), **extra)
        assert close(updates, expected, 0.0)


def test_norms_are_kept_in_the_state_and_refused_if_they_are_not_finite() -> None:
    skipping = optim.SkipNonFinite(optim.SGD(1.0))
    optimizer = optim.KeepNorm(optim.ClipGradients(skipping, max_norm=1.0))
    state = optimizer.init(weights())
    assert state.norm == 0.0
    updates, state = jax.jit(optimizer.step)(gradients(), state, weights())
    assert state.norm == optim.global_norm(gradients())
    assert optim.global_norm(updates) < 1.0
    bad = jax.tree.map(lambda x: x * jnp.inf, gradients())
    updates, state = optimizer.step(bad, state, weights())
    assert not jnp.isfinite(state.norm)
    assert state.inner.inner.skipped == 1
    assert optim.global_norm(updates) == 0

    assert optim.clip_grad_norm(gradients(), 1.0, error_if_non_finite=True)[1] > 1
    with pytest.raises(FloatingPointError, match="the norm of the gradients is nan"):
        optim.clip_grad_norm(jnp.full(2, jnp.nan), 1.0, error_if_non_finite=True)
    with pytest.raises(TypeError, match="not known under jit"):
        jax.jit(lambda g: optim.clip_grad_norm(g, 1.0, error_if_non_finite=True))(gradients())


def test_filters_that_select_nothing_are_warned_of() -> None:
    def misspelt(path: str, w: Any) -> bool:
        return path == "c"

    for optimizer, name in (
        (optim.MultiOptimizer([SGD, SGD, SGD], [first, misspelt]), r"MultiOptimizer\.filters\[1\]"),
        (optim.DecayWeights(SGD, 0.1, mask=misspelt), r"DecayWeights\.mask"),
    ):
        with pytest.warns(UserWarning, match=f"{name} accepts no weight.\n.*'a', 'b.0'") as warned:
            state = optimizer.init(weights())
        assert [one.filename for one in warned] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer.step(gradients(), state, weights())
            optimizer.init({"none": None})


def test_accumulation_follows_a_schedule_and_is_flushed() -> None:
    """Against the batches written out; an incomplete cycle is flushed once, in the dtype of the weights."""
    optimizer = optim.AccumulateGradients(
        optim.SGD(1.0), lambda steps: jnp.where(steps < 2, 1.6, 3.0), slot_dtype=jnp.float32
    )
    w = {"a": jnp.zeros(1, jnp.bfloat16), "b": None}
    state = optimizer.init(w)
    flush, made = jax.jit(optimizer.flush), list[int]()
    for g in range(1, 10):
        gradient = {"a": jnp.full(1, g, jnp.bfloat16), "b": None}
        w, state = optimizer.apply_gradients(gradient, state, w)
        made.append(int(state.made))
    assert made == [0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert w["a"] == -(1.5 + 3.5 + 6.0)
    for _ in range(2):
        w, state = flush(state, w)
        assert (w["a"], state.cycle, state.made, state.inner.step) == (-19.5, 0, 4, 4)
        assert (state.mean["a"] == 0).all()
    assert w["a"].dtype == jnp.bfloat16
    # Rounded as in a step: stochastically, if the optimizer inside does so.
    rounding = optim.SGD(1.0, stochastic_rounding=True)
    optimizer = optim.AccumulateGradients(rounding, 3, slot_dtype=jnp.float32)
    state = optimizer.init(w := jnp.zeros(999, jnp.bfloat16))
    for last in (1, 1 + 2**-7):
        w, state = optimizer.apply_gradients(jnp.full(999, last, jnp.bfloat16), state, w)
    flushed, _ = optimizer.flush(state, w)
    assert 0.4 < (-flushed.astype(float).mean() - 1) * 2**7 < 0.6
    clipped = optim.ClipGradients(optimizer, max_norm=1.0)
    with pytest.raises(
        TypeError, match=r"with it at state.inner\.\n.*flush\(state.inner, weights\)"
    ):
        optimizer.flush(clipped.init(w), w)  # type: ignore[arg-type]

    class Model(Module):
        kernel: Parameter = Parameter(jnp.ones(2))
        fixed: Parameter = Parameter(jnp.ones(2), frozen=True)

    model = Model()
    polyak = optim.AccumulateGradients(optim.PolyakSGD(), 2)
    one = polyak.step(model.filter(), polyak.init(model), value=1.0)[1]
    flushed, _ = polyak.flush(one, model, value=1.0)
    assert flushed.kernel.data[0] < 1
    assert (flushed.fixed.data == 1).all()


@pytest.mark.parametrize(
    ("every", "error", "message"),
    [
        (0, ValueError, "every must be >= 1, got 0"),
        (1.5, TypeError, "every must be an integer"),
        (lambda steps: steps, ValueError, "every must be >= 1, got 0 from its schedule"),
        (lambda steps: jnp.ones(2), TypeError, r"must return an integer, got float32\[2\]"),
    ],
)
def test_lengths_of_accumulation_that_are_refused(every: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        optim.AccumulateGradients(SGD, every).init(weights())
