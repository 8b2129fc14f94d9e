"""What leaves are called, when trees are equal, and the refusal of shared arrays."""

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import mlax
from mlax import Module, Parameter, optim
from mlax.tree import describe, keystr, mismatches, refuse_shared, tree_equal


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (jnp.ones((2, 3)), "float32[2,3]"),
        (jnp.ones((), jnp.bfloat16), "bfloat16[]"),
        (np.zeros((0,), np.int8), "int8[0]"),
        (jax.ShapeDtypeStruct((4,), jnp.complex64), "complex64[4]"),
        (1.0, "1.0 (float)"),
        (True, "True (bool)"),
        ("abc", "'abc' (str)"),
        (None, "None"),
    ],
)
def test_describe(leaf: object, text: str) -> None:
    assert describe(leaf) == text


def test_describe_names_keys_and_tracers_by_dtype_and_shape() -> None:
    assert describe(jax.random.key(0)) == "key<fry>[]"
    seen: list[str] = []
    jax.make_jaxpr(lambda x: seen.append(describe(x)))(jnp.ones(3))
    assert seen == ["float32[3]"]


def test_describe_is_one_short_line() -> None:
    text = describe([np.arange(30)] * 30)
    assert "\n" not in text
    assert len(text) < 80
    assert text.endswith("... (list)")


def test_keystr() -> None:
    (path, _), *_ = jax.tree_util.tree_flatten_with_path({"a": (1.0,)})[0]
    assert keystr(path) == "['a'][0]"


EQUAL = [
    ({"a": jnp.ones(2)}, {"a": jnp.ones(2)}),
    (jnp.array([jnp.nan, 1.0]), jnp.array([jnp.nan, 1.0])),
    (jnp.array([jnp.nan, 1.0], jnp.bfloat16), jnp.array([jnp.nan, 1.0], jnp.bfloat16)),
    (jnp.array(complex(float("nan"), 1.0)), jnp.array(complex(float("nan"), 1.0))),
    (np.ones(2, np.float32), jnp.ones(2)),
    (jnp.zeros((0, 3)), jnp.zeros((0, 3))),
    (jax.random.key(1), jax.random.key(1)),
    (jnp.array([True]), jnp.array([True])),
    ("text", "text"),
    ((), ()),
    (None, None),
]
DIFFERENT = [
    (jnp.ones(2), jnp.zeros(2)),
    (jnp.ones(2), jnp.ones((2, 1))),
    (jnp.ones(2), jnp.ones((1,))),  # would broadcast
    (jnp.ones(2), jnp.ones(2, jnp.bfloat16)),
    (jnp.ones((), jnp.int32), jnp.ones(())),
    (jax.random.key(1), jax.random.key(2)),
    (jax.random.key(1), jax.random.key_data(jax.random.key(1))),
    (jax.random.key(1), jax.random.key(1, impl="rbg")),
    (jnp.array([jnp.nan]), jnp.array([1.0])),
    ((jnp.ones(1),), [jnp.ones(1)]),
    ({"a": jnp.ones(1)}, {"b": jnp.ones(1)}),
    (1, 1.0),
    (1, True),
    (1.0, jnp.array(1.0)),
    (None, jnp.ones(1)),
    ("a", 1),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: object, b: object) -> None:
    assert tree_equal(a, b)
    assert tree_equal(b, a, b)
    assert tree_equal({"x": [a]}, {"x": [b]})


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: object, b: object) -> None:
    assert not tree_equal(a, b)
    assert not tree_equal(b, a)
    assert not tree_equal(a, a, b)
    assert not tree_equal({"x": [a]}, {"x": [b]})


def test_equality_survives_pickling() -> None:
    tree = {"a": jnp.ones((2, 2), jnp.bfloat16), "b": [np.float32(2), "s", None]}
    assert tree_equal(tree, pickle.loads(pickle.dumps(tree)))


def test_equality_needs_no_two_trees() -> None:
    assert tree_equal()
    assert tree_equal({"a": 1})


