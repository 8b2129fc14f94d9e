"""Losses and their gradients compared with Optax and MLX, on random inputs: 4 ulp in float32, 1e-12 in float64.

An error is measured in units of the last place: of the loss, of the largest element of a gradient,
or of the terms that cancel in them (the `floor` of a case).
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import optax
import pytest

from mlax import losses
from tests.mlax.losses.cases import MLX, OPTAX, Case
from tests.mlax.losses.compiling import quick

pytestmark = pytest.mark.one_python

PAGE = Path(__file__).parents[3] / "docs/losses.md"


def compiled(case: Case, inputs: list[Any], *functions: Callable[..., Any]) -> Any:
    """Return losses and gradients of a batch, for each function."""
    arguments = case.differentiated(inputs)

    def one(*example: Any) -> Any:
        if not arguments:
            return [(function(*example), ()) for function in functions]
        return [jax.value_and_grad(function, arguments)(*example) for function in functions]

    return quick(jax.vmap(one))(*map(jnp.asarray, inputs))


def in_ulps(result: Any, reference: Any, floor: float) -> float:
    """Return the largest error of a batch of numbers or gradients, where the reference is a number."""
    result, reference = np.asarray(result), np.asarray(reference)
    assert result.shape == reference.shape
    assert np.isfinite(result).all()
    reference = np.where(np.isfinite(reference), reference, result)
    size = np.abs(reference.reshape(len(reference), -1)).max(axis=1)
    ulp = np.spacing(np.maximum(size, floor).astype(reference.dtype))
    return float((np.abs(result - reference).reshape(len(reference), -1).max(axis=1) / ulp).max())


def check(case: Case, ours: tuple[Any, Any], theirs: tuple[Any, Any], most: float) -> None:
    assert in_ulps(ours[0], theirs[0], case.floor) <= most
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert in_ulps(mine, other, case.floor) <= most


@pytest.mark.parametrize("case", OPTAX, ids=lambda case: case.id)
def test_optax(case: Case) -> None:
    """Loss and gradients are those of Optax."""
    inputs = case.batch()
    check(case, *compiled(case, inputs, case.ours, case.theirs), most=4)


@pytest.mark.parametrize("case", [c for c in OPTAX if not c.name], ids=lambda case: case.id)
def test_optax_in_float64(case: Case) -> None:
    """So they are to 1e-12, with x64."""
    with jax.enable_x64(True):
        inputs = [
            jnp.asarray(x, np.float64 if x.dtype == np.float32 else None) for x in case.batch(1)
        ]

        def both(*args: Any) -> Any:
            return case.ours(*args), case.theirs(*args)

        ours, theirs = quick(jax.vmap(both))(*inputs)
        assert ours.dtype == np.float64
        floor = max(case.floor, 1e-3)
        assert np.all(np.abs(ours - theirs) <= 1e-12 * np.maximum(np.abs(theirs), floor))


@pytest.mark.parametrize("case", MLX, ids=lambda case: case.id)
def test_mlx(case: Case) -> None:
    """Loss and gradients are those of MLX."""
    inputs = case.batch()
    arrays = [mx.array(x) for x in inputs]
    gradient = mx.grad(lambda *args: case.theirs(*args).sum(), argnums=case.differentiated(inputs))
    gradients = gradient(*arrays)
    if len(case.differentiated(inputs)) == 1:  # MLX then returns no tuple
        gradients = (gradients,)
    check(case, *compiled(case, inputs, case.ours), (case.theirs(*arrays), gradients), most=4)


def functions(module: Any) -> set[str]:
    """Return the public functions of a module."""
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and not name.startswith("_")
    }


PEERS = {"optax": (optax.losses, OPTAX), "mlx": (mlx.nn.losses, MLX)}


@pytest.mark.parametrize("peer", PEERS)
def test_no_loss_of_a_peer_is_missing(peer: str) -> None:
    """Each is compared above, and has a row in the page's table."""
    module, cases = PEERS[peer]
    theirs = functions(module) - {"get_args"}
    assert len(theirs) >= 14
    assert {case.peer for case in cases} == theirs
    rows = re.findall(rf"^\| {peer} \| `(\w+)", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(theirs)


def test_all_losses_of_mlax_are_on_the_page() -> None:
    """None is left out, and none is named that is not there."""
    ours = {name for name in vars(losses) if not name.startswith("_")}
    named = set(re.findall(r"`losses\.(\w+)", PAGE.read_text()))
    assert named == ours
