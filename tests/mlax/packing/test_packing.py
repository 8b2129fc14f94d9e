"""`mlax.pack`: what goes in comes out, and in between it is a tree like any other."""

import pickle
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mlax
from mlax import Container, Module, Packed, Parameter, Variable, optim
from mlax._packing.flat import join, split
from mlax.tree import tree_equal
from mlax.typing import LeafMismatchError
from tests.mlax.models import Net, linear, net
from tests.mlax.trees import any_arrays, modules, nested

pytestmark = pytest.mark.one_python

ALL = 2**62
X = jnp.linspace(-1, 1, 20).reshape(5, 4)


def own(tree: Any) -> Any:
    """Return the tree with arrays of its own, as the strategies give one array to several places."""
    return jax.tree.map(lambda x: x.copy(), tree)


def has_arrays(tree: Any) -> bool:
    """Whether each node holds an array or is filtered out: not UNSET, and not one that holds an empty list."""
    nodes = jax.tree.leaves(tree, is_leaf=mlax.is_leaf_state)
    return all(node.data is None or jax.tree.leaves(node.data) for node in nodes)


def model() -> Net:
    return mlax.set_up(net(), X[0], rng=jax.random.key(0))


def loss_fn(model: Any, x: Any) -> Any:
    def forward(x: Any) -> Any:
        return model(x, batch_axis_name="batch")

    y, model = jax.vmap(forward, axis_name="batch", out_axes=(0, None))(x)
    return jnp.mean(y**2), model


def assert_close(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


# What holds for every tree.

thresholds = st.sampled_from([0, 9, 17, ALL])
groups = st.sampled_from([None, lambda path, leaf: leaf.ndim or None, lambda path, leaf: path[:1]])


@settings(max_examples=60, deadline=None)
@given(modules, thresholds, groups)
def test_unpack_undoes_pack_and_filter_goes_through(
    module: Any, threshold: int, group: Any
) -> None:
    assume(has_arrays(module))
    tree = own(module)
    packed = mlax.pack(tree, threshold=threshold, group=group)
    assert tree_equal(packed.unpack(), tree)
    assert tree_equal(packed.repack(tree), packed)
    assert tree_equal(packed.filter().unpack(), tree.filter())
    parts = packed.partition(mlax.is_variable, mlax.is_frozen_param)
    expected = tree.partition(mlax.is_variable, mlax.is_frozen_param)
    assert all(tree_equal(part.unpack(), one) for part, one in zip(parts, expected, strict=True))
    assert tree_equal(parts[0].combine(*parts[1:]), packed)
    assert len(jax.tree.leaves(packed)) <= len(jax.tree.leaves(tree))


@settings(max_examples=60, deadline=None)
@given(nested(any_arrays | st.none()), thresholds)
def test_a_tree_without_states_comes_back(tree: Any, threshold: int) -> None:
    tree = own(tree)
    packed = mlax.pack(tree, threshold=threshold)
    assert tree_equal(packed.unpack(), tree)
    weights = packed.filter().unpack()
    expected = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jnp.inexact) else None, tree)
    assert tree_equal(weights, expected)


def test_what_lies_where() -> None:
    tree = {
        "a": Parameter(jnp.ones(2)),
        "b": Parameter({"x": jnp.zeros(()), "big": jnp.ones(100)}),
        "c": Parameter(jnp.ones(3), frozen=True),
        "d": Parameter(jnp.ones(4), frozen=True),
        "e": Variable(jnp.arange(2)),
        "f": Variable((jnp.arange(3), None)),
        "g": Variable(jax.random.key(0)),
        "h": Parameter(jnp.ones(2, jnp.bfloat16)),
        "i": None,
    }
    packed = mlax.pack(Container(tree), threshold=400)
    assert {key: repr(node) for key, node in packed.small.items()} == {
        "float32": "Parameter(f32[3])",
        "float32 frozen": "Parameter(f32[7], frozen=True)",
        "int32 variable": "Variable(i32[5])",
    }
    assert {key: repr(node) for key, node in packed.large.items()} == {
        "states.b.data.big": "Parameter(f32[100])",
        "states.g": "Variable(key<fry>[])",
        "states.h": "Parameter(bf16[2])",
    }