class Vague:
    """Its comparisons do not return a bool, like those of arrays and tables of other libraries."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    __hash__ = None  # type: ignore[assignment]


@jax.tree_util.register_pytree_node_class
class Labelled:
    """A node whose static data cannot be compared."""

    def tree_flatten(self) -> tuple[tuple[()], Vague]:
        return (), Vague(RuntimeError("no"))

    @classmethod
    def tree_unflatten(cls, aux: object, children: object) -> "Labelled":
        return cls()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Vague([True]),
        lambda: Vague("yes"),
        lambda: Vague(None),
    ],
)
def test_leaves_whose_comparison_is_not_true_are_different(make: Callable[[], object]) -> None:
    assert not tree_equal(make(), make())
    assert not tree_equal([make()], [make()])


def gone() -> Any:
    """Return an array that was deleted, as by donation."""
    array = jnp.ones(2)
    array.delete()
    return array


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {1: 0, "a": 0}, "tree_equal: the keys of a dict.* cannot be sorted"),
        (lambda: Vague(RuntimeError("not today")), "not today"),
        (Labelled, "checking equality of metadata fields"),
        (gone, "Array has been deleted"),
    ],
)
def test_nothing_is_concluded_from_an_error(make: Callable[[], object], message: str) -> None:
    """Such trees are neither equal nor different."""
    with pytest.raises((TypeError, RuntimeError, ValueError), match=message):
        tree_equal(make(), make())
    with pytest.raises((TypeError, RuntimeError, ValueError), match=message):
        tree_equal([make()], [make()])


def test_leaves_that_say_so_are_equal() -> None:
    assert tree_equal(Vague(True), Vague(True))
    assert tree_equal(Vague(np.True_), Vague(np.True_))
    assert not tree_equal(Vague(np.False_), Vague(np.False_))


def test_tracers_are_not_compared() -> None:
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(lambda x: tree_equal(x, x))(jnp.ones(2))


def test_scalars_of_dtypes_that_numpy_does_not_have() -> None:
    assert tree_equal(ml_dtypes.bfloat16(1), jnp.bfloat16(1))


@pytest.mark.parametrize("shape", [(3,), (), (0,)])
def test_shared_arrays_are_refused_with_both_places(shape: tuple[int, ...]) -> None:
    shared = jnp.ones(shape)
    with pytest.raises(ValueError, match="are the same array") as error:
        refuse_shared("Adam.init", "weights", {"a": shared, "b": [jnp.ones(shape), shared]})
    assert str(error.value).startswith(
        "Adam.init: weights['a'] and weights['b'][1] are the same array (float32"
    )


def test_shared_numpy_arrays_are_refused() -> None:
    shared = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="same array"):
        refuse_shared("f", "tree", (shared, shared))


def test_equal_arrays_static_leaves_and_tracers_may_repeat() -> None:
    refuse_shared("f", "tree", {"a": jnp.ones(3), "b": jnp.ones(3)})
    refuse_shared("f", "tree", ["text", "text", 1.0, 1.0, None, None])

    def body(x: jax.Array) -> jax.Array:
        refuse_shared("f", "tree", (x, x))
        return x

    jax.make_jaxpr(body)(1.0)


TREE = {"a": jnp.ones(2), "b": (jnp.ones(3), None)}


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        (TREE, []),
        ({"a": jnp.ones(4), "b": TREE["b"]}, ["t['a']: float32[4], but r['a']: float32[2]"]),
        ({"b": TREE["b"]}, ["t['a']: missing"]),
        ({"a": TREE["a"]}, ["t['b'][0]: missing"]),
        (TREE | {"c": {"d": 1, "e": 2}}, ["t['c']['d']: not in r", "t['c']['e']: not in r"]),
        (TREE | {"c": {}}, ["t['c']: not in r"]),
        (TREE | {"a": None}, ["t['a']: None, but r['a']: float32[2]"]),
        (TREE | {"a": [jnp.ones(2)]}, ["t['a']: list, but r['a']: float32[2]"]),
        (TREE | {"a": 1.0}, ["t['a']: 1.0 (float), but r['a']: float32[2]"]),
        (TREE | {"b": list(TREE["b"])}, ["t['b']: a different container, list instead of tuple"]),
        (TREE | {"b": jnp.ones(3)}, ["t['b']: float32[3], but r['b']: tuple"]),
        (TREE | {"b": (jnp.ones(3), jnp.ones(1))}, ["t['b'][1]: float32[1], but r['b'][1]: None"]),
        (TREE | {"b": None}, ["t['b']: None, but r['b']: tuple"]),
    ],
)
def test_mismatches(tree: object, lines: list[str]) -> None:
    assert list(mismatches("t", tree, "r", TREE)) == lines


class Wide(Module):
    w: Any
    width: int = 3


def test_mismatches_in_static_fields_of_modules() -> None:
    tree, reference = {"a": [Wide(Parameter(1.0), 4)]}, {"a": [Wide(Parameter(1.0))]}
    assert list(mismatches("t", tree, "r", reference)) == [
        "t['a'][0].width: 4, but r['a'][0].width: 3"
    ]


def test_mismatches_in_static_data() -> None:
    @jax.tree_util.register_dataclass
    @dataclass
    class Layer:
        w: object
        activation: str = field(metadata={"static": True})

    assert list(mismatches("t", Layer(1.0, "tanh"), "r", Layer(1.0, "tanh"))) == []
    assert list(mismatches("t", Layer(1.0, "relu"), "r", Layer(1.0, "tanh"))) == [
        "t: static data in Layer differs from that in r"
    ]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {17: jnp.ones(1), "k": jnp.ones(1)},
            "a dict cannot be sorted: 17 (int) and 'k' (str); use",
        ),
        (
            {"a": [{1: jnp.ones(1), None: jnp.ones(1)}]},
            "a dict, ['a'][0], cannot be sorted: 1 (int) and None",
        ),
        (
            {(1, 2): jnp.ones(1), (1, "x"): jnp.ones(1)},
            "(1, 2) (tuple) and (1, 'x') (tuple); use keys that Python can compare, such as str",
        ),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda tree: mlax.save("unsortable", tree),
        mlax.flatten,
        mlax.pack,
        mlax.freeze,
        mlax.Variable,
        lambda tree: optim.Adam().init(tree),
        lambda tree: optim.MultiOptimizer([optim.Adam()]).init(tree),
        lambda tree: optim.apply_updates(tree, tree),
    ],
)
def test_keys_that_cannot_be_sorted_are_named(use: Any, tree: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        use(tree)
