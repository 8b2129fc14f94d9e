"""The public face of the experimental optimizers."""

import subprocess
import sys

import jax.numpy as jnp
import pytest

import mlax_optimizers.experimental
from mlax import experimental
from mlax.experimental import optim
from mlax.optim import apply_updates
from mlax.tree import tree_equal
from mlax.typing import LeafMismatchError


def test_modules_and_classes_are_those_of_the_generated_package() -> None:
    for name in mlax_optimizers.experimental.__all__:
        assert getattr(optim, name) is getattr(mlax_optimizers.experimental, name)
        assert name in optim.__all__
        assert name in dir(optim)


def test_apply_gradients_is_apply_updates() -> None:
    updates, weights = {"w": jnp.arange(3.0)}, {"w": jnp.ones(3)}
    assert tree_equal(optim.apply_gradients(updates, weights), apply_updates(updates, weights))
    with pytest.raises(LeafMismatchError) as raised:
        optim.apply_gradients({"w": jnp.ones(2)}, weights)
    assert str(raised.value).splitlines() == [
        "experimental.optim.apply_gradients: leaves that do not correspond to `weights` (no implicit promotion):",
        "  updates['w']: float32[2], but weights['w']: float32[3]",
    ]


def test_names_that_do_not_exist() -> None:
    with pytest.raises(
        AttributeError, match=r"module 'mlax\.experimental\.optim' has no attribute 'p'"
    ):
        optim.p  # type: ignore  # noqa: B018
    with pytest.raises(
        AttributeError, match=r"module 'mlax\.experimental' has no attribute 'nets'"
    ):
        experimental.nets  # type: ignore  # noqa: B018


@pytest.mark.one_python
def test_everything_is_loaded_on_first_use() -> None:
    code = """
import sys
import mlax, mlax.experimental
assert "mlax.experimental.optim" not in sys.modules
mlax.experimental.optim.apply_gradients
assert not [name for name in sys.modules if name.startswith("mlax_optimizers.experimental.")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
