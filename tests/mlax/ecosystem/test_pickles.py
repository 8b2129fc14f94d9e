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


CELL = """
from typing import Self
from mlax import Module, Parameter

class Inner(Module):
    width: int
    kernel: Parameter = Parameter(1.0)

    def forward(self, x):
        return factor * x * self.kernel.data, self

class Outer(Module):
    inner: Inner
    many: tuple[Inner, ...] = ()
    maybe: "Inner | None" = None

    def forward(self, x):
        return self.call(self.inner, x)

    def takes(self, other: Inner): ...

class Takes(Module):
    def forward(self, other: "Inner | None"):
        return 0, self
"""


@pytest.fixture
def cells() -> Any:
    """Run a cell of a notebook twice; return the classes of each run."""
    module = type(sys)("tests.notebook")
    sys.modules[module.__name__] = module
    runs = []
    for factor in (2.0, 5.0):
        exec(CELL.replace("factor", str(factor)), vars(module))
        runs.append(
            type("Run", (), {name: vars(module)[name] for name in ("Inner", "Outer", "Takes")})
        )
    yield runs
    del sys.modules[module.__name__]


def test_models_of_both_classes_compute(cells: Any) -> None:
    old, new = [run.Outer(run.Inner(3)) for run in cells]
    for _ in range(2):
        assert [float(model(1.0)[0]) for model in (old, new)] == [2.0, 5.0]
        assert [float(jax.jit(lambda m: m(1.0)[0])(model)) for model in (old, new)] == [2.0, 5.0]
    assert repr(old) == repr(new)
    assert not mlax.tree_equal(old, new)
    assert jax.tree.structure(old) != jax.tree.structure(new)
    for model in (old, new):
        again = jax.tree.map(lambda x: x, model)
        assert type(again) is type(model.replace(many=())) is type(model)
        assert type(cloudpickle.loads(cloudpickle.dumps(model))) is type(model)


def test_an_object_of_the_class_before_is_refused_with_the_reason(cells: Any) -> None:
    old, new = cells
    again = r"\.\n  Inner was defined again after this object was made.*: make the object again\.$"
    with pytest.raises(TypeError, match=r"^Outer\.inner must be Inner, got Inner.*" + again):
        new.Outer(old.Inner(3))
    with pytest.raises(TypeError, match=r"^Outer\.many\[0\] must be Inner, got.*" + again):
        new.Outer(new.Inner(3), (old.Inner(3),))
    with pytest.raises(TypeError, match=r"^Outer\.maybe must be Inner \| None, got.*" + again):
        new.Outer(new.Inner(3), (), old.Inner(3))
    with pytest.raises(TypeError, match=r"^Outer\.replace: |^Outer\.inner must be Inner.*" + again):
        new.Outer(new.Inner(3)).replace(inner=old.Inner(3))
    with pytest.raises(
        TypeError, match=r"^Takes\.forward: other .*\n.*\n  Inner was defined again"
    ):
        new.Takes()(old.Inner(3))


def test_trees_of_both_classes_are_told_apart(cells: Any) -> None:
    old, new = [run.Outer(run.Inner(3)) for run in cells]
    said = r"a different container, Outer instead of Outer \(the class was defined again\)"
    with pytest.raises(TypeError, match=said):
        ADAM.step(new, ADAM.init(old))
    assert mlax.tree.structure_differences({"a": old}, {"a": new}) == [
        "['a']: Outer against Outer (the class was defined again)"
    ]
    with pytest.raises(ValueError, match="types"):
        jax.tree.map(lambda a, b: a, old, new)


def test_pickle_refuses_an_object_of_the_class_before(cells: Any) -> None:
    """As it does for any class."""
    old, new = [run.Outer(run.Inner(3)) for run in cells]
    assert mlax.tree_equal(pickle.loads(pickle.dumps(new)), new)
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(old)
