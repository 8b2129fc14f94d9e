"""Unset nodes that know how they are made: `Parameter(init=..., dtype=...)` and `node.made`."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

import mlax
from mlax import UNSET, Container, Parameter, Variable, tree_equal
from mlax.nn import init
from mlax.nn.init import constant, he_normal, normal, zeros

KEY = jax.random.key(0)
KEY_DTYPE = KEY.dtype


@dataclasses.dataclass(frozen=True)
class Same:
    """An initializer of one's own."""

    value: Any

    def __call__(self, key: Any, shape: Any, dtype: Any) -> Any:
        return jnp.full(shape, self.value, dtype)


def my_zeros(key: Any, shape: Any, dtype: Any) -> Any:
    return jnp.zeros(shape, dtype)


UNSET_NODES: list[Callable[[], Any]] = [
    lambda: Parameter(init=he_normal),
    lambda: Parameter(init=normal(0.1), dtype=jnp.bfloat16),
    lambda: Parameter(dtype=jnp.complex64, frozen=True),
    lambda: Parameter(init=my_zeros, dtype=int, frozen=True),
    lambda: Variable(init=zeros),
    lambda: Variable(init=Same(3), dtype="int4"),
    lambda: Variable(dtype=KEY_DTYPE),
    lambda: Variable(dtype=jnp.float64),
]
TEXTS = [
    "Parameter(UNSET, init=he_normal)",
    "Parameter(UNSET, init=normal(stddev=0.1), dtype=bfloat16)",
    "Parameter(UNSET, dtype=complex64, frozen=True)",
    "Parameter(UNSET, init=my_zeros, dtype=int32, frozen=True)",
    "Variable(UNSET, init=zeros)",
    "Variable(UNSET, init=Same(value=3), dtype=int4)",
    "Variable(UNSET, dtype=key<fry>)",
    "Variable(UNSET, dtype=float64)",
]
NODES = [Parameter(), Parameter(frozen=True), Variable(), *(make() for make in UNSET_NODES)]


