"""The example trains to what it promises, and is the one that the README shows."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def training_script() -> str:
    """Return what `make train` runs."""
    recipe = (ROOT / "Makefile").read_text().partition("\ntrain:")[2].partition("\n\n")[0]
    (script,) = re.findall(r"\$\(bin\)/python (\S+)", recipe)
    return str(script)


def test_training_reaches_its_accuracy_and_leaves_a_picture(tmp_path: Path) -> None:
    """As `make train` runs it, but for the folder."""
    done = subprocess.run(
        [sys.executable, ROOT / training_script()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, last = done.stdout.splitlines()[-2:]
    accuracy, path = result.removeprefix("Test accuracy: ").split("%. Picture: ")
    assert float(accuracy) >= 97
    assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    assert last.startswith("Next: open ")
    assert "loss=" in done.stderr, "no progress bar"
    assert "test_accuracy=" in done.stderr


def test_tutorial_is_the_example() -> None:
    """Each of the tutorial's large blocks stands in the example as it is."""
    example = (ROOT / "examples/digits.py").read_text()
    tutorial = (ROOT / "README.md").read_text().partition("## Tutorial")[2].partition("\n## ")[0]
    blocks = [part.partition("```")[0] for part in tutorial.split("```python\n")[1:]]
    definitions = [block for block in blocks if "class " in block or "def " in block]
    assert len(definitions) == 2
    for block in definitions:
        assert block.strip() in example
    code = [line for line in example.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) < 80
