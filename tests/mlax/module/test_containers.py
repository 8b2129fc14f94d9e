"""Lists and dicts of States cannot be changed in place, wherever they come from. They are lists and dicts otherwise."""

import contextlib
import copy
import json
import operator
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence
from dataclasses import FrozenInstanceError
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

import mlax
from mlax import Container, Module, Parameter, Variable, optim, tree_equal
from mlax._module.static_texts import static_texts
from tests.mlax.models import Linear, linear
from tests.mlax.module.test_construction import every_copy


class Holder(Module):
    content: Any

    def forward(self, x: Any) -> tuple[Any, Self]:
        for layer in jax.tree.leaves(self.content, is_leaf=mlax.is_module):
            x, self = self.call(layer, x)
        return x, self


class ByHand(Module):
    content: Any

    def __init__(self, content: Any):
        self.content = content


class Pair(NamedTuple):
    first: Any
    second: Any


def scalar(value: float = 1.0) -> Parameter:
    return Parameter(value)


LIST: dict[str, Callable[[Any], Any]] = {
    "append": lambda x: x.append(scalar()),
    "extend": lambda x: x.extend([scalar()]),
    "insert": lambda x: x.insert(0, scalar()),
    "pop": lambda x: x.pop(),
    "remove": lambda x: x.remove(x[0]),
    "clear": lambda x: x.clear(),
    "sort": lambda x: x.sort(key=id),
    "reverse": lambda x: x.reverse(),
    "setitem": lambda x: operator.setitem(x, 0, scalar()),
    "setslice": lambda x: operator.setitem(x, slice(None), []),
    "delitem": lambda x: operator.delitem(x, 0),
    "iadd": lambda x: operator.iadd(x, [scalar()]),
    "imul": lambda x: operator.imul(x, 2),
}
DICT: dict[str, Callable[[Any], Any]] = {
    "setitem": lambda x: operator.setitem(x, "c", scalar()),
    "overwrite": lambda x: operator.setitem(x, "a", scalar()),
    "delitem": lambda x: operator.delitem(x, "a"),
    "setdefault": lambda x: x.setdefault("c", scalar()),
    "setdefault of a key that is there": lambda x: x.setdefault("a", scalar()),
    "update": lambda x: x.update(a=scalar()),
    "pop": lambda x: x.pop("a"),
    "pop with a default": lambda x: x.pop("nothing", None),
    "popitem": lambda x: x.popitem(),
    "clear": lambda x: x.clear(),
    "ior": lambda x: operator.ior(x, {"c": scalar()}),
}


def a_list() -> list[Any]:
    return [scalar(), scalar(2.0)]


DICTS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"b": scalar(), "a": scalar(2.0)},
    "OrderedDict": lambda: OrderedDict(b=scalar(), a=scalar(2.0)),
    "defaultdict": lambda: defaultdict(scalar, b=scalar(), a=scalar(2.0)),
}
CHANGES = [
    *(pytest.param(a_list, change, id=f"list-{name}") for name, change in LIST.items()),
    *(
        pytest.param(make, change, id=f"{kind}-{name}")
        for kind, make in DICTS.items()
        for name, change in DICT.items()
    ),
    pytest.param(DICTS["OrderedDict"], lambda x: x.move_to_end("b"), id="move_to_end"),
    pytest.param(DICTS["defaultdict"], lambda x: setattr(x, "default_factory", list), id="factory"),
]
PLACES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "field": (Holder, lambda model: model.content),
    "init": (ByHand, lambda model: model.content),
    "tuple": (lambda x: Holder((None, x)), lambda model: model.content[1]),
    "NamedTuple": (lambda x: Holder(Pair(x, None)), lambda model: model.content.first),
    "list": (lambda x: Holder([x]), lambda model: model.content[0]),
    "dict": (lambda x: Holder({"x": ([x],)}), lambda model: model.content["x"][0][0]),
    "OrderedDict": (lambda x: Holder(OrderedDict(x=x)), lambda model: model.content["x"]),
    "Container": (Container, lambda model: model.states),
    "Container inside": (lambda x: Holder([Container((x,))]), lambda m: m.content[0].states[0]),
    "deeper": (lambda x: Holder(Holder({"a": [x]})), lambda m: m.content.content["a"][0]),
}


@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_nothing_changes_in_place(make, change):
    model = Holder(make())
    before = list(model.content)
    with pytest.raises(TypeError, match=r"^this (list|dict) is part of a module .*\n.*\.replace\("):
        change(model.content)
    assert list(model.content) == before
    assert type(model.replace(content=make()).content) is type(model.content)


@pytest.mark.parametrize("make", [a_list, *DICTS.values()], ids=["list", *DICTS])
def test_init_and_attributes_change_nothing(make):
    content = Holder(make()).content
    for args in ([], [[]], [{}], [None, {}], [make()]):
        with contextlib.suppress(TypeError):
            content.__init__(*args)
        assert len(content) == 2
    with pytest.raises((TypeError, AttributeError)):
        content.note = 1
    with pytest.raises((TypeError, AttributeError)):
        del content.note
    container = Container(content)
    with pytest.raises(FrozenInstanceError, match=r"^Container\.__init__ was called before"):
        container.__init__([])  # type: ignore[misc]
    assert container.states is content