def copies(node: Any) -> dict[str, Any]:
    """Return a node after all that should not change it."""
    leaves, treedef = jax.tree.flatten(node)
    return {
        "tree.map": jax.tree.map(lambda x: x, node),
        "unflatten": treedef.unflatten(leaves),
        "with paths": jax.tree_util.tree_map_with_path(lambda _, x: x, node),
        "jit": jax.jit(lambda x: x)(node),
        "vmap": jax.vmap(lambda x, _: x, axis_size=2)(node, None),
        "copy": copy.copy(node),
        "deepcopy": copy.deepcopy(node),
        "unset again": node.with_data(UNSET),
        "combine": Container([node.with_data(None)]).combine(Container([node])).states[0],
        **{
            f"pickle {protocol}": pickle.loads(pickle.dumps(node, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        },
    }


@pytest.mark.parametrize(("make", "text"), [*zip(UNSET_NODES, TEXTS, strict=True)], ids=TEXTS)
def test_a_recipe_survives_whatever_the_node_goes_through(make, text):
    node = make()
    assert jax.tree.leaves(node) == []
    for how, back in copies(node).items():
        assert back.data is UNSET, how
        assert type(back) is type(node), how
        assert repr(back) == text, how
        assert jax.tree.structure(back) == jax.tree.structure(make()), how
        assert hash(jax.tree.structure(back)) == hash(jax.tree.structure(make())), how
        with pytest.raises(dataclasses.FrozenInstanceError):
            back._recipe = None


def test_structures_differ_where_the_recipes_do():
    structures = [jax.tree.structure(node) for node in NODES]
    for i, one in enumerate(structures):
        assert [one == other for other in structures].index(True) == i
        assert sum(one == other for other in structures) == 1
    # Compared as static values are: JAX would use a trace made for the other one.
    alike = [Same(1), Same(1.0), Same(True), Same(0.0), Same(-0.0), Same(float("nan"))]
    structures = [jax.tree.structure(Variable(init=one)) for one in alike]
    assert len(set(structures)) == len(alike)
    assert structures[-1] == jax.tree.structure(Variable(init=Same(float("nan"))))


@pytest.mark.parametrize("node", NODES, ids=repr)
def test_nothing_of_the_recipe_remains_beside_data(node):
    data = jnp.ones(3)
    frozen = {"frozen": True} if getattr(node, "frozen", False) else {}
    replaced = jax.tree.map(lambda _: data, node, is_leaf=lambda leaf: leaf is UNSET)
    for got in (data, None):
        plain = type(node)(got, **frozen)
        mapped = replaced if got is data else replaced.with_data(None)
        for done in (node.with_data(got), mapped, copy.copy(mapped), copy.deepcopy(mapped)):
            assert jax.tree.structure(done) == jax.tree.structure(plain)
            assert repr(done) == repr(plain)
            again = done.with_data(UNSET)
            assert jax.tree.structure(again) == jax.tree.structure(type(node)(**frozen))


def test_unset_is_not_empty():
    own = Container([Parameter(init=he_normal)])
    empty = Container([Parameter(None)])
    other = Container([Parameter(init=zeros)])
    for result in (own.combine(empty), empty.combine(own), own.combine(other)):
        assert repr(result.states[0]) == "Parameter(UNSET, init=he_normal)"
    model = Container([Parameter(init=he_normal), Variable(init=zeros, dtype=int), Variable(2)])
    assert tree_equal(model.partition()[1].combine(model.partition()[0]), model)


def test_what_constructors_refuse():
    class Callback:
        __hash__ = None

        def __call__(self, key: Any, shape: Any, dtype: Any) -> Any: ...

    array = jnp.ones(3)
    cases: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: Parameter(1.0, init=he_normal),
            "Parameter: init cannot be given together with data, got 1.0 (float); they say how set_up makes the "
            "data.\n  Leave out init, and cast the data yourself; or leave out the data.",
        ),
        (lambda: Variable(array, dtype=jnp.int8), "Variable: dtype cannot be given together"),
        (lambda: Variable(None, init=zeros, dtype=int), "Variable: init and dtype cannot be given"),
        (
            lambda: Parameter(init=3),
            "Parameter.init must be a function of (key, shape, dtype), got 3 (int).\n"
            "  Use one of mlax.nn.init",
        ),
        (lambda: Variable(init=array), "Variable.init must be a function of (key, shape, dtype)"),
        (
            lambda: Parameter(init=init.normal),
            "Parameter.init must be an initializer, got the class normal.\n  Call it first: normal(...)",
        ),
        (lambda: Parameter(init=Callback()), "a Callback is not.\n  Use a hashable value"),
        (lambda: Parameter(init=lambda *_: array), "the variable 'array' of "),
        (
            lambda: Parameter(dtype="float31"),
            "Parameter.dtype must be a dtype of JAX, such as jnp.bfloat16, got 'float31' (str)",
        ),
        *(
            (lambda dtype=dtype: Variable(dtype=dtype), "Variable.dtype must be a dtype of JAX")
            for dtype in (object, "U3", "m8[s]", "M8", np.longdouble, "i4,f4", {}, 3, array)
        ),
        *(
            (
                lambda dtype=dtype: Parameter(dtype=dtype),
                "Parameter.dtype is "
                f"{np.dtype(dtype).name if dtype is not KEY_DTYPE else 'key<fry>'}: only floating-point and complex "
                "arrays can be trained.\n  Make it a Variable, or Parameter(..., frozen=True).",
            )
            for dtype in (jnp.int32, "bool", jnp.uint4, KEY_DTYPE)
        ),
    ]
    for make, message in cases:
        with pytest.raises(TypeError) as error:
            make()
        assert message in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), [4], (np.int64(2), 0)], ids=str)
