"""`mlax.at`: laws over trees of all kinds, and everything that it reaches or refuses."""

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float

import mlax
from mlax import (
    UNSET,
    AnnotationMismatchError,
    Container,
    ENode,
    FrozenDict,
    FrozenList,
    Module,
    Parameter,
    Variable,
    optim,
    tree_equal,
)
from tests.mlax.trees import Config, modules, nodes, short

Step = tuple[Callable[[Any, Any], Any], Any]
Path = list[Step]


def item(node: Any, key: Any) -> Any:
    return node[key]


def steps(node: Any) -> list[Step]:
    """Return what may come next in `where`, found without mlax: fields, and items from both ends."""
    if isinstance(node, (Module, Config)):
        return [(getattr, name) for name in node.__dataclass_fields__ if name != "_"]
    if isinstance(node, ENode):
        return [(getattr, "data")]
    if isinstance(node, Container):
        return [(getattr, "states")]
    if isinstance(node, dict):
        return [(item, key) for key in node]
    if isinstance(node, (tuple, list)):
        fields: list[Step] = [(getattr, name) for name in getattr(node, "_fields", ())]
        return fields + [(item, index) for index in range(-len(node), len(node))]
    return []


def follow(path: Path) -> Callable[[Any], Any]:
    """Return a `where`. It works on the tree itself as well."""

    def where(tree: Any) -> Any:
        for read, key in path:
            tree = read(tree, key)
        return tree

    return where


def draw_path(data: st.DataObject, tree: Any) -> Path:
    path: Path = []
    node = tree
    while (following := steps(node)) and (not path or data.draw(st.integers(0, 4))):
        path.append(data.draw(st.sampled_from(following)))
        node = follow(path)(tree)
    assume(path)
    return path


def other(tree: Any, path: Path) -> Any:
    """Return another value that is valid at a place."""
    value = follow(path)(tree)
    around = [follow(path[:length])(tree) for length in range(len(path))]
    if any(isinstance(node, ENode) for node in around) or isinstance(value, jax.Array):
        return jnp.ones(2)
    if isinstance(value, tuple) and not value:
        return ((),)
    if isinstance(value, (list, dict)) or any(map(is_state_or_none, leaves_of(value))):
        return Variable(7.0)
    return 99


def is_state_or_none(value: Any) -> bool:
    return value is None or mlax.is_state(value)


def leaves_of(value: Any) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=is_state_or_none)


class Pair(NamedTuple):
    """A state as optimizers have it, with a model inside."""

    step: Any
    model: Any


trees = short(
    st.one_of(
        modules,
        st.builds(Pair, nodes, modules),
        st.tuples(modules, st.lists(nodes, max_size=2)),
        st.dictionaries(st.sampled_from("ab"), modules, min_size=1),
    )
)
laws = settings(max_examples=30)


@given(trees, st.data())
@laws
def test_get_is_what_the_tree_holds(tree, data):
    where = follow(draw_path(data, tree))
    assert mlax.at(tree, where).get() is where(tree)


@given(trees, st.data())
@laws
def test_setting_what_is_there_returns_the_tree(tree, data):
    place = mlax.at(tree, follow(draw_path(data, tree)))
    assert place.set(place.get()) is tree


@given(trees, st.data())
@laws
def test_set_changes_one_place_and_shares_the_rest(tree, data):
    path = draw_path(data, tree)
    where = follow(path)
    new = other(tree, path)
    changed = mlax.at(tree, where).set(new)
    assert type(changed) is type(tree)
    assert mlax.at(changed, where).get() is new
    before, after = tree, changed
    for step in path:
        chosen = follow([step])(before)
        assert type(after) is type(before)
        assert [s for s in steps(after) if s[0] is getattr] == [
            s for s in steps(before) if s[0] is getattr
        ]
        for sibling in steps(before):
            here = follow([sibling])(before)
            if here is not chosen:
                there = follow([sibling])(after)
                # A list or dict in the data of a node is copied with the node, its arrays are not.
                assert there is here or (
                    isinstance(here, (list, dict))
                    and [*map(id, jax.tree.leaves(there))] == [*map(id, jax.tree.leaves(here))]
                )
        before, after = chosen, follow([step])(after)
    assert jax.tree.structure(tree) == jax.tree.structure(mlax.at(changed, where).set(where(tree)))


