"""The public face of the optimizers: what is in it, and that nothing is loaded before it is used."""

import subprocess
import sys

import jax.numpy as jnp
import pytest

import mlax_optimizers
from mlax import optim
from mlax.tree import tree_equal


def test_modules_and_classes_are_those_of_the_generated_package() -> None:
    for name in mlax_optimizers.__all__:
        assert getattr(optim, name) is getattr(mlax_optimizers, name)
        assert name in optim.__all__
        assert name in dir(optim)


def test_both_ways_of_writing_it() -> None:
    from mlax.optim import Adam, adam

    weights = jnp.ones(3)
    assert tree_equal(adam.init(weights, learning_rate=0.1), optim.Adam(0.1).init(weights))
    assert Adam is optim.Adam
    state = optim.adam.init(weights)
    updates, state = optim.adam.step(weights, state)
    assert optim.apply_updates(updates, weights).shape == (3,)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(AttributeError, match=r"module 'mlax\.optim' has no attribute 'addam'"):
        optim.addam  # type: ignore  # noqa: B018


@pytest.mark.one_python
def test_everything_is_loaded_on_first_use() -> None:
    code = """
import sys
import mlax
assert "mlax.optim" not in sys.modules and "typeguard" not in sys.modules
mlax.optim.sgd
assert "mlax_optimizers.sgd" in sys.modules and "mlax_optimizers.adam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
