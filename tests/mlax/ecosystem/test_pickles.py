"""Models and states in pickles: pickle, cloudpickle, dill and joblib, in this process and in others."""

import copy
import functools
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import dill
import jax
import jax.numpy as jnp
import joblib
import pytest

import mlax
from mlax import optim
from tests.mlax.ecosystem.things import ADAM, WRAPPED, Net, net, trees


def through_joblib(value: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


def through(library: Any) -> Callable[[Any], Any]:
    return lambda value: library.loads(library.dumps(value))


WAYS = {
    "pickle": through(pickle),
    "cloudpickle": through(cloudpickle),
    "dill": through(dill),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
def test_everything_comes_back(way: str) -> None:
    things = {
        **trees(),
        "unset": Net(),
        "filtered": net().filter(),
        "packed": mlax.pack(net()),
        "optimizers": (ADAM, WRAPPED, optim.Lookahead(optim.SGD(optim.cosine_decay(0.1, 3)))),
        "shapes": jax.eval_shape(net),
    }
    again = WAYS[way](things)
    assert mlax.tree_equal(again, things)
    assert again["packed"].layout is things["packed"].layout
    assert again["model"](jnp.ones((2, 3)))[0].shape == (2, 2)
    with pytest.raises(AttributeError):
        again["model"].name = "frozen"


FUNCTIONS = [
    jax.nn.relu,
    jax.nn.silu,
    jax.nn.gelu,
    jnp.tanh,
    jnp.add,
    jax.lax.stop_gradient,
    jnp.float32,
]


@jax.jit
def double(x):
    return 2 * x


@pytest.mark.parametrize("way", WAYS)
def test_functions_that_jax_has_wrapped_come_back_by_name(way: str) -> None:
    """As copies they would be other static values: the model would be traced again, and trees would not match."""
    things = [*FUNCTIONS, double]
    assert all(a is b for a, b in zip(WAYS[way](things), things, strict=True))


@pytest.mark.parametrize("way", ["cloudpickle", "dill", "deepcopy"])
def test_functions_without_a_name_are_copied_as_before(way: str) -> None:
    function = jax.jit(lambda x: 3 * x)
    assert WAYS[way](function)(2) == 6
    nameless = jax.custom_jvp(functools.partial(jnp.multiply, 3))
    assert type(WAYS[way](nameless)) is jax.custom_jvp
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(function)


SCRIPT = """
import concurrent.futures
import multiprocessing
import sys
from typing import Any

import jax
import jax.numpy as jnp
import joblib
import numpy as np

import mlax
from mlax import Container, Module, Parameter, Variable, optim
from mlax.nn.init import constant


class Dense(Module):
    width: int
    function: Any = jax.nn.relu
    kernel: Parameter = Parameter(init=constant(0.5))

    def set_up(self, x):
        shape = (x.shape[-1], self.width)
        return self.replace(kernel=self.kernel.made(None, shape, constant(1.0), x.dtype))

    def forward(self, x):
        return self.function(x @ self.kernel.data), self


class Net(Module):
    layers: list[Dense]
    table: dict[str, Any]
    box: Container
    nothing: Any = None

    def forward(self, x):
        return self.chain(x, *self.layers)


ADAM = optim.SGD(optim.cosine_decay(0.1, 10))
WRAPPED = optim.ClipGradients(ADAM, max_norm=1.0)


def work(things):
    x = jnp.asarray(np.ones((2, 3), np.float32))
    y, model = things["model"](x)
    packed, _ = things["packed"](x)
    WRAPPED.own(things["wrapped state"])
    return float(y.sum()), bool((packed == y).all()), {**things, "model": model}


if __name__ == "__main__":
    unset = Net([Dense(3), Dense(2, jnp.tanh)], {"a": Variable(1)}, Container({"x": Parameter(1.0)}))
    model = mlax.set_up(unset, jnp.ones((2, 3)), rng=jax.random.key(0))
    things = {
        "unset": unset,
        "model": model,
        "packed": mlax.pack(model),
        "state": ADAM.init(model),
        "wrapped state": WRAPPED.init(model),
    }
    expected = work(things)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as executor:
        results = [executor.submit(work, things).result()]
    results += joblib.Parallel(n_jobs=2, backend="loky")([joblib.delayed(work)(things)])
    for total, same, again in results:
        assert (total, same) == expected[:2] == (expected[0], True)
        assert mlax.tree_equal(again, things)
    print(len(results), "came back")
"""


def test_process_pools_take_models_of_a_script(tmp_path: Any) -> None:
    """Of a standard pool and of joblib's: what comes back has the classes and the structure of what was sent."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], check=False, capture_output=True, text=True
    )
    assert done.stdout == "2 came back\n", done.stderr
