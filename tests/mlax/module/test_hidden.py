"""A State or an array inside a static value is found wherever it hides, and refused with the cure."""

import collections
import contextvars
import copy
import dataclasses
import enum
import functools
import itertools
import logging
import pathlib
import re
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import Module, Parameter, Variable, optim, tree_equal


class Scale(Module):
    w: Parameter = Parameter()

    def forward(self, x: Any) -> Any:
        return x * self.w.data, self

    def doubled(self, x: Any) -> Any:
        return 2 * x


class Holder(Module):
    content: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Config:
    inside: Any


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Slotted:
    inside: Any


class Plain:
    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def method(self) -> None: ...


class Named(Plain):
    def __call__(self, x: Any) -> Any:
        return x


def closure(inside: Any) -> Callable[..., Any]:
    return lambda x: (x, inside)


def default(inside: Any) -> Callable[..., Any]:
    def function(x: Any, y: Any = inside) -> Any:
        return x

    return function


def keyword(inside: Any) -> Callable[..., Any]:
    def function(x: Any, *, y: Any = inside) -> Any:
        return x

    return function


def attribute(inside: Any) -> Callable[..., Any]:
    def function(x: Any) -> Any:
        return x

    function.table = inside  # type: ignore[attr-defined]
    return function


def custom(inside: Any) -> Any:
    function = jax.custom_jvp(closure(inside))
    function.defjvp(lambda primals, tangents: (primals, tangents))
    return function


class Text(str):
    __slots__ = ("__dict__",)


class Integer(int): ...


class Table(dict): ...


class Numbers(NamedTuple):
    size: int


class Annotated(Numbers): ...


def with_attribute(value: Any, inside: Any) -> Any:
    value.inside = inside
    return value


def local_class(inside: Any) -> type:
    class Activation:
        def __call__(self, x: Any) -> Any:
            return x, inside

    return Activation


def local_class_with_attribute(inside: Any) -> type:
    class Base:
        table = inside

    class Activation(Base):
        def __call__(self, x: Any) -> Any:
            return x

    return Activation


def member(inside: Any) -> Any:
    class Kind(enum.StrEnum):
        A = "a"

        def __init__(self, _: str) -> None:
            self.table = inside

    return Kind.A


def cached(inside: Any, *, bounded: bool) -> Any:
    function = functools.lru_cache(128 if bounded else None)(lambda _: KEEP[-1])
    KEEP.append(inside)
    function(1)
    return function


def set_variable(inside: Any) -> Any:
    variable: Any = contextvars.ContextVar("variable")
    variable.set(inside)
    return variable


def default_factory(inside: Any) -> Any:
    return closure(collections.defaultdict(closure(inside)))


def weak_method(inside: Any) -> Any:
    KEEP.append(Plain(inside))
    return weakref.WeakMethod(KEEP[-1].method)


