"""Packed weights in every optimizer: the same step as with plain weights, or an error."""

import importlib
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import Packed, optim
from mlax.optim.transformations._wrapping import Transformation
from mlax.tree import tree_equal
from mlax.typing import LeafMismatchError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.mlax.generated_optimizers import (
    MODULES,
    analysis,
    case_name,
    init,
    optimizer_class,
    slots,
    step,
    types,
)
from tests.mlax.models import linear
from tests.mlax.optim.transformations.examples import EXAMPLES, SGD, arguments

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {
    "a": jnp.linspace(-1, 1, 6).reshape(2, 3),
    "b": {"x": jnp.linspace(2, 1, 6).reshape(2, 3), "none": None},
    "c": jnp.linspace(-2, 1, 6, dtype=jnp.bfloat16).reshape(2, 3),
    "d": jnp.linspace(-1, 2, 6, dtype=jnp.bfloat16).reshape(2, 3),
}
GRADIENTS: Any = jax.tree.map(lambda w: jnp.cos(3 * w), WEIGHTS)

# Options with which an optimizer that mostly sees leaves as a whole does not.
ELEMENTWISE: dict[str, dict[str, Any]] = {
    "adafactor": {
        "factored": False,
        "clipping_threshold": None,
        "multiply_by_parameter_scale": False,
    }
}
CASES = [(name, dict[str, Any]()) for name in MODULES] + list(ELEMENTWISE.items())


def sees_leaves(name: str, options: dict[str, Any]) -> bool:
    found = analysis(name)
    if found.leaves_when is None:
        return found.sees_leaves
    return bool(eval(found.leaves_when, vars(optimizer_class(MODULES[name])(**options))))


def run(name: str, options: dict[str, Any], weights: Any, gradients: Any) -> Any:
    """Return updates and slots of two steps on one gradient."""
    state = init(name, weights, **options)
    first, state = step(name, gradients, state, weights)
    second, state = step(name, gradients, state, weights)
    return first, second, slots(state)


def unpacked(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: x.unpack() if isinstance(x, Packed) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Packed),
    )


@pytest.mark.parametrize(("name", "options"), CASES, ids=case_name)
def test_a_step_is_that_of_the_plain_weights_or_refused(name: str, options: dict[str, Any]) -> None:
    weights, gradients = mlax.pack(WEIGHTS), mlax.pack(GRADIENTS)
    assert len(jax.tree.leaves(weights)) == 2
    if sees_leaves(name, options):
        cls = optimizer_class(MODULES[name]).__name__
        message = (
            rf"(?s)^{cls}: weights must not be packed.*small\['bfloat16'\]: .* c, d\n.* a, b.x\n"
        )
        with pytest.raises(TypeError, match=message):
            init(name, weights, **options)
        init(name, mlax.pack(WEIGHTS, threshold=0), **options)  # nothing lies together
        return
    expected = run(name, options, WEIGHTS, GRADIENTS)
    results = unpacked(run(name, options, weights, gradients))
    if "normal" in analysis(name).called:  # each leaf has noise of its own
        assert types(results) == types(expected)
    elif any(phase.totals for phase in analysis(name).phases):  # summed in another order
        for a, b in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(
                np.asarray(a, float), np.asarray(b, float), rtol=1e-5 if a.dtype == float else 1e-2
            )
    else:
        assert tree_equal(results, expected)


def test_factored_slots_cannot_be_unpacked() -> None:
    state = init("adafactor", mlax.pack(WEIGHTS), **ELEMENTWISE["adafactor"])
    with pytest.raises(
        ValueError, match=r"small\['float32'\] must have a last axis of 12, got \(\)"
    ):
        state.row.unpack()


