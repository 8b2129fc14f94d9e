"""Leaf nodes and Containers: what they hold, what they refuse, that they are frozen."""

import copy
import pickle
import re
from dataclasses import FrozenInstanceError
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

import mlax
from mlax import UNSET, Container, ENode, Module, Parameter, Variable, tree_equal
from tests.mlax.models import Linear, linear
from tests.names import stable


class Foo(Module):
    pass


class Both(NamedTuple):
    a: object
    b: object


NODES = [Parameter, Variable]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones((2, 3)), "float32"),
        (np.ones((2, 3), np.float16), "float16"),
        (np.float32(1), "float32"),
        (1.5, "float32"),
        (1j, "complex64"),
        (jnp.ones(3, jnp.bfloat16), "bfloat16"),
    ],
)
def test_data_becomes_a_strongly_typed_jax_array(node, given, dtype):
    data = node(given).data
    assert isinstance(data, jax.Array)
    assert data.dtype == dtype
    assert data.shape == np.shape(given)
    assert not data.weak_type


@pytest.mark.parametrize(
    "given", [3, True, np.arange(3), np.ones(2, bool), jax.random.key(0), np.uint8(1)], ids=str
)
def test_an_unfrozen_parameter_holds_inexact_arrays_only(given):
    assert isinstance(Variable(given).data, jax.Array)
    assert isinstance(Parameter(given, frozen=True).data, jax.Array)
    assert not getattr(Variable(given).data, "weak_type", False)  # keys have none
    with pytest.raises(TypeError, match=r"Variable, or Parameter\(\.\.\., frozen=True\)"):
        Parameter(given)
    with pytest.raises(TypeError, match=re.escape("Parameter.data['a'][1] is ")):
        Parameter({"a": [1.0, given]})


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "given",
    ["abc", b"abc", object(), ["a"], {"a": "b"}, np.array(["a"]), np.array([object()]), len, {1}],
    ids=lambda given: type(given).__name__,
)
def test_data_must_be_arrays(node, given):
    with pytest.raises(TypeError, match=rf"^{node.__name__}\.data") as error:
        node(given)
    assert len(str(error.value)) < 400


def test_messages_of_refused_data():
    cases = {
        (lambda: Parameter("abc")): (
            "Parameter.data must be an array or a PyTree of arrays, got 'abc' (str).\n"
            "  A hyperparameter needs no wrapper: assign it directly to a field of the Module."
        ),
        (lambda: Variable(Foo())): (
            "Variable.data holds a State, Foo: a Variable or Parameter wraps arrays only.\n"
            "  Assign the Foo to a field of a Module, or wrap several in a Container."
        ),
        (lambda: Parameter(3)): (
            "Parameter.data is int32[]: only floating-point and complex arrays can be trained.\n"
            "  Make it a Variable, or Parameter(..., frozen=True)."
        ),
        (lambda: Parameter({"a": UNSET})): (
            "Parameter.data holds UNSET among other values: a node is made as a whole.\n"
            "  Make all of it in set_up and use `Parameter()` until then, or give each part its own node."
        ),
        (lambda: Variable({"a": jnp.ones(1), 1: jnp.ones(1)})): (
            "Variable.data: the keys of a dict cannot be sorted: 'a' (str) and 1 (int); use keys of one type, such as "
            "str"
        ),
        (lambda: ENode(jnp.ones(1))): (
            "ENode is abstract: make a Parameter (trained) or a Variable (not trained)"
        ),
        (lambda: Parameter(1.0, frozen=1)): "Parameter.frozen must be a bool, got 1",
        (lambda: Container("abc")): (
            "Container.states must be a State (Variable, Parameter, Container, Module), got 'abc' (str).\n"
            "  Wrap arrays in a Parameter or a Variable; anything else belongs in a field of a Module."
        ),
    }
    for make, message in cases.items():
        with pytest.raises(TypeError) as error:
            make()
        assert str(error.value) == message
    with pytest.raises(TypeError, match="too large"):
        Variable(2**40)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("hidden", [Foo(), Parameter(1.0), Container([])], ids=stable)
def test_data_holds_no_states(node, hidden):
    for given in (hidden, [hidden], {"a": (jnp.ones(2), hidden)}):
        with pytest.raises(TypeError, match=f"holds a State, {type(hidden).__name__}"):
            node(given)


@pytest.mark.parametrize("given", [[1.0], ("a",), {"a": Foo(), "b": 3}, jnp.ones(2), 3], ids=stable)
def test_a_container_holds_states_only(given):
    with pytest.raises(TypeError, match=r"^Container\.states.* must be a State"):
        Container(given)


def test_a_container_copies_its_arguments():
    given = [Foo(), {"a": Parameter(1.0)}]
    container = Container(given)
    given.append(3)
    given[1]["b"] = 4
    assert len(container.states) == 2
    assert list(container.states[1]) == ["a"]
    assert Container(Foo()).states is not None
    assert Container(Both(None, Foo())).states.a is None


def test_a_container_has_no_subclasses():
    with pytest.raises(TypeError, match="inherit from Module"):
        type("Mine", (Container,), {})


def test_pytrees_and_sentinels_as_data():
    assert Parameter().data is UNSET
    assert Variable(None).data is None
    assert jax.tree.leaves([Parameter(), Variable(None), Variable({})]) == []
    data = Parameter(Both(1.0, [np.ones(2), None])).data
    assert isinstance(data, Both)
    assert data.b[1] is None
    shape = jax.ShapeDtypeStruct((2,), "float32")
    assert Parameter(shape).data is shape
    for back in (copy.copy(UNSET), copy.deepcopy(UNSET), pickle.loads(pickle.dumps(UNSET))):
        assert back is UNSET


