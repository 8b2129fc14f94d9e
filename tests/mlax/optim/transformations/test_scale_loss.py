"""Loss scaling in float16: what is scaled, skipped, halved and doubled, and where it may stand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import Module, Parameter, optim
from mlax.tree import tree_equal

pytestmark = pytest.mark.one_python


def test_scale_follows_the_gradients() -> None:
    """Against the rule written out in Python; under `jit`, in a scan."""
    good, bad = jnp.ones(3), jnp.array([1.0, jnp.inf, 1.0])
    pattern = [True, True, False, True, True, True, True, False, False, False]
    optimizer = optim.ScaleLoss(
        optim.SGD(0.5, momentum=0.9), 8.0, growth_interval=3, backoff_factor=0.25, min_scale=2.0
    )
    plain = optim.SGD(0.5, momentum=0.9)
    state, weights = optimizer.init(good), jnp.zeros(3)
    inner, expected = plain.init(good), jnp.zeros(3)
    scale, since, scales = 8.0, 0, list[float]()

    def body(carry: Any, finite: Any) -> Any:
        gradients = jnp.where(finite, good, bad) * carry[0].scale
        weights, state = optimizer.apply_gradients(gradients, *carry)
        return (state, weights), state.scale

    (state, weights), seen = jax.lax.scan(body, (state, weights), jnp.array(pattern))
    for finite in pattern:
        if finite:
            expected, inner = plain.apply_gradients(good, inner, expected)
            since += 1
            if since == 3:
                scale, since = scale * 2, 0
        else:
            scale, since = max(scale / 4, 2.0), 0
        scales.append(scale)
    assert seen.tolist() == scales
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert (state.skipped, state.step, state.inner.step) == (4, 10, 6)


def test_gradients_that_would_vanish_in_float16() -> None:
    class Tiny(Module):
        kernel: Parameter = Parameter(jnp.ones(2))

        def forward(self, x: Any) -> Any:
            return self.kernel.data.astype(jnp.float16) * x, self

    optimizer = optim.MasterWeights(optim.ScaleLoss(optim.SGD(1e6)))
    model = Tiny()
    state = optimizer.init(model)
    gradients: dict[str, Any] = {}

    def loss_fn(model: Tiny, x: Any, *, scaled: bool) -> tuple[Any, Tiny, Any]:
        y, model = model(x)
        loss = y.astype(jnp.float32).mean() * 1e-6
        return (optim.scaled_loss(loss, state) if scaled else loss), model, loss

    x = jnp.full(2, 1e-3, jnp.float16)
    for scaled in (False, True):
        (value, _, loss), gradients[str(scaled)] = mlax.value_and_grad(loss_fn)(
            model, x, scaled=scaled
        )
        assert value == loss * (2.0**16 if scaled else 1)
    assert (gradients["False"].kernel.data == 0).all()
    new, _ = optimizer.update(model, gradients["True"], state)
    np.testing.assert_allclose(1 - new.kernel.data, 1e6 * 0.5e-9, rtol=2e-3)


def test_scale_stays_finite_and_an_empty_tree_grows() -> None:
    optimizer = optim.ScaleLoss(optim.SGD(0.1), growth_factor=1e30, growth_interval=1)
    state = optimizer.init({"none": None})
    for expected in (65536e30, 65536e30):
        _, state = optimizer.step({"none": None}, state)
        np.testing.assert_allclose(state.scale, expected, rtol=1e-6)


def test_mistakes() -> None:
    inside = optim.ScaleLoss(optim.SGD(0.1))
    for wrong in (
        lambda: optim.ClipGradients(optim.AccumulateGradients(inside, 2), max_norm=1.0),
        lambda: optim.SkipNonFinite(inside),
        lambda: optim.MultiOptimizer([inside]),
        lambda: optim.ScaleLoss(inside),
    ):
        with pytest.raises(
            ValueError, match="ScaleLoss inside expects the gradients of a scaled loss"
        ):
            wrong()
    with pytest.raises(ValueError, match="init_scale must be >= min_scale"):
        optim.ScaleLoss(optim.SGD(0.1), 0.5)
    state = inside.init(jnp.ones(2))
    assert tree_equal(optim.scaled_loss(jnp.float32(2), state), jnp.float32(2**17))
    with pytest.raises(TypeError, match=r"float32 or wider, got float16\[\]"):
        optim.scaled_loss(jnp.float16(1), state)
    with pytest.raises(TypeError, match=r"float32 or wider, got 1\.0 \(float\)"):
        optim.scaled_loss(1.0, state)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one ScaleLoss in it, found 0"):
        optim.scaled_loss(jnp.float32(1), state.inner)
