"""What the docstrings of generated modules say about options, symbols and required weights."""

import ast
from pathlib import Path

import pytest

from mlax_codegen.reading.spec import read_spec
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.render import render_module

SPECS = {path.stem: path for path in built_in_specs()}


def docstring(spec: Path, *names: str) -> str:
    """Return the docstring of a module, or of what `names` lead to in it, on one line."""
    node: ast.AST = ast.parse(render_module(read_spec(spec)))
    for name in names:
        [node] = [
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name == name
        ]
    assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    return " ".join((ast.get_docstring(node) or "").split())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adam", "if weight_decay is given, and with stochastic_rounding or slot_dtype; otherwise"),
        (
            "adafactor",
            "if multiply_by_parameter_scale is True or weight_decay_rate is given, and with",
        ),
        ("sign_sgd", "Required with stochastic_rounding; otherwise"),
        ("prodigy", "The weights; same structure as the gradients."),
    ],
)
def test_when_weights_are_required(name: str, text: str) -> None:
    assert text in docstring(SPECS[name], "step")


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", "floating-point or complex"), ("rprop", "real")]
)
def test_which_weights_init_takes(name: str, kind: str) -> None:
    assert f"any tree of {kind}" in docstring(SPECS[name], "init")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "prodigy",
            "``` In the code: decay = β̂₃, rate = α, d_before = d̄, numerator = r. References",
        ),
        ("muon", "scale = s. n₋₁ and n₋₂ are the lengths of a leaf's last two axes. References"),
        ("adafactor", "u = U, shrinkage = δ, row = R, column = C, update = u."),
        ("adam", "``` References"),
        ("acprop", "``` In the code: residual = r. References"),
    ],
)
def test_names_in_the_code_of_symbols(name: str, line: str) -> None:
    assert line in docstring(SPECS[name])


def test_a_class_says_what_the_algorithm_is() -> None:
    text = docstring(SPECS["adam"], "Adam")
    assert text.startswith("Adam: the mean gradient, divided by the root of")


def test_a_slot_that_a_leaf_lacks_is_explained() -> None:
    assert "A slot that the leaf does not have is ()." in docstring(SPECS["muon"], "_leaf")
    assert "()" not in docstring(SPECS["adam"], "_leaf")