def test_groups_lie_apart_and_none_stays() -> None:
    def group(path: str, leaf: Any) -> Any:
        return None if path == "e" else leaf.ndim if path < "c" else "rest"

    shapes = {"a": (2,), "b": (3,), "c": (), "d": (2, 2), "e": (1,), "f": (5,), "ab": (2, 1)}
    tree = {key: jnp.ones(shape) for key, shape in shapes.items()}
    packed = mlax.pack(tree, group=group)
    sizes = {key: node.data.shape for key, node in packed.small.items()}
    assert sizes == {"float32 1": (5,), "float32 rest": (10,)}
    assert packed.large.keys() == {"ab", "e"}  # one is alone in its group


def test_keys_of_flat_arrays_are_told_apart() -> None:
    class Same:
        def __repr__(self) -> str:
            return "1"

    answers = [1, 1, Same(), None]
    answers[3] = answers[2]
    group = dict(zip("abcd", answers, strict=True))
    packed = mlax.pack({key: jnp.ones(2) for key in group}, group=lambda path, _: group[path])
    assert packed.small.keys() == {"float32 1", "float32 1 (2)"}


def test_the_threshold_is_in_bytes_and_a_leaf_of_that_size_stays() -> None:
    tree = {"a": jnp.ones(3), "b": jnp.ones(4), "c": jnp.ones(2)}
    assert mlax.pack(tree, threshold=16).large.keys() == {"b"}
    assert mlax.pack(tree, threshold=17).large.keys() == set()
    assert mlax.pack(tree, threshold=0).small == {}


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float8_e4m3fn", "complex64", "bool", "uint8", "int4"]
)
def test_every_dtype(dtype: str) -> None:
    tree = [jnp.asarray([0, 1, 1], dtype), jnp.asarray([[1]], dtype), jnp.asarray([], dtype)]
    packed = mlax.pack(tree)
    assert len(jax.tree.leaves(packed)) == 1
    for unpack in (Packed.unpack, jax.jit(Packed.unpack)):
        assert tree_equal(unpack(packed), tree)
    assert tree_equal(jax.jit(mlax.pack)(tree), packed)


def test_numpy_arrays_and_numbers_become_strong_arrays_as_in_a_parameter() -> None:
    packed = mlax.pack([np.ones(2), 1.0, np.float32(3), 2, True])
    assert all(isinstance(x, jax.Array) and not x.weak_type for x in jax.tree.leaves(packed))
    assert {k: v.data.shape for k, v in packed.small.items()} == {"float32": (4,)}
    with jax.enable_x64(True):
        assert mlax.pack([np.ones(2), np.ones(3)]).small.keys() == {"float64"}


# Calls and gradients.


def test_a_packed_model_is_called_like_the_model() -> None:
    plain = model()
    packed = mlax.pack(plain)
    (loss, after), gradients = jax.jit(mlax.value_and_grad(loss_fn))(plain, X)
    (packed_loss, packed_after), packed_gradients = jax.jit(mlax.value_and_grad(loss_fn))(packed, X)
    assert_close(packed_loss, loss)
    assert_close(packed_after.unpack(), after)
    assert jax.tree.structure(packed_gradients) == jax.tree.structure(packed.filter())
    assert_close(packed_gradients.unpack(), gradients)
    # The weights came back as they were; the running statistics did not.
    assert tree_equal(packed_after.filter(), packed.filter())
    assert not tree_equal(packed_after, packed)


def test_only_flat_arrays_that_changed_are_made_anew() -> None:
    packed = mlax.pack(model())
    before = packed.unpack()
    after = before.replace(norm=before.norm.replace(mean=Variable(before.norm.mean.data + 1)))
    again = packed.repack(after, before)
    assert again.small["float32"].data is packed.small["float32"].data
    assert again.small["float32 variable"].data is not packed.small["float32 variable"].data
    assert tree_equal(again.unpack(), after)
    assert packed.repack(after).small["float32"].data is not packed.small["float32"].data
    jaxpr = str(jax.make_jaxpr(lambda packed: loss_fn(packed, X)[1])(packed))
    assert jaxpr.count("mlax_join") == 1


