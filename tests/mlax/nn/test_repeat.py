"""`Repeat` is its blocks in series; `Shared`, `LoRA`, `Compute` and other wrappers act on it too."""

from dataclasses import KW_ONLY
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import mlax
from mlax import Module, Variable, nn
from tests.mlax.nn.cases import KEY, array, same

pytestmark = pytest.mark.one_python

X = array(3, 4)


class Block(Module):
    """Has weights, draws random numbers, and counts its calls."""

    features: int
    _: KW_ONLY
    dense: nn.Linear = nn.Linear(4)
    dropout: nn.Dropout = nn.Dropout(0.3)
    calls: Variable[Int[Array, ""]] = Variable(0)
    last: Variable[Float[Array, ""]] = Variable(0.0)

    def forward(self, x: Float[Array, "n m"], scale: Any = 1.0) -> tuple[Float[Array, "n m"], Self]:
        h, self = self.chain(x, self.dense, self.dropout)
        last = self.last.with_data(jax.lax.stop_gradient(h.sum()))
        return x + scale * jnp.tanh(h), self.replace(
            calls=self.calls.with_data(self.calls.data + 1), last=last
        )

    def decode(self, x: Any, cache: Any) -> tuple[tuple[Any, Any], Self]:
        y, self = self.forward(x)
        return (y, cache + 1), self


def made(depth: int = 3, **options: Any) -> Any:
    return mlax.set_up(nn.Repeat(Block(4), depth, **options), X, rng=KEY)


def gradients(call: Any, model: Any, x: Any) -> Any:
    """Return the result, the changed model, and the gradients of a loss."""

    def loss(model: Any, x: Any) -> Any:
        y, model = call(model, x)
        return jnp.sum(jnp.square(y)), model, y

    (_, after, y), found = mlax.value_and_grad(loss)(model, x)
    return y, after, found


def in_series(model: Any, x: Any) -> Any:
    """The blocks one after another, in inference: what draws nothing."""
    blocks = []
    for block in model.unstack():
        x, after = mlax.inference(block)(x)
        blocks.append(after)
    return x, nn.Repeat.stack(*blocks)


def test_repeat_is_its_blocks_in_series() -> None:
    model = made()

    @jax.jit
    def results(model: Any, x: Any) -> Any:
        expected = gradients(in_series, model, x)
        options = [
            {},
            {"unroll": 2},
            {"remat": True},
            {"remat": jax.checkpoint_policies.dots_saveable, "unroll": 3},
        ]
        others = [
            gradients(lambda m, x: mlax.inference(m)(x), model.replace(**each), x)
            for each in options
        ]
        # The options are static fields, in which the results differ.
        return [jax.tree.map(lambda a: a, (y, m.block, g.block)) for y, m, g in [expected, *others]]

    expected, *others = results(model, X)
    for found in others:
        same(found, expected, 1e-5)
    assert expected[1].calls.data.tolist() == [1, 1, 1]
    assert len(set(expected[1].last.data.tolist())) == 3


def test_depths_0_and_1() -> None:
    y, same_model = mlax.inference(made(0))(X)
    np.testing.assert_array_equal(y, X)
    assert len(same_model) == 0
    assert same_model.unstack() == ()
    one = made(1)
    same(mlax.inference(one)(X)[0], mlax.inference(one[0])(X)[0])


def test_weights_and_keys_of_a_block_do_not_depend_on_the_depth() -> None:
    """A block's key shows in what its Dropout leaves, which its `last` is the sum of."""
    shallow, deep = made(2), made(5)
    assert mlax.tree_equal(deep[:2], shallow)
    weights = np.asarray(deep.block.dense.kernel.data)
    assert len({w.tobytes() for w in weights}) == 5
    _, shallow = mlax.training(shallow, rng=KEY)(X)
    _, deep = mlax.training(deep, rng=KEY)(X)
    np.testing.assert_array_equal(deep.block.last.data[:2], shallow.block.last.data)


