"""Laws that hold for module trees of every shape."""

import copy
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlax
from mlax import UNSET, Container, ENode, Module, tree_equal
from mlax._module.nodes import State
from tests.mlax.trees import modules, nodes, statics

keystr = jax.tree_util.keystr


def every_state(tree: Any) -> list[State]:
    """Return all States of a tree, found by attributes and not by JAX."""
    if isinstance(tree, ENode):
        return [tree]
    if isinstance(tree, Container):
        return [tree, *every_state(tree.states)]
    if isinstance(tree, Module):
        fields = [getattr(tree, name) for name in tree.__dataclass_fields__ if name != "_"]
        return [tree, *(state for field in fields for state in every_state(field))]
    if isinstance(tree, dict):
        return every_state(list(tree.values()))
    if isinstance(tree, (list, tuple)):
        return [state for item in tree for state in every_state(item)]
    return []


def flattens_and_unflattens(tree):
    leaves, treedef = jax.tree.flatten(tree)
    back = treedef.unflatten(leaves)
    assert type(back) is type(tree)
    assert tree_equal(back, tree)
    assert jax.tree.structure(back) == treedef
    assert hash(jax.tree.structure(back)) == hash(treedef)
    assert all(a is b for a, b in zip(jax.tree.leaves(back), leaves, strict=True))
    assert [type(a) for a in every_state(back)] == [type(a) for a in every_state(tree)]
    assert all(a is not b for a, b in zip(every_state(back), every_state(tree), strict=True))
    keyed, keyed_treedef = jax.tree_util.tree_flatten_with_path(tree)
    assert keyed_treedef == treedef
    assert all(a is b for (_, a), b in zip(keyed, leaves, strict=True))
    dummies = [object() for _ in leaves]
    assert jax.tree.leaves(treedef.unflatten(dummies)) == dummies


def has_the_leaves_of_its_nodes_in_their_order(tree):
    expected = [
        leaf
        for node in every_state(tree)
        if isinstance(node, ENode)
        for leaf in jax.tree.leaves(node.data)
    ]
    found = jax.tree.leaves(tree)
    if any(isinstance(state, Container) for state in every_state(tree)) or "{" in repr(tree):
        assert {id(leaf) for leaf in found} == {
            id(leaf) for leaf in expected
        }  # dicts are ordered by key
    else:
        assert list(map(id, found)) == list(map(id, expected))
    assert len(found) == len(expected)


def has_key_paths_that_are_the_python_that_reaches_the_leaf(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        reached = eval(f"tree{keystr(path)}", {"tree": tree})
        assert (reached.data if isinstance(reached, ENode) else reached) is leaf
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=mlax.is_state)[:1]:
        assert path == ()
        assert node is tree
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=mlax.is_leaf_state):
        assert eval(f"tree{keystr(path)}", {"tree": tree}) is node