@given(trees, st.data())
@laws
def test_apply_is_set_of_the_function_of_get(tree, data):
    path = draw_path(data, tree)
    place = mlax.at(tree, follow(path))
    new, seen = other(tree, path), []
    changed = place.apply(lambda value: (seen.append(value), new)[1])
    assert seen[0] is place.get()
    assert len(seen) == 1
    assert tree_equal(changed, place.set(new))


@given(trees, st.data())
@laws
def test_several_places_are_changed_in_any_order(tree, data):
    paths = [draw_path(data, tree) for _ in range(2)]
    first, second = map(follow, paths)
    new = [other(tree, path) for path in paths]
    try:
        both = mlax.at(tree, lambda m: (first(m), second(m)))
    except ValueError:  # they overlap
        assume(False)
    assert both.get()[0] is first(tree)
    assert both.get()[1] is second(tree)
    changed = both.set((new[0], new[1]))
    assert tree_equal(changed, mlax.at(tree, lambda m: [second(m), first(m)]).set(new[::-1]))
    one, two = mlax.at(tree, first).set(new[0]), mlax.at(tree, second).set(new[1])
    assert tree_equal(changed, mlax.at(one, second).set(new[1]))
    assert tree_equal(changed, mlax.at(two, first).set(new[0]))


@dataclass(frozen=True)
class Widths:
    inner: int = 4
    names: tuple[str, ...] = ("a", "b")


class Dropout(Module):
    rate: float = 0.5

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x * self.rate, self


class Block(Module):
    dropout: Dropout = Dropout()
    kernel: Parameter[Float[Array, "n n"]] = Parameter(jnp.eye(2))
    bias: Parameter | None = None
    counts: Parameter[Array] = Parameter(jnp.arange(2), frozen=True)
    gain: Parameter = Parameter(init=mlax.nn.init.ones, dtype=jnp.bfloat16)
    tree: Parameter[dict[str, Array]] = Parameter({"a": jnp.ones(2), "b": jnp.zeros(2)})
    widths: Widths = Widths()
    activation: Callable[[Array], Array] = jax.nn.relu
    kind: ClassVar[str] = "block"

    @property
    def width(self) -> int:
        return self.widths.inner

    def __getitem__(self, index: int) -> int:
        return index

    def forward(self, x: Array) -> tuple[Array, Self]:
        self = mlax.at(self, lambda m: m.dropout.rate).apply(lambda rate: rate / 2)
        return self.call(self.dropout, x)


class Net(Module):
    blocks: tuple[Block, ...]
    layers: list[Dropout]
    heads: dict[str, Dropout]
    pair: Pair
    states: Container[list[Parameter]]


def net() -> Net:
    return Net(
        blocks=(Block(), Block(Dropout(0.1)), Block(Dropout(0.2))),
        layers=[Dropout(0.3), Dropout(0.4)],
        heads={"b": Dropout(0.5), "a": Dropout(0.6)},
        pair=Pair(Variable(0), None),
        states=Container([Parameter(1.0)]),
    )


