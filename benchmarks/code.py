"""How much code users write: the files of the networks, which are also what is timed."""

import ast
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.results import Results
from benchmarks.timing import Progress

__all__ = ["FILES", "measure", "user_code"]

FOLDER = Path(__file__).parent / "networks"
LIBRARIES = {"mlax": "in_mlax", "Equinox": "in_equinox", "flax.nnx": "in_flax"}
FILES = {
    "MLP": "mlp.py",
    "convolutional net": "conv_net.py",
    "transformer": "transformer.py",
    "for a loop over its blocks": "deep_transformer.py",
}


def measure(results: Results, effort: Effort, progress: Progress) -> None:
    """Count lines and characters."""
    for case, file in FILES.items():
        code = {library: user_code(FOLDER / each / file) for library, each in LIBRARIES.items()}
        for quantity, count in (("lines", _lines), ("characters", _characters)):
            figures = {library: [count(lines)] for library, lines in code.items()}
            results.add("code", case, quantity, "", figures)


def user_code(path: Path) -> list[str]:
    """Return the lines of a file without its docstring and without blank ones."""
    text = path.read_text()
    first = ast.parse(text).body[0]
    assert isinstance(first, ast.Expr), f"{path} has no docstring"
    return [line for line in text.splitlines()[first.end_lineno :] if line.strip()]


def _lines(code: list[str]) -> float:
    return len(code)


def _characters(code: list[str]) -> float:
    return sum(len(line.strip()) for line in code)