def has_equal_and_frozen_copies(tree):
    for back in (copy.copy(tree), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert tree_equal(back, tree)
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        for state in every_state(back):
            with pytest.raises(AttributeError, match="frozen"):
                state.data = 1
            with pytest.raises(AttributeError, match="frozen"):
                state.a = 1
    assert copy.copy(tree) is not tree
    originals = {id(leaf) for leaf in jax.tree.leaves(tree)}
    assert not originals & {id(leaf) for leaf in jax.tree.leaves(copy.deepcopy(tree))}


def prints(tree):
    text = repr(tree)
    assert text.startswith(f"{type(tree).__name__}(")
    assert "Array(" not in text
    assert "0x" not in re.sub(r"<[^>]*>", "", text)


# Hypothesis takes longer to draw a tree than a law to look at it, so what it draws is given to several.
LAWS = [
    flattens_and_unflattens,
    has_the_leaves_of_its_nodes_in_their_order,
    has_key_paths_that_are_the_python_that_reaches_the_leaf,
    has_equal_and_frozen_copies,
    prints,
]


@given(modules)
@settings(max_examples=150)
def test_every_tree(tree):
    for law in LAWS:
        law(tree)


def is_itself_under_jit(tree):
    back = jax.jit(lambda x: x)(tree)
    assert tree_equal(back, tree)
    assert tree_equal(jax.tree.map(lambda x: x, tree), tree)
    shapes = jax.eval_shape(lambda x: x, tree)
    assert jax.tree.structure(shapes) == jax.tree.structure(tree)


def has_gradients_with_the_structure_of_its_parameters(tree):
    model = jax.tree.map(
        lambda n: n if n.data is not UNSET else n.with_data(None), tree, is_leaf=mlax.is_leaf_state
    )
    # An array that the strategy has put into two places would be refused.
    model = jax.tree.map(lambda leaf: leaf.copy(), model)

    def loss_fn(model: Any) -> Any:
        squares = [
            (jnp.abs(leaf) ** 2).sum().astype(float) for leaf in jax.tree.leaves(model.filter())
        ]
        return sum(squares, jnp.zeros(())), model

    (_, after), gradients = mlax.value_and_grad(loss_fn)(model)
    assert tree_equal(after, model)
    params = model.filter()
    assert jax.tree.structure(gradients) == jax.tree.structure(params)
    for gradient, weight in zip(jax.tree.leaves(gradients), jax.tree.leaves(params), strict=True):
        assert (gradient.shape, gradient.dtype) == (weight.shape, weight.dtype)


@pytest.mark.one_python
@given(modules)
@settings(max_examples=25)
def test_under_transformations(tree):
    is_itself_under_jit(tree)
    has_gradients_with_the_structure_of_its_parameters(tree)


PREDICATES = [
    mlax.is_variable, mlax.is_parameter, mlax.is_frozen_param, mlax.is_unfrozen_param,
    lambda _: True, lambda _: False, lambda node: node.data is UNSET,
    lambda node: any(leaf.ndim for leaf in jax.tree.leaves(node.data)),
]  # fmt: skip


def nodes_of(tree: Any) -> Any:
    return jax.tree.flatten(tree, is_leaf=mlax.is_leaf_state)


def is_parted_and_combined(tree, predicates, random):
    parts = tree.partition(*predicates)
    assert len(parts) == (len(predicates) or 1) + 1
    structure = nodes_of(tree)[1]
    for part in parts:
        assert nodes_of(part)[1] == structure
    shuffled = list(parts)
    random.shuffle(shuffled)
    assert tree_equal(shuffled[0].combine(*shuffled[1:]), tree)
    for at_place in zip(*(nodes_of(part)[0] for part in parts), nodes_of(tree)[0], strict=True):
        *split, whole = at_place
        assert all(type(node) is type(whole) for node in split)
        held = [node for node in split if node.data is not None]
        assert held == ([whole] if whole.data is not None else [])
    for predicate, part in zip(predicates, parts, strict=False):
        assert all(predicate(node) for node in nodes_of(part)[0] if node.data is not None)
    if predicates:
        assert tree_equal(tree.filter(predicates[0]), parts[0])
        with_path = tree.partition_with_path(*(lambda _, node, p=p: p(node) for p in predicates))
        assert all(map(tree_equal, with_path, parts))


def is_parted_by_path(tree, number):
    paths = [
        keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(tree, is_leaf=mlax.is_leaf_state)
    ]
    if not paths:
        return
    chosen = paths[number % len(paths)]
    part, rest = tree.partition_with_path(lambda path, _: keystr(path) == chosen)
    assert tree_equal(part.combine(rest), tree)
    for path, node in jax.tree_util.tree_leaves_with_path(part, is_leaf=mlax.is_leaf_state):
        assert node.data is None or keystr(path) == chosen


@pytest.mark.one_python
@given(modules, st.lists(st.sampled_from(PREDICATES), max_size=3), st.randoms(), st.integers(0, 5))
@settings(max_examples=150)
def test_partition(tree, predicates, random, number):
    is_parted_and_combined(tree, predicates, random)
    is_parted_by_path(tree, number)


@given(statics, statics)
@settings(max_examples=100)
def test_static_values_agree_with_themselves_only(first, second):
    class Holder(Module):
        value: Any

    same = jax.tree.structure(Holder(first)) == jax.tree.structure(Holder(copy.copy(first)))
    assert same
    if jax.tree.structure(Holder(first)) == jax.tree.structure(Holder(second)):
        assert re.sub("0x[0-9a-f]+", "", repr(first)) == re.sub("0x[0-9a-f]+", "", repr(second))
    else:
        assert repr(first) != repr(second) or type(first) is not type(second)


@given(modules, nodes)
@settings(max_examples=100)
def test_replace_changes_one_field(tree, node):
    if not isinstance(tree, Module):
        return
    fields = tree.__dataclass_fields__.values()
    name = next(each.name for each in fields if each.type is not int)
    changed = tree.replace(**{name: node})
    assert getattr(changed, name) is node
    assert type(changed) is type(tree)
    assert tree_equal(changed.replace(**{name: getattr(tree, name)}), tree)
    others = [other for other in tree.__dataclass_fields__ if other not in (name, "_")]
    assert all(
        jax.tree.structure(getattr(changed, o)) == jax.tree.structure(getattr(tree, o))
        for o in others
    )
