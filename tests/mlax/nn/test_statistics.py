"""`Dropout` and `BatchNorm`: what depends on the mode, the key, and the other examples of a batch."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import Module, nn
from tests.mlax.nn.cases import KEY, array, same

pytestmark = pytest.mark.one_python

XS = array(6, 5, 3)
NORM: Any = mlax.set_up(nn.Batched(nn.BatchNorm()), XS, rng=KEY)
training = jax.jit(lambda model, xs: mlax.training(model, rng=KEY)(xs))


# ---- Dropout


def test_dropout_draws_for_each_example_from_one_key() -> None:
    ones = jnp.ones((64, 100))
    y, _ = training(nn.Batched(nn.Dropout(0.3)), ones)
    assert {*np.unique(y)} == {0, np.float32(1 / 0.7)}
    assert len({row.tobytes() for row in np.asarray(y)}) == 64
    assert abs(float(y.mean()) - 1) < 0.05  # 5 standard deviations
    nested, _ = training(
        nn.Batched(nn.Batched(nn.Dropout(0.3), axis_name="inner")), ones.reshape(8, 8, 100)
    )
    assert len({row.tobytes() for row in np.asarray(nested).reshape(64, 100)}) == 64
    with pytest.raises(
        ValueError, match="Batched: an axis 'batch' of examples is mapped over already"
    ):
        training(nn.Batched(nn.Batched(nn.Dropout(0.3))), ones.reshape(8, 8, 100))
    same_mask = jax.vmap(lambda x: mlax.training(nn.Dropout(), rng=KEY)(x)[0])(ones)
    assert len({row.tobytes() for row in np.asarray(same_mask)}) == 1  # as its docstring says


def test_dropout_leaves_inputs_alone_in_inference_and_without_a_rate() -> None:
    for model in (mlax.inference(nn.Dropout()), nn.Dropout(0.0), mlax.training(nn.Dropout(0.0))):
        assert model(XS)[0] is XS
    with pytest.raises(ValueError, match=r"(?s)Dropout needs a key in training.*self\.call"):
        nn.Dropout()(XS)
    for rate in (1.0, -0.1, 3):
        with pytest.raises(ValueError, match=r"Dropout\.rate must be at least 0 and less than 1"):
            nn.Dropout(rate)


def test_dropout_in_narrow_dtypes_scales_in_them() -> None:
    for dtype in (jnp.bfloat16, jnp.float16):
        y, _ = mlax.training(nn.Dropout(0.5), rng=KEY)(jnp.ones(50, dtype))
        assert y.dtype == dtype
        assert {*np.unique(np.asarray(y, np.float32))} == {0, 2}


# ---- BatchNorm


def numpy_norm(xs: Any, axes: Any) -> Any:
    xs = np.asarray(xs, np.float64)
    mean, variance = xs.mean(axes), xs.var(axes)
    return mean, variance, (xs - mean) / np.sqrt(variance + 1e-5)


def test_batch_norm_uses_and_keeps_statistics_of_the_batch() -> None:
    mean, variance, expected = numpy_norm(XS, (0, 1))
    y, after = training(NORM, XS)
    np.testing.assert_allclose(y, expected, 1e-5, 1e-5)
    kept = after.inner
    np.testing.assert_allclose(kept.mean.data, 0.1 * mean, 1e-5, 1e-7)
    np.testing.assert_allclose(kept.variance.data, 0.9 + 0.1 * variance, 1e-5)
    y, again = mlax.inference(after)(XS)
    assert mlax.tree_equal(again, after)
    expected = (XS - kept.mean.data) / np.sqrt(kept.variance.data + 1e-5)
    np.testing.assert_allclose(y, expected, 1e-5, 1e-5)
    for _ in range(150):
        _, after = training(after, XS)
    np.testing.assert_allclose(after.inner.mean.data, mean, 1e-5, 1e-6)
    np.testing.assert_allclose(after.inner.variance.data, variance, 1e-5)


def test_statistics_in_a_narrow_dtype_are_read_in_float32_and_not_trained() -> None:
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), NORM)
    for xs in (XS.astype(jnp.bfloat16), XS):
        model = narrow if xs.dtype == jnp.bfloat16 else NORM.partition(mlax.is_parameter)[0]
        with jax.numpy_dtype_promotion("strict"):
            y, _ = mlax.inference(model.combine(narrow))(xs)
        same(y, (xs.astype(jnp.float32) * (1 + 1e-5) ** -0.5).astype(xs.dtype))
    with pytest.raises(TypeError, match=r"(?s)the running mean is bfloat16.*nn\.Compute"):
        training(narrow, XS.astype(jnp.bfloat16))


def test_batch_norm_over_several_axes_of_examples() -> None:
    nested = nn.Batched(nn.Batched(NORM.inner, axis_name="inner"), axis_name="outer")
    y, after = training(nested, XS)
    flat, expected = training(nn.Batched(NORM.inner), XS.reshape(30, 3))
    same(y, flat.reshape(6, 5, 3), 1e-5)
    same(after.inner.inner.mean.data, expected.inner.mean.data)

    def by_hand(x: Any) -> Any:
        return mlax.training(NORM.inner, batch_axis_name=("a", "b"))(x)

    mapped = jax.vmap(
        jax.vmap(by_hand, axis_name="b", out_axes=(0, None)), axis_name="a", out_axes=(0, None)
    )
    same(mapped(XS), (y, after.inner.inner), 1e-5)


def test_batch_norm_far_from_zero() -> None:
    """The variance is that of the differences from the mean: E[x²] - E[x]² would be off by half."""
    far = XS + 3000
    y, _ = training(NORM, far)
    np.testing.assert_allclose(y, numpy_norm(far, (0, 1))[2], 1e-3, 1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_norms_far_from_zero_in_narrow_dtypes(dtype: Any) -> None:
    """Means, variances and squares are computed in float32: that of 3000 does not exist in float16."""
    far = (100 * XS + 3000).astype(dtype)
    layers: dict[tuple[int, ...], Any] = {
        (-1,): nn.LayerNorm(scale=None, bias=None),
        (0, 1): nn.Batched(nn.BatchNorm(scale=None, bias=None)),
        (1,): nn.Batched(nn.InstanceNorm(scale=None, bias=None)),
        (1, 2): nn.Batched(nn.GroupNorm(1, scale=None, bias=None)),
    }
    exact = np.asarray(far, np.float64)
    mean_square = np.sqrt(np.square(exact).mean(-1, keepdims=True))
    expected = [
        (exact - exact.mean(a, keepdims=True)) / exact.std(a, keepdims=True) for a in layers
    ]
    norms = [*layers.values(), nn.RMSNorm(scale=None)]
    with jax.numpy_dtype_promotion("strict"):
        got = jax.jit(lambda x: [mlax.training(norm, rng=KEY)(x)[0] for norm in norms])(far)
    for y, right in zip(got, [*expected, exact / mean_square], strict=True):
        assert y.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(y, np.float64), right, float(jnp.finfo(dtype).eps), 1e-3
        )


@pytest.mark.parametrize("options", [{}, {"scale": None}, {"bias": None}], ids=str)
def test_batch_norm_has_the_first_and_second_derivatives_of_its_formula(options: Any) -> None:
    def layer(model: Any, xs: Any) -> Any:
        return training(model, xs)[0]

    def formula(model: Any, xs: Any) -> Any:
        y = (xs - xs.mean((0, 1))) / jnp.sqrt(xs.var((0, 1)) + 1e-5)
        y = y if model.inner.scale is None else y * model.inner.scale.data
        return y if model.inner.bias is None else y + model.inner.bias.data

    def derivatives(of: Any) -> Any:
        def loss(weights: Any, xs: Any) -> Any:
            return jnp.sum(of(weights.combine(rest), xs) ** 3 * factors)

        gradient = jax.grad(loss, (0, 1))
        again = jax.grad(lambda *args: sum(map(jnp.sum, jax.tree.leaves(gradient(*args)))), (0, 1))
        forward = jax.jvp(gradient, (weights, xs), (weights, factors))[1]
        return gradient(weights, xs), again(weights, xs), forward

    with jax.enable_x64(True):
        xs, factors = (jnp.asarray(np.random.default_rng(i).normal(size=(6, 5, 3))) for i in (0, 1))
        model = mlax.set_up(nn.Batched(nn.BatchNorm(**options)), xs, rng=KEY)
        weights, rest = model.partition()
        same(jax.jit(lambda: derivatives(layer))(), jax.jit(lambda: derivatives(formula))(), 1e-10)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm])
def test_the_work_of_gradients_grows_with_the_depth_and_not_with_its_square(norm: Any) -> None:
    def loss(model: Any, xs: Array) -> Array:
        return jnp.square(mlax.training(model)(xs)[0]).sum()

    def moved(depth: int) -> float:
        blocks = (nn.Residual(nn.Series(norm(), nn.Linear(3))) for _ in range(depth))
        model = mlax.set_up(nn.Batched(nn.Series(*blocks)), XS, rng=KEY)
        compiled: Any = jax.jit(jax.grad(loss)).lower(model, XS).compile()
        return float(compiled.cost_analysis()["bytes accessed"])

    assert moved(6) < 3.3 * moved(2)  # measured: 3.1; 5 where XLA repeats the sums of later blocks


def test_statistics_are_not_differentiated() -> None:
    def loss(model: Any, xs: Any) -> Any:
        y, model = mlax.training(model)(xs)
        return jnp.sum(y**3), model

    plain = jax.grad(lambda xs: loss(NORM, xs)[0])(XS)
    with_kept = jax.grad(lambda xs: loss(NORM, xs)[0] + loss(NORM, xs)[1].inner.mean.data.sum())(XS)
    np.testing.assert_array_equal(plain, with_kept)


def test_batch_norm_without_an_axis() -> None:
    for call in (NORM.inner, mlax.training(NORM.inner)):
        with pytest.raises(ValueError, match="BatchNorm needs the name of the axis"):
            call(XS[0])
    with pytest.raises(NameError, match="unbound axis name"):
        mlax.training(NORM.inner, batch_axis_name="nothing")(XS[0])
    with pytest.raises(ValueError, match=r"BatchNorm\.momentum must be"):
        nn.BatchNorm(1.5)


class Net(Module):
    """The seed's style: BatchNorm between layers."""

    first: nn.Linear = nn.Linear(4)
    norm: nn.BatchNorm = nn.BatchNorm()
    dropout: nn.Dropout = nn.Dropout(0.5)

    def forward(self, x: Float[Array, "*n m"]) -> tuple[Float[Array, "*n k"], Self]:
        return self.chain(x, self.first, self.norm, self.dropout)


def test_batched_models_have_one_state() -> None:
    """Weights and Variables of a model that is called in Batched have no axis of examples."""
    model: Any = mlax.set_up(nn.Batched(Net()), XS, rng=KEY)
    assert model.inner.first.kernel.data.shape == (3, 4)
    y, after = training(model, XS)
    assert y.shape == (6, 5, 4)
    assert after.inner.norm.mean.data.shape == (4,)
    assert jax.tree.structure(after) == jax.tree.structure(model)
    inference, _ = mlax.inference(after)(XS)
    one, _ = mlax.inference(after.inner)(XS[2])
    same(inference[2], one)


class PerExample(Module):
    """Keeps something of one example, of which a batch has many."""

    last: mlax.Variable[Float[Array, ""]] = mlax.Variable(0.0)

    def forward(self, x: Float[Array, "n"]) -> tuple[Float[Array, "n"], Self]:
        return x, self.replace(last=self.last.with_data(x.sum()))


def test_a_state_of_one_example_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Batched: .*last"):
        nn.Batched(PerExample())(array(4, 3))
