"""Conditions of arrays are combined with operators, static ones with words."""

from pathlib import Path

import pytest

from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD

pytestmark = pytest.mark.one_python


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ("g > 0 and v > g", "(g > 0) & (v > g)"),
        ("not g > 0", "~(g > 0)"),
        ("not(g > 0)or not nesterov and isfinite(v)", "(~(g > 0)) | ((not h.nesterov) & jnp.isfinite(v))"),
        ("(g > 0 or (  # and so on\n    v > 0)) and power > 1", "((g > 0) | (v > 0)) & (h.power > 1)"),
        ("g > 0 and v \\\n    > 0", "(g > 0) & (v > 0)"),
        ('(nesterov and order == "first") or g > 0', '(h.nesterov and h.order == "first") | (g > 0)'),
    ],
)  # fmt: skip
def test_of_arrays_with_operators(test: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "probe.toml"
    real = GOOD.replace("[hyper", "complex = 'it compares'\n\n[hyper", 1)
    path.write_text(real.replace("abs2(g)", f"where({test}, g, 0.0)", 1))
    written = " ".join(render_module(read_spec(path)).split())
    assert f"jnp.where({code}, g, 0.0)" in written.replace("( ", "(").replace(" )", ")")
