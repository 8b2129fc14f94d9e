"""SAM, ASAM and the extragradient method, against their formulas in NumPy's float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import Module, Parameter, optim
from mlax.tree import tree_equal

pytestmark = pytest.mark.one_python

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
W = np.array([0.4, -1.2, 0.0])


def loss(weights: Any) -> Any:
    w = jnp.concatenate([weights["a"], weights["b"]])
    return w @ jnp.asarray(A, w.dtype) @ w / 2 + (w**4).sum()


def gradient(w: Any) -> Any:
    return A @ w + 4 * w**3


def as_tree(w: Any) -> Any:
    w = jnp.asarray(w, jnp.float32)
    return {"a": w[:1], "b": w[1:], "none": None}


def sam() -> Any:
    g = gradient(W)
    return gradient(W + 0.3 * g / np.linalg.norm(g))


def asam() -> Any:
    g, t = gradient(W), np.abs(W) + 0.01
    return gradient(W + 0.3 * t**2 * g / np.linalg.norm(t * g))


def extragradient() -> Any:
    return gradient(W - 0.3 * gradient(W))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (optim.sam, sam),
        (lambda f, rho: optim.sam(f, rho, adaptive=True), asam),
        (optim.extragradient, extragradient),
    ],
)
def test_gradients_are_those_of_the_paper(function: Any, expected: Any) -> None:
    tree = as_tree(W)
    value, gradients = jax.jit(function(jax.value_and_grad(loss), 0.3))(tree)
    np.testing.assert_allclose(value, loss(tree), rtol=1e-6)
    found = np.concatenate([gradients["a"], gradients["b"]])
    np.testing.assert_allclose(found, expected(), rtol=1e-5)
    swept = jax.vmap(lambda rho: function(jax.value_and_grad(loss), rho)(tree)[1])(
        jnp.array([0.3, 0.0])
    )
    np.testing.assert_allclose(swept["b"][0], gradients["b"], rtol=1e-5)
    np.testing.assert_allclose(swept["b"][1], gradient(W)[1:], rtol=1e-5)
    zero = function(jax.value_and_grad(loss), 0.3)(as_tree(np.zeros(3)))[1]
    assert tree_equal(zero, as_tree(np.zeros(3)))
    narrow = jax.tree.map(lambda w: w.astype(jnp.bfloat16), tree)
    rounded = function(jax.value_and_grad(loss), 0.3)(narrow)[1]
    assert rounded["b"].dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded["b"].astype(float), expected()[1:], rtol=0.05, atol=0.05)


def test_models_keep_frozen_parameters_and_their_own_value() -> None:
    class Model(Module):
        kernel: Parameter = Parameter(jnp.array([1.0, -2.0]))
        shift: Parameter = Parameter(jnp.ones(()), frozen=True)

        def forward(self, x: Any) -> Any:
            return (self.kernel.data**2 * x + self.shift.data).sum(), self

    model = Model()
    f = optim.sam(mlax.value_and_grad(lambda m, x: m(x)), rho=0.1)
    (value, same), gradients = f(model, jnp.ones(2))
    g = 2 * np.array([1.0, -2.0])
    uphill = np.array([1.0, -2.0]) + 0.1 * g / np.linalg.norm(g)
    assert value == 7.0
    assert tree_equal(same, model)
    assert jax.tree.structure(gradients) == jax.tree.structure(model.filter())
    np.testing.assert_allclose(gradients.kernel.data, 2 * uphill, rtol=1e-6)


def test_complex_weights_go_uphill() -> None:
    def magnitude(w: Any) -> Any:
        return (jnp.abs(w) ** 2).sum()

    w = jnp.array([3.0 + 4.0j])
    _, gradients = optim.sam(jax.value_and_grad(magnitude), 1.0)(w)
    np.testing.assert_allclose(gradients, 2 * jnp.conj(w) * 1.2, rtol=1e-6)


def test_extragradient_converges_where_the_gradient_turns_in_circles() -> None:
    def f(w: Any) -> Any:  # the field of min over x, max over y of x y
        return w[0] * w[1], jnp.array([w[1], -w[0]])

    plain = better = jnp.ones(2)
    for _ in range(100):
        plain = plain - 0.3 * f(plain)[1]
        better = better - 0.3 * optim.extragradient(f, 0.3)(better)[1]
    assert jnp.linalg.norm(plain) > 10
    assert jnp.linalg.norm(better) < 0.1


def test_distances_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sam: rho must be >= 0, got -1\.0"):
        optim.sam(jax.value_and_grad(loss), -1.0)
    with pytest.raises(ValueError, match="sam: eta must be a finite number, got nan"):
        optim.sam(jax.value_and_grad(loss), eta=float("nan"))
    with pytest.raises(ValueError, match="extragradient: step_size must be >= 0"):
        optim.extragradient(jax.value_and_grad(loss), -0.1)
    for rho in (jnp.ones(2), "0.1", None, True):
        with pytest.raises(TypeError, match="sam: rho must be a number"):
            optim.sam(jax.value_and_grad(loss), rho)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"sam: value_and_grad must be a function, got None\.\n.*Pass"
    ):
        optim.sam(None)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"must return a value and gradients, got {.*\n.*Pass mlax\.val"
    ):
        optim.sam(lambda weights: weights)({"a": jnp.ones(2), "b": jnp.ones(2)})  # type: ignore[arg-type, return-value]
    with pytest.raises(mlax.LeafMismatchError, match=r"sam: .*\n.*gradients\['a'\]: float32\[3\]"):
        optim.sam(lambda weights: (1.0, {"a": jnp.ones(3)}))({"a": jnp.ones(2)})
    with pytest.raises(TypeError, match="sam: weights: the keys of a dict cannot be sorted"):
        optim.sam(jax.value_and_grad(loss))({"a": jnp.ones(2), 1: jnp.ones(2)})
