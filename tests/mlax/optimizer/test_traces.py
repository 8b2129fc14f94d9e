"""The cost of tracing a step: each distinct leaf once, checks at most a tenth, and everything linear in the
leaves.

Cost is counted in calls of functions, Python's and C's, which are the same in each run. Time is
not.
"""

import cProfile
import gc
import itertools
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mlax
from mlax import optim
from mlax.experimental import optim as experimental
from mlax.leafwise import _mapping
from mlax.optim.transformations._wrapping import Transformation
from tests.mlax.generated_optimizers import OPTIONS, every_optimizer, init, step
from tests.mlax.optim.transformations import examples as transformations

pytestmark = pytest.mark.one_python

every_transformation = pytest.mark.parametrize(
    "optimizer", transformations.EXAMPLES.values(), ids=transformations.EXAMPLES
)

# JAX remembers what it has traced: each tree has leaves of a length that no other has, nor a tree of any other test in
# the process. Lengths that others use too, such as 128, let a count of traces fall from 6 to 4. No array is made.
LENGTHS = itertools.count(10_000_019)

narrow_slots = pytest.mark.filterwarnings("ignore:.*slots is too narrow:UserWarning")

Form = tuple[Any, ...]


def tree(copies: int) -> dict[str, Any]:
    """Return a tree with leaves of three forms, so many of each; nothing is computed, only traced."""
    n = next(LENGTHS)
    float32 = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    forms = {
        "a": float32((n,)),
        "b": float32((n, 2)),
        "c": jax.ShapeDtypeStruct((n,), jnp.bfloat16),
    }
    return {f"{name}{i}": leaf for name, leaf in forms.items() for i in range(copies)}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Counter[Form]:
    """Return how often which leaf function is traced with which hyperparameters and leaves."""
    found: Counter[Form] = Counter()
    computed = _mapping._computed

    def counting(leaf: Any, h: Any, entries: Any, shared: Any) -> Any:
        leaves, treedef = jax.tree.flatten(entries)
        found[leaf, id(h), treedef, *((x.shape, x.dtype) for x in leaves)] += 1
        return computed(leaf, h, entries, shared)

    monkeypatch.setattr(_mapping, "_computed", counting)
    return found


def times(leaf: Any) -> int:
    """Return how often a leaf function is traced: if a norm over all leaves overflows, a branch computes it anew."""
    return 1 + ("total_norm" in leaf.__code__.co_names)


@every_optimizer
def test_each_form_of_leaf_is_traced_once(name: str, traced: Counter[Form]) -> None:
    for options in [dict[str, Any](), *OPTIONS.get(name, [])][-2:]:
        weights = tree(3)
        state = jax.eval_shape(partial(init, name, **options), weights)
        jax.eval_shape(partial(step, name), weights, state, weights)
    assert all(count == times(leaf) for (leaf, *_), count in traced.items())
    per_function = Counter(leaf for leaf, *_ in traced)
    assert all(count % 3 == 0 for count in per_function.values()), per_function


@narrow_slots
@pytest.mark.parametrize(
    "optimizer",
    [optim.Adam(), optim.Adafactor(1e-3), experimental.SOAP(1e-3)],
    ids=lambda x: type(x).__name__,
)
def test_each_form_of_slot_is_made_once(optimizer: Any) -> None:
    few, many = (len(jax.make_jaxpr(optimizer.init)(tree(copies)).eqns) for copies in (2, 6))
    assert few == many > 0


def vmapped(function: Any, *trees: Any) -> Any:
    return jax.vmap(function)(*jax.tree.map(lambda x: jnp.stack([x, x]), trees))


def scanned(function: Any, *trees: Any) -> Any:
    return jax.lax.scan(lambda carry, _: (function(*carry), None), trees, None, length=2)


def differentiated(function: Any, *trees: Any) -> Any:
    def total(gradients: Any) -> Any:
        return sum(
            x.sum().astype(float) for x in jax.tree.leaves(function(gradients, *trees[1:])[0])
        )

    return jax.grad(total)(trees[0])


@every_transformation
def test_transformations_trace_each_form_once(
    optimizer: Transformation, traced: Counter[Form]
) -> None:
    extra = transformations.arguments(optimizer)

    def one_step(gradients: Any, state: Any, weights: Any) -> Any:
        weights, state = optimizer.apply_gradients(gradients, state, weights, **extra)
        return gradients, state, weights

    weights = tree(4)
    state = jax.eval_shape(optimizer.init, weights)
    traced.clear()
    jax.eval_shape(one_step, weights, state, weights)
    assert all(count <= times(leaf) for (leaf, *_), count in traced.items())


@narrow_slots
@pytest.mark.parametrize("transform", [vmapped, scanned, differentiated])
@pytest.mark.parametrize(
    "optimizer",
    [optim.Adam(), optim.ClipGradients(optim.LAMB(1e-3), max_norm=1.0)],
    ids=lambda x: type(x).__name__,
)
def test_under_transformations_nothing_depends_on_the_number_of_leaves(
    optimizer: Any, transform: Any, traced: Counter[Form]
) -> None:
    def one_step(gradients: Any, state: Any, weights: Any) -> Any:
        weights, state = optimizer.apply_gradients(gradients, state, weights)
        return (weights if transform is differentiated else gradients), state, weights

    totals: list[int] = []
    for copies in (2, 6):
        traced.clear()
        weights = tree(copies)
        state = jax.eval_shape(optimizer.init, weights)
        jax.eval_shape(partial(transform, one_step), weights, state, weights)
        totals.append(traced.total())
    assert totals[0] == totals[1] > 0


