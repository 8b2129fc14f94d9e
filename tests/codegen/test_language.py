"""The functions of the language are those of the runtime, with its parameters."""

import ast
import builtins
import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax.leafwise import map_leaves, orthogonalize, reduce_leaves
from mlax.leafwise._matrices import NAMED_COEFFICIENTS
from mlax.optimizer import Optimizer
from mlax_codegen.language import (
    _FACTS,
    _SHAPES,
    FUNCTIONS,
    HELD_AS,
    OF_INIT,
    OF_PHASES,
    OF_SHAPES,
    RESERVED,
    Function,
)
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD

SPECS = sorted((Path(__file__).parent / "specs").glob("*.toml"))


@pytest.mark.parametrize("names", [*_FACTS.values(), *_SHAPES.values()])
def test_facts_are_about_functions(names: str) -> None:
    assert {*names.split()} <= {*FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_the_runtime_has_it(function: Function) -> None:
    if function.name == "total":
        return  # what `reduce_leaves` does
    if not function.is_imported:
        home = jnp if function.code.startswith("jnp.") else builtins
        assert callable(getattr(home, function.code.removeprefix("jnp.")))
        return
    called = getattr(importlib.import_module("mlax.leafwise"), function.code)
    theirs = list(inspect.signature(called).parameters.values())
    if function.count:
        assert theirs.pop(function.count_at).name == function.count
    ours = [
        p for p in function.parameters if p.name != "other"
    ]  # of two numbers, `max` is Python's
    assert len(theirs) >= len(ours)
    for own, their in zip(ours, theirs, strict=False):
        if own.optional:
            assert (own.name, their.default is not their.empty) == (their.name, True)
    assert all(their.default is not their.empty for their in theirs[len(ours) :])


def test_what_a_module_imports_is_reserved() -> None:
    codes = {function.code for function in FUNCTIONS.values() if function.is_imported}
    assert codes <= {*RESERVED}


@pytest.mark.parametrize("function", [map_leaves, reduce_leaves])
def test_no_scalar_takes_the_place_of_an_argument(function: Callable[..., object]) -> None:
    """A step hands scalars over by name, beside these."""
    parameters = inspect.signature(function).parameters.values()
    by_name = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert by_name <= {*RESERVED}


def test_what_all_optimizers_have_is_reserved() -> None:
    assert {name for name in dir(Optimizer) if not name.startswith("_")} <= {*RESERVED}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_name_of_a_module_is_from_the_spec_or_reserved(path: Path) -> None:
    spec = read_spec(path)
    own = {spec.class_name, *spec.shapes, *(x for d in spec.definitions for x in d.parameters)}
    for declared in (
        spec.hyperparameters,
        spec.arguments,
        spec.scalars,
        spec.slots,
        spec.functions,
    ):
        own |= {thing.name for thing in declared}
    parts: list[ast.AST] = [statement for code in spec.blocks for statement in code.body]
    parts += [slot.shape.expression for slot in spec.slots if slot.shape is not None]
    own |= {name for part in parts for name in names_of(part)}
    tree = ast.parse(render_module(spec))
    names = set(names_of(tree))
    private = {name for name in names if name.startswith("_")}
    assert names - private - own <= {*RESERVED, *OF_INIT, HELD_AS}
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(functions) == len({*functions})
    leaves = {f"_{thing.name}" for thing in (*spec.phases, *spec.functions)}
    leaves |= {f"_{each.name}" for each in spec.definitions}
    leaves |= {f"_new_{phase.name}" for phase in spec.phases if phase.unless}
    others = {name for name in {*functions} - leaves if name.startswith("_")}
    assert {name for name in others if not name.endswith(OF_SHAPES)} == {
        f"_{name}" for name in OF_PHASES
    }


@pytest.mark.parametrize("old", ["b2", "learning_rate", "velocity", "v", "direction", "c"])
def test_a_name_of_the_template_is_one_like_others(old: str, tmp_path: Path) -> None:
    """A module that has another use for `h` calls the hyperparameters otherwise."""
    text = re.sub(rf"(?<![\"\w]){old}\b(?! of)", HELD_AS, GOOD)
    (tmp_path / "probe.toml").write_text(text)
    spec = read_spec(tmp_path / "probe.toml")
    module = types.ModuleType("probe")
    exec(compile(render_module(spec), "probe.py", "exec"), vars(module))
    optimizer: Any = module.Probe()
    state = jax.eval_shape(optimizer.init, jnp.ones(2))
    jax.eval_shape(optimizer.step, jnp.ones(2), state)


def names_of(tree: ast.AST) -> Iterator[str]:
    """Yield the names that code gives a meaning, or that it takes to have one."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.alias(name=name, asname=None):
                yield name
            case ast.alias(asname=str() as name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case _:
                pass


def test_every_function_is_documented() -> None:
    assert all(function.doc.endswith(".") for function in FUNCTIONS.values())


def test_the_words_of_a_choice_are_those_that_the_runtime_knows() -> None:
    words = FUNCTIONS["orthogonalize"].words
    for name, known in words.items():
        for word in known:
            orthogonalize(jnp.ones((2, 2)), **{name: word})  # type: ignore[arg-type]
    assert set(words["coefficients"]) == set(NAMED_COEFFICIENTS)