def test_derivatives_of_every_kind() -> None:
    tree = {"a": jnp.linspace(0, 1, 4).reshape(2, 2), "b": jnp.asarray(0.5), "c": jnp.ones((0, 2))}
    weights = mlax.pack(tree)

    def plain(tree: Any) -> Any:
        return jnp.sum(jnp.sin(tree["a"]) @ tree["a"]) * tree["b"] ** 2 + jnp.sum(tree["c"])

    def both(packed: Any) -> Any:  # through unpack, and through pack again
        return plain(mlax.pack(jax.tree.map(lambda x: 1 * x, packed.unpack())).unpack())

    def hessian(f: Any, x: Any) -> Any:
        return jax.jvp(jax.grad(f), (x,), (jax.tree.map(jnp.cos, x),))[1]

    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tree)
    many = jax.vmap(mlax.pack)(stacked)
    assert tree_equal(many.unpack(), stacked)
    gradient = jax.jit(jax.grad(both))
    assert_close(gradient(weights).unpack(), jax.grad(plain)(tree))
    assert_close(jax.grad(both)(weights), gradient(weights))
    assert_close(jax.jit(hessian, static_argnums=0)(both, weights).unpack(), hessian(plain, tree))
    assert_close(jax.vmap(gradient)(many).unpack(), jax.vmap(jax.grad(plain))(stacked))
    text = gradient.lower(weights).compile().as_text()
    assert "scatter" not in text + str(jax.make_jaxpr(gradient)(weights))
    assert_close(jax.jit(jax.checkpoint(both))(weights), plain(tree))


def test_batches_along_any_axis() -> None:
    shapes = ((2, 2), (), (3,))
    flat = jnp.arange(16.0).reshape(2, 8)
    pieces = split(flat, shapes)
    for batched in (jax.vmap(lambda x: split(x, shapes), in_axes=1)(flat.T), pieces):
        assert [piece.shape for piece in batched] == [(2, 2, 2), (2,), (2, 3)]
        assert tree_equal(join(batched, shapes), flat)
    turned = [jnp.moveaxis(piece, 0, -1) for piece in pieces]
    joined = jax.vmap(lambda *pieces: join(pieces, shapes), in_axes=(2, 0, None))
    one = pieces[2][1]
    assert tree_equal(
        joined(*turned[:2], one),
        jnp.stack([join([a, b, one], shapes) for a, b in zip(*pieces[:2], strict=True)]),
    )


@pytest.mark.optimized
def test_slices_of_one_shape_are_compiled_once() -> None:
    """1,000 slices at offsets that XLA knows take 14 s to compile; these are read from memory."""
    packed = mlax.pack({f"{i}": jnp.full((2, 3), float(i)) for i in range(6)})

    def loss(packed: Any) -> Any:
        return sum(jnp.sum(jnp.tanh(leaf)) for leaf in packed.unpack().values())

    for function in (Packed.unpack, jax.grad(loss)):
        text = jax.jit(function).lower(packed).compile().as_text()
        assert text.count(" dynamic-slice(") == 6
        assert text.count(" slice(") <= 2  # of one element each, which decides nothing
    # Nor is what is concatenated computed in the same kernel.
    computations = [one for one in text.split("\n}\n") if " concatenate(" in one]
    assert computations
    assert "tanh" in text
    assert not any("tanh" in one for one in computations)


# An ordinary tree.


def test_it_is_saved_pickled_and_put_like_any_tree(tmp_path: Path) -> None:
    packed = mlax.pack(model())
    mlax.save(tmp_path / "packed.safetensors", packed)
    assert tree_equal(mlax.load(tmp_path / "packed.safetensors", like=packed), packed)
    copy = pickle.loads(pickle.dumps(packed))
    assert tree_equal(copy, packed)
    assert copy.layout is packed.layout
    other = mlax.pack(model(), group=lambda path, leaf: leaf.ndim)
    with pytest.raises((ValueError, TypeError), match=r"packed\.safetensors"):
        mlax.load(tmp_path / "packed.safetensors", like=other)


def test_a_flat_array_is_one_leaf_and_a_layout_one_trace() -> None:
    traces: list[int] = []

    @jax.jit
    def identity(packed: Any) -> Any:
        traces.append(1)
        return packed

    trees = [{f"{i}": jnp.full((), float(i + j)) for i in range(50)} for j in range(3)]
    for tree in trees:
        packed = mlax.pack(tree)
        assert len(jax.tree.leaves(packed)) == 1
        assert jax.tree.structure(packed).num_nodes <= 8
        assert tree_equal(identity(packed), packed)
    assert mlax.pack(trees[0]).layout is mlax.pack(trees[1]).layout
    assert len(traces) == 1
    identity(mlax.pack({**trees[0], "a": jnp.ones(())}))
    assert len(traces) == 2