def test_key_paths_do_not_mention_the_data_of_one_array():
    node = Container({"a": Parameter(1.0), "b": Variable([1, 2]), "c": [linear()]})
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(node)]
    assert paths == [
        ".states['a']",
        ".states['b'].data[0]",
        ".states['b'].data[1]",
        ".states['c'][0].kernel",
        ".states['c'][0].bias",
    ]


KEYS = (GetAttrKey, SequenceKey, DictKey, FlattenedIndexKey)


@pytest.mark.parametrize(
    "tree",
    [
        Parameter(1.0),
        Variable({"a": [1.0, (2.0,)]}),
        Container([Parameter(1.0), {"b": Variable((2,))}]),
        linear(),
    ],
    ids=lambda tree: type(tree).__name__,
)
def test_key_paths_are_made_of_keys_of_jax_with_names(tree):
    def parts(path):
        return jax.tree_util.keystr(path, simple=True, separator="/").split("/")

    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert all(isinstance(key, KEYS) for key in path)
        assert all(parts(path))
        again = pickle.loads(pickle.dumps(path))
        assert again == path
        assert jax.tree_util.keystr(again) == jax.tree_util.keystr(path)
        if isinstance(tree, Module):
            reached = tree
            for name in parts(path):
                reached = getattr(reached, name)
            assert reached is leaf


@pytest.mark.parametrize(
    "node",
    [Parameter(1.0), Parameter(1, frozen=True), Variable([1, 2]), Container([Foo()])],
    ids=stable,
)
def test_nodes_are_frozen_and_round_trip(node):
    leaves, treedef = jax.tree.flatten(node)
    copies = [
        copy.copy(node),
        copy.deepcopy(node),
        pickle.loads(pickle.dumps(node)),
        treedef.unflatten(leaves),
        jax.jit(lambda x: x)(node),
    ]
    for each in [node, *copies]:
        assert type(each) is type(node)
        assert tree_equal(each, node)
        assert getattr(each, "frozen", None) is getattr(node, "frozen", None)
        for name in ("data", "states", "frozen", "other"):
            with pytest.raises(
                FrozenInstanceError, match=f"cannot assign to {type(node).__name__}"
            ):
                setattr(each, name, 1)
            with pytest.raises(FrozenInstanceError):
                delattr(each, name)
    assert node != copies[0]
    assert len({node, *copies}) == 6


def test_unflatten_takes_anything():
    for node in (Parameter(1.0), Variable(1), Container([Parameter(1.0)])):
        dummy = object()
        back = jax.tree.unflatten(jax.tree.structure(node), [dummy])
        assert jax.tree.leaves(back) == [dummy]


def test_frozen_is_structure():
    assert jax.tree.structure(Parameter(1.0)) != jax.tree.structure(Parameter(1.0, frozen=True))
    assert jax.tree.structure(Parameter(1.0)) != jax.tree.structure(Variable(1.0))
    kept = Parameter(1.0, frozen=True).with_data(None)
    assert kept.frozen
    assert kept.data is None


def test_numpy_memory_is_not_shared():
    for size in (
        100_000,
        1_000_000,
    ) * 10:  # JAX keeps the memory of some arrays, as they happen to lie
        array = np.ones(size, np.float32)
        node = Variable(array)
        array[:] = 5
        assert float(node.data.max()) == 1


def test_subclasses_of_nodes_are_trees_too():
    class Scale(Parameter):
        """A kind of Parameter that a predicate can ask for."""

        __slots__ = ()

    model = Container([Scale(1.0, frozen=True), Parameter(2.0)])
    back = jax.jit(lambda x: x)(model).states[0]
    assert type(back) is Scale
    assert back.frozen
    chosen = model.filter(lambda node: isinstance(node, Scale))
    assert len(jax.tree.leaves(chosen)) == 1


def test_predicates():
    nodes = {
        "unfrozen": Parameter(1.0),
        "frozen": Parameter(1.0, frozen=True),
        "variable": Variable(1),
        "container": Container([]),
        "module": Linear(3),
        "array": jnp.ones(1),
        "none": None,
    }
    expected = {
        "is_state": {"unfrozen", "frozen", "variable", "container", "module"},
        "is_leaf_state": {"unfrozen", "frozen", "variable"},
        "is_variable": {"variable"},
        "is_parameter": {"unfrozen", "frozen"},
        "is_frozen_param": {"frozen"},
        "is_unfrozen_param": {"unfrozen"},
        "is_branch_state": {"container", "module"},
        "is_container": {"container"},
        "is_module": {"module"},
    }
    for name, holds in expected.items():
        predicate = getattr(mlax, name)
        assert {kind for kind, node in nodes.items() if predicate(node)} == holds, name


@pytest.mark.parametrize("node", [Variable(1), Parameter(1.0), Parameter(), Parameter(None)])
def test_init_cannot_be_called_again(node):
    before = node.data
    with pytest.raises(FrozenInstanceError, match=r"__init__ was called before"):
        node.__init__(jnp.zeros(4))
    assert node.data is before


@pytest.mark.parametrize("make", [Variable, lambda data: Variable().with_data(data)])
def test_containers_given_to_a_node_are_copied(make):
    given = {"a": [jnp.ones(2)], "b": (jnp.ones(1),)}
    node = make(given)
    given["a"].append(1)
    given.clear()
    assert jax.tree.structure(node.data) == jax.tree.structure({"a": [0], "b": (0,)})
    assert jax.tree.leaves(jax.tree.map(jnp.add, node.data, {"a": [1], "b": (2,)}))[1] == 3
