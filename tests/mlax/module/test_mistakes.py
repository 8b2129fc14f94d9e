"""Common mistakes with modules and their error messages, and leaks that would go unnoticed."""

import dataclasses
import operator as op
import sys
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import mlax
from mlax import UNSET, AnnotationMismatchError, Container, Module, Parameter, Variable, optim


class Scale(Module):
    gain: Parameter[Float[Array, "n"]] = Parameter()

    def set_up(self, x):
        return self.replace(gain=Parameter(jnp.ones(x.shape)))

    def forward(self, x: Float[Array, "n"]):
        return self.gain.data * x, self


class Holder(Module):
    held: Any


class Loose(Module):
    gain: Parameter[Any]


def refused(function: Any, error: type[Exception] = TypeError) -> str:
    with pytest.raises(error) as caught:
        function()
    return str(caught.value)


def test_structures_that_differ_in_a_node_are_explained_by_jax():
    """JAX asserts that equal nodes have equal keys, so a node's key must not depend on its data."""
    model = Scale(Parameter(jnp.ones(3)))

    def body(carry, _):
        return carry.filter(mlax.is_variable), None

    assert "carry" in refused(lambda: jax.lax.scan(body, model, None, length=2))
    filtered = Loose(Parameter(1.0)).filter(mlax.is_variable)
    refused(lambda: jax.lax.cond(True, lambda: Loose(Parameter(1.0)), lambda: filtered))
    refused(lambda: jax.tree.map(jnp.add, filtered, Loose(Parameter([1.0]))), ValueError)


def test_keys_of_nodes():
    paths = jax.tree_util.tree_leaves_with_path(Loose(Parameter({"a": 1.0})))
    assert jax.tree_util.keystr(paths[0][0]) == ".gain.data['a']"
    ((path, _),) = jax.tree_util.tree_leaves_with_path(Loose(Parameter(jnp.ones(2))))
    assert jax.tree_util.keystr(path) == ".gain"
    assert path[-1].name == "data"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Registered:
    x: Any


def test_static_values_that_jax_takes_for_trees_are_told_apart():
    traces = []

    @jax.jit
    def f(module):
        traces.append(module.held)
        return jnp.asarray(module.held[0].x)

    results = [f(Holder((Registered(x),))) for x in (1, 1.0, True)]
    assert [result.dtype for result in results] == [jnp.int32, jnp.float32, jnp.bool_]
    assert len(traces) == 3


@jax.tree_util.register_pytree_node_class
class Foreign:
    def __init__(self, x):
        self.x = x

    def tree_flatten(self):
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@dataclasses.dataclass(frozen=True)
class Settings:
    scale: Any


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ((Foreign(jnp.ones(2)),), "a Foreign contains an array, float32[2]"),
        (Foreign(jnp.ones(2)), "a Foreign contains an array, float32[2]"),
        (Settings(np.ones(2)), "a Settings contains an array, float64[2]"),
        (Settings(Parameter(1.0)), "a Settings contains a State, Parameter(f32[])"),
        ((UNSET,), "UNSET is the data of a node"),
        ([optim.SGD()], "a static field must be hashable, and a list is not"),
    ],
    ids=["tuple", "tree", "dataclass", "node", "UNSET", "list"],
)
def test_arrays_and_nodes_are_found_where_they_hide(held, reason):
    assert reason in refused(lambda: Holder(held))


def test_containers_hold_states_only():
    assert "must be a State" in refused(lambda: Container(UNSET))
    assert "must be a State" in refused(lambda: Container((Parameter(1.0), UNSET)))