def test_training_donated_and_scanned_gives_what_the_model_gives() -> None:
    optimizer = optim.SGD(0.1, momentum=0.9)  # Adam would make one ulp of a gradient near 0 a step

    def step(carry: Any, _: Any) -> Any:
        model, state = carry
        (loss, model), gradients = mlax.value_and_grad(loss_fn)(model, X)
        return optimizer.update(model, gradients, state), loss

    train = jax.jit(lambda *carry: jax.lax.scan(step, carry, length=3), donate_argnums=(0, 1))
    results: list[Any] = []
    for tree in (model(), mlax.pack(model())):
        carry, losses = train(tree, optimizer.init(tree))
        results.append((carry[0], carry[1].velocity, losses))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(tree))
    (plain, moments, losses), (packed, packed_moments, packed_losses) = results
    assert_close(packed.unpack(), plain)
    assert_close(packed_moments.unpack(), moments)
    assert_close(packed_losses, losses)


def test_slots_of_another_dtype_are_unpacked_too() -> None:
    tree = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones((), jnp.bfloat16)}
    state = optim.Adam(slot_dtype=jnp.float32).init(mlax.pack(tree))
    zeros = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    assert tree_equal(state.m.unpack(), zeros)


# What is refused.


class Own(Variable[Any]):
    pass


def test_nodes_of_ones_own_classes_stay() -> None:
    packed = mlax.pack(Container([Own(jnp.ones(1)), Own(jnp.ones(2)), Variable(jnp.ones(3))]))
    assert [type(node) for node in packed.large.values()] == [Own, Own, Variable]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": -1}, ValueError, "threshold must be >= 0, got -1"),
        ({"threshold": True}, TypeError, "a number of bytes, an integer, got True (bool)"),
        ({"threshold": 1e3}, TypeError, "an integer, got 1000.0 (float)"),
        ({"threshold": float("nan")}, TypeError, "an integer, got nan (float)"),
        ({"threshold": "1"}, TypeError, "an integer, got '1' (str)"),
        ({"group": 1}, TypeError, "group must be a function of a path and an array, got 1 (int)"),
        (
            {"group": lambda path, leaf: [path]},
            TypeError,
            "group must return something hashable or None, got ['a'] (list) for 'a'",
        ),
    ],
)
def test_wrong_options_are_refused(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^mlax.pack: .*{re.escape(message)}$"):
        mlax.pack({"a": jnp.ones(1)}, **options)


one = jnp.ones(2)


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"a": {"b": "x"}}, TypeError, "a.b must be an array"),
        (len, TypeError, "tree must be an array"),
        ({"a": 2**80}, TypeError, "a: 1208925819614629174706176 (int) is too large for JAX"),
        (
            {"a": jax.ShapeDtypeStruct((2,), jnp.float32)},
            TypeError,
            "jax.eval_shape(mlax.pack, tree)",
        ),
        ({"a": one, "b": one}, ValueError, "tree['a'] and tree['b'] are the same array"),
        ({"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, ValueError, "have the same path, 'a.b'"),
        (net(), ValueError, "set up the model first"),
        (
            {"a": mlax.pack({"b": jnp.ones(1)})},
            TypeError,
            "tree is already packed, or holds a Packed",
        ),
        (mlax.pack(linear()), TypeError, "tree is already packed"),
    ],
)
def test_wrong_trees_are_refused(tree: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"(?s)^mlax.pack: .*{re.escape(message)}"):
        mlax.pack(tree)


def test_shapes_only_are_packed_by_eval_shape() -> None:
    packed = jax.eval_shape(mlax.pack, jax.eval_shape(model))
    assert jax.tree.structure(packed) == jax.tree.structure(mlax.pack(model()))


