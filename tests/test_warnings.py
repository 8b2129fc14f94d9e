"""Which warnings the tests take for errors: those that mlax causes, not those that a dependency causes in itself."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from mlax import losses

# What runs in a module of this name is as old as its author left it.
WARN = "import warnings; warnings.warn('old', {category})"
DONATED = "Some donated buffers were not usable"
CATEGORIES = ["DeprecationWarning", "FutureWarning", "UserWarning", "RuntimeWarning"]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(
    "module", ["mlax", "mlax.optim.clipping", "mlax_optimizers.adam", "mlax_codegen", "tests.a.b"]
)
def test_mlax_is_to_blame(module: str, category: str) -> None:
    with pytest.raises(Warning, match="old"):
        exec(WARN.format(category=category), {"__name__": module})


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", ["jax._src.numpy", "matplotlib", "mlaxer", "testsuite.a"])
def test_a_dependency_is_to_blame(module: str, category: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        exec(WARN.format(category=category), {"__name__": module})
    assert [str(warning.message) for warning in caught] == ["old"]


def test_mlax_calls_something_deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that warns its caller, as JAX's deprecated ones do, and a caller in mlax."""
    sign = jnp.sign

    def deprecated(x: jax.Array) -> jax.Array:
        warnings.warn("jnp.sign is deprecated", DeprecationWarning, stacklevel=2)
        return sign(x)

    monkeypatch.setattr(jnp, "sign", deprecated)
    with pytest.raises(DeprecationWarning, match=r"jnp\.sign"):
        losses.absolute_error(jnp.ones(3), jnp.zeros(3))


def test_donated_arrays_that_are_not_used() -> None:
    """JAX warns of it in a module of its own, yet it is the donating function's mistake."""
    with pytest.raises(UserWarning, match="donated"):
        exec(WARN.format(category="UserWarning").replace("old", DONATED), {"__name__": "jax._src"})