PLACES: list[tuple[Callable[[Net], Any], Any]] = [
    (lambda m: m.blocks[0].dropout.rate, 0.9),
    (lambda m: m.blocks[-1].dropout, Dropout(0.9)),
    (lambda m: m.blocks[0].widths.names[1], "c"),
    (lambda m: m.blocks[0].bias, Parameter(2.0)),
    (lambda m: m.blocks[0].tree.data["a"], jnp.ones(3)),
    (lambda m: m.blocks[0].kernel.frozen, True),
    (lambda m: m.blocks[0].activation, jnp.tanh),
    (lambda m: m.layers[1].rate, 0.9),
    (lambda m: m.heads["a"].rate, 0.9),
    (lambda m: m.pair.model, Dropout()),
    (lambda m: m.pair[-1], Dropout()),
    (lambda m: m.states.states[0].data, jnp.float32(3)),
    (lambda m: [block.dropout.rate for block in m.blocks], [0.7, 0.8, 0.9]),
    (lambda m: tuple(layer.rate for layer in m.layers), (0.8, 0.9)),
    (lambda m: {name: head.rate for name, head in m.heads.items()}, {"a": 0.8, "b": 0.9}),
    (lambda m: [head.rate for head in m.heads.values()], [0.8, 0.9]),
    (lambda m: [m.heads[name] for name in m.heads], [Dropout(), Dropout()]),
    (lambda m: [m.heads[name] for name in m.heads.keys()], [Dropout(), Dropout()]),  # noqa: SIM118
    (lambda m: (m.pair, [m.layers[0], {"x": m.states}]), (Pair(None, None), [Dropout(), {"x": Container([])}])),
    (lambda m: [m.heads[name] for name in "abc" if name in m.heads], [Dropout(), Dropout()]),
    (lambda m: m.blocks[1:], (Block(), Block())),
    (lambda m: m.layers[::-1], [Dropout(0.0), Dropout(1.0)]),
    (lambda m: m.blocks[len(m.layers)].dropout.rate, 0.9),
    (lambda m: [b for b in (*m.blocks, *m.layers) if isinstance(b, Dropout)], [Dropout(), Dropout()]),
    (lambda m: Pair(m.layers[0].rate, m.layers[1].rate), Pair(0.8, 0.9)),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value"), PLACES)
def test_what_it_reaches(where, value):
    model = net()
    place = mlax.at(model, where)
    changed = place.set(value)
    got = mlax.at(changed, where).get()
    assert type(got) is type(value)
    assert jax.tree.structure(got) == jax.tree.structure(value)
    assert all(a is b for a, b in zip(leaves_of(got), leaves_of(value), strict=True))
    assert place.set(place.get()) is model
    assert type(changed.layers) is FrozenList
    assert type(changed.heads) is FrozenDict
    assert changed.blocks[0].counts is model.blocks[0].counts


def test_trees_that_are_not_models():
    rates = {"b": [1, 2], "a": (3, None)}
    changed = mlax.at(rates, lambda r: (r["b"][0], r["a"][1])).set((5, 6))
    assert changed == {"b": [5, 2], "a": (3, 6)}
    assert list(changed) == ["b", "a"]
    assert rates == {"b": [1, 2], "a": (3, None)}
    layers = mlax.at(net().layers, lambda ls: ls[0].rate).set(0.9)
    assert type(layers) is FrozenList
    assert layers[0].rate == 0.9
    node = mlax.at(Parameter(1.0), lambda p: p.data).set(2.0)
    assert node.data.dtype == jnp.float32
    optimizer = optim.Adam()
    assert mlax.at(optimizer, lambda o: o.b1).set(0.5).b1 == 0.5
    with pytest.raises(ValueError, match=r"Adam: b1 must be"):
        mlax.at(optimizer, lambda o: o.b1).set(1.5)


def test_optimizer_states():
    model = Block(gain=Parameter(1.0)).filter()
    state = optim.adam.init(model)
    changed = mlax.at(state, lambda s: (s.m.kernel.data, s.learning_rate)).set(
        (jnp.ones((2, 2)), jnp.float32(0.5))
    )
    assert type(changed) is optim.adam.State
    assert tree_equal(changed._replace(m=state.m, learning_rate=state.learning_rate), state)
    assert changed.v is state.v
    _, after = optim.adam.step(model, changed, model)
    assert float(after.learning_rate) == 0.5
    slower = mlax.at(state, lambda s: s.hyperparameters.b1).set(0.5)
    assert slower.hyperparameters.b1 == 0.5


def test_registered_nodes():
    class Box:
        def __init__(self, content: Any):
            self.content = content

    jax.tree_util.register_pytree_with_keys(
        Box,
        lambda box: (((jax.tree_util.GetAttrKey("content"), box.content),), None),
        lambda _, children: Box(*children),
    )
    changed = mlax.at(Box({"a": 1}), lambda box: box.content["a"]).set(2)
    assert changed.content == {"a": 2}


def test_unset_nodes_and_parts_of_models():
    model = mlax.at(Block(), lambda m: m.gain.frozen).set(True)
    assert repr(model.gain) == "Parameter(UNSET, init=ones, dtype=bfloat16, frozen=True)"
    assert mlax.at(model, lambda m: m.gain.frozen).set(False).gain.frozen is False
    assert mlax.at(model, lambda m: m.kernel.data).set(UNSET).kernel.data is UNSET
    rest = Block().filter(mlax.is_variable)
    assert mlax.at(rest, lambda m: m.kernel.data).set(jnp.eye(3)).kernel.data.shape == (3, 3)
    axes = jax.tree.map(lambda _: 0, Block())
    assert mlax.at(axes, lambda m: m.kernel.data).set(None).kernel.data is None
    assert mlax.at(axes, lambda m: m.kernel.data).set(1).kernel.data == 1


def test_in_calls_and_transformations():
    y, model = Block(gain=Parameter(1.0))(jnp.ones(2))
    assert y.tolist() == [0.25, 0.25]
    assert model.dropout.rate == 0.25
    double = jax.jit(lambda m: mlax.at(m, lambda m: m.kernel.data).apply(lambda x: 2 * x))
    assert double(Block()).kernel.data[0, 0] == 2
    packed = mlax.pack(Container([Parameter(jnp.ones(2)), Parameter(jnp.ones(3))]))
    key = next(iter(packed.small))
    changed = mlax.at(packed, lambda p: p.small[key].data).apply(lambda x: 2 * x)
    assert changed.unpack().states[1].data.tolist() == [2, 2, 2]


REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda m: m.blocks[1].dropout.rat, AttributeError, "(Dropout) has no field 'rat', did you mean 'rate'? It has"),
    (lambda m: m.layer, AttributeError, "the tree (Net) has no field 'layer', did you"),
    (lambda m: m.blocks[0].kernel.value, AttributeError, "(Parameter) has no field 'value'; it has data, frozen"),
    (lambda m: m.states.state, AttributeError, "states (Container) has no field 'state', did you mean"),
    (lambda m: m.blocks.kernel, AttributeError, "blocks (tuple of 3) has no field 'kernel'"),
    (lambda m: m.blocks[0].bias.data, AttributeError, "blocks[0].bias (None) has no field 'data'"),
    (lambda m: m.pair.x, AttributeError, "pair (Pair) has no field 'x'; it has step, model"),
    (lambda m: m.blocks[3], IndexError, "blocks (tuple of 3) has no item 3"),
    (lambda m: m.blocks[-4], IndexError, "blocks (tuple of 3) has no item -4"),
    (lambda m: m.blocks["a"], TypeError, "blocks (tuple of 3): an index is an integer, got 'a'"),
    (lambda m: m.heads["c"], KeyError, "heads (FrozenDict of 2) has no key 'c'; it has a, b"),
    (lambda m: m.blocks[0].width, TypeError, "blocks[0] (Block): 'width' is a property, which is computed"),
    (lambda m: m.is_set_up, TypeError, "the tree (Net): 'is_set_up' is a property"),
    (lambda m: m.blocks[0].forward(1), TypeError, "blocks[0] (Block): 'forward' is a method"),
    (lambda m: m.layers.append(1), TypeError, "layers (FrozenList of 2): 'append' is a method"),
    (lambda m: m.blocks[0].kind, TypeError, "blocks[0] (Block): 'kind' is not a field"),
    (lambda m: m.blocks[0].activation(1), TypeError, "blocks[0].activation: a call needs a value"),
    (lambda m: m.blocks[0][1], TypeError, "(Block): an index into it is not recorded.\n  Name a field:"),
    (lambda m: list(m.blocks[0]), TypeError, "blocks[0] (Block): a loop over it is not recorded"),
    (lambda m: m.blocks[0].kernel.data[0], TypeError, "blocks[0].kernel.data (float32[2,2]): an index into it"),
    (lambda m: m.blocks[0].kernel.data.T, TypeError, "blocks[0].kernel.data (float32[2,2]): 'T' is not a field"),
    (lambda m: m.layers[0].rate * 2, TypeError, "layers[0].rate: arithmetic needs a value"),
    (lambda m: 2 - m.layers[0].rate, TypeError, "layers[0].rate: arithmetic needs a value"),
    (lambda m: -m.layers[0].rate, TypeError, "layers[0].rate: arithmetic needs a value"),
    (lambda m: m.layers[0].rate > 2, TypeError, "layers[0].rate: a comparison needs a value"),
    (lambda m: m.layers[0] in m.layers, TypeError, "layers: a comparison needs a value"),
    (lambda m: m.blocks[0].bias or m.layers, TypeError, "blocks[0].bias: a truth value needs a value"),
    (lambda m: float(m.layers[0].rate), TypeError, "layers[0].rate: a conversion needs a value"),
    (lambda m: m.blocks[m.layers[0].rate], TypeError, "layers[0].rate: a conversion needs a value"),
    (lambda m: {m.layers}, TypeError, "layers: a hash needs a value"),
    (lambda m: setattr(m.layers[0], "rate", 3), TypeError, "layers[0]: an assignment needs a value"),
    (lambda m: m, TypeError, "got the whole tree"),
    (lambda m: (m.layers, m), TypeError, "got the whole tree"),
    (lambda m: 3, TypeError, "got 3 (int).\n  Use the argument of `where`"),
    (lambda m: net().layers[0].rate, TypeError, "got 0.3 (float)"),
    (lambda m: None, TypeError, "got None"),
    (lambda m: (m.layers, None), TypeError, "got None"),
    (lambda m: (layer for layer in m.layers), TypeError, "got a generator.\n  Use a list"),
    (lambda m: [], ValueError, "`where` must return places in the tree, got []"),
    (lambda m: (m.layers, m.layers), ValueError, "`where` returned layers twice"),
    (lambda m: (m.blocks[0], m.blocks[-3]), ValueError, "`where` returned blocks[0] twice"),
    (lambda m: (m.pair[0], m.pair.step), ValueError, "`where` returned pair.step twice"),
    (lambda m: (m.blocks[0].kernel.data, m.layers, m.blocks), ValueError, "blocks[0].kernel.data is inside blocks"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "kind", "message"), REFUSED, ids=[message for _, _, message in REFUSED]
)
def test_what_where_may_not_do(where, kind, message):
    with pytest.raises(kind) as error:
        mlax.at(net(), where)
    text = str(error.value.args[0])
    assert text.startswith("mlax.at: ")
    assert message in text


