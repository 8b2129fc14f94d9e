"""Formulas with the options at their defaults, and a line for each other option."""

import ast
from pathlib import Path

import pytest

from mlax_codegen.formulas.options import formulas
from mlax_codegen.formulas.text import text_lines
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.resources import built_in_specs
from tests.codegen.formulas.probes import spec_with

SPECS = pytest.mark.parametrize("path", built_in_specs(), ids=lambda path: path.stem)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        ("v = g if nesterov else w", "vₜ = wₜ₋₁\n\nif nesterov is True: vₜ = gₜ"),
        (
            "if momentum is not None:\n    g = -g\nv = g",
            "gₜ ← -gₜ\nvₜ = gₜ\n\nif momentum is None: leave out gₜ ← -gₜ",
        ),
        (
            "g = g if nesterov else -g\nv = g",
            "gₜ ← -gₜ\nvₜ = gₜ\n\nif nesterov is True: leave out gₜ ← -gₜ",
        ),
        (
            'c = w if order == "first" else g\nv = c if nesterov else g',
            'vₜ = gₜ\n\nif nesterov is True: cₜ = wₜ₋₁; vₜ = cₜ\nif nesterov is True and order is "last": cₜ = gₜ',
        ),
        (
            "if ndim == 2:\n    v = g\nelse:\n    v = w\nif nesterov:\n    update = v",
            "if ndim = 2:\n    vₜ = gₜ\notherwise:\n    vₜ = wₜ₋₁\n\nif nesterov is True: wₜ = wₜ₋₁ + vₜ",
        ),
        (
            "if momentum is None:\n    g = -g\nv = g",
            "vₜ = gₜ\n\nif momentum is None: gₜ ← -gₜ, before vₜ",
        ),
        (
            "if momentum is None:\n    g = -g\nif ndim == 2:\n    v = g\nelse:\n    v = w",
            "if ndim = 2:\n    vₜ = gₜ\notherwise:\n    vₜ = wₜ₋₁\n\n"
            "if momentum is None: gₜ ← -gₜ, before each vₜ",
        ),
        (
            "u = g\nif nesterov:\n    u = u + w\nu = -u\nv = u",
            "uₜ = gₜ\nuₜ ← -uₜ\nvₜ = uₜ\n\nif nesterov is True: uₜ ← uₜ + wₜ₋₁, before uₜ ← -uₜ",
        ),
        (
            'if nesterov:\n    g = -g\nif order == "last":\n    g = g * w\nv = g',
            "vₜ = gₜ\n\nif nesterov is True: gₜ ← -gₜ, before vₜ\n"
            'if order is "last": gₜ ← gₜ wₜ₋₁, before vₜ\n'
            'if nesterov is True and order is "last": gₜ ← -gₜ; gₜ ← gₜ wₜ₋₁, before vₜ',
        ),
        ("v = where(g > 0, g, w)", "vₜ = gₜ if gₜ > 0 else wₜ₋₁"),
        ("unused = -g\nv = g", "vₜ = gₜ"),
    ],
)
def test_what_is_written(leaf: str, text: str, tmp_path: Path) -> None:
    assert "\n".join(text_lines(formulas(spec_with(leaf, tmp_path)), 100)) == text


def test_a_long_change_has_a_line_for_each_place(tmp_path: Path) -> None:
    leaf = "if nesterov:\n    g = -g\n    v = g\nelse:\n    v = w\nc = b2 * w\nupdate = c * g if nesterov else c"
    spec = spec_with(leaf, tmp_path)
    assert text_lines(formulas(spec), 30)[-3:] == [
        "if nesterov is True:",
        "    gₜ ← -gₜ; vₜ = gₜ",
        "    wₜ = wₜ₋₁ + cₜ gₜ",
    ]


@pytest.mark.one_python
@SPECS
def test_every_option_that_equations_read_is_shown(path: Path) -> None:
    spec = read_spec(path)
    codes = [code for phase in spec.phases for code in (phase.scalars, phase.leaf) if code]
    statements = [statement for code in codes for statement in code.body]
    tests = [
        part.test
        for statement in statements
        for part in ast.walk(statement)
        if isinstance(part, ast.If | ast.IfExp)
    ]
    asked = {part.id for test in tests for part in ast.walk(test) if isinstance(part, ast.Name)}
    told = {
        option.partition(" ")[0] for change in formulas(spec).changes for option in change.options
    }
    options = {h.name for h in spec.hyperparameters if h.kind in {"flag", "choice"} or h.optional}
    assert told >= asked & options


@pytest.mark.one_python
@SPECS
def test_text_is_narrow_and_has_no_latex(path: Path) -> None:
    lines = text_lines(formulas(read_spec(path)), 100)
    assert len(lines) <= 37
    assert all(len(line) <= 100 for line in lines)
    assert not set("\\{}&$") & set("".join(lines))
