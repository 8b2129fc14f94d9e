"""`Compute`, `LoRA`, `Shared`, `WeightNorm`, `SpectralNorm`, `Batched`: around models, around each other."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import mlax
from mlax import Module, Parameter, Variable, nn, optim
from tests.mlax.nn.cases import KEY, array, same

pytestmark = pytest.mark.one_python

X = array(3, 4)
DEEP = nn.Repeat(nn.Residual(nn.MLP(5, 4)), 3)


def made() -> Any:
    return mlax.set_up(DEEP, X, rng=KEY)


def gradients(model: Any, x: Any = X) -> Any:
    def loss(model: Any, x: Any) -> Any:
        y, model = mlax.training(model, rng=KEY)(x)
        return jnp.sum(jnp.square(y)), model

    return mlax.value_and_grad(loss)(model, x)[1]


def dtypes(tree: Any) -> set[Any]:
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


class Seen(Module):
    """Says which dtypes it was called with."""

    dense: nn.Linear

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Any, Self]:
        y, self = self.call(self.dense, x)
        return (y, jnp.zeros((), self.dense.kernel.data.dtype), jnp.arange(2)), self


# ---- Compute


def test_compute_casts_for_the_computation_only() -> None:
    wrapped = mlax.set_up(nn.Compute(Seen(nn.Linear(2)), jnp.bfloat16, result=None), X, rng=KEY)
    assert dtypes(wrapped) == {np.dtype(np.float32)}
    (y, kernel, integers), after = wrapped(X)
    assert (y.dtype, kernel.dtype, integers.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.int32)
    assert mlax.tree_equal(after, wrapped)
    y, kernel, integers = wrapped.replace(result=jnp.float32)(X)[0]
    assert (y.dtype, kernel.dtype, integers.dtype) == (jnp.float32, jnp.float32, jnp.int32)
    plain = jax.tree.map(lambda a: a.astype(jnp.bfloat16), wrapped.inner)
    np.testing.assert_array_equal(y, plain(X.astype(jnp.bfloat16))[0][0].astype(jnp.float32))


@pytest.mark.parametrize(
    "wrapped",
    [
        nn.Compute(DEEP, jnp.bfloat16),
        nn.Repeat(nn.Compute(nn.Residual(nn.MLP(5, 4)), jnp.bfloat16), 3),
        nn.LoRA(nn.Compute(DEEP, jnp.bfloat16), 2),
        nn.Compute(nn.Batched(nn.Series(nn.Linear(4), nn.BatchNorm())), jnp.bfloat16),
        nn.Batched(nn.Compute(nn.Series(nn.Linear(4), nn.BatchNorm()), jnp.bfloat16)),
        nn.WeightNorm(nn.Compute(DEEP, jnp.bfloat16)),
        nn.Batched(nn.SpectralNorm(nn.Compute(nn.Linear(4), jnp.bfloat16))),
        nn.Batched(nn.Repeat(nn.SpectralNorm(nn.Linear(4)), 2)),
        nn.Repeat(nn.Batched(nn.LoRA(nn.Linear(4), 2)), 2),
        nn.Repeat(nn.Repeat(nn.Residual(nn.Linear(4)), 2), 2),
        nn.Batched(nn.Batched(nn.Linear(4), axis_name="inner")),
    ],
    ids=lambda model: repr(model).replace("\n", "")[:60],
)
def test_wrappers_around_wrappers(wrapped: Any) -> None:
    """Weights and gradients are float32. Set-up before and in the call is the same. A call leaves weights alone."""
    x = (
        array(2, 3, 4)
        if "Batched(Batched"
        in repr(wrapped).replace("\n", "").replace(" ", "").replace("inner=", "")
        else X
    )
    model = mlax.set_up(wrapped, x, rng=KEY)
    lazily = jax.eval_shape(lambda: mlax.training(wrapped, rng=KEY)(x)[1])
    assert jax.tree.structure(lazily) == jax.tree.structure(model)
    assert dtypes(model) == {np.dtype(np.float32)}

    @jax.jit
    def step(model: Any, x: Any) -> Any:
        def loss(model: Any, x: Any) -> Any:
            y, model = mlax.training(model, rng=KEY)(x)
            return jnp.mean(jnp.square(y)), model, y

        (_, model, y), found = mlax.value_and_grad(loss)(model, x)
        return y, model, found

    y, after, found = step(model, x)
    assert y.shape == x.shape
    assert dtypes(found) == {np.dtype(np.float32)}
    assert jax.tree.structure(found) == jax.tree.structure(model.filter())
    assert jax.tree.structure(after) == jax.tree.structure(model)
    assert mlax.tree_equal(after.filter(mlax.is_parameter), model.filter(mlax.is_parameter))
    assert type(model).__name__ in str(mlax.summary(model, x))
    assert mlax.tree_equal(
        jax.tree.map(lambda a: a, mlax.freeze(model)).filter(), mlax.freeze(model).filter()
    )


def test_computed_repeat_is_close_to_the_model() -> None:
    deep = made()
    y, _ = nn.Compute(deep, jnp.bfloat16)(X)
    expected, _ = deep(X)
    np.testing.assert_allclose(y, expected, 0, 3 * 2**-8 * float(abs(expected).max()))
    assert not (y == expected).all()


def test_compute_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match=r"Compute\.dtype must be a floating-point dtype"):
        nn.Compute(nn.Linear(2), jnp.int32)


# ---- LoRA


def test_lora_starts_as_the_model_and_trains_a_and_b() -> None:
    deep = made()
    tuned = mlax.set_up(nn.LoRA(deep, 2), X, rng=KEY)
    np.testing.assert_array_equal(
        jax.jit(lambda m: m(X)[0])(tuned), jax.jit(lambda m: m(X)[0])(deep)
    )
    shapes = {name: a.shape for name, a in tuned.a.data.items()}
    assert shapes == {
        "block.inner.layers[0].kernel": (3, 4, 2),
        "block.inner.layers[1].kernel": (3, 5, 2),
    }
    found = gradients(tuned)
    assert len(jax.tree.leaves(found)) == 4
    assert all((abs(b) > 0).any() for b in found.b.data.values())
    optimizer = optim.Adam(0.1)
    updates, _ = optimizer.step(found, optimizer.init(tuned.filter()), tuned.filter())
    moved = optim.apply_updates(tuned.filter(), updates).combine(tuned)
    assert mlax.tree_equal(moved.inner, tuned.inner)
    assert not mlax.tree_equal(moved.b, tuned.b)
    merged = moved.merged()
    assert jax.tree.structure(merged) == jax.tree.structure(mlax.freeze(deep))
    same(merged(X)[0], moved(X)[0])


def test_lora_of_attention_has_the_smallest_factors() -> None:
    layer = nn.MultiHeadAttention(2, head_features=3, query_bias=Parameter())
    tuned = mlax.set_up(nn.LoRA(layer, 2), X, rng=KEY)
    a = {name: factor.shape for name, factor in tuned.a.data.items()}
    b = {name: factor.shape for name, factor in tuned.b.data.items()}
    assert a == {"query": (4, 2), "key": (4, 2), "value": (4, 2), "output": (6, 2)}
    assert b == {"query": (2, 6), "key": (2, 6), "value": (2, 6), "output": (2, 4)}
    ones = tuned.replace(b=tuned.b.with_data(jax.tree.map(jnp.ones_like, tuned.b.data)))
    change = ones.merged().output.data - tuned.inner.output.data
    expected = (tuned.a.data["output"].sum(1)[:, None] * jnp.ones(4)).reshape(2, 3, 4)
    np.testing.assert_allclose(change, expected, 1e-4, 1e-5)


def test_lora_chooses_by_path() -> None:
    tuned = mlax.set_up(nn.LoRA(nn.MLP(5, 4), 2, where=r"layers\[1\].*"), X, rng=KEY)
    assert list(tuned.a.data) == ["layers[1].kernel"]
    both = mlax.set_up(
        nn.LoRA(nn.MLP(5, 4), 2, where=(r"layers\[1\].kernel", r".*\[0\].kernel")), X, rng=KEY
    )
    assert len(both.a.data) == 2
    with pytest.raises(
        ValueError, match=r"LoRA: no array .* that matches 'nothing'.\n  .*: layers\[0\].kernel, "
    ):
        mlax.set_up(nn.LoRA(nn.MLP(5, 4), 2, where=(".*kernel", "nothing")), X, rng=KEY)


# ---- Shared


def tied(m: Any) -> Any:
    return m.layers[1].kernel


def source(m: Any) -> Any:
    return m.layers[0].kernel.data.T


def test_shared_trains_one_array_with_the_sum_of_gradients() -> None:
    plain = mlax.set_up(nn.MLP(5, 4, activation=jnp.tanh), X, rng=KEY)
    shared = nn.Shared(plain, tied, source)
    assert len(jax.tree.leaves(shared)) == 3
    plain = mlax.at(plain, lambda m: m.layers[1].kernel).apply(lambda n: n.with_data(source(plain)))
    same(shared(X)[0], plain(X)[0])
    both, one = gradients(plain), gradients(shared).inner
    expected = both.layers[0].kernel.data + both.layers[1].kernel.data.T
    np.testing.assert_allclose(one.layers[0].kernel.data, expected, 1e-5, 1e-6)
    lazily = mlax.set_up(nn.Shared(nn.MLP(5, 4, activation=jnp.tanh), tied, source), X, rng=KEY)
    assert jax.tree.structure(lazily) == jax.tree.structure(shared)
    assert mlax.tree_equal(
        nn.LoRA(lazily, 2, where=r".*layers\[0\].kernel").inner.inner.filter(mlax.is_parameter),
        mlax.freeze(lazily.inner),
    )


# ---- other methods than forward


class Stepping(Module):
    """Has a method beside `forward`, and counts its calls."""

    dense: nn.Linear = nn.Linear(4)
    out: nn.Linear = nn.Linear(4)
    dropout: nn.Dropout = nn.Dropout(0.5)
    steps: Variable[Int[Array, ""]] = Variable(0)

    def forward(self, x: Float[Array, "*n m"]) -> tuple[Float[Array, "*n m"], Self]:
        return self.chain(x, self.dense, self.out, self.dropout)

    def step(self, x: Float[Array, "*n m"], *, sum: Any) -> tuple[tuple[Any, Any], Self]:
        y, self = self.forward(x)
        return (y, sum + y), self.replace(steps=self.steps.with_data(self.steps.data + 1))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: nn.Compute(model, jnp.bfloat16),
        lambda model: nn.LoRA(model, 2),
        nn.WeightNorm,
        nn.SpectralNorm,
        lambda model: nn.Shared(model, lambda m: m.out.kernel, lambda m: 2 * m.dense.kernel.data.T),
        nn.Batched,
    ],
    ids=["Compute", "LoRA", "WeightNorm", "SpectralNorm", "Shared", "Batched"],
)
def test_other_methods(wrap: Any) -> None:
    """They compute what `forward` does, with its key, and return Variables."""

    class Around(Module):
        inner: Any

        def forward(self, x: Any) -> tuple[Any, Self]:
            return self.call(self.inner.run, Stepping.step, x, sum=x)

    with pytest.raises(ValueError, match=r"is not set up(?s:.*)mlax\.set_up\(model"):
        wrap(Stepping()).run(Stepping.step, X, sum=X)
    wrapped = mlax.set_up(wrap(Stepping()), X, rng=KEY)
    expected, _ = mlax.training(wrapped, rng=KEY)(X)
    (y, total), after = mlax.training(wrapped.run, rng=KEY)(Stepping.step, X, sum=X)
    assert (y.dtype, after.inner.steps.data) == (jnp.float32, 1)
    np.testing.assert_array_equal(y == 0, expected == 0)  # where Dropout was
    np.testing.assert_allclose(y, expected, 1e-2, 1e-2)
    np.testing.assert_allclose(total, X + y, 1e-2, 1e-2)
    assert type(after) is type(wrapped)
    function = mlax.training(wrapped.run, rng=KEY)(lambda m, x: m.step(x, sum=x), X)
    assert mlax.tree_equal(function, ((y, total), after))
    (inside, _), around = mlax.inference(Around(wrapped))(X)
    np.testing.assert_allclose(inside, mlax.inference(wrapped)(X)[0], 1e-2, 1e-2)
    assert around.inner.inner.steps.data == 1
    with pytest.raises(TypeError, match=r"\.run takes a method of Stepping, .* got Repeat\.scan"):
        wrapped.run(nn.Repeat.scan, X)


def test_other_methods_of_wrappers_in_wrappers() -> None:
    def step(model: Any, x: Array) -> Any:
        return model.run(Stepping.step, x, sum=x)

    model = nn.Batched(nn.LoRA(nn.Compute(Stepping(), jnp.float32), 2))
    prepared: Any = mlax.inference(mlax.set_up(model, X, rng=KEY).run)
    got = prepared(lambda lora, x: lora.run(step, x), X)
    assert mlax.tree_equal(got, prepared(nn.LoRA.run, nn.Compute.run, Stepping.step, X, sum=X))
    assert got[1].inner.inner.inner.steps.data == 1


# ---- reparametrizations


def test_weight_norm_starts_as_the_model_and_keeps_the_length() -> None:
    plain = mlax.set_up(nn.Conv(3, 3, padding=1), array(5, 2), rng=KEY)
    wrapped = mlax.set_up(nn.WeightNorm(plain), array(5, 2), rng=KEY)
    same(wrapped(array(5, 2))[0], plain(array(5, 2))[0])
    longer = mlax.at(wrapped, lambda m: m.inner.kernel).apply(lambda n: n.with_data(7 * n.data))
    same(longer(array(5, 2))[0], plain(array(5, 2))[0], 1e-5)
    norms = np.linalg.norm(np.asarray(plain.kernel.data).reshape(-1, 3), axis=0)
    np.testing.assert_allclose(wrapped.scale.data["kernel"], norms, 1e-6)


def test_norms_of_stacked_kernels_are_those_of_each_block() -> None:
    """As if each block were wrapped alone."""
    outside = mlax.set_up(nn.WeightNorm(made()), X, rng=KEY)
    same(outside(X)[0], made()(X)[0], 1e-5)
    outside = mlax.at(outside, lambda m: m.inner.block.inner.layers[0].kernel).apply(
        lambda n: n.with_data(n.data * jnp.array([2.0, 3.0, 5.0])[:, None, None])
    )
    same(outside(X)[0], made()(X)[0], 1e-5)
    spectral = mlax.set_up(nn.SpectralNorm(made(), iterations=20), X, rng=KEY)
    _, spectral = jax.jit(mlax.training(spectral))(X)
    kernels = spectral.effective().block.inner.layers[0].kernel.data
    largest = [np.linalg.svd(k, compute_uv=False)[0] for k in np.asarray(kernels)]
    np.testing.assert_allclose(largest, 1, 1e-3)


def test_spectral_norm_finds_the_greatest_singular_value_and_its_gradient() -> None:
    plain = mlax.set_up(nn.Linear(3), X, rng=KEY)
    wrapped = mlax.set_up(nn.SpectralNorm(plain, iterations=50), X, rng=KEY)
    before = wrapped
    _, wrapped = mlax.training(wrapped)(X)
    assert not mlax.tree_equal(wrapped.vectors, before.vectors)
    y, after = mlax.inference(wrapped)(X)
    assert mlax.tree_equal(after, wrapped)
    kernel = plain.kernel.data
    np.testing.assert_allclose(y, X @ kernel / np.linalg.svd(kernel)[1][0], 1e-5, 1e-6)

    def loss(kernel: Any) -> Any:
        return jnp.sum(jnp.square(X @ (kernel / jnp.linalg.norm(kernel, 2))))

    found = gradients(wrapped).inner.kernel.data
    np.testing.assert_allclose(found, jax.grad(loss)(kernel), 1e-4, 1e-5)


def test_norms_of_zeros_are_none() -> None:
    """A kernel of zeros stays one, is trained, and is normalized when it is none any more."""
    layer = nn.Linear(3, kernel=Parameter(init=nn.init.zeros), bias=Parameter(init=nn.init.ones))
    zeros = mlax.set_up(layer, X, rng=KEY)
    for wrap in (nn.WeightNorm, nn.SpectralNorm):
        wrapped = mlax.set_up(wrap(zeros), X, rng=KEY)
        _, wrapped = mlax.training(wrapped)(X)
        assert mlax.tree_equal(wrapped.effective().kernel, zeros.kernel)
        step = gradients(wrapped).inner.kernel.data
        assert jnp.isfinite(step).all()
        assert jnp.any(step)
        filled = mlax.at(wrapped, lambda m: m.inner.kernel.data).set(step)
        _, filled = mlax.training(filled)(X)
        kernel = filled.effective().kernel.data
        norms = (
            jnp.linalg.norm(kernel, axis=0).max()
            if wrap is nn.WeightNorm
            else jnp.linalg.norm(kernel, 2)
        )
        np.testing.assert_allclose(norms, 1, 0.1)


def test_scales_of_frozen_kernels_are_not_trained() -> None:
    model: Any = mlax.set_up(nn.WeightNorm(nn.MLP(5, 4)), X, rng=KEY)
    model = mlax.at(model, lambda m: m.inner.layers[0]).apply(mlax.freeze)
    first, second = gradients(model).scale.data.values()
    assert not jnp.any(first)
    assert jnp.any(second)


def test_set_up_through_wrappers_traces_little() -> None:
    """While JAX traces, each wrapper sets up the one inside twice: for shapes, and for the arrays."""
    times: list[int] = []

    class Counting(Module):
        bias: Parameter[Float[Array, "m"]] = Parameter()

        def set_up(self, x: Float[Array, "*n m"]) -> Self:
            times.append(1)
            return self.replace(bias=self.bias.made(None, x.shape[-1:], nn.init.zeros, x.dtype))

        def forward(self, x: Float[Array, "*n m"]) -> tuple[Float[Array, "*n m"], Self]:
            return x + self.bias.data, self

    model: Any = Counting()
    for _ in range(3):
        model = nn.Compute(model, jnp.float32)
    jax.eval_shape(lambda: mlax.training(model, rng=KEY)(X))
    assert len(times) <= 8


# ---- looking inside


def test_capture_through_wrappers() -> None:
    """What runs under scan or vmap cannot be captured, and says so; the layer around can."""
    deep = mlax.set_up(
        nn.Series(nn.Linear(4), DEEP, nn.Compute(nn.Linear(2), jnp.bfloat16)), X, rng=KEY
    )
    y, _, (first, blocks) = mlax.capture(deep, lambda m: (m.layers[0], m.layers[1]))(X)
    assert y.shape == (3, 2)
    assert first.shape == blocks.shape == (3, 4)
    with pytest.raises(ValueError, match=r"scan"):
        mlax.capture(deep, lambda m: m.layers[1].block)(X)
    batched = nn.Batched(deep)
    with pytest.raises(ValueError, match=r"scan"):
        mlax.capture(batched, lambda m: m.inner.layers[0])(X)
    infinite = mlax.at(deep, lambda m: m.layers[1].block.inner.layers[0].kernel).apply(
        lambda n: n.with_data(n.data.at[1].set(jnp.inf))
    )
    assert mlax.first_non_finite(infinite)(X) == "layers[1]"
    assert mlax.first_non_finite(nn.Batched(infinite))(X) == "Batched"
    assert mlax.first_non_finite(deep)(X) is None


def test_wrappers_show_the_model_inside() -> None:
    """In tables, captures and errors it stands at `inner`, and it draws what it draws without the wrapper."""
    plain = mlax.set_up(nn.Series(nn.Linear(4), nn.Dropout(0.5)), X, rng=KEY)
    tuned = mlax.set_up(nn.LoRA(plain, 2), X, rng=KEY)
    rows = [line.split() for line in str(mlax.summary(tuned, X)).splitlines()]
    assert ["LoRA", "f32[3,4]"] in [row[:2] for row in rows]
    assert ["inner", "Series", "f32[3,4]"] in [row[:3] for row in rows]
    assert ["layers[0]", "Linear", "f32[3,4]"] in [row[:3] for row in rows]
    y, _, (whole, dense) = mlax.capture(
        mlax.inference(tuned), lambda m: (m.inner, m.inner.layers[0])
    )(X)
    np.testing.assert_array_equal(whole, y)
    assert dense.shape == (3, 4)
    infinite = mlax.at(tuned, lambda m: m.inner.layers[0].bias).apply(
        lambda n: n.with_data(n.data + jnp.inf)
    )
    assert mlax.first_non_finite(mlax.inference(infinite))(X) == "inner.layers[0]"
    with pytest.raises(TypeError, match=r"Linear\.forward at inner\.layers\[0\]"):
        mlax.inference(tuned)(array(3, 5))
    drawn, _ = mlax.training(tuned, rng=KEY)(X)
    expected, _ = mlax.training(plain, rng=KEY)(X)
    np.testing.assert_array_equal(drawn == 0, expected == 0)


# ---- Batched


class Scaled(Module):
    factor: Parameter[Float[Array, ""]] = Parameter(2.0)

    def forward(
        self, x: Float[Array, "n"], power: int = 1, *, more: Any = None
    ) -> tuple[Any, Self]:
        y = self.factor.data * x**power
        return y if more is None else y + more["a"], self


def test_batched_maps_arrays_and_passes_on_all_else() -> None:
    batched = nn.Batched(Scaled())
    y, again = batched(X, 2, more={"a": jnp.arange(3.0), "b": np.int64(5)})
    np.testing.assert_allclose(y, 2 * X**2 + np.arange(3)[:, None], 1e-6)
    assert mlax.tree_equal(again, batched)
    with pytest.raises(ValueError, match=r"Batched takes arrays .*float32\[3,4\], float32\[2\]"):
        batched(X, more={"a": jnp.zeros(2)})
    with pytest.raises(ValueError, match="Batched takes arrays"):
        batched(1.0)