KEEP: list[Any] = []
WAYS: dict[str, Callable[[Any], Any]] = {
    "closure": closure,
    "default": default,
    "keyword default": keyword,
    "attribute of a function": attribute,
    "vmap": lambda inside: jax.vmap(closure(inside)),
    "jit": lambda inside: jax.jit(closure(inside)),
    "checkpoint": lambda inside: jax.checkpoint(closure(inside)),
    "grad": lambda inside: jax.grad(closure(inside)),
    "value_and_grad": lambda inside: jax.value_and_grad(closure(inside)),
    "custom_jvp": custom,
    "wrapped twice": lambda inside: jax.jit(jax.vmap(jax.checkpoint(closure(inside)))),
    "cache": lambda inside: functools.lru_cache(closure(inside)),
    "partial": lambda inside: functools.partial(closure(inside), 1),
    "partial of an object": lambda inside: functools.partial(Named(inside), 1),
    "bound method": lambda inside: Plain(inside).method,
    "cached bound method": lambda inside: functools.lru_cache(Plain(inside).method),
    "dataclass": Config,
    "slotted dataclass": Slotted,
    "nested dataclass": lambda inside: Config(Config((1, [inside]))),
    "namespace": lambda inside: Config(types.SimpleNamespace(inside=inside)),
    "object": Plain,
    "callable object": Named,
    "tuple of functions": lambda inside: (1, (closure(inside),)),
    "generator": lambda inside: (inside for _ in range(2)),
    "map": lambda inside: map(str, [inside]),
    "iterator": lambda inside: iter([inside]),
    "chain": lambda inside: Config(itertools.chain([inside])),
    "method of a class in a function": lambda inside: local_class(inside)(),
    "class in a function": local_class,
    "attribute of a class in a function": lambda inside: local_class_with_attribute(inside)(),
    "class made by type": lambda inside: type("Made", (), {"table": inside}),
    "attribute of a class made by type": lambda inside: type("Made", (), {"table": inside})(),
    "str with an attribute": lambda inside: with_attribute(Text("a"), inside),
    "int with an attribute": lambda inside: with_attribute(Integer(1), inside),
    "NamedTuple with an attribute": lambda inside: with_attribute(Annotated(1), inside),
    "member of an Enum": member,
    "result in a cache": functools.partial(cached, bounded=False),
    "result in a cache of limited size": functools.partial(cached, bounded=True),
    "staticmethod": lambda inside: staticmethod(closure(inside)),
    "classmethod": lambda inside: Config(classmethod(closure(inside))),
    "property": lambda inside: property(closure(inside)),
    "exception": ValueError,
    "weak method": weak_method,
    "context variable": lambda inside: contextvars.ContextVar("variable", default=inside),
    "context variable that was set": set_variable,
    "dict with an attribute": lambda inside: closure(with_attribute(Table(), inside)),
    "default factory": default_factory,
    "many others beside it": lambda inside: closure(
        ([Plain(1) for _ in range(5000)], Plain(inside))
    ),
    "mapping proxy": lambda inside: Config(types.MappingProxyType({"a": inside})),
}
ARRAY = jnp.ones(2)
HIDDEN: dict[str, Any] = {
    "module": Scale(Parameter(jnp.ones(2))),
    "module to be set up": Scale(),
    "node": Variable(1.0),
    "jax array": jnp.ones(2),
    "numpy array": np.ones(2),
    "key": jax.random.key(0),
    "ref": jax.new_ref(jnp.ones(2)),
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_hides_is_refused(way: Callable[[Any], Any], hidden: Any) -> None:
    with pytest.raises(TypeError, match=r"^Holder\.content = ") as refusal:
        Holder(way(hidden))
    problem, cure = str(refusal.value).split("\n")[-2:]
    assert "is not a valid field" in problem
    assert cure.strip()
    assert len(str(refusal.value)) < 600
    with pytest.raises(TypeError, match=r"^Holder\.content = "):
        Holder(1).replace(content=way(hidden))


def called(function: Any, x: Any) -> Any:
    function(x)
    return function


def local_module() -> type:
    class Local(Module):
        w: Parameter = Parameter(jnp.ones(2))

    return Local


MESH = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("a",))
SPEC = jax.sharding.PartitionSpec("a")
INNOCENT: dict[str, Any] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "jitted": jax.jit(lambda x: x),
    "vmapped": jax.vmap(lambda x: x),
    "initializer": jax.nn.initializers.he_normal(),
    "ufunc": jnp.add,
    "closure over numbers": closure((1, "a", None)),
    "function of a module global": lambda x: HIDDEN["module"](2 * x),
    "class": Scale,
    "cache of a function": functools.lru_cache(lambda x: x),
    "mesh": jax.make_mesh((1,), ("a",)),
    "dtype": jnp.dtype("float32"),
    "method of a class": "abc".join,
    "frozen dataclass": Config(Config(1)),
    "class in a function": local_class(1),
    "module in a function": local_module(),
    "object with everything": local_class_with_attribute((1, "a"))(),
    "called": called(jax.jit(lambda x: x), ARRAY),
    "called vmap of relu": called(jax.vmap(jax.nn.relu), ARRAY),
    "called gelu": called(jax.jit(jax.nn.gelu), ARRAY),
    "user of a called function": closure(called(jax.jit(jnp.tanh), ARRAY)),
    "vectorize": called(jnp.vectorize(lambda x: x), ARRAY),
    "shard_map": called(
        jax.shard_map(lambda x: x, mesh=MESH, in_specs=SPEC, out_specs=SPEC), ARRAY
    ),
    "sharding": closure(jax.sharding.NamedSharding(MESH, SPEC)),
    "device": closure(jax.devices()[0]),
    "policy": jax.checkpoint(lambda x: x, policy=jax.checkpoint_policies.dots_saveable),
    "initializer in a closure": closure(jax.nn.initializers.orthogonal()),
    "numpy constant in a function of jax": jax.nn.initializers.constant(np.ones(2)),
    "schedule": closure(optim.warmup_cosine_decay(0.0, 0.1, warmup_steps=1, decay_steps=9)),
    "optimizer": optim.Adam(1e-3),
    "random generator": np.random.default_rng(0),
    "logger": closure(logging.getLogger("x")),
    "pattern": re.compile("a").match,
    "lock": threading.Lock(),
    "structure": jax.tree.structure(Scale(Parameter(1.0))),
    "shape": jax.ShapeDtypeStruct((2,), jnp.float32),
    "finfo": jnp.finfo(jnp.float32),
    "path": pathlib.Path(),
    "weak reference": weakref.ref(Scale),
    "context variable": contextvars.ContextVar("variable", default=1),
    "cache with results": called(functools.lru_cache(lambda x: x), 1),
    "module of Python": closure(np),
    "exception": ValueError("a"),
    "member of an Enum": jax.lax.Precision.HIGH,
    "polynomial": closure(np.polynomial.Polynomial),
    "callback": functools.partial(jax.pure_callback, np.sin),
}