def test_made_makes_what_the_layer_asks_for(dtype, shape):
    node = Parameter(frozen=True).made(None, shape, my_zeros, dtype)
    assert node.data.dtype == dtype
    assert node.data.shape == tuple(shape)
    assert not node.data.weak_type
    assert jax.tree.structure(node) == jax.tree.structure(Parameter(node.data, frozen=True))
    assert type(Variable().made(None, shape, my_zeros, dtype)) is Variable


def test_a_nodes_own_init_and_dtype_win():
    layers = ((2, 3), zeros, jnp.float32)
    for node, expected in {
        Parameter(): jnp.zeros((2, 3)),
        Parameter(init=init.ones): jnp.ones((2, 3)),
        Parameter(dtype=jnp.bfloat16): jnp.zeros((2, 3), jnp.bfloat16),
        Parameter(init=constant(2), dtype=int, frozen=True): jnp.full((2, 3), 2),
        Parameter(init=he_normal): initializers.he_normal()(KEY, (2, 3)),
        Parameter(init=initializers.he_normal()): initializers.he_normal()(KEY, (2, 3)),
        Variable(init=jax.random.normal): jax.random.normal(KEY, (2, 3)),
    }.items():
        done = node.made(KEY, *layers)
        assert tree_equal(done.data, expected)
        frozen = getattr(node, "frozen", False)
        plain = type(node)(expected, **({"frozen": True} if frozen else {}))
        assert jax.tree.structure(done) == jax.tree.structure(plain)


def test_a_node_that_is_not_unset_stays_as_it_is():
    for node in (
        Parameter(1.0),
        Variable(None),
        Variable({"a": 1}),
        Parameter(jax.ShapeDtypeStruct((2,), "float32")),
    ):
        assert node.made(None, (7,), he_normal, jnp.float32) is node


def test_arrays_of_keys():
    def keys(key: Any, shape: Any, dtype: Any) -> Any:
        return jax.random.split(key, shape)

    node = Variable(init=keys, dtype=KEY_DTYPE).made(KEY, (2,), zeros, jnp.float32)
    assert tree_equal(node.data, jax.random.split(KEY, 2))


