"""The functions of the language are those of the runtime, with its parameters."""

import builtins
import importlib
import inspect

import jax.numpy as jnp
import pytest

from mlax_codegen.language import FUNCTIONS, RESERVED, Function


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_the_runtime_has_it(function: Function) -> None:
    if function.name == "total":
        return  # what `reduce_leaves` does
    if not function.module:
        home = jnp if function.code.startswith("jnp.") else builtins
        assert callable(getattr(home, function.code.removeprefix("jnp.")))
        return
    called = getattr(importlib.import_module(function.module), function.code)
    theirs = list(inspect.signature(called).parameters.values())
    if function.step_at is not None:
        assert theirs.pop(function.step_at).name == "step"
    ours = function.parameters
    assert len(theirs) >= len(ours)
    for own, their in zip(ours, theirs, strict=False):
        if own.optional:
            assert (own.name, their.default is not their.empty) == (their.name, True) or (
                function.name == "max"
            )
    assert all(their.default is not their.empty for their in theirs[len(ours) :])


def test_what_a_module_imports_is_reserved() -> None:
    codes = {function.code for function in FUNCTIONS.values() if function.module}
    assert codes <= RESERVED


def test_every_function_is_documented() -> None:
    assert all(function.doc.endswith(".") and function.latex for function in FUNCTIONS.values())
