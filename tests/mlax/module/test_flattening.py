"""The functions that take modules apart: generated, visible to debuggers, and free of user code."""

import inspect
import linecache
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax import Container, Module, Parameter, Variable
from tests.mlax.models import Linear, linear, net


def test_a_class_with_its_own_setattr_is_refused():
    with pytest.raises(TypeError, match="__setattr__"):
        type("Mine", (Module,), {"__setattr__": object.__setattr__, "__annotations__": {"a": int}})


def flattening(module: Module) -> Any:
    return module._aux_data.flattening


def test_sources_read_as_if_written_by_hand():
    source = inspect.getsource(flattening(linear()).flatten)
    assert source.splitlines() == [
        "def flatten(module):",
        "    aux_data = module._aux_data",
        "    if aux_data.flattening is not flattening:",
        "        return aux_data.flattening.flatten(module)",
        "    return (module.kernel, module.bias,), aux_data",
    ]
    source = inspect.getsource(flattening(linear()).unflatten)
    assert source.splitlines() == [
        "def unflatten(aux_data, children):",
        "    if aux_data.flattening is not flattening:",
        "        return aux_data.flattening.unflatten(aux_data, children)",
        "    module = mutable()",
        "    module._aux_data = aux_data",
        "    module.out_features, = aux_data.values",
        "    module.kernel, module.bias, = children",
        "    module.__class__ = cls",
        "    return module",
    ]


def test_tracebacks_show_generated_lines():
    treedef = jax.tree.structure(linear())
    unflatten = flattening(linear()).unflatten
    with pytest.raises(ValueError, match="unpack") as error:
        unflatten(linear()._aux_data, (1, 2, 3))
    text = "".join(traceback.format_exception(error.value))
    assert "module.kernel, module.bias, = children" in text
    assert "with children kernel, bias>" in text
    linecache.checkcache()
    assert inspect.getsource(unflatten)
    assert treedef.num_leaves == 2


def test_flattenings_of_one_class_and_of_classes_of_one_name():
    class Optional(Module):
        part: Any
        other: Any = 1

    modules = [Optional(None), Optional(3), Optional(Parameter(1.0)), Optional((), None)]
    assert len({id(flattening(module)) for module in modules}) == 3
    for module in modules:
        leaves, treedef = jax.tree.flatten(module)
        back = treedef.unflatten(leaves)
        assert flattening(back) is flattening(module)
        assert back.part is module.part or leaves

    def local(field: str) -> Any:
        class Local(Module):
            __annotations__ = {field: int, "weight": Parameter}

        return Local(1, Parameter(1.0))

    first, second = local("a"), local("b")
    assert "module.a, = " in inspect.getsource(flattening(first).unflatten)
    assert "module.b, = " in inspect.getsource(flattening(second).unflatten)
    assert jax.tree.map(lambda x: x, first).a == jax.tree.map(lambda x: x, second).b == 1


class Counts(Module):
    """Notices every construction."""

    size: int
    weight: Parameter
    inner: Any = None

    def __post_init__(self):
        constructions.append(self.size)


constructions: list[int] = []


def test_unflatten_runs_no_user_code_and_no_checks():
    module = Counts(3, Parameter(jnp.ones(3)), [Counts(4, Parameter(1.0)), Container([linear()])])
    del constructions[:]
    leaves, treedef = jax.tree.flatten(module)
    for dummies in (leaves, [object() for _ in leaves], [None] * len(leaves), ["x"] * len(leaves)):
        back = treedef.unflatten(dummies)
        assert back.size == 3
    jax.tree.map(lambda x: x, module)
    jax.jit(jax.vmap(lambda m: m, axis_size=2, in_axes=None))(module)
    jax.eval_shape(lambda m: m, module)
    assert constructions == []


def test_is_leaf_predicates_see_modules_and_nodes():
    model = net()
    for kind, count in ((Linear, 2), (Module, 1), ((Parameter, Variable), 8)):
        seen = jax.tree.leaves(model, is_leaf=lambda x, kind=kind: isinstance(x, kind))
        assert sum(isinstance(x, kind) for x in seen) == count
    mask = jax.tree.map(
        lambda _: True, model, is_leaf=lambda x: isinstance(x, (Parameter, Variable))
    )
    assert jax.tree.leaves(mask) == [True] * 8
    assert mask.layers[0].kernel is True


def test_nothing_is_copied_that_does_not_change():
    model = net().replace(layers=[linear(3, 4), linear(4, 3)])
    back = jax.tree.map(lambda x: x, model)
    assert back._aux_data is model._aux_data
    assert back.layers[0]._aux_data is model.layers[0]._aux_data
    assert back.layers[0].kernel.data is model.layers[0].kernel.data
