"""`Recurrent` and `Bidirectional`: padding, directions, carries, keys and Variables. Cells have cases of their own."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array, Float, Int

import mlax
from mlax import Variable, nn
from tests.mlax.nn.cases import KEY, array, same

pytestmark = pytest.mark.one_python

X = array(5, 3)


class Noisy(nn.Cell):
    """Sums what Dropout leaves, and counts its steps."""

    dropout: nn.Dropout = nn.Dropout(0.5)
    steps: Variable[Int[Array, ""]] = Variable(0)

    def initial_carry(self, x: Any) -> Any:
        return jnp.zeros(x.shape, x.dtype)

    def forward(self, x: Float[Array, "n"], carry: Float[Array, "n"]) -> tuple[Any, Self]:
        x, self = self.call(self.dropout, x)
        steps = self.steps.with_data(self.steps.data + 1)
        return (x, carry + x), self.replace(steps=steps)


def made(cell: Any, **options: Any) -> Any:
    return mlax.set_up(nn.Recurrent(cell, **options), X, rng=KEY)


@pytest.mark.parametrize("cell", [nn.GRUCell(4), nn.LSTMCell(4)])
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths(cell: Any, reverse: bool) -> None:
    model = made(cell, reverse=reverse)

    @jax.jit
    def results(model: Any, x: Any, length: Any) -> Any:
        (padded, carry), _ = model.run(x, length=length)
        (short, expected), _ = model.run(x[:3])
        grads = jax.grad(lambda x: model(x, length=length)[0].sum())(x)
        return padded, carry, short, expected, grads

    padded, carry, short, expected, grads = results(model, X.at[3:].set(jnp.inf), 3)
    same(padded[:3], short)
    same(carry, expected)
    np.testing.assert_array_equal(padded[3:], 0)
    assert not jnp.isnan(grads).any()  # whatever stands in the padding
    np.testing.assert_array_equal(grads[3:], 0)


def test_flax_agrees() -> None:
    model = made(nn.GRUCell(4))
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    # Flax's update gate keeps what mlax's (and PyTorch's, and Equinox's) does: same names, same order r, z, n.
    cell.dense_i.kernel = nnx.Param(model.cell.kernel.data)
    cell.dense_i.bias = nnx.Param(model.cell.bias.data + 0.1)
    cell.dense_h.kernel = nnx.Param(model.cell.recurrent.data)
    both = model.replace(
        cell=model.cell.replace(bias=model.cell.bias.with_data(model.cell.bias.data + 0.1))
    )
    same(both(X)[0], nnx.RNN(cell)(X), 1e-5)


def test_carries_are_continued() -> None:
    model = made(nn.LSTMCell(4))
    (whole, last), _ = model.run(X)
    (first, carry), _ = model.run(X[:2])
    (second, end), _ = model.run(X[2:], carry)
    same(jnp.concatenate([first, second]), whole)
    same(end, last)
    same(model(X[2:], carry)[0], second)


def test_bidirectional_is_both() -> None:
    model: Any = mlax.set_up(nn.Bidirectional(nn.GRUCell(4), nn.LSTMCell(2)), X, rng=KEY)
    y, _ = model(X, length=4)
    ahead, _ = nn.Recurrent(model.ahead.cell)(X, length=4)
    back, _ = nn.Recurrent(model.back.cell)(X[:4][::-1])
    same(y[:, :4], ahead)
    same(y[:4, 4:], back[::-1])


def test_each_step_draws_its_own_and_variables_change() -> None:
    ones = jnp.ones((6, 8))
    model = nn.Recurrent(Noisy())
    (ys, carry), after = jax.jit(mlax.training(model.run, rng=KEY))(ones)
    assert len({y.tobytes() for y in np.asarray(ys)}) == 6
    assert int(after.cell.steps.data) == 6
    same(carry, ys.sum(0))
    (again, _), _ = mlax.training(model.run, rng=jax.random.key(1))(ones)
    assert (again != ys).any()
    _, after = mlax.training(model, rng=KEY)(ones, length=4)
    assert int(after.cell.steps.data) == 4


def test_trees_of_inputs() -> None:
    class Sum(nn.Cell):
        def initial_carry(self, x: Any) -> Any:
            return jnp.zeros(x["a"].shape)

        def forward(self, x: Any, carry: Any) -> tuple[Any, Self]:
            carry = carry + x["a"] * x["b"]
            return (carry, carry), self

    y, _ = nn.Recurrent(Sum())({"a": X, "b": jnp.arange(5.0)})
    np.testing.assert_allclose(y, np.cumsum(X * np.arange(5)[:, None], 0), 1e-6)


def test_mistakes() -> None:
    class Grows(nn.Cell):
        def initial_carry(self, x: Any) -> Any:
            return x

        def forward(self, x: Any, carry: Any) -> tuple[Any, Self]:
            return (x, jnp.concatenate([carry, carry])), self

    with pytest.raises(
        ValueError, match=r"Recurrent: the cell's next carry .*float32\[3\], got float32\[6\]"
    ):
        nn.Recurrent(Grows())(X, jnp.zeros(3))
    with pytest.raises(ValueError, match="arrays with time as first axis, of one length"):
        nn.Recurrent(Grows())({"a": X, "b": X[:2]})
    with pytest.raises(ValueError, match="features must be an integer of at least 1"):
        nn.GRUCell(0)
    with pytest.raises(TypeError, match="abstract class Cell"):
        nn.Recurrent(nn.Cell())(X)
