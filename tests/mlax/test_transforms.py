"""`mlax.jit`, `mlax.grad` and `mlax.checkpoint` are JAX's; only their types are mlax's."""

import jax
import pytest

import mlax


@pytest.mark.parametrize("name", ["jit", "grad", "checkpoint"])
def test_the_function_is_that_of_jax(name: str) -> None:
    """The very same object, so that nothing else can differ."""
    assert getattr(mlax, name) is getattr(jax, name)