def test_another_tree_is_not_repacked() -> None:
    packed = mlax.pack({"a": jnp.ones(2), "b": jnp.ones(())})
    with pytest.raises(
        ValueError,
        match=r"tree has a different structure.*\['b'\]: nothing against a leaf\); pack it",
    ):
        packed.repack({"a": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"before has a different structure"):
        packed.repack(packed.unpack(), [])
    for wrong in (jnp.ones(3), jnp.ones(2, jnp.bfloat16)):
        with pytest.raises(ValueError, match=r"a must be float32\[2\] as before, got \w+\[\d\]"):
            packed.repack({"a": wrong, "b": jnp.ones(())})
    short = packed.replace(small={"float32": Parameter(jnp.ones(2))})
    with pytest.raises(
        ValueError, match=r"small\['float32'\] must have a last axis of 3, got float32\[2\]"
    ):
        short.unpack()


def test_an_attribute_of_the_model_is_found_by_unpacking() -> None:
    packed: Any = mlax.pack(linear())
    with pytest.raises(
        AttributeError, match=r"no attribute 'kernel'; it is packed: packed\.unpack\(\)"
    ):
        _ = packed.kernel
    assert not hasattr(packed, "_kernel")
    with pytest.raises(ValueError, match="Packed cannot be called: nodes are filtered out"):
        packed.filter(mlax.is_variable)(X)


class Wrapper(Module):
    inside: Packed[Any]

    def forward(self, x: Any) -> Any:
        return self.call(self.inside, x)


def test_a_packed_module_may_be_a_child() -> None:
    plain = linear(4)
    y, wrapper = Wrapper(mlax.pack(plain))(X)
    assert_close(y, plain(X)[0])
    assert tree_equal(wrapper.inside.unpack(), plain)


class Scaled(Module):
    n: int
    a: Parameter
    b: Parameter


def test_a_file_of_another_layout_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "packed.safetensors"
    mlax.save(file, mlax.pack({"dec": jnp.ones(3), "enc": jnp.full(3, 2.0), "n": jnp.arange(2)}))
    like = mlax.pack({"a_enc": jnp.zeros(3), "dec": jnp.zeros(3), "n": jnp.zeros(2, int)})
    with pytest.raises(LeafMismatchError, match=r"small\.float32: '2 leaves, \w{8}', but"):
        mlax.load(file, like)
    with pytest.warns(UserWarning, match=r"small\.float32"):
        loaded = mlax.load(file, like, strict=False)
    assert tree_equal(loaded, mlax.pack(like.unpack() | {"n": jnp.arange(2)}))


def test_what_is_static_in_a_packed_module_is_compared(tmp_path: Path) -> None:
    one, two = (mlax.pack(Scaled(n, Parameter(jnp.ones(3)), Parameter(X))) for n in (1, 2))
    optimizer = optim.SGD(0.1, momentum=0.9)
    mlax.save(tmp_path / "state", optimizer.init(one))
    with pytest.raises(LeafMismatchError, match=r"velocity\.layout\.n: 1, but 2 in `like`"):
        mlax.load(tmp_path / "state", optimizer.init(two))
    with pytest.raises(LeafMismatchError, match=r"and weights differ in n: 1, but 2"):
        optimizer.update(two, one.filter(), optimizer.init(two))
    trees = ([jnp.ones(3), X], (jnp.ones(3), X), {"0": jnp.ones(3), "1": X})
    assert len({repr(mlax.pack(tree)) for tree in trees} | {repr(one), repr(two)}) == 5


class Counting(Module):
    kernel: Parameter
    bias: Parameter
    count: Variable

    def forward(self, x: jax.Array) -> tuple[jax.Array, "Counting"]:
        return x, self.replace(count=Variable(x))


def test_repack_refuses_another_leaf_wherever_it_lies() -> None:
    packed = mlax.pack(Counting(Parameter(X), Parameter(X + 1), Variable(jnp.zeros(3))))
    assert packed.large.keys() == {"count"}
    again = packed(jnp.ones(3))[1]
    np.testing.assert_array_equal(again.unpack().count.data, 1)
    for wrong in (jnp.ones(7), jnp.ones(3, jnp.bfloat16)):
        with pytest.raises(ValueError, match=r"repack: count must be float32\[3\] as before, got "):
            packed(wrong)
    wrong_group: Any = {"group": lambda path: 1}
    numbers = mlax.pack({"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"repack: a must be float32\[3\] as before, got 1\.0"):
        numbers.repack({"a": 1.0, "b": 2.0})
    for field in ("small", "large"):
        broken = packed.replace(**{field: {}})
        for use in (broken.unpack, lambda broken=broken: broken.repack(packed.unpack())):
            with pytest.raises(ValueError, match=rf"Packed: {field}\['[a-z0-9 ]+'\] is missing"):
                use()
    with pytest.raises(TypeError, match=r"no item 'a'; .*packed\.unpack\(\)"):
        numbers["a"]
    with pytest.raises(TypeError, match=r"mlax\.pack: group must be .*too many positional"):
        mlax.pack({"a": X}, **wrong_group)
