"""Modules travel by value: cloudpickle carries classes of scripts, notebooks and functions to other processes."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import cloudpickle
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Module, Parameter, tree_equal

SCRIPT = '''
import abc
import sys
from dataclasses import KW_ONLY
from typing import Any, Generic, NamedTuple, Self, TypeVar

import cloudpickle
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import mlax
from mlax import Container, Module, Parameter, Variable
from mlax.nn.init import zeros

T = TypeVar("T")


class Dense(Module):
    """A layer."""

    width: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    bias: Parameter = Parameter(init=zeros)

    def set_up(self, x, rng):
        kernel = Parameter(jax.random.normal(rng, (x.shape[-1], self.width)))
        return self.replace(kernel=kernel, bias=self.bias.made(None, (self.width,), zeros, x.dtype))

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


class Wide(Dense):
    kind: str = "wide"

    def forward(self, x: Array) -> tuple[Array, Self]:
        return super().forward(x)


class Pair(NamedTuple):
    first: Any
    second: Any


class Base(Module):
    @property
    def size(self) -> int:
        return len(self.parts)

    @abc.abstractmethod
    def total(self): ...


class ByHand(Base):
    parts: list[Any]
    pair: Pair
    box: Container

    def __init__(self, count: int):
        super().__init__()
        self.parts = [Variable(i) for i in range(count)]
        self.pair = Pair(Variable(1), None)
        self.box = Container({"a": Parameter(2.0)})

    def total(self):
        return sum(part.data for part in self.parts)


class Box(Module, Generic[T], kw_only=True):
    content: T
    note: str = "n"

    def __init_subclass__(cls, tag="", **kwargs):
        super().__init_subclass__(**kwargs)
        cls.tag = tag


class Tagged(Box[T], tag="t"):
    extra: int = 3


class Forgets(Module):
    w: Parameter

    def __init__(self):
        pass


def local(scale):
    class Local(Module):
        w: Parameter
        inner: "Local | None" = None

        def forward(self, x):
            return scale * x * self.w.data, self

    return Local


Local = local(3)
x = jnp.ones((2, 4))
models = {
    "lazy": Dense(3),
    "dense": mlax.set_up(Dense(3), x, rng=jax.random.key(0)),
    "wide": mlax.set_up(Wide(3), x, rng=jax.random.key(1)),
    "by hand": ByHand(2),
    "box": Box(content=Dense(2)),
    "tagged": Tagged(content=(Dense(2), Box(content=1)), extra=4),
    "local": Local(Parameter(2.0), Local(Parameter(1.0))),
}
if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        classes = {type(model).__name__: type(model) for model in models.values()}
        cloudpickle.dump((models, {**classes, "Forgets": Forgets}), file)
'''
CHECK = """
import pickle, sys
import jax, jax.numpy as jnp
models, classes = pickle.load(open(sys.argv[1], "rb"))
x = jnp.ones((2, 4))
print(models["wide"](x)[0].shape, jax.jit(models["local"])(1.0)[0], len(jax.tree.leaves(models)))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_value")
    (folder / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, folder / "script.py", folder / "models"], check=True)
    return folder / "models"


@pytest.fixture
def loaded(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    result: tuple[dict[str, Any], dict[str, Any]] = cloudpickle.loads(path.read_bytes())
    return result


def test_a_process_without_the_script_computes_with_them(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, path], check=True, capture_output=True, text=True
    )
    assert done.stdout == "(2, 3) 6.0 10\n"


def test_they_are_frozen_trees(loaded):
    models, _ = loaded
    for model in models.values():
        leaves, treedef = jax.tree.flatten(model)
        again = treedef.unflatten(leaves)
        for one in (model, again, jax.jit(lambda m: m)(model), model.replace()):
            assert type(one) is type(model)
            assert tree_equal(one, model)
            for change in (
                lambda m: setattr(m, dataclasses.fields(m)[0].name, 3),
                lambda m: delattr(m, dataclasses.fields(m)[0].name),
                lambda m: setattr(m, "other", 3),
            ):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    change(one)
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.__init__()
    with pytest.raises(TypeError, match="cannot be changed in place"):
        models["by hand"].parts.append(1)


def test_they_compute(loaded):
    models, _ = loaded
    x = jnp.ones((2, 4))
    y, same = models["dense"](x)
    assert y.shape == (2, 3)
    assert tree_equal(same, models["dense"])
    assert models["wide"](x)[0].shape == (2, 3)
    assert float(models["local"](1.0)[0]) == 6
    assert (models["by hand"].size, int(models["by hand"].total())) == (2, 1)
    lazy = mlax.set_up(models["lazy"], x, rng=jax.random.key(0))
    assert tree_equal(lazy, models["dense"])
    (_, _), gradients = mlax.value_and_grad(lambda m: ((m(x)[0] ** 2).sum(), m))(models["wide"])
    assert gradients.kernel.data.shape == (4, 3)


