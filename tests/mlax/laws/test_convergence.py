"""Every generated optimizer reaches a stated loss, on a quadratic and on Rosenbrock's function."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    every_optimizer,
    init,
    rate_of,
    step,
    with_rate,
)

pytestmark = pytest.mark.one_python

STEPS = 2000
WARM_UP = 100
START: Any = {"m": jnp.array([[-0.5, 0.3, 1.5], [0.8, -0.4, 1.0]]), "v": jnp.array([0.5, -0.5])}
CURVATURE: Any = {"m": jnp.array([[1.0, 2.0, 4.0], [0.5, 1.0, 3.0]]), "v": jnp.array([1.0, 10.0])}
QUADRATIC = 1e-5
FINE, COARSE = 1e-2, 0.5


class Settings(NamedTuple):
    """The peak rate for each function, after warm-up; the rate then falls to 0.

    For an optimizer without a learning rate, this is the hyperparameter in its place: see `rate_name`.
    """

    quadratic: float
    rosenbrock: float
    target: float = FINE
    """How low Rosenbrock's function has to get. The quadratic has to get to QUADRATIC."""
    options: Any = {}  # noqa: RUF012, read only
    """Hyperparameters for `init`."""


SETTINGS = {
    "acprop": Settings(1.0, 0.06, COARSE),
    "adabelief": Settings(1.0, 1.0),
    "adadelta": Settings(1.0, 2.0, COARSE),
    "adafactor": Settings(1.0, 0.06, COARSE),
    "adagrad": Settings(1.0, 2.0, COARSE),
    "adahessian": Settings(1.0, 0.6, COARSE),
    "adai": Settings(0.1, 0.003, COARSE),
    "adam": Settings(1.0, 1.0),
    "adam_mini": Settings(1.0, 0.6),
    "adamax": Settings(1.0, 3.0),
    "adamaxw": Settings(1.0, 3.0),
    "adamp": Settings(1.0, 1.0),
    "adamw": Settings(1.0, 0.3),
    "adan": Settings(1.0, 1.0),
    "ademamix": Settings(10.0, 2.0, COARSE),
    "adopt": Settings(1.0, 3.0),
    "aggmo": Settings(0.1, 0.0003, COARSE),
    "amsgrad": Settings(1.0, 3.0),
    "asgd": Settings(0.2, 0.006, COARSE),
    "came": Settings(1.0, 0.1),
    "cautious_adamw": Settings(1.0, 1.0),
    "dadapt_adamw": Settings(1.0, 3.0),
    "dion": Settings(0.1, 0.03),
    "dog": Settings(2.0, 10.0, COARSE),
    "fromage": Settings(0.6, 0.02),
    "galore": Settings(1.0, 1.0),
    "grams": Settings(1.0, 1.0),
    "lamb": Settings(0.2, 0.01),
    "lars": Settings(1.0, 2.0),
    "lion": Settings(0.03, 0.006),
    "madgrad": Settings(1.0, 0.2),
    "mars": Settings(1.0, 0.6),
    "muon": Settings(0.06, 0.2),
    "nadam": Settings(1.0, 0.6),
    "nadamw": Settings(1.0, 0.3),
    "noisy_sgd": Settings(0.02, 0.006, COARSE),
    "novograd": Settings(0.1, 0.006),
    "optimistic_adam": Settings(1.0, 0.2, COARSE),
    "optimistic_gradient_descent": Settings(0.06, 0.002, COARSE),
    "pid": Settings(0.03, 0.0002, COARSE),
    "polyak_sgd": Settings(1.0, 1.0),
    "prodigy": Settings(1.0, 3.0),
    "radam": Settings(1.0, 0.1, COARSE),
    "ranger": Settings(1.0, 0.06, COARSE),
    "rmsprop": Settings(1.0, 0.01, COARSE),
    "rprop": Settings(1.0, 0.2),
    "schedule_free_adamw": Settings(1.0, 0.3),
    "schedule_free_sgd": Settings(1.0, 0.02),
    "sgd": Settings(0.3, 0.003, options={"momentum": 0.9}),
    "sgdp": Settings(0.1, 0.003),
    "shampoo": Settings(1.0, 10.0),
    "sign_sgd": Settings(0.1, 0.003, COARSE),
    "signum": Settings(0.006, 0.003),
    "sm3": Settings(1.0, 10.0),
    "soap": Settings(0.6, 0.02),
    "sophia_h": Settings(1.0, 1.0),
    "swats": Settings(1.0, 1.0),
    "tiger": Settings(0.01, 0.006),
    "yogi": Settings(1.0, 1.0),
}


def quadratic(w: Any) -> jax.Array:
    """Return 7.48 at the start: a bowl with curvatures from 0.5 to 10."""
    return sum(jnp.sum(CURVATURE[k] * (w[k] - 0.1) ** 2) for k in w) / 2  # type: ignore


def rosenbrock(w: Any) -> jax.Array:
    """Return 270 at the start: four valleys, that bend as far as from (-0.5, 0.8) to (1, 1)."""
    pairs = [(w["m"][0], w["m"][1]), (w["v"][0], w["v"][1])]
    return sum(jnp.sum((1 - x) ** 2 + 100 * (y - x * x) ** 2) for x, y in pairs)  # type: ignore


@every_optimizer
def test_it_gets_to_a_stated_loss(name: str) -> None:
    """Both with one compilation: which function it is, is a run-time value."""
    assert name in SETTINGS, f"add a row for {name} to SETTINGS"
    settings = SETTINGS[name]

    @jax.jit
    def run(bent: Any, rate: Any) -> Any:
        def loss(w: Any) -> Any:
            return jnp.where(bent, rosenbrock(w), quadratic(w))

        def body(carry: Any, i: Any) -> Any:
            weights, state = carry
            value, gradients = jax.value_and_grad(loss)(weights)
            factor = jnp.minimum(1, (i + 1) / WARM_UP) * (1 - i / STEPS)
            state = with_rate(name, state, rate * factor)
            given = {"value": value} if "value" in arguments(name, gradients) else {}
            if "hessian" in arguments(name, gradients):
                ones = jax.tree.map(jnp.ones_like, weights)
                given["hessian"] = jax.jvp(jax.grad(loss), (weights,), (ones,))[1]
            updates, state = step(name, gradients, state, weights, **given)
            return (apply_updates(updates, weights), state), None

        start = (START, init(name, START, **settings.options))
        (weights, state), _ = jax.lax.scan(body, start, jnp.arange(STEPS))
        return loss(weights), rate_of(name, state)

    final, last_rate = run(False, jnp.float32(settings.quadratic))
    assert final <= QUADRATIC, too_high(name, final, "the quadratic", QUADRATIC)
    assert 0 < last_rate < settings.quadratic / 1000
    final, _ = run(True, jnp.float32(settings.rosenbrock))
    assert final <= settings.target, too_high(name, final, "Rosenbrock's function", settings.target)


def too_high(name: str, final: Any, function: str, target: float) -> str:
    return (
        f"{name} reached {float(final):.2g} on {function}, needs {target}; "
        f"try another rate in SETTINGS"
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_of_optimizers_that_exist(name: str) -> None:
    assert name in MODULES