@pytest.mark.parametrize("value", INNOCENT.values(), ids=INNOCENT)
def test_what_hides_nothing_is_accepted(value: Any) -> None:
    assert Holder(value).content is value or Holder(value).content == value


def test_a_cache_of_arrays_is_refused_once_it_has_one() -> None:
    """Under jit it would keep a tracer."""
    table = functools.lru_cache(jnp.ones)
    assert Holder(table).content is table
    table(3)
    with pytest.raises(TypeError, match=r"the cache of ones holds float32\[3\]"):
        Holder(table)


def test_the_constants_of_a_jaxpr_are_found() -> None:
    closed = jax.make_jaxpr(lambda x: x + ARRAY)(ARRAY)
    for value in (closed, jax.extend.core.jaxpr_as_fun(closed)):
        with pytest.raises(
            TypeError, match=r"a list in the attribute '\w+' of a (Closed)?Jaxpr holds"
        ):
            Holder(value)


def test_a_weak_reference_to_a_module_is_refused() -> None:
    model = Scale(Parameter(1.0))
    with pytest.raises(TypeError, match="a weak reference holds a Scale"):
        Holder(weakref.ref(model))


def test_the_message_names_the_variable_that_leads_there() -> None:
    name = "closure.<locals>.<lambda>"
    for value, said in (
        (closure({"a": [ARRAY]}), f"a list in the variable 'inside' of {name} holds float32[2],"),
        (closure({1: (jnp.sin, ARRAY)}), f"a tuple in the variable 'inside' of {name} holds"),
        (closure({Scale(): 1}), f"a dict in the variable 'inside' of {name} holds a Scale,"),
        (Config([ARRAY]), "a list in the attribute 'inside' of a Config holds float32[2],"),
        (optim.Adam(ARRAY[0]), "an Adam contains an array, float32[]."),
        (memoryview(np.ones(2)), "holds float64[2],"),
    ):
        with pytest.raises(TypeError) as refusal:
            Holder(value)
        assert said in str(refusal.value)


@pytest.mark.parametrize("way", [lambda ref: ref, closure, Config, lambda ref: (ref,)])
def test_what_changes_in_place_is_refused_with_its_cure(way: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"in a Ref, which changes .*\n.*Variable.*replace|State"):
        Holder(way(jax.new_ref(jnp.ones(2))))
    with pytest.raises(TypeError, match=r"(?s)Ref.*ref\[\.\.\.\]"):
        Parameter(jax.new_ref(jnp.ones(2)))


def test_a_closure_over_the_module_itself_is_refused() -> None:
    class Net(Module):
        w: Parameter
        function: Any = None

        def __init__(self, wrap: Callable[[Any], Any]) -> None:
            self.w = Parameter(1.0)
            self.function = wrap(lambda x: x * self.w.data)

    for wrap in (lambda f: f, jax.jit, jax.vmap, functools.partial):
        with pytest.raises(TypeError, match=r"Net\.function") as refusal:
            Net(wrap)
        assert len(str(refusal.value)) < 600


def test_a_search_ends() -> None:
    """An object that leads to very many others costs a bounded time."""
    deep: Any = None
    for _ in range(100_000):
        deep = Plain(deep)
    assert Holder(deep).content is deep
    while deep is not None:  # or Python would take it apart recursively
        deep = deep.inside


@pytest.mark.parametrize(
    "value", [jax.nn.relu, jax.jit(lambda x: x), Plain(1)], ids=["relu", "jit", "object"]
)
def test_deep_copies_share_static_values(value: Any) -> None:
    model = Holder((Holder(value), Scale(Parameter(jnp.ones(2)))))
    copied = copy.deepcopy(model)
    assert jax.tree.structure(copied) == jax.tree.structure(model)
    assert tree_equal(copied, model)
    assert copied.content[1].w.data is not model.content[1].w.data