def test_classes_make_new_modules(loaded):
    models, classes = loaded
    x = jnp.ones((2, 4))
    for name in ("Dense", "Wide"):
        made = mlax.set_up(classes[name](3), x, rng=jax.random.key(0))
        assert jax.tree.structure(made) == jax.tree.structure(models[name.lower()])
        assert jax.tree.structure(classes[name](4)) != jax.tree.structure(classes[name](3))
        assert made(x)[0].shape == (2, 3)
    assert classes["ByHand"](3).size == 3
    assert classes["Box"](content=1).note == "n"
    assert classes["Tagged"](content=1).extra == 3
    assert (classes["Tagged"].tag, classes["Box"].__doc__) == ("t", classes["Box"].__doc__)
    assert classes["Dense"].__doc__ == "A layer."
    assert isinstance(models["wide"], classes["Dense"])
    assert isinstance(models["tagged"].content[1], classes["Box"])
    assert float(classes["Local"](Parameter(2.0))(1.0)[0]) == 6
    with pytest.raises(TypeError, match=r"Box|positional"):
        classes["Box"](1)


def test_they_are_checked(loaded):
    models, classes = loaded
    with pytest.raises(AnnotationMismatchError, match=r"^Dense\.width must be int, got '3'"):
        classes["Dense"]("3")
    with pytest.raises(AnnotationMismatchError, match=r"^Dense\.replace: kernel"):
        models["dense"].replace(kernel=Parameter(jnp.ones(3)))
    with pytest.raises(AnnotationMismatchError, match=r"^Dense\.forward: x"):
        models["dense"](jnp.ones((2, 5)))
    with pytest.raises(AnnotationMismatchError, match=r"^Local\.inner must be Local"):
        classes["Local"](Parameter(1.0), models["dense"])
    with pytest.raises(TypeError, match="no field 'nothing'"):
        models["wide"].replace(nothing=3)


def test_what_was_loaded_can_be_sent_on(loaded):
    models, classes = loaded
    again, more = cloudpickle.loads(cloudpickle.dumps(loaded))
    for name, model in models.items():
        assert tree_equal(again[name], model)
    assert more == classes  # cloudpickle knows the classes that it has seen in this process


def test_a_loaded_init_that_forgets_a_field_is_told(loaded):
    with pytest.raises(TypeError, match="did not assign the field 'w'"):
        loaded[1]["Forgets"]()


def subclass_of(base: type[Module]) -> type[Module]:
    class Derived(base):
        extra: int = 5

    return Derived


def test_loaded_classes_can_be_inherited_from(loaded):
    derived: Any = subclass_of(loaded[1]["Dense"])
    model = mlax.set_up(derived(3), jnp.ones((2, 4)), rng=jax.random.key(0))
    assert model.replace(extra=6).extra == 6
    assert model(jnp.ones((2, 4)))[0].shape == (2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.extra = 3


def test_a_class_of_a_function_survives_in_its_own_process():
    class Local(Module):
        w: Parameter[Float[Array, ""]]

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x * self.w.data, self

    model = cloudpickle.loads(cloudpickle.dumps(Local(Parameter(2.0))))
    assert type(model) is Local
    assert float(model(jnp.array(3.0))[0]) == 6
    with pytest.raises(AttributeError):
        model.w = Parameter(3.0)


def test_a_module_that_is_not_finished_does_not_travel():
    kept = []

    class Fails(Module):
        w: Parameter

        def __init__(self):
            kept.append(self)
            raise RuntimeError("as asked")

    with pytest.raises(RuntimeError, match="as asked"):
        Fails()
    with pytest.raises((TypeError, AttributeError)):
        cloudpickle.dumps(kept[0])


@pytest.mark.parametrize("node", [Parameter(1.0), mlax.Variable(2)], ids=["Parameter", "Variable"])
def test_what_pickle_calls_does_not_change_a_finished_object(node):
    class Local(Module):
        w: Any

    for one in (node, Local(node)):
        with pytest.raises(dataclasses.FrozenInstanceError, match="is frozen"):
            one.__setstate__(one.__reduce__()[2])


def test_a_pickle_of_other_fields_is_refused():
    class Local(Module):
        w: Any

    blank = Local.__new__(Local)
    with pytest.raises(
        TypeError, match=r"^Local: the pickle holds v, but the class has the fields w"
    ):
        blank.__setstate__({"v": Parameter(1.0)})

    class Later(Module):
        new: int
        n: int
        kind: str = "a"

    for held, message in (({"n": 3}, "n"), ({}, "no fields")):
        with pytest.raises(
            TypeError,
            match=f"^Later: the pickle holds {message}, but the class has the fields new, n",
        ):
            Later.__new__(Later).__setstate__(held)
    with pytest.raises(mlax.AnnotationMismatchError, match=r"^Later\.n must be int, got 'b'"):
        Later.__new__(Later).__setstate__({"n": "b", "new": 1})
    loaded = Later.__new__(Later)
    loaded.__setstate__({"n": 3, "new": 1})
    assert repr(loaded) == "Later(new=1, n=3, kind='a')"


def test_converters_of_classes_that_were_loaded_know_what_has_no_default():
    class Local(Module):
        n: int = mlax.field(converter=int)
        k: int = mlax.field(converter=int, default=3)

    for field in Local.__dataclass_fields__.values():  # as cloudpickle leaves them
        for name in ("default", "default_factory"):
            if getattr(field, name) is dataclasses.MISSING:
                setattr(field, name, object.__new__(type(dataclasses.MISSING)))
    assert (Local("1").n, Local("1").k) == (1, 3)
    with pytest.raises(TypeError, match=": n is missing"):
        Local()
