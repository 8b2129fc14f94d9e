"""Run pyright and mypy once over many files and read what they say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.typed.expectations import Checker, Finding

ROOT = Path(__file__).parents[2]

Findings = dict[Path, list[Finding]]


def run_all(files: Sequence[Path]) -> dict[Checker, Findings]:
    """Run both checkers, side by side, as the project configures them."""
    with ThreadPoolExecutor() as pool:
        pyright = pool.submit(lambda: _by_file(_pyright(files)))
        mypy = pool.submit(lambda: _by_file(_mypy(files)))
        return {"pyright": pyright.result(), "mypy": mypy.result()}


def _pyright(files: Sequence[Path]) -> Iterator[tuple[Path, Finding]]:
    # Named files replace the configuration's `include`, its rules stay in force.
    output = _output("pyright", "--pythonpath", sys.executable, "--outputjson", *map(str, files))
    for said in json.loads(output)["generalDiagnostics"]:
        line = said["range"]["start"]["line"] + 1
        revealed = re.fullmatch(r'Type of ".*?" is "(.*)"', said["message"], re.DOTALL)
        if said["severity"] == "information":
            if revealed:
                yield Path(said["file"]), Finding(line, None, revealed[1])
        else:
            yield Path(said["file"]), Finding(line, said.get("rule", "syntax"), said["message"])


def _mypy(files: Sequence[Path]) -> Iterator[tuple[Path, Finding]]:
    output = _output("mypy", "--output", "json", *map(str, files))
    for row in output.splitlines():
        said: dict[str, Any] = json.loads(row)
        file = ROOT / said["file"]
        revealed = re.fullmatch(r'Revealed type is "(.*)"', said["message"], re.DOTALL)
        if said["severity"] == "note":
            if revealed:
                yield file, Finding(said["line"], None, revealed[1])
        else:
            yield file, Finding(said["line"], said["code"] or "syntax", said["message"])


def _output(tool: str, *arguments: str) -> str:
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1 is: errors were found
        raise RuntimeError(f"{tool} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def _by_file(findings: Iterator[tuple[Path, Finding]]) -> Findings:
    result: Findings = {}
    for file, finding in findings:
        result.setdefault(file, []).append(finding)
    return result
