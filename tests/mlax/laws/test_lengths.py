"""How long specs and generated modules are; `pytest -rP` prints the longest."""

import inspect
from pathlib import Path

import pytest

from tests.mlax.generated_optimizers import MODULES, SPECS

pytestmark = pytest.mark.one_python

LONGEST_SPEC = 60
LONGEST_MODULE = 400


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_specs_and_modules_are_short() -> None:
    specs = {path.stem: length(path) for path in SPECS.glob("*.toml")}
    modules = {name: length(Path(inspect.getfile(module))) for name, module in MODULES.items()}
    assert set(modules) <= set(specs)
    for kind, lengths, limit in (
        ("spec", specs, LONGEST_SPEC),
        ("module", modules, LONGEST_MODULE),
    ):
        longest = max(lengths, key=lambda name: lengths[name])
        print(f"longest {kind}: {longest}, {lengths[longest]} lines; of {len(lengths)}")
        assert {n: lines for n, lines in lengths.items() if lines > limit} == {}
