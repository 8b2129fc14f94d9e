"""Which fields are children, which are static, and what is refused: the class `Bar` of the seed first."""

import functools
import re
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import UNSET, Container, Module, Parameter, Variable
from tests.names import stable


class Foo(Module):
    pass


class Bar(Module):
    a: Any = None
    b: Any = None
    e: Any = None
    h: Any = None
    j: Any = None
    k: Any = None
    l: Any = None  # noqa: E741
    m: Any = None


def test_every_ok_line_of_the_seed_is_accepted():
    bar = Bar(
        a=Parameter(data=jnp.ones((3, 4))),
        b=Parameter(data=np.ones([1, 2, 3]), frozen=True),
        e=Variable(data=jnp.ones((3, 4))),
        h=Container(states=[Foo(), Foo()]),
        j=Foo(),
        k="abc",
        l=1,
    )
    assert [leaf.shape for leaf in jax.tree.leaves(bar)] == [(3, 4), (1, 2, 3), (3, 4)]
    assert (bar.k, bar.l) == ("abc", 1)
    assert bar.b.frozen
    assert jax.tree.leaves(bar.filter()) == [bar.a.data]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bar(a=Parameter(data="abc")), "Parameter.data must be an array"),  # c
        (lambda: Bar(a=Parameter(data=Foo())), "Parameter.data holds a State, Foo"),  # d
        (lambda: Bar(e=Variable(data="abc")), "Variable.data must be an array"),  # f
        (lambda: Bar(e=Variable(data=Foo())), "Variable.data holds a State, Foo"),  # g
        (lambda: Bar(h=Container(states="abc")), "Container.states must be a State"),  # i
        (
            lambda: Bar(m=[1, 2, 3]),  # m
            "Bar.m = [1, 2, 3] is not a valid field: a static field must be hashable, and a list is not.\n"
            "  Use a tuple.",
        ),
    ],
)
def test_every_not_ok_line_of_the_seed_is_refused(make, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        make()


class Pair(NamedTuple):
    left: Any
    right: Any


class One(Module):
    field: Any


CHILDREN = [
    None,
    Parameter(),
    Variable(1),
    Container([]),
    Foo(),
    [],
    {},
    [None],
    (None,),
    ([],),
    (Foo(), None),
    [Foo(), [Foo(), {"a": Parameter(1.0)}]],
    {"a": Foo(), "b": (None, Variable(1))},
    Pair(Foo(), None),
    Pair([], ()),
    OrderedDict(b=Foo(), a=None),
]
STATIC = [
    (),
    ((), ()),
    1,
    "a",
    (1, 2),
    Pair(1, "a"),
    jnp.tanh,
    frozenset({1}),
    int,
    np.float32(1),
    Foo,
    functools.partial(max, 1),
    slice(1, 2),
    jax.ShapeDtypeStruct((2,), "float32"),
]


@pytest.mark.parametrize("value", CHILDREN, ids=stable)
def test_states_and_none_in_any_nesting_are_children(value):
    module = One(value)
    children = jax.tree_util.default_registry.flatten_one_level(module)[0]
    assert len(children) == 1
    assert isinstance(children[0], type(value))
    assert module.field == value
    assert jax.tree.leaves(module.field) == jax.tree.leaves(value)


@pytest.mark.parametrize("value", STATIC, ids=stable)
def test_everything_else_is_static(value):
    module = One(value)
    assert jax.tree_util.default_registry.flatten_one_level(module)[0] == ()
    assert module.field is value
    assert jax.tree.map(lambda x: x, module).field is value


def test_containers_are_copied():
    inner = {"a": Foo()}
    given = [inner]
    module = One(given)
    inner["b"] = 3
    given.append(3)
    assert module.field == [{"a": module.field[0]["a"]}]


def test_which_fields_are_children_is_part_of_the_structure():
    structures = [jax.tree.structure(One(value)) for value in (None, (), (Foo(),), [], Foo(), 0)]
    assert len(set(structures)) == len(structures)
    assert jax.tree.structure(Bar(a=Foo(), b=3)) != jax.tree.structure(Bar(a=3, b=Foo()))
    for value in (None, (), (Parameter(1.0),), 3):
        module = One(value)
        assert jax.tree.structure(jax.jit(lambda m: m)(module)) == jax.tree.structure(module)


ARRAY_CURE = "Wrap it in a Parameter (trained) or a Variable (not trained)."
HIDDEN_CURE = "Give it a field of its own: States are children of the tree."


def bound(owner):
    return owner.sum


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            jnp.ones((2, 3)),
            f"f32[2,3] is not a valid field: float32[2,3] is an array.\n  {ARRAY_CURE}",
        ),
        (np.ones(2), f"is not a valid field: float64[2] is an array.\n  {ARRAY_CURE}"),
        (
            (1, jnp.ones(2)),
            f"(1, f32[2]) is not a valid field: float32[2] is an array.\n  {ARRAY_CURE}",
        ),
        ((1, (2, jnp.ones(2))), "float32[2] is an array"),
        (Pair(1, jnp.ones(2)), "float32[2] is an array"),
        (functools.partial(max, jnp.ones(2)), "float32[2] is an array"),
        (functools.partial(max, key=np.ones(2)), "float64[2] is an array"),
        (bound(jnp.ones(2)), "float32[2] is an array"),
        (bound(np.ones(2)), "float64[2] is an array"),
        (np.ones(2).__add__, "float64[2] is an array"),
        (frozenset({functools.partial(max, jnp.ones(2))}), "float32[2] is an array"),
        (functools.partial(max, Foo()), f"a Foo is hidden in a static value.\n  {HIDDEN_CURE}"),
        (Foo().replace, f"a Foo is hidden in a static value.\n  {HIDDEN_CURE}"),
        (
            [1, 2],
            "[1, 2] is not a valid field: a static field must be hashable, and a list is not.\n  Use a tuple.",
        ),
        ((1, [2]), "a static field must be hashable, and a list is not.\n  Use a tuple."),
        (
            {"a": 1},
            "a static field must be hashable, and a dict is not.\n  Use a tuple of pairs, or a frozen dataclass.",
        ),
        ({1}, "a static field must be hashable, and a set is not.\n  Use a frozenset."),
        (
            {"a": 1, 2: 3},
            "the keys of a dict cannot be sorted: 'a' (str) and 2 (int).\n  Use keys of one type, such as str.",
        ),
        (
            UNSET,
            "UNSET is the data of a node, not a value by itself.\n  Use Parameter() or Variable()",
        ),
        (
            [jnp.ones(2)],
            "a list of arrays is not hashable and does not say whether the arrays are trained.\n"
            "  Wrap each, or the whole list, in a Parameter (trained) or a Variable (not trained).",
        ),
        (
            [Foo(), 3],
            "[Foo(), 3] is not a valid field: it holds States, but [1] is 3 (int).\n"
            "  Wrap arrays in a Parameter or a Variable; move anything else to another field.",
        ),
        ((jnp.ones(2), Foo()), "it holds States, but [0] is float32[2]"),
        ({"a": {"b": Foo(), "c": "x"}}, "it holds States, but ['a']['c'] is 'x' (str)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_refused_and_how(value, message):
    with pytest.raises(TypeError, match=f"^{re.escape('One.field = ')}") as error:
        One(value)
    assert message in str(error.value)
    with pytest.raises(TypeError, match=r"^One\.field = "):
        One(1).replace(field=value)


class Unhashable:
    __hash__ = None


def test_an_unhashable_object_is_refused():
    with pytest.raises(
        TypeError, match="a static field must be hashable, and an Unhashable is not"
    ):
        One(Unhashable())


@pytest.mark.parametrize("name", ["filter", "call", "replace", "is_set_up", "forward", "_aux_data"])
def test_a_field_does_not_hide_a_method(name):
    with pytest.raises(TypeError, match=rf"^Mine\.{name}: a field cannot have the name"):
        type("Mine", (Module,), {"__annotations__": {name: int}})


def test_a_field_may_have_a_name_that_only_containers_and_nodes_use():
    class Mine(Module):
        states: Any
        data: Any
        frozen: Any
        values: Any
        layout: Any

    mine = Mine([Foo()], 1, Parameter(1.0), 2, 3)
    back = jax.jit(lambda x: x)(mine)
    assert (back.data, back.values, back.layout) == (1, 2, 3)
    assert mine.is_set_up