def test_a_subclass_of_parameter_has_recipes_too():
    class Scale(Parameter):
        """A kind of Parameter."""

    node = jax.jit(lambda x: x)(Scale(init=init.ones, frozen=True))
    assert type(node) is Scale
    assert type(node.made(None, (), zeros, jnp.float32)) is Scale
    assert node.made(None, (), zeros, jnp.float32).frozen


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Parameter().made(None, (2, 3), he_normal, jnp.float32),
            ValueError,
            "Parameter.made: he_normal failed to make float32[2,3] without a key: he_normal needs a key, got None\n"
            "  Set up with a key, `mlax.set_up(model, x, rng=key)`; set_up has to pass it on: "
            "made(rng, shape, init, dtype).",
        ),
        (
            lambda: Variable(init=initializers.normal()).made(None, (2,), zeros, jnp.float32),
            ValueError,
            "Variable.made: normal.<locals>.init failed to make float32[2] without a key: ",
        ),
        (
            lambda: Parameter(init=initializers.he_normal).made(KEY, (2, 3), zeros, jnp.float32),
            TypeError,
            "Parameter.made: he_normal must return an array, float32[2,3], got <function",
        ),
        (
            lambda: Parameter(init=initializers.he_normal).made(KEY, (2, 3), zeros, jnp.float32),
            TypeError,
            "\n  Call he_normal first: it returns an initializer.",
        ),
        (
            lambda: Parameter().made(KEY, (2,), lambda *_: 1.0, jnp.float32),
            TypeError,
            "<lambda> must return an array, float32[2], got 1.0 (float).",
        ),
        (
            lambda: Parameter(init=lambda *_: np.zeros((3,))).made(KEY, (2,), zeros, jnp.float32),
            ValueError,
            "<lambda> was asked for float32[2], but returned float64[3].\n"
            "  An initializer returns an array of the shape and the dtype that it is given.",
        ),
        (
            lambda: Parameter(dtype=jnp.bfloat16).made(
                None, (2,), lambda _, n, __: jnp.zeros(n), jnp.float32
            ),
            ValueError,
            "was asked for bfloat16[2], but returned float32[2]",
        ),
        (
            lambda: Parameter().made(None, (2,), zeros, jnp.int32),
            TypeError,
            "Parameter.made: dtype is int32: only floating-point and complex arrays can be trained.\n"
            "  Give the layer floating-point inputs, or the node its own dtype: Parameter(dtype=jnp.float32).",
        ),
        (
            lambda: Parameter(dtype=jnp.float64).made(None, (2,), zeros, jnp.float32),
            ValueError,
            "Parameter.made: JAX makes no float64 arrays unless x64 is enabled.\n  Choose another dtype, or call",
        ),
        (
            lambda: Variable().made(None, (2,), zeros, "what"),
            TypeError,
            "Variable.made: dtype must be a dtype of JAX, such as jnp.bfloat16, got 'what' (str)",
        ),
        (
            lambda: Variable().made(None, (2,), "zeros", jnp.float32),
            TypeError,
            "Variable.made: init must be a function of (key, shape, dtype), got 'zeros' (str).",
        ),
        *(
            (
                lambda shape=shape: Variable().made(None, shape, zeros, jnp.float32),
                TypeError,
                "Variable.made: shape must be a tuple of sizes, integers >= 0, got ",
            )
            for shape in (3, "33", (2.0,), (-1,), (True,), None, jnp.ones(2))
        ),
    ],
)
def test_what_made_refuses(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


def test_an_error_of_an_initializer_with_a_key_is_its_own():
    def broken(key: Any, shape: Any, dtype: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Parameter().made(KEY, (2,), broken, jnp.float32)
    with pytest.raises(ValueError, match="without a key: mine") as raised:
        Parameter().made(None, (2,), broken, jnp.float32)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_float64_where_it_is_enabled():
    with jax.enable_x64(True):
        node = Parameter(dtype=jnp.float64).made(None, (2,), zeros, jnp.float32)
        assert node.data.dtype == jnp.float64
        assert Parameter(dtype=float).made(None, (2,), zeros, jnp.float32).data.dtype == jnp.float64
    assert Parameter(dtype=float).made(None, (2,), zeros, jnp.float32).data.dtype == jnp.float32


@pytest.mark.one_python
def test_under_transformations():
    node = Parameter(init=he_normal, dtype=jnp.bfloat16)

    def make(node: Parameter, key: Any) -> Parameter:
        return node.made(key, (4, 3), zeros, jnp.float32)

    done = make(node, KEY)
    assert tree_equal(jax.jit(make)(node, KEY), done)
    shapes = jax.eval_shape(make, node, KEY)
    assert shapes.data == jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)
    keys = jax.random.split(KEY, 2)
    stacked = jax.vmap(make, in_axes=(None, 0))(node, keys)
    expected = jnp.stack([make(node, key).data for key in keys])
    assert tree_equal(stacked, Parameter(expected))
    with jax.checking_leaks():
        jax.jit(make)(node, KEY)
    traces: list[int] = []

    @jax.jit
    def counted(node: Parameter) -> Parameter:
        traces.append(1)
        return node.made(KEY, (2,), zeros, jnp.float32)

    for _ in range(2):
        counted(Parameter(init=constant(1)))
    counted(Parameter(init=constant(2)))
    assert float(counted(Parameter(init=constant(2))).data[0]) == 2
    assert len(traces) == 2


def test_unset_nodes_are_refused_as_before(tmp_path):
    model = Container([Parameter(init=he_normal, dtype=jnp.bfloat16)])
    optimizer = mlax.optim.Adam(0.1)
    for use in (
        lambda: optimizer.init(model),
        lambda: mlax.save(tmp_path / "model.safetensors", model),
        lambda: mlax.pack(model),
        lambda: mlax.value_and_grad(lambda model: (jnp.ones(()), model))(model),
    ):
        with pytest.raises(ValueError, match="UNSET"):
            use()