def test_where_is_a_function_of_a_tree():
    with pytest.raises(
        TypeError, match=r"^mlax.at: `where` must be a function of the tree, got 'rate' \(str\)"
    ):
        mlax.at(net(), "rate")
    with pytest.raises(AttributeError, match=r"^mlax.at: the tree \(3 \(int\)\) has no field 'x'"):
        mlax.at(3, lambda m: m.x)
    with pytest.raises(
        TypeError, match=r"'states' is not a field: it is packed.\n  Unpack it first"
    ):
        mlax.at(mlax.pack(net().states), lambda m: m.states)
    assert repr(mlax.at(net(), lambda m: m.blocks[0].bias)) == "<mlax.at: blocks[0].bias in Net>"


WRONG: list[tuple[Callable[[Net], Any], Any, type[Exception], str]] = [
    (lambda m: m.layers[0].rate, "x", AnnotationMismatchError, "Dropout.rate must be float, got 'x' (str)"),
    (lambda m: m.blocks[0].kernel, 3, AnnotationMismatchError, "Block.kernel must be Parameter"),
    (lambda m: m.blocks[0].kernel.data, jnp.ones((2, 3)), AnnotationMismatchError, "kernel: float32[2,3], expected"),
    (lambda m: m.blocks[0].kernel.data, jnp.arange(3), TypeError, "Parameter.data is int32[3]: only floating-point"),
    (lambda m: m.blocks[0].kernel.data, "x", TypeError, "Parameter.data must be an array"),
    (lambda m: m.blocks[0].counts.frozen, False, TypeError, "Parameter.data is int32[2]: only floating-point"),
    (lambda m: m.blocks[0].kernel.frozen, 1, TypeError, "Parameter.frozen must be a bool, got 1"),
    (lambda m: m.states.states, 3, TypeError, "Container.states must be a State"),
    (lambda m: m.blocks[0].widths.inner, jnp.ones(2), TypeError, "Block.widths"),
    (lambda m: (m.pair.step, m.pair.model), (1,), ValueError, "the places, (<pair.step>, <pair.model>), got (1,)"),
    (lambda m: (m.pair.step, m.pair.model), 1, ValueError, "got 1 (int)"),
    (lambda m: {"x": m.pair}, {"y": 1}, ValueError, "the places, {'x': <pair>}, got {'y': 1}"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "kind", "message"), WRONG)