@narrow_slots
@pytest.mark.parametrize(
    ("optimizer", "most"),
    [
        (optim.AdamW(optim.cosine_decay(1e-3, 10)), 1),  # a call
        (optim.LAMB(1e-3), 2),  # and one that makes it wait for the leaf before
        (optim.NoisySGD(1e-3), 2),  # the leaf's position, for its key
        (
            optim.ClipGradients(
                optim.MultiOptimizer([optim.Muon(), optim.Adam()], [lambda _, w: w.ndim == 2]), 1.0
            ),
            6,  # its squares and, in case they overflow, its norm; their shares in sums; its scaling
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_each_form_of_leaf_is_lowered_to_one_function(optimizer: Any, most: float) -> None:
    functions: list[int] = []
    calls: list[int] = []
    lines: list[int] = []
    for copies in (2, 6):
        weights = tree(copies)
        state = jax.eval_shape(optimizer.init, weights)
        text = jax.jit(optimizer.apply_gradients).lower(weights, state, weights).as_text()
        functions.append(len(re.findall(r"func\.func", text)))
        calls.append(len(re.findall(r"\bcall @update_leaf", text)))
        lines.append(text.count("\n"))
    assert functions[0] == functions[1]
    assert calls[1] == 3 * calls[0] > 0
    assert (lines[1] - lines[0]) / 12 <= most


class Layer(mlax.Module):
    """Two parameters, and a node that is not a parameter."""

    kernel: mlax.Parameter[Any]
    bias: mlax.Parameter[Any]
    mean: mlax.Variable[Any]
    name: str = "layer"


class Deep(mlax.Module):
    """Many layers."""

    layers: tuple[Layer, ...]


def deep(count: int) -> Deep:
    n = next(LENGTHS)

    def made() -> Deep:
        x = jnp.ones(n)
        parameters = [mlax.Parameter(x + 0) for _ in range(count)]
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        return Deep(tuple(Layer(*pair, mlax.Variable(x + 0)) for pair in pairs))

    return jax.eval_shape(made)


def many(count: int) -> dict[str, Any]:
    x = jax.ShapeDtypeStruct((next(LENGTHS),), jnp.float32)
    return {f"layer{i:04d}": x for i in range(count)}


def squares(model: Deep) -> Any:
    return sum(
        (x.data * x.data).sum() for one in model.layers for x in (one.kernel, one.bias)
    ), model


def stepping(optimizer: Any) -> Callable[[int], Any]:
    def made(count: int) -> Any:
        weights = many(count)
        return optimizer.apply_gradients, (
            weights,
            jax.eval_shape(optimizer.init, weights),
            weights,
        )

    return made


def updating(count: int) -> Any:
    model, optimizer = deep(count), optim.Adam()
    return optimizer.update, (model, model.filter(), jax.eval_shape(optimizer.init, model))


TRACED: dict[str, Callable[[int], Any]] = {
    "init": lambda count: (optim.Adam().init, (many(count),)),
    "apply_gradients": stepping(optim.Adam()),
    "sums": stepping(optim.LAMB(1e-3)),
    "clipped": stepping(optim.ClipGradients(optim.Adam(), max_norm=1.0)),
    "groups": stepping(
        optim.MultiOptimizer(
            [optim.SGD(momentum=0.9), optim.Adam()], [lambda path, _: path[-1] in "02468"]
        )
    ),
    "master": stepping(optim.MasterWeights(optim.Adam())),
    "update": updating,
    "value_and_grad": lambda count: (mlax.value_and_grad(squares), (deep(count),)),
}


def calls(made: Any) -> int:
    """Return how many functions are called while one is traced that JAX does not know, but whose parts it does.

    The parts are traced just before: JAX forgets some when it has traced thousands, as the tests of a process do.
    """
    function, given = made
    jax.jit(partial(function)).trace(*given)
    jitted = jax.jit(partial(function))
    profile = cProfile.Profile()
    gc.disable()  # what it runs is not the function's
    try:
        profile.runcall(jitted.trace, *given)
    finally:
        gc.enable()
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_work_is_linear_and_checks_are_a_tenth(make: Callable[[int], Any]) -> None:
    per_leaf: dict[bool, float] = {}
    for checked in True, False:
        with mlax.runtime_checks(checked):
            calls(make(2))  # what is imported and remembered once
            few, some, many = (calls(make(count)) for count in (10, 30, 50))
        # One call for each pair of leaves would make this 50**2 - 2 * 30**2 + 10**2 = 800.
        assert abs((many - some) - (some - few)) < 200
        per_leaf[checked] = (many - few) / 40
    assert per_leaf[True] <= 1.1 * per_leaf[False]
