"""What `make structure` prints, on a package small enough to draw."""

import subprocess
import sys
from pathlib import Path

from tests.packaging.conftest import ROOT


def structure(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a package `house` that has these files; `__` in a name stands for a folder."""
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
        "  files: 5, levels: 4, arrows: 4, circles: 0",
        "  folders: 2, levels: 1, arrows: 2, circles: 1",
        "  circle of 2: house, rooms",
    ], found.stderr
    assert found.returncode == 0


def test_a_circle_fails(tmp_path: Path) -> None:
    """A circle that Python does not mind, because one import waits in a function, is a circle."""
    found = structure(
        tmp_path,
        hall="from house import cellar",
        cellar="from house.rooms import kitchen",
        rooms__kitchen="def cook():\n    from house import hall",
    )
    assert found.stdout.splitlines()[1:3] == [
        "  files: 5, levels: 1, arrows: 3, circles: 1",
        "  circle of 3: cellar, hall, rooms.kitchen",
    ], found.stderr
    assert found.returncode == 1