class Layers(list):
    """A list that JAX knows as a PyTree."""


class Table(dict):
    """A dict that JAX knows as a PyTree."""


jax.tree_util.register_pytree_node(Layers, lambda x: (list(x), None), lambda _, x: Layers(x))
jax.tree_util.register_pytree_node(
    Table, lambda x: (list(x.values()), tuple(x)), lambda keys, x: Table(zip(keys, x, strict=True))
)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, None), lambda x: {"a": [x]}])
def test_other_lists_and_dicts_are_refused(wrap):
    for other in (Layers([scalar()]), Table(a=scalar()), Layers([None, linear()])):
        kind = type(other).__name__
        for make, name in ((Holder, "Holder.content"), (Container, "Container.states")):
            with pytest.raises(TypeError, match=rf"^{name} holds States in a {kind}, .*\n.*tuple"):
                make(wrap(other))


def test_a_default_factory_hides_nothing():
    def factory(hidden):
        return lambda: hidden

    with pytest.raises(
        TypeError, match=r"^Holder\.content is a defaultdict, .*float32\[2\].*\n.*dict"
    ):
        Holder(defaultdict(factory(jnp.ones(2)), a=scalar()))
    assert Holder(defaultdict(factory(1), a=scalar())).content["a"].data == 1


def test_the_message():
    with pytest.raises(TypeError) as error:
        Holder([scalar()]).content.append(scalar())
    assert str(error.value) == (
        "this list is part of a module and cannot be changed in place.\n"
        "  Make a new list and a changed copy of the module: module.replace(field=[*old, new])"
    )
    model = Holder({"a": scalar()})
    with pytest.raises(TypeError, match="this dict is part") as error:
        model.content["b"] = scalar()
    assert "{**old, key: new}" in str(error.value)
    assert list(model.replace(content={**model.content, "b": scalar()}).content) == ["a", "b"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [a_list, *DICTS.values()], ids=["list", *DICTS])
def test_in_every_place_and_every_copy(place, make):
    put, get = PLACES[place]
    given = make()
    model = put(given)
    copies = {"the model": model, "filter": model.filter()}
    if isinstance(model, Module):
        copies |= every_copy(model)
    copies |= {
        "map": jax.tree.map(jnp.ones_like, model),
        "vmap": jax.vmap(lambda _: model, axis_size=2)(None),
        "eval_shape": jax.eval_shape(lambda: model),
        "scan": jax.lax.scan(lambda carry, _: (carry, None), model, None, length=2)[0],
        "grad": jax.grad(lambda m: sum(jax.tree.leaves(m)))(model),
        "combine": model.partition()[1].combine(model),
        "load": mlax.unflatten(mlax.flatten(model), like=model),
    }
    structure = jax.tree.structure(model)
    for name, each in copies.items():
        assert name == "filter" or jax.tree.structure(each) == structure
        content = get(each)
        assert isinstance(content, type(given))
        with pytest.raises(TypeError, match="cannot be changed in place"):
            content.clear()
    assert len(given) == 2
    given.clear()
    assert len(get(model)) == 2


def test_what_a_function_puts_inside_is_frozen_when_the_module_is_made_again():
    model = Holder([scalar(), scalar()])
    wrapped = jax.tree.map(lambda node: [node], model, is_leaf=mlax.is_parameter)
    with pytest.raises(TypeError, match="cannot be changed in place"):
        wrapped.replace().content[0].append(scalar())


def test_frozen_containers_are_shared_not_copied():
    model = Holder({"a": [scalar(), (scalar(), None)]})
    assert model.replace().content is model.content
    assert Holder(model.content).content is model.content
    again = Holder([model.content["a"], scalar()])
    assert again.content[0] is model.content["a"]


def test_paths_and_order_are_those_of_lists_and_dicts():
    given = {"b": [scalar(), (scalar(),)], "a": OrderedDict(y=scalar(), x=scalar())}
    for make in (lambda x: x, copy.deepcopy, lambda x: defaultdict(None, x)):
        plain = make(given)
        found = jax.tree_util.tree_leaves_with_path(Holder(plain))
        expected = jax.tree_util.tree_leaves_with_path(plain)
        assert [path[1:] for path, _ in found] == [path for path, _ in expected]
        assert list(mlax.flatten(Holder(plain))) == [
            "content.a.y", "content.a.x", "content.b.0", "content.b.1.0",
        ]  # fmt: skip
    path, _ = jax.tree_util.tree_leaves_with_path(Holder(given))[2]
    assert path[:3] == (GetAttrKey("content"), DictKey("b"), SequenceKey(0))
    ordered = Holder(OrderedDict(y=scalar(), x=scalar()))
    assert list(jax.jit(lambda m: m)(ordered).content) == ["y", "x"]
    assert list(Holder({"y": scalar(), "x": scalar()}).content) == ["x", "y"]
    assert list(Holder({2: scalar(), 10: scalar()}).content) == [2, 10]


