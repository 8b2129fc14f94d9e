"""A State or an array inside a static value is found wherever it hides, and refused with the cure."""

import copy
import dataclasses
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import Module, Parameter, Variable, tree_equal


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
    "mapping proxy": lambda inside: Config(types.MappingProxyType({"a": inside})),
}
HIDDEN: dict[str, Any] = {
    "module": Scale(Parameter(jnp.ones(2))),
    "module to be set up": Scale(),
    "node": Variable(1.0),
    "jax array": jnp.ones(2),
    "numpy array": np.ones(2),
    "key": jax.random.key(0),
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
}


@pytest.mark.parametrize("value", INNOCENT.values(), ids=INNOCENT)
def test_what_hides_nothing_is_accepted(value: Any) -> None:
    assert Holder(value).content is value or Holder(value).content == value


def test_a_cache_is_not_searched_for_results() -> None:
    """Whether a model can be built does not depend on what was called before."""
    table = functools.lru_cache(jnp.ones)
    assert Holder(table).content is table
    table(3)
    assert Holder(table).content is table


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
