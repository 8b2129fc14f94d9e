"""A good spec with one change, analysed."""

from pathlib import Path

from mlax_codegen.checking.analysis import Analysis, analyse
from mlax_codegen.reading.spec import read_spec
from tests.codegen.checking.bad_specs import GOOD

__all__ = ["analysis"]


def analysis(tmp_path: Path, old: str = "", new: str = "") -> Analysis:
    assert old in GOOD
    real = GOOD.replace("[hyper", 'complex = "of no concern here"\n[hyper', 1)
    (tmp_path / "probe.toml").write_text(real.replace(old, new, 1))
    return analyse(read_spec(tmp_path / "probe.toml"))
