"""What `make structure` prints, and what the import contracts of `make lint` refuse."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

pytestmark = pytest.mark.one_python


def structure(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a package `house` that has these files; `__` stands for a slash."""
    for name, text in {"": "", "rooms__": "", **files}.items():
        path = folder / "house" / f"{name.replace('__', '/')}.py"
        path = path.with_name("__init__.py") if path.name == ".py" else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "structure.py", "house"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_figures(tmp_path: Path) -> None:
    """The longest chain is hall, rooms.kitchen, cellar, rooms; what only checkers see does not count."""
    found = structure(
        tmp_path,
        hall="from house.rooms import kitchen\nfrom house import cellar",
        rooms__kitchen="def cook():\n    from house import cellar",
        cellar="import house.rooms\nif TYPE_CHECKING:\n    from house import hall",
    )
    assert found.stdout.splitlines() == [
        "house",
        "  files: 5, levels: 4, imports: 4, cycles: 0",
        "  parts: 4, levels: 2, imports: 4, cycles: 1",
        "  cycle of 2: cellar, rooms",
    ], found.stderr
    assert found.returncode == 0


def test_a_cycle_fails(tmp_path: Path) -> None:
    """A cycle that Python does not mind, because one import is inside a function, is a cycle."""
    found = structure(
        tmp_path,
        hall="from house import cellar",
        cellar="from house.rooms import kitchen",
        rooms__kitchen="def cook():\n    from house import hall",
    )
    assert found.stdout.splitlines()[1:3] == [
        "  files: 5, levels: 1, imports: 3, cycles: 1",
        "  cycle of 3: cellar, hall, rooms.kitchen",
    ], found.stderr
    assert found.returncode == 1


def contracts(folder: Path, line: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
    """Check the contracts on a copy of the packages, with a line added to one of its files."""
    for source in "src", "generated", "codegen":
        shutil.copytree(ROOT / source, folder / source)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if line:
        changed = folder / path
        before = changed.read_text(encoding="utf-8") if changed.exists() else ""
        changed.write_text(f"{before}\n{line}\n", encoding="utf-8")
    search = os.pathsep.join(str(folder / source) for source in ("src", "generated", "codegen"))
    return subprocess.run(
        [Path(sysconfig.get_path("scripts"), "lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_hold(tmp_path: Path) -> None:
    found = contracts(tmp_path)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("path", "line", "broken"),
    [
        ("src/mlax/tree.py", "from mlax import optim", "mlax: "),
        ("src/mlax/tree.py", "def late(): from mlax._module import module", "mlax: "),
        ("src/mlax/new.py", "x = 1", "mlax: "),
        ("generated/mlax_optimizers/adam.py", "from mlax import optim", "generated optimizers"),
        ("src/mlax/typing/_weights.py", "import mlax_optimizers.adam", "generated optimizers"),
        ("codegen/mlax_codegen/language.py", "from mlax_codegen import cli", "mlax_codegen: "),
        ("codegen/mlax_codegen/cli.py", "def late(): import mlax.tree", "the generator imports"),
        ("src/mlax/_packing/layout.py", "from mlax._saving import saving", "no import cycles"),
    ],
)
def test_contracts_can_be_broken(path: str, line: str, broken: str, tmp_path: Path) -> None:
    found = contracts(tmp_path, line, path)
    assert found.returncode == 1
    assert any(row.startswith(broken) and "BROKEN" in row for row in found.stdout.splitlines()), (
        found.stdout
    )
