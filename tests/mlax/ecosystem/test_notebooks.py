"""Classes that are defined again, as in a notebook whose cells run again and under IPython's `%autoreload`."""

import pickle
import sys
from types import ModuleType
from typing import Any

import cloudpickle
import jax
import pytest

import mlax
from mlax import optim

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
    module = ModuleType("tests.notebook")
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
        optim.Adam().step(new, optim.Adam().init(old))
    assert mlax.tree.structure_differences({"a": old}, {"a": new}) == [
        "['a']: Outer against Outer (the class was defined again)"
    ]
    with pytest.raises(ValueError, match="type"):
        jax.tree.map(lambda a, b: a, old, new)


def test_pickle_refuses_an_object_of_the_class_before(cells: Any) -> None:
    """As it does for any class."""
    old, new = [run.Outer(run.Inner(3)) for run in cells]
    assert mlax.tree_equal(pickle.loads(pickle.dumps(new)), new)
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(old)


def test_autoreload_makes_models_those_of_the_new_class(cells: Any) -> None:
    """IPython sets the class of each object, before any model of the new class was constructed."""
    old, new = cells
    model = old.Outer(old.Inner(3))
    before = jax.tree.structure(model)
    for module, cls in ((model, new.Outer), (model.inner, new.Inner)):
        object.__setattr__(module, "__class__", cls)
    assert len(jax.tree.leaves(model)) == 1
    for again in (jax.tree.map(lambda x: x, model), jax.jit(lambda m: m)(model)):
        assert (type(again), type(again.inner)) == (new.Outer, new.Inner)
        assert float(again(1.0)[0]) == 5.0
    assert jax.tree.structure(model) == jax.tree.structure(new.Outer(new.Inner(3))) != before
    assert mlax.tree_equal(model, new.Outer(new.Inner(3)))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(model)]
    assert paths == [".inner.kernel"]


def test_autoreload_with_other_fields_keeps_the_leaves(cells: Any) -> None:
    old, _ = cells
    exec(CELL.replace("width: int", "height: int"), vars(sys.modules["tests.notebook"]))
    model = old.Inner(3)
    object.__setattr__(model, "__class__", sys.modules["tests.notebook"].Inner)
    assert len(jax.tree.leaves(model)) == 1
    assert mlax.tree_equal(jax.tree.map(lambda x: x, model), old.Inner(3))
