"""`mlax.freeze` and `mlax.unfreeze`."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings

import mlax
from mlax import UNSET, Container, Module, Parameter, Variable, tree_equal
from tests.mlax.models import linear
from tests.mlax.trees import modules


def nodes_of(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=mlax.is_leaf_state)


@given(modules)
@settings(max_examples=30)
def test_all_parameters_are_frozen_and_nothing_else_changes(tree):
    frozen = mlax.freeze(tree)
    for before, after in zip(nodes_of(tree), nodes_of(frozen), strict=True):
        if mlax.is_parameter(before):
            assert after.frozen
            assert all(
                a is b for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
            )
        else:
            assert after is before
    assert mlax.freeze(frozen) is frozen
    if not any(map(mlax.is_frozen_param, nodes_of(tree))):
        assert tree_equal(mlax.unfreeze(frozen), tree)
        assert mlax.unfreeze(tree) is tree


class Half(Module):
    trained: Parameter = Parameter(1.0)
    fixed: Any = None
    steps: Variable = Variable(0)


def test_parts_without_anything_to_change_stay_the_same_object():
    model = Half(fixed=[mlax.freeze(linear()), Half()])
    frozen = mlax.freeze(model)
    assert frozen.fixed[0] is model.fixed[0]
    assert frozen.steps is model.steps
    assert frozen.fixed[1].trained.frozen


def test_optimizers_and_gradients_leave_a_frozen_part_alone():
    model = mlax.at(Half(fixed=Half()), lambda m: m.fixed).apply(mlax.freeze)
    kept = jax.tree.leaves(model.filter())
    assert len(kept) == 1
    assert mlax.unfreeze(model).fixed.trained.frozen is False


def test_any_tree():
    tree = {"a": (Parameter(1.0), 3, None, jnp.ones(2), UNSET), "b": [Container(Parameter(2.0))]}
    frozen = mlax.freeze(tree)
    assert frozen["a"][0].frozen
    assert frozen["b"][0].states.frozen
    assert frozen["a"][3] is tree["a"][3]
    assert mlax.freeze(Parameter(1.0)).frozen
    assert mlax.freeze(3) == 3


def test_unset_parameters_keep_init_and_dtype():
    node = Parameter(init=mlax.nn.init.ones, dtype=jnp.bfloat16)
    frozen = mlax.freeze(Half(node)).trained
    assert repr(frozen) == "Parameter(UNSET, init=ones, dtype=bfloat16, frozen=True)"
    made = mlax.unfreeze(frozen).made(None, (2,), mlax.nn.init.zeros, jnp.float32)
    assert made.data.tolist() == [1, 1]
    assert made.data.dtype == jnp.bfloat16


def test_under_jit():
    frozen = jax.jit(mlax.freeze)(Half())
    assert frozen.trained.frozen
    assert jax.jit(mlax.unfreeze)(frozen).trained.frozen is False


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([Half(), Half(Parameter(3, frozen=True))], r"^mlax.unfreeze: \[1\].trained.data is int32\[\]: only floating"),
        (Parameter({"a": True}, frozen=True), r"^mlax.unfreeze: Parameter.data\['a'\] is bool\[\]: only floating"),
        (Half(Parameter(dtype=jnp.int8, frozen=True)), r"^mlax.unfreeze: trained.dtype is int8: only floating"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_not_unfrozen(tree, message):
    with pytest.raises(TypeError, match=message) as error:
        mlax.unfreeze(tree)
    assert "mlax.at(model, where).apply(mlax.unfreeze)" in str(error.value)


def test_packed_trees_are_unpacked_first():
    packed = mlax.pack(Half())
    with pytest.raises(
        TypeError, match=r"^mlax.freeze: \['a'\] is a Packed, .*\n  Unpack it first"
    ):
        mlax.freeze({"a": packed})
