"""What holds for every layer: transformations, copies, files, and what is said of mistakes."""

import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import nn
from tests.mlax.nn.cases import CASES, KEY, Case
from tests.mlax.nn.test_parity import is_float, with_gradients

pytestmark = pytest.mark.one_python
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def same(got: Any, expected: Any, tolerance: float = 2e-6) -> None:
    """Check results that are computed by the same formulas, in another order."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        one, other = np.asarray(a, np.float32), np.asarray(b, np.float32)
        bound = tolerance * max(1, np.abs(other).max(initial=0))
        np.testing.assert_allclose(one, other, 0, bound)


@every
def test_transformations(case: Case) -> None:
    """One program: exported, called, mapped, scanned, checkpointed. It agrees with an eager call."""
    model, given = case.model, case.given
    shapes = jax.eval_shape(case.call, model, given)
    exported = jax.export.export(jax.jit(case.call))(model, given)
    read = jax.export.deserialize(exported.serialize())

    @jax.jit
    def program(model: Any, given: Any) -> Any:
        twice = jax.tree.map(lambda a: jnp.stack([a, a]), given)
        plain, checkpointed = (
            with_gradients(call, model, given)
            for call in (
                lambda m, x: case.call(m, x)[0],
                jax.checkpoint(lambda m, x: case.call(m, x)[0]),
            )
        )
        _, scanned = jax.lax.scan(lambda m, x: case.call(m, x)[::-1], model, twice)
        mapped = jax.vmap(lambda x: case.call(model, x)[0])(twice)
        return read.call(model, given), plain, checkpointed, scanned, mapped

    y, after = case.call(model, given)
    assert jax.tree.structure((y, after)) == jax.tree.structure(shapes)
    for a, b in zip(jax.tree.leaves((y, after)), jax.tree.leaves(shapes), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, False)
    assert jax.tree.structure(after) == jax.tree.structure(model)
    by_read, plain, checkpointed, scanned, mapped = program(model, given)
    same(by_read, (y, after))
    same(plain[0], y)
    same(checkpointed, plain, 1e-5)
    same(jax.tree.map(lambda a: a[0], scanned), y)
    same(mapped, jax.tree.map(lambda a: jnp.stack([a, a]), y))


@every
def test_first_call_sets_up_as_mlax_set_up_does(case: Case) -> None:
    def lazily(given: Any) -> Any:
        prepared = mlax.training if case.training else mlax.inference
        _, model = prepared(case.layer, rng=KEY)(*given[0], **given[1])
        return model

    shapes = jax.eval_shape(lazily, case.given)
    assert jax.tree.structure(shapes) == jax.tree.structure(case.model)
    assert [a.shape for a in jax.tree.leaves(shapes)] == [
        a.shape for a in jax.tree.leaves(case.model)
    ]
    assert case.model.is_set_up


@every
def test_copies(case: Case, tmp_path: Path) -> None:
    model, name = case.model, type(case.layer).__name__
    assert type(model).__module__ == "mlax.nn"
    for text in (
        repr(case.layer),
        repr(model),
        str(mlax.summary(model, *case.inputs, **case.keywords)),
    ):
        assert name in text
        assert "object at 0x" not in text
    for each in (case.layer, model):
        assert mlax.tree_equal(pickle.loads(pickle.dumps(each)), each)
    mlax.save(tmp_path / "model.safetensors", model)
    like = jax.eval_shape(lambda: case.set_up(case.given))
    assert mlax.tree_equal(mlax.load(tmp_path / "model.safetensors", like), model)


@every
def test_frozen(case: Case) -> None:
    frozen = mlax.freeze(case.model)
    assert not jax.tree.leaves(frozen.filter())
    shape = jax.eval_shape(lambda m, x: case.call(m, x)[0], frozen, case.given)
    assert shape == jax.eval_shape(lambda m, x: case.call(m, x)[0], case.model, case.given)
    assert type(mlax.unfreeze(frozen)) is type(case.model)


@every
def test_looking_inside(case: Case) -> None:
    if case.training or isinstance(case.layer, nn.Embedding):
        return
    assert mlax.first_non_finite(mlax.inference(case.model))(*case.inputs, **case.keywords) is None
    infinite = jax.tree.map(lambda a: a * np.float32(np.inf) if is_float(a) else a, case.inputs)
    found = mlax.first_non_finite(mlax.inference(case.model))(*infinite, **case.keywords)
    assert found is not None


@every
def test_wrong_inputs(case: Case) -> None:
    for inputs, text in case.wrong:
        with pytest.raises((TypeError, ValueError)) as caught:
            case.call(case.model, (inputs, {}))
        readable(caught.value, text)
        if text.startswith("int"):  # nothing is made from a wrong input
            with pytest.raises((TypeError, ValueError)) as caught:
                case.set_up((inputs, {}))
            readable(caught.value, text)


def readable(error: BaseException, *texts: str) -> None:
    """Check that an error names a layer, and says what it was given in few lines."""
    message = str(error)
    first = message.partition("\n")[0]
    assert any(
        hasattr(nn, word) for word in first.replace(":", " ").replace(".", " ").split()[:1]
    ), message
    assert len(message.splitlines()) <= 12, message
    for text in texts:
        assert text in message, message


@every
def test_mismatched_dtypes(case: Case) -> None:
    """No input may have another dtype than the weights."""
    leaves, structure = jax.tree.flatten(case.given)
    for i, leaf in enumerate(leaves):
        if not is_float(leaf) or not jax.tree.leaves(case.model.filter(mlax.is_parameter)):
            continue
        if isinstance(case.layer, nn.Compute):  # casts
            continue
        given = jax.tree.unflatten(
            structure, [jnp.asarray(a, jnp.bfloat16) if i == j else a for j, a in enumerate(leaves)]
        )
        with pytest.raises(TypeError) as caught:
            case.call(case.model, given)
        readable(
            caught.value,
            "bfloat16",
            "float32",
            "nn.Compute(model, jnp.bfloat16)",
            "astype(jnp.float32)",
        )