def test_which_optimizers_see_leaves() -> None:
    """The law above would hold if nothing, or everything, were refused."""
    refused = {name for name in MODULES if sees_leaves(name, {})}
    assert refused == {
        *("adafactor", "adam_mini", "adamp", "came", "cautious_adamw", "dion", "fromage"),
        *("galore", "lamb", "lars", "mars", "muon", "novograd", "sgdp", "shampoo", "sm3", "soap"),
        *("swats", "tiger"),
    }
    assert not sees_leaves("adafactor", ELEMENTWISE["adafactor"])


SPEC = """
name = "mine"
summary = "Mine: for this test."
references = ["None"]

[hyperparameters]
learning_rate = { default = 0.1, bounds = "0 <= x", schedulable = true, doc = "Step size." }
whole = { default = false, doc = "By the norm." }

[[step]]
leaf = "update = -learning_rate * (g / norm(g) if whole else g)"
"""


def test_an_optimizer_of_ones_own_refuses_by_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(SPEC)
    (tmp_path / "mine_in_packs.py").write_text(render_module(read_spec(tmp_path / "mine.toml")))
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("mine_in_packs")
    packed = mlax.pack(WEIGHTS)
    mine.init(packed)
    with pytest.raises(TypeError, match=r"^Mine: weights must not be packed \(whole is True\)"):
        mine.init(packed, whole=True)


@pytest.mark.parametrize(
    "tree",
    [
        {"a": mlax.pack([jnp.ones(2), jnp.ones(3)]), "b": jnp.ones(2)},
        mlax.Container([mlax.pack(linear())]),
    ],
    ids=["a dict", "a module"],
)
def test_a_packed_tree_is_found_inside_of_others(tree: Any) -> None:
    with pytest.raises(
        TypeError, match=r"(?s)^LAMB: weights must not be packed.*weights.*small\['"
    ):
        optim.LAMB().init(tree)
    optim.Adam().init(tree)


# Optimizers made of others.


def is_matrix(path: str, weight: Any) -> bool:
    return weight.ndim == 2


def test_muon_beside_packed_weights() -> None:
    plain = {"a": jnp.eye(3), "b": jnp.ones(2), "c": jnp.ones(())}
    packed = mlax.pack(plain, group=lambda path, w: None if is_matrix(path, w) else "rest")
    assert packed.small.keys() == {"float32 rest"}
    optimizer = optim.MultiOptimizer([optim.Muon(), optim.Adam(0.1)], [is_matrix])
    expected, _ = optimizer.update(plain, plain, optimizer.init(plain))
    updated, state = optimizer.update(packed, packed, optimizer.init(packed))
    # A scalar is not computed by the same instructions as a vector.
    assert all(map(jnp.allclose, jax.tree.leaves(updated.unpack()), jax.tree.leaves(expected)))
    moments = {"a": None, "b": jnp.zeros(2), "c": jnp.zeros(())}
    assert tree_equal(optimizer.init(packed).inner[1].m.unpack(), moments)
    assert jax.tree.leaves(state.inner[0].m)[0].shape == (3, 3)
    with pytest.raises(ValueError, match=r"MultiOptimizer\.filters: the result is 0"):
        optimizer.init(mlax.pack(plain))


# They ask for the norm of a leaf; and for a path, which differs in the same flat array.
REFUSED = {
    "ClipGradients": "max_leaf_norm is not None or adaptive is not None",
    "ClipGradients adaptive": "max_leaf_norm is not None or adaptive is not None",
    "nested": "Muon: weights must not be packed",
}


