"""How long specs and generated modules are; `pytest -rP` prints the longest.

In a module, docstrings and blank lines do not count: hyperparameters are described in the class and in `init`.
"""

import ast
import inspect
from pathlib import Path

import pytest

from tests.mlax.generated_optimizers import MODULES, SPECS

pytestmark = pytest.mark.one_python

LONGEST_SPEC = 60
LONGEST_MODULE = 250


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def length_of_code(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    lines = {number for number, line in enumerate(text.splitlines(), start=1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return len(lines)


def test_specs_and_modules_are_short() -> None:
    specs = {path.stem: length(path) for path in SPECS.glob("*.toml")}
    modules = {
        name: length_of_code(Path(inspect.getfile(module))) for name, module in MODULES.items()
    }
    assert set(modules) <= set(specs)
    for kind, lengths, limit in (
        ("spec", specs, LONGEST_SPEC),
        ("module", modules, LONGEST_MODULE),
    ):
        longest = max(lengths, key=lambda name: lengths[name])
        print(f"longest {kind}: {longest}, {lengths[longest]} lines; of {len(lengths)}")
        assert {n: lines for n, lines in lengths.items() if lines > limit} == {}