@pytest.fixture
def busy_threads():
    """Threads take turns a thousand times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_threads")
def test_a_class_first_used_by_many_threads_has_one_layout():
    for _ in range(20):

        class Fresh(Module):
            size: int
            gain: Parameter = Parameter(1.0)

        barrier, made = threading.Barrier(8), []

        def make(barrier=barrier, made=made, cls=Fresh):
            barrier.wait()
            made.append(jax.tree.structure(cls(1)))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8
        assert len(set(made)) == 1


def test_a_module_whose_init_failed_says_so_wherever_it_is_used():
    leaked = []

    class Fails(Module):
        gain: Parameter

        def __init__(self):
            leaked.append(self)
            self.gain = Parameter(1.0)
            raise RuntimeError("as asked")

    refused(Fails, RuntimeError)
    for use in (
        lambda: leaked[0].replace(gain=None),
        lambda: leaked[0].is_set_up,
        leaked[0],
    ):
        assert refused(use) == "this Fails is not complete: its __init__ raised an error"


def test_fields_of_nodes_hold_nodes_of_that_kind():
    message = refused(lambda: Scale("abc"), AnnotationMismatchError)
    assert message == """Scale.gain must be Parameter[Float[Array, "n"]], got 'abc' (str)"""
    message = refused(lambda: Scale(Variable(jnp.ones(2))), AnnotationMismatchError)
    assert message == (
        'Scale.gain must be Parameter[Float[Array, "n"]], got Variable(f32[2]) (Variable)'
    )
    assert Scale(None).gain is None  # filtered out


def test_a_union_of_nodes_is_checked():
    class Either(Module):
        data: Variable[Float[Array, "n"]] | Variable[Int[Array, ""]]

    Either(Variable(jnp.ones(3)))
    Either(Variable(3))
    assert "Float[Array" in refused(lambda: Either(Variable(jnp.ones((4, 2)))))


def test_defaults_that_cannot_be():
    def array():
        class Mine(Module):
            k: Any = jnp.ones(3)

    message = "Mine.k = float32[3]: a field cannot hold a bare array.\n  Wrap it in a Parameter (trained) or"
    assert refused(array).startswith(message)


def test_a_property_over_a_field():
    class Base(Module):
        y: int

    def over():
        class Derived(Base):
            @property
            def y(self):
                return 3

    assert refused(over) == (
        "Derived.y is a property, but Base declares a field y; rename one.\n"
        "  To leave it to subclasses how they provide y, make it an abstract property in Base."
    )


def test_arguments_are_checked_before_nodes_are_made_of_them():
    message = refused(lambda: mlax.set_up(Scale(), jnp.ones((2, 3))))
    assert message == (
        "Scale.forward: x does not match its annotation\n"
        '  x: float32[2,3], expected Float[Array, "n"]\n'
        "  if its first axis is that of a batch: use nn.Batched(model), or jax.vmap"
    )


def test_numpy_arrays_in_a_call():
    model = mlax.set_up(Scale(), jnp.ones(3))
    message = refused(lambda: model(np.ones(3)))
    assert "NumPy arrays are not converted in a call: pass jnp.asarray(x)" in message


def test_a_forward_that_branches_on_values():
    class Branches(Module):
        def forward(self, x: Array):
            return (x if x.sum() > 0 else -x), self

    message = refused(lambda: mlax.set_up(Branches(), jnp.ones(3)))
    assert message.startswith("mlax.set_up calls Branches with only shapes and dtypes")
    assert Branches()(jnp.ones(3))[0].sum() == 3


@pytest.mark.parametrize("rng", [0, "key", np.zeros(2, np.uint32), jnp.ones(2)], ids=str)
def test_invalid_keys(rng):
    assert "rng must be a key, such as jax.random.key(0)" in refused(
        lambda: mlax.set_up(Scale(), jnp.ones(3), rng=rng)
    )


def test_a_key_under_another_name():
    class Named(Scale):
        def set_up(self, x, key):
            return self.replace(gain=Parameter(jax.random.normal(key, x.shape)))

    message = refused(lambda: mlax.set_up(Named(), jnp.ones(3), rng=jax.random.key(0)))
    assert "Name a PRNG key `rng`" in message


def test_the_loss_must_be_an_array():
    gradient = mlax.value_and_grad(lambda model: (1.0, model))
    message = refused(lambda: gradient(Scale(Parameter(jnp.ones(2)))))
    assert "Compute it from the parameters of the model" in message


def test_a_nested_module_prints_as_it_says():
    class Quiet(Module):
        gain: Parameter = Parameter(1.0)

        def __repr__(self):
            return "Quiet()"

    assert repr(Holder([Quiet()])) == "Holder(held=[Quiet()])"


@pytest.mark.parametrize("other", [jnp.ones(2), np.ones(2), 2.0, np.float32(2), Parameter(1.0)])
@pytest.mark.parametrize("operator", [op.matmul, op.add, op.truediv, op.pow, op.lt, op.ge])
def test_a_forgotten_data_is_named(operator, other):
    for node in (Parameter(jnp.ones(2)), Variable(jnp.ones(2)), Parameter()):
        for args in ((node, other), (other, node)):
            with pytest.raises(TypeError, match=r"^a \w+ is a node, .*\n.*node\.data\.$"):
                operator(*args)
        with pytest.raises(TypeError, match=r"node\.data\.$"):
            op.neg(node)
        assert node == node  # noqa: PLR0124
        assert node != other