def asked_alike(path: str, _: Any) -> Any:
    return path.startswith("a"), path in {"b.0", "b"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_transformations_give_the_results_of_plain_weights(name: str) -> None:
    optimizer: Transformation = EXAMPLES[name]
    plain = {"a": jnp.linspace(-1, 1, 4), "b": [jnp.ones(()), jnp.ones(2)], "a2": jnp.ones(3)}
    packed = mlax.pack(plain, group=asked_alike)
    assert packed.small.keys() == {"float32 (True, False)"}
    if name in REFUSED:
        with pytest.raises(TypeError, match=REFUSED[name]):
            optimizer.init(packed)
        return
    results: list[Any] = []
    for tree in (plain, packed):
        weights, state = tree, optimizer.init(tree)
        for _ in range(2):
            weights, state = optimizer.update(weights, tree, state, **arguments(optimizer))
        results.append(unpacked(weights))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def halves(path: str, weight: Any) -> float:
    return 0.5 if path == "kernel" else 1.0


@pytest.mark.parametrize(
    ("optimizer", "answers"),
    [
        (optim.MultiOptimizer([SGD, SGD], [is_matrix]), "filters: the result is 0 (int)"),
        (optim.DecayWeights(SGD, 0.1, mask=is_matrix), "mask: the result is True (bool)"),
        (optim.ScaleUpdates(SGD, halves), "scale: the result is 0.5 (float)"),
    ],
    ids=["filters", "mask", "scale"],
)
def test_a_flat_array_is_asked_for_each_weight_in_it(optimizer: Any, answers: str) -> None:
    plain = linear()
    packed = mlax.pack(plain)
    message = (
        f"^{type(optimizer).__name__}.{re.escape(answers)} for 'kernel', float32\\[2,3\\], but .* for 'bias', "
        r"float32\[3\]; both are in one flat array, \.small\['float32'\].\n  Pack them separately"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step(packed.filter(), optimizer.init(packed), packed.filter())
    apart = mlax.pack({"x": plain, "y": linear(), "z": jnp.ones(())}, group=lambda path, w: w.ndim)
    optimizer.update(apart, apart.filter(), optimizer.init(apart))
    asked: list[Any] = []

    def ask(path: str, weight: Any) -> bool:
        asked.append((path, weight.shape, weight.dtype.name))
        return True

    optim.MultiOptimizer([SGD, SGD], [ask]).init({"in": mlax.pack(plain, threshold=20)})
    assert sorted(asked) == [("in.bias", (3,), "float32"), ("in.kernel", (2, 3), "float32")]
    asked.clear()
    optim.MultiOptimizer([SGD, SGD], [ask]).init({"in": mlax.pack(plain)})
    assert asked == [("in.kernel", (2, 3), "float32"), ("in.bias", (3,), "float32")]


def test_functions_that_clip_by_leaf_refuse_too() -> None:
    packed = mlax.pack(linear()).filter()
    for clip in (
        lambda: optim.clip_grad_leaf_norm(packed, 1.0),
        lambda: optim.clip_grad_adaptive(packed, packed),
    ):
        with pytest.raises(TypeError, match=r"^clip_grad_.*: weights must not be packed"):
            clip()
    _, norm = optim.clip_grad_norm(packed, 1.0)
    np.testing.assert_allclose(norm, optim.global_norm(linear().filter()), rtol=1e-6)
    optim.clip_grad_value(packed, 1.0)


def test_packed_and_plain_trees_do_not_mix() -> None:
    plain, optimizer = linear(), optim.Adam()
    packed = mlax.pack(plain)
    other = mlax.pack({"kernel": plain.kernel.data, "bias": plain.bias.data})
    gradients = plain.filter()
    with pytest.raises(
        LeafMismatchError,
        match=r"weights is packed, gradients is not: use packed\.filter\(\)\.repack",
    ):
        optimizer.update(packed, gradients, optimizer.init(packed))
    optimizer.update(packed, packed.filter().repack(gradients), optimizer.init(packed))
    with pytest.raises(
        LeafMismatchError,
        match=r"gradients is packed, weights is not: pack both, or use gradients\.unpack\(\); "
        r"a loss function that unpacks its model should return packed\.repack",
    ):
        optimizer.update(plain, packed.filter(), optimizer.init(plain))
    with pytest.raises(
        LeafMismatchError,
        match="gradients and weights were packed from different trees, or with a different",
    ):
        optimizer.update(packed, other.filter(), optimizer.init(packed))
