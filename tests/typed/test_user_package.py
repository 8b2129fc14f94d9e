"""Generated modules in a user's own project: clean under pyright's strict rules, with no exception for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlax_codegen.cli import main
from mlax_codegen.resources import built_in_specs

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parents[2]
SPECS = [*built_in_specs(), ROOT / "tests" / "codegen" / "specs" / "rich.toml"]


def errors(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(
        [*command, "-p", str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 46
    return [
        f"{Path(said['file']).name}: {said['message']}" for said in report["generalDiagnostics"]
    ]


def test_strict_rules_find_nothing(tmp_path: Path) -> None:
    package = tmp_path / "optimizers"
    package.mkdir()
    assert main(["generate", *map(str, SPECS), "--output", str(package)]) == 0
    settings = {
        "include": ["optimizers"],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT / "src")],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    wrong = package / "wrong.py"
    wrong.write_text("from .adam import init\n\nx: int = init(1.0).step\n")
    found = errors(tmp_path)
    assert [message for message in found if not message.startswith("wrong.py: ")] == []
    assert found, "what is wrong has to be seen"