def test_values_that_do_not_fit(where, value, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        mlax.at(net(), where).set(value)


def test_errors_say_where():
    with pytest.raises(AnnotationMismatchError) as error:
        mlax.at(net(), lambda m: m.blocks[0].dropout.rate).set("x")
    assert error.value.__notes__ == ["in mlax.at: blocks[0].dropout"]


def test_one_module_is_checked_with_all_its_new_values():
    class Two(Module):
        left: Parameter[Float[Array, "n"]]
        right: Parameter[Float[Array, "n"]]
        heads: int = 2
        width: int = 4

        def __check__(self) -> None:
            if self.width % self.heads:
                raise ValueError("heads must divide width")

    two = Two(Parameter(jnp.ones(2)), Parameter(jnp.ones(2)))
    both = mlax.at(two, lambda m: (m.left.data, m.right.data)).set((jnp.ones(3), jnp.ones(3)))
    assert both.right.data.shape == (3,)
    assert mlax.at(two, lambda m: (m.heads, m.width)).set((3, 9)).width == 9
    with pytest.raises(ValueError, match="heads must divide width"):
        mlax.at(two, lambda m: m.heads).set(3)
    with pytest.raises(ValueError, match="are the same Block"):
        mlax.at(net(), lambda m: m.blocks).apply(lambda blocks: (blocks[0], blocks[0]))


def test_values_of_several_places_may_be_a_list_or_a_tuple():
    model = net()
    in_tuple = mlax.at(model, lambda m: (m.layers[0].rate, m.layers[1].rate))
    in_list = mlax.at(model, lambda m: [m.layers[0].rate, m.layers[1].rate])
    expected = in_tuple.set((0.8, 0.9))
    assert tree_equal(in_tuple.set([0.8, 0.9]), in_list.set((0.8, 0.9)), expected)
    assert in_list.apply(lambda values: (values[1], values[0])).layers[0].rate == 0.4
    for copied in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        again = copied(in_tuple)
        assert repr(again) == repr(in_tuple)
        assert tree_equal(again.set((0.8, 0.9)), expected)
