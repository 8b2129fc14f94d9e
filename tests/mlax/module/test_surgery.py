"""filter, partition and combine, with and without paths."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mlax
from mlax import UNSET, Container, Module, Parameter, Variable, tree_equal
from tests.mlax.models import linear, net

keystr = jax.tree_util.keystr


class Parts(Module):
    free: Parameter = Parameter(1.0)
    frozen: Parameter = Parameter(2, frozen=True)
    state: Variable = Variable(3)
    key: Variable = Variable(jax.random.key(0))
    tree: Parameter = Parameter({"a": jnp.ones(2), "b": 5.0})
    unset: Parameter = Parameter()
    layers: list[Module | Container] | None = None
    name: str = "parts"


def parts() -> Parts:
    return Parts(layers=[linear(), Container({"x": Parameter(6.0)})])


def held(tree: Module) -> list[str]:
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=mlax.is_leaf_state)
    return [keystr(path) for path, node in found if node.data is not None]


ALL = [
    ".free", ".frozen", ".state", ".key", ".tree", ".unset",
    ".layers[0].kernel", ".layers[0].bias", ".layers[1].states['x']",
]  # fmt: skip
TRAINED = [name for name in ALL if name not in (".frozen", ".state", ".key")]


def test_the_default_is_unfrozen_parameters():
    model = parts()
    assert held(model) == ALL
    assert held(model.filter()) == TRAINED
    params, rest = model.partition()
    assert held(params) == TRAINED
    assert held(rest) == [".frozen", ".state", ".key"]
    assert tree_equal(params, model.filter())
    assert tree_equal(Container(model).filter().states, params)


def test_what_is_filtered_out_keeps_its_node():
    rest = parts().filter(mlax.is_variable)
    assert type(rest) is Parts
    assert rest.name == "parts"
    assert rest.frozen.frozen
    assert rest.frozen.data is rest.tree.data is None
    assert rest.layers[0].out_features == 3
    assert parts().filter(mlax.is_unfrozen_param).unset.data is UNSET


def test_partition_makes_one_tree_for_each_predicate_and_one_for_the_rest():
    model = parts()
    first, second, rest = model.partition(mlax.is_variable, mlax.is_frozen_param)
    assert held(first) == [".state", ".key"]
    assert held(second) == [".frozen"]
    assert held(rest) == TRAINED
    everything, nothing = model.partition(lambda _: True)
    assert tree_equal(everything, model)
    assert jax.tree.leaves(nothing) == []
    once, twice, _ = model.partition(mlax.is_parameter, mlax.is_parameter)
    assert held(twice) == []
    assert len(held(once)) == len(TRAINED) + 1


def test_predicates_with_paths():
    model = parts()
    seen = []

    def holds(path, node):
        seen.append((keystr(path), type(node)))
        return "layers" in keystr(path)

    layers, rest = model.partition_with_path(holds)
    assert [path for path, _ in seen] == ALL
    assert {kind for _, kind in seen} == {Parameter, Variable}
    assert held(layers) == ALL[6:]
    assert held(rest) == ALL[:6]
    assert tree_equal(model.filter_with_path(holds), layers)
    assert tree_equal(model.partition_with_path()[0], model)


def test_what_is_no_predicate_is_refused():
    model: Any = parts()
    for split, arguments in (
        (model.partition, "(node)"),
        (model.filter, "(node)"),
        (model.partition_with_path, "(path, node)"),
        (model.filter_with_path, "(path, node)"),
    ):
        message = (
            f"Parts: a predicate must be a function of {arguments}, got 3 (int).\n  For example:"
        )
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            split(3)
        message = "Parts: a predicate must return True or False, got None for "
        with pytest.raises(TypeError, match=f"^{re.escape(message)}\\.free, Parameter\\("):
            split(lambda *_: None)


def test_combine_undoes_partition_in_any_order():
    model = parts()
    trees = model.partition(mlax.is_variable, mlax.is_frozen_param)
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        first, *others = (trees[i] for i in order)
        assert tree_equal(first.combine(*others), model)
    assert tree_equal(model.combine(), model)


def test_combine_takes_the_first_that_is_not_empty():
    one, two = Container(Parameter(1.0)), Container(Parameter(2.0))
    empty = one.filter(mlax.is_variable)
    assert float(one.combine(two).states.data) == 1
    assert float(empty.combine(two, one).states.data) == 2
    assert empty.combine(empty).states.data is None
    assert Container(Parameter()).combine(one).states.data is UNSET


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: linear(2, 4), "out_features: 3 against 4"),
        (lambda: Named(kernel=Parameter(), bias=Parameter()), "the tree: Linear against Named"),
        (net, "it lacks .bias, .kernel; it also has .layers[0].bias"),
        (lambda: linear().replace(bias=None), "it lacks .bias"),
    ],
)
def test_combine_refuses_other_trees(other, message):
    model = linear()
    with pytest.raises(
        ValueError, match=r"^Linear\.combine: argument 2 is not a part of the same tree: "
    ) as error:
        model.combine(model, other())
    assert message in str(error.value)


class Named(Module):
    kernel: Any
    bias: Any
    inner: Any = None
    name: Any = "a"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda x: x.replace(name="b"), "name: 'a' against 'b'"),
        (lambda x: x.replace(name=1.0), "name: 'a' against 1.0"),
        (lambda x: x.replace(name=None), "name: nothing against None"),
        (lambda x: x.replace(name="c", kernel=None), "it lacks .kernel"),
        (
            lambda x: x.replace(bias=[x.bias[0], linear(2, 4)]),
            "bias[1].out_features: 3 against 4",
        ),
        (
            lambda x: x.replace(bias=[linear(3, 4), linear(3, 5)], name="b"),
            "name: 'a' against 'b'; bias[0].out_features: 3 against 4; bias[1].out_features: 3 against 5",
        ),
        (lambda x: x.replace(bias=tuple(x.bias)), "bias: FrozenList against tuple"),
        (
            lambda x: x.replace(
                inner={"a": Named(Parameter(1.0), None, None, True), "b": Container([])}
            ),
            "inner['a'].name: 1 against True",
        ),
        (
            lambda x: x.replace(inner={**x.inner, "b": Container([None])}),
            "inner['b'].states[0]: nothing against None",
        ),
    ],
)
def test_combine_names_what_differs(change, difference):
    model = Named(
        Parameter(1.0),
        [linear(), linear()],
        {"a": Named(Parameter(1.0), None, None, 1), "b": Container([])},
    )
    with pytest.raises(ValueError, match="is not a part of the same tree") as error:
        model.filter().combine(change(model))
    assert difference in str(error.value)


def test_a_long_list_of_differences_is_cut_off():
    def model(width: int) -> Container:
        return Container([linear(2, width) for _ in range(7)])

    with pytest.raises(ValueError, match=r"\[4\].out_features: 3 against 4; 2 more$"):
        model(3).combine(model(4))


def test_values_that_look_the_same_are_told_apart():
    class Quiet:
        def __repr__(self) -> str:
            return "quiet"

    class Other(Quiet):
        pass

    model = Named(Parameter(1.0), None, None, Quiet())
    with pytest.raises(ValueError, match=r"name: quiet \(Quiet\) against quiet \(Other\)$"):
        model.combine(model.replace(name=Other()))


def test_combine_requires_branch_nodes():
    for other in (None, jnp.ones(2), Parameter(1.0)):
        with pytest.raises(
            TypeError, match=re.escape("Linear.combine: argument 1 must be a part of the same tree")
        ):
            linear().combine(other)


def test_surgery_works_under_jit():
    model = net().replace(layers=[linear(3, 4)])
    assert tree_equal(jax.jit(lambda m: m.filter())(model), model.filter())
    params, rest = model.partition()
    assert tree_equal(jax.jit(lambda a, b: b.combine(a))(params, rest), model)
    doubled = jax.tree.map(lambda x: 2 * x, params)
    assert float(doubled.combine(rest).layers[0].bias.data[0]) == 2