def test_they_are_lists_and_dicts():
    nodes = a_list()
    content = Holder(nodes).content
    assert content == nodes
    assert nodes == content
    assert content != nodes[:1]
    assert isinstance(content, (list, MutableSequence))
    assert repr(content) == repr(nodes) == f"{content}"
    assert (len(content), content.index(nodes[1]), nodes[0] in content) == (2, 1, True)
    assert list(reversed(content)) == nodes[::-1]
    match content:
        case [first, *_]:
            assert first is nodes[0]
    for plain in (
        content[:], content[1:], operator.add(content, []), operator.add([], content), 2 * content, content * 1,
        content.copy(), copy.copy(content), [*content], sorted(content, key=id),
    ):  # fmt: skip
        assert type(plain) is list
        plain.append(scalar())
    with pytest.raises(TypeError, match="unhashable"):
        hash(content)
    assert json.dumps(Holder([]).content) == "[]"


@pytest.mark.parametrize("make", DICTS.values(), ids=DICTS)
def test_dicts_are_dicts(make):
    given = make()
    content = Holder(given).content
    assert content == given
    assert given == content
    assert isinstance(content, (dict, Mapping, MutableMapping, type(given)))
    assert repr(content) == repr(content.copy())
    assert (content["a"], content.get("c"), "a" in content) == (given["a"], None, True)
    assert dict(**content) == given
    for plain in (content.copy(), copy.copy(content), content | {}, content | content):
        assert type(plain) is type(given)
        plain["c"] = scalar()
    assert type({"c": scalar()} | content) is dict
    for read in (lambda: content["c"], lambda: operator.itemgetter("c")(content)):
        with pytest.raises(KeyError):
            read()
    assert len(content) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(content)


@pytest.mark.parametrize("make", [a_list, *DICTS.values()], ids=["list", *DICTS])
def test_pickle_and_deepcopy_of_the_container_itself(make):
    content = Holder(make()).content
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(content, protocol))
        assert type(again) is type(content)
        assert tree_equal(again, content)
    again = copy.deepcopy(content)
    assert type(again) is type(content)
    assert tree_equal(again, content)
    assert jax.tree.leaves(again)[0] is not jax.tree.leaves(content)[0]


def test_printing_and_static_text_do_not_change():
    model = Holder([linear(), {"a": Variable(1), "b": OrderedDict(c=None)}])
    assert " ".join(repr(model).split()) == (
        "Holder( content=[ Linear(out_features=3, kernel=Parameter(f32[2,3]), bias=Parameter(f32[3])), "
        "{'a': Variable(i32[]), 'b': {'c': None}} ] )"
    )
    assert dict(static_texts(model)) == {"content.0.out_features": "3"}
    assert repr(Container([scalar()])) == "Container([Parameter(f32[])])"


def test_models_with_lists_and_dicts_compute_as_ever():
    model = Holder([linear(2, 3), {"a": (linear(3, 3),)}])
    x = jnp.ones(2)
    expected = Holder((linear(2, 3), (linear(3, 3),)))(x)[0]
    assert (model(x)[0] == expected).all()
    assert (jax.jit(model)(x)[0] == expected).all()
    assert type(model(x)[1].content[1]) is type(model.content[1])

    def loss_fn(model: Holder) -> Any:
        y, model = model(x)
        return (y**2).sum(), model

    optimizer = optim.Adam(1e-2)
    state = optimizer.init(model)
    (loss, model), gradients = mlax.value_and_grad(loss_fn)(model)
    updated, state = optimizer.update(model, gradients, state)
    assert jax.tree.structure(updated) == jax.tree.structure(model)
    assert loss_fn(updated)[0] < loss
    packed = mlax.pack(updated)
    assert tree_equal(packed.unpack(), updated)
    assert tree_equal(pickle.loads(pickle.dumps(packed)).unpack(), updated)


def test_a_plain_list_does_not_match_in_tree_map_and_in_axes_but_the_field_itself_does():
    model = Holder([linear(2, 2), linear(2, 2)])
    with pytest.raises(ValueError, match="FrozenList"):
        jax.tree.map(lambda a, b: a, model.content, [linear(2, 2), linear(2, 2)])
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), model)
    with pytest.raises(ValueError, match="vmap"):
        jax.vmap(lambda layers: layers, in_axes=([0, None],))(stacked.content)
    for axes in (0, jax.tree.map(lambda _: 0, model)):
        ys, _ = jax.vmap(lambda m, x: m(x), in_axes=(axes, None))(stacked, jnp.ones(2))
        assert ys.shape == (2, 2)


def test_lists_of_other_things_are_refused_as_ever():
    for wrong in ([1], {"a": 1}, OrderedDict(a=1), defaultdict(int, a=1), [jnp.ones(2)], ([],)):
        if wrong == ([],):
            assert Holder(wrong).content == ([],)
        else:
            with pytest.raises(TypeError):
                Holder(wrong)


def test_data_of_nodes_may_be_any_tree():
    assert type(Variable([jnp.ones(2)]).data) is list
    assert type(Linear(3)) is Linear
