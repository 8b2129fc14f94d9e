"""The wheel works in a folder without a checkout: import, generate from one's own spec, train."""

from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Installed

pytestmark = pytest.mark.one_python

SPEC = r'''
name = "halving"
summary = "Halving: damped descent along a mean gradient."
references = ["Nobody, nowhere"]

[hyperparameters]
learning_rate = { default = 0.1, bounds = "0 <= x", schedulable = true, symbol = '\alpha', doc = "Step size." }
decay = { default = 0.5, bounds = "0 <= x < 1", symbol = '\beta', doc = "Decay of the mean gradient." }

[slots]
m = { init = "zeros", doc = "Mean gradient." }

[[step]]
leaf = """
m = decay * m + (1 - decay) * g
update = -learning_rate * m / (abs(m) + 1)
"""
'''

TRAIN = """
import jax
import jax.numpy as jnp
from mine import halving

weights = {"a": jnp.array([3.0, -2.0]), "b": jnp.array(1.0)}
loss = lambda w: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w))
state = halving.init(weights, learning_rate=0.2)
before = loss(weights)
for _ in range(20):
    updates, state = jax.jit(halving.step)(jax.grad(loss)(weights), state)
    weights = jax.tree.map(jnp.add, weights, updates)
assert loss(weights) < 0.1 * before, loss(weights)
assert int(state.step) == 20
assert state.hyperparameters.decay == 0.5
optimizer = halving.Halving(learning_rate=0.2)
optimizer.apply_gradients(weights, optimizer.init(weights), weights)
"""


@pytest.mark.parametrize("package", ["mlax", "mlax_optimizers", "mlax_codegen"])
def test_the_wheel_is_imported(package: str, installed: Installed) -> None:
    """Otherwise all tests of this file would test the checkout."""
    done = installed.run("python", "-c", f"import {package}; print({package}.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.scripts.parent)
    assert not Path(done.stdout.strip()).is_relative_to(ROOT)


def test_built_in_optimizers_work(installed: Installed) -> None:
    """The public face finds the generated modules."""
    program = """
import jax.numpy as jnp
from mlax import optim
weights = jnp.ones(3)
for optimizer in [optim.Adam(learning_rate=0.1), optim.SGD(learning_rate=0.1)]:
    updates, state = optimizer.step(weights, optimizer.init(weights))
    assert (updates < 0).all()
"""
    done = installed.run("python", "-c", program)
    assert done.returncode == 0, done.stderr


def test_own_spec_is_generated_and_trains(installed: Installed) -> None:
    """Someone with a spec of their own needs nothing but the wheel."""
    (installed.folder / "halving.toml").write_text(SPEC)
    done = installed.run("mlax-codegen", "generate", "halving.toml", "--output", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (installed.folder / "mine" / "halving.py").exists()
    done = installed.run("python", "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    done = installed.run("mlax-codegen", "generate", "halving.toml", "--output", "mine", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_generate_without_a_spec_needs_a_checkout(installed: Installed) -> None:
    """The built-in modules of an installed wheel are not to be overwritten."""
    done = installed.run("mlax-codegen", "generate")
    assert done.returncode == 2
    assert "checkout" in done.stderr
    assert "Traceback" not in done.stderr


def test_generate_with_a_spec_needs_an_output(installed: Installed) -> None:
    """Outside a checkout there is no default output folder."""
    (installed.folder / "halving.toml").write_text(SPEC)
    done = installed.run("mlax-codegen", "generate", "halving.toml")
    assert done.returncode == 2
    assert "--output" in done.stderr
    assert "Traceback" not in done.stderr