def test_each_block_draws_its_own() -> None:
    model = mlax.set_up(nn.Repeat(nn.Dropout(0.5), 3), jnp.ones(64))
    y, _ = mlax.training(model, rng=KEY)(jnp.ones(64))
    assert 0 < (y > 0).sum() < 24  # an eighth; half, if all lost the same elements
    assert {*np.unique(y)} == {0, 8}


def test_indices_slices_and_stacks() -> None:
    model = made(4)
    assert len(model) == 4
    assert mlax.tree_equal(nn.Repeat.stack(*model.unstack()), model)
    options: dict[str, Any] = {"remat": True, "unroll": 2}
    assert mlax.tree_equal(nn.Repeat.stack(*model.unstack(), **options), model.replace(**options))
    with pytest.raises(TypeError, match="the input of the first block"):
        model()
    assert mlax.tree_equal(model[-1], model[3])
    assert mlax.tree_equal(model[1:3], nn.Repeat.stack(model[1], model[2]))
    assert mlax.tree_equal(model[::-2], nn.Repeat.stack(model[3], model[1]))
    assert [len(model[:0]), len(model[2:]), len([*model])] == [0, 2, 4]
    assert mlax.tree_equal(jax.jit(lambda m, i: m[i])(model, 2), model[2])
    assert mlax.tree_equal(model[np.int32(2)], model[2])
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"Repeat: there is no block {index} of 4"):
            model[index]


def test_wrong_stacks_are_refused() -> None:
    a = made(2)[0]
    wider = mlax.set_up(Block(4, dense=nn.Linear(4, bias=None)), X, rng=KEY)
    with pytest.raises(ValueError, match=r"Repeat\.stack needs at least one block"):
        nn.Repeat.stack()
    with pytest.raises(ValueError, match=r"Repeat.stack: block 1 .*"):
        nn.Repeat.stack(a, wider)
    other = mlax.set_up(nn.Linear(4), array(3, 5), rng=KEY)
    with pytest.raises(ValueError, match=r"Repeat.stack: block 1 .*kernel"):
        nn.Repeat.stack(a.dense, other)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), a.dense)
    with pytest.raises(ValueError, match=r"Repeat.stack: block 1 .*kernel"):
        nn.Repeat.stack(a.dense, half)
    with pytest.raises(ValueError, match=r"nn\.Repeat\.stack"):
        nn.Repeat(a, 2)
    with pytest.raises(ValueError, match="depth must be an integer of at least 0, got -1"):
        nn.Repeat(Block(4), -1)
    with pytest.raises(ValueError, match="set up"):
        nn.Repeat.stack(Block(4), Block(4))


def test_a_block_that_changes_the_shape_is_refused() -> None:
    model = nn.Repeat(nn.Linear(3), 2)
    with pytest.raises((TypeError, ValueError), match=r"Repeat: .*float32\[3,4\].*float32\[3,3\]"):
        mlax.training(model, rng=KEY)(X)


def test_scan_calls_another_method_with_an_input_for_each_block() -> None:
    model = made(3)
    (y, caches), after = mlax.inference(model.scan)(Block.decode, X, jnp.arange(3))
    expected, after_forward = mlax.inference(model)(X)
    same(y, expected)
    assert caches.tolist() == [1, 2, 3]
    assert mlax.tree_equal(after, after_forward)
    by_function: Any = mlax.inference(model.scan)
    got = by_function(lambda block, x, each: block.decode(x, each), X, jnp.arange(3))
    assert mlax.tree_equal(got, ((y, caches), after))
    with pytest.raises(TypeError, match=r"Repeat\.scan takes a method of Block, .*Recurrent\.run"):
        by_function(nn.Recurrent.run, X)


def test_arguments_for_all_blocks() -> None:
    model = made(2)
    y, _ = mlax.inference(model)(X, scale=0.0)
    np.testing.assert_array_equal(y, X)
    y, _ = mlax.inference(model)(X, jnp.float32(0))
    np.testing.assert_array_equal(y, X)


def test_compile_time_work_does_not_depend_on_the_depth() -> None:
    texts = [
        jax.jit(lambda m, x: mlax.inference(m)(x)).lower(made(n), X).as_text().count("\n")
        for n in (2, 9)
    ]
    assert texts[0] == texts[1]
