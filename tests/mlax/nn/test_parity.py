"""Each layer's result and gradients are those of Equinox, of Flax, or of a formula, with the same weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import nn
from tests.mlax.nn.cases import CASES, Case, cast, with_gradients

pytestmark = pytest.mark.one_python
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

NOT_CALLED = {nn.Cell, nn.KVCache}  # a base class, and a tuple of arrays


def test_every_layer_has_a_case() -> None:
    public = {each for each in vars(nn).values() if isinstance(each, type)}
    assert public - {type(case.layer) for case in CASES.values()} == NOT_CALLED


def cast_parameters(layer: Any, dtype: Any) -> Any:
    """Return a layer with its Parameters in another dtype."""
    parameters, rest = layer.partition(mlax.is_parameter)
    return cast(parameters, dtype).combine(rest)


def close(got: Any, expected: Any, tolerance: float) -> None:
    """Check all arrays of a tree, relative to the greatest number in each."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    both = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True)
    for (path, one), other in both:
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert a.shape == b.shape
        # The gradient of the bias of keys is 0, as a difference of numbers around 1.
        bound = tolerance * max(np.abs(b).max(initial=0), 0.5)
        np.testing.assert_allclose(a, b, 0, bound, err_msg=jax.tree_util.keystr(path))


@every
def test_results_and_gradients(case: Case) -> None:
    def compared(layer: Any, given: Any) -> Any:
        return case.with_gradients(layer, given), with_gradients(case.expected, layer, given)

    with jax.enable_x64(True):
        wide = cast(case.model, np.float64), cast(case.given, np.float64)
        double, exact = jax.jit(compared)(*wide)
    # float32 is exact to 6e-8. Sums of tens of terms, twice, and a sine, lose two digits of it.
    close(case.results, exact, 1e-5)
    if not isinstance(case.layer, nn.Compute):  # which computes in float32
        close(double, exact, case.double)


ULP = {jnp.bfloat16: 2.0**-7, jnp.float16: 2.0**-10}


@every
def test_narrow_dtypes(case: Case) -> None:
    """Weights and inputs are exact in narrow dtypes, so what their results are compared with is that of float32."""

    def narrow(layer: Any, given: Any) -> Any:
        return [
            case.with_gradients(cast_parameters(layer, dtype), cast(given, dtype)) for dtype in ULP
        ]

    exact, *exact_gradients = case.results
    with jax.numpy_dtype_promotion("strict"):  # where the program is lowered, too
        found = jax.jit(narrow)(case.model, case.given)
    for (dtype, ulp), (got, *gradients) in zip(ULP.items(), found, strict=True):
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
            assert one.dtype == dtype or not case.own_dtype
            a, b = np.asarray(one, np.float32), np.asarray(other)
            units = (
                np.abs(b).max() if case.rounded is None else 2.0 ** np.floor(np.log2(abs(b) + 1e-9))
            )
            off = 2 if case.rounded is None else case.rounded + 0.02
            assert (np.abs(a - b) <= off * ulp * units + 1e-7).all()
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} <= {jnp.dtype(dtype)}
        # The loss is a sine of rounded results that reach 10, and gradients of a softmax are differences.
        close(gradients, exact_gradients, 64 * ulp)
