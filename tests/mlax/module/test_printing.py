"""How modules print: an indented tree with shapes and dtypes."""

from typing import Any

import jax
import jax.numpy as jnp

import mlax
from mlax import Container, Module, Parameter, Variable
from tests.mlax.models import Linear, linear, net


class Deep(Module):
    name: str
    parts: Any
    hidden: int = mlax.field(default=1, repr=False)


def test_a_deep_model_prints_as_an_indented_tree():
    model = mlax.set_up(net(), jnp.ones(3), rng=jax.random.key(0))
    lines = repr(Deep("deep", {"a": [model.layers[0]], "b": model.norm})).splitlines()
    assert lines == [
        "Deep(",
        "  name='deep',",
        "  parts={",
        "    'a': [Linear(out_features=4, kernel=Parameter(f32[3,4]), bias=Parameter(f32[4]))],",
        "    'b':",
        "    BatchNorm(",
        "      momentum=0.9,",
        "      mean=Variable(f32[3]),",
        "      var=Variable(f32[3]),",
        "      scale=Parameter(f32[3]),",
        "      steps=Variable(i32[])",
        "    )",
        "  }",
        ")",
    ]
    assert str(model) == repr(model)


def test_every_kind_of_data():
    cases = {
        "Parameter(UNSET)": Parameter(),
        "Variable(None)": Variable(None),
        "Parameter(f32[2,3])": Parameter(jnp.ones((2, 3))),
        "Parameter(bf16[], frozen=True)": Parameter(jnp.ones((), jnp.bfloat16), frozen=True),
        "Variable(key<fry>[2])": Variable(jax.random.split(jax.random.key(0))),
        "Variable(bool[2])": Variable(jnp.ones(2, bool)),
        "Parameter(c64[])": Parameter(1j),
        "Variable({'a': f32[2], 'b': (i32[], None)})": Variable({"a": jnp.ones(2), "b": (1, None)}),
        "Variable(float32[2,3])": Variable(jax.ShapeDtypeStruct((2, 3), "float32")),
        "Container([Linear(out_features=3, kernel=Parameter(UNSET), bias=Parameter(UNSET))])": Container(
            [Linear(3)]
        ),
    }
    for text, node in cases.items():
        assert repr(node) == text


class Activated(Module):
    activation: Any


def half(x: Any) -> Any:
    return x / 2


def test_functions_print_by_name():
    for function, name in (
        (half, "half"),
        (jax.nn.relu, "relu"),
        (jnp.tanh, "tanh"),
        (jax.jit(half), "half"),
        (Linear.forward, "Linear.forward"),
        ("half", "'half'"),
    ):
        assert repr(Activated(function)) == f"Activated(activation={name})"
        assert repr(Activated((function, 1))) == f"Activated(activation=({name}, 1))"


def test_tracers_and_dummies_print():
    texts = []
    jax.jit(lambda m: texts.append(repr(m)) or m)(linear())
    jax.vmap(lambda m: texts.append(repr(m)) or m)(jax.tree.map(lambda x: x[None], linear()))
    assert texts == [repr(linear())] * 2
    assert "kernel=0" in repr(jax.tree.map(lambda _: 0, linear(), is_leaf=mlax.is_leaf_state))


def test_a_repr_of_ones_own_is_kept():
    class Mine(Module):
        size: int

        def __repr__(self) -> str:
            return f"<Mine {self.size}>"

    assert repr(Mine(3)) == "<Mine 3>"


def test_huge_values_are_cut_in_messages():
    class Holder(Module):
        value: Any

    try:
        Holder(["x" * 500])
    except TypeError as error:
        assert len(str(error)) < 200  # noqa: PT017
        assert "..." in str(error)  # noqa: PT017
