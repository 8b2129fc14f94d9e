"""Run the type checkers once over many files and read what they say.

Each runs once for each Python: pyright and mypy over the snippets and the corpus, pyrefly and ty, which take a second,
over the corpus. pyright checks the corpus for other Pythons in the same process, in copies.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

from tests.typed.expectations import Finding

ROOT = Path(__file__).parents[2]
COPIES = (
    ROOT / "out" / "types"
)  # pyproject.toml tells pyright which Python each folder in it is for

Checker = Literal["pyright", "mypy", "pyrefly", "ty"]
Version = Literal["3.11", "3.13"]
CHECKERS: tuple[Checker, ...] = get_args(Checker)
VERSIONS: tuple[Version, ...] = get_args(Version)

Findings = dict[Path, list[Finding]]
Reports = dict[tuple[Checker, Version], Findings]


def run_all(snippets: Sequence[Path], corpus: Sequence[Path]) -> Reports:
    """Run the checkers, side by side, as the project configures them.

    Args:
        snippets: Files for pyright and mypy on the first of the Pythons.
        corpus: Files for all checkers and Pythons.
    """
    with ThreadPoolExecutor() as pool:
        pyright = pool.submit(_pyright, [*corpus, *snippets], corpus)
        others: dict[tuple[Checker, Version], Future[Findings]] = {}
        for version in VERSIONS:  # a generator begins to run in the pool
            files = [*corpus, *snippets] if version == VERSIONS[0] else corpus
            others["mypy", version] = pool.submit(_by_file, _mypy(files, version))
            others["pyrefly", version] = pool.submit(_by_file, _pyrefly(corpus, version))
            others["ty", version] = pool.submit(_by_file, _ty(corpus, version))
        return pyright.result() | {key: job.result() for key, job in others.items()}


def _pyright(files: Sequence[Path], corpus: Sequence[Path]) -> Reports:
    first, *more = VERSIONS
    origin: dict[Path, tuple[Version, Path]] = {file: (first, file) for file in files}
    for version in more:
        folder = COPIES / version
        folder.mkdir(parents=True, exist_ok=True)
        for file in corpus:
            origin[Path(shutil.copy(file, folder))] = (version, file)
    # Named files replace the configuration's `include`, its rules stay in force.
    output = _output("pyright", "--pythonpath", sys.executable, "--outputjson", *map(str, origin))
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == len(origin)
    reports: Reports = {("pyright", version): {} for version in VERSIONS}
    for said in report["generalDiagnostics"]:
        version, file = origin[Path(said["file"])]
        line = said["range"]["start"]["line"] + 1
        revealed = re.fullmatch(r'Type of ".*?" is "(.*)"', said["message"], re.DOTALL)
        if said["severity"] != "information":
            finding = Finding(line, said.get("rule", "syntax"), said["message"])
        elif revealed:
            finding = Finding(line, None, revealed[1])
        else:
            continue
        reports["pyright", version].setdefault(file, []).append(finding)
    return reports


def _mypy(files: Sequence[Path], version: Version) -> Iterator[tuple[Path, Finding]]:
    output = _output("mypy", "--output", "json", "--python-version", version, *map(str, files))
    for row in output.splitlines():
        said: dict[str, Any] = json.loads(row)
        file = ROOT / said["file"]
        revealed = re.fullmatch(r'Revealed type is "(.*)"', said["message"], re.DOTALL)
        if said["severity"] == "note":
            if revealed:
                yield file, Finding(said["line"], None, revealed[1])
        else:
            yield file, Finding(said["line"], said["code"] or "syntax", said["message"])


def _pyrefly(files: Sequence[Path], version: Version) -> Iterator[tuple[Path, Finding]]:
    options = ["--python-interpreter-path", sys.executable, "--python-version", version]
    output = _output("pyrefly", "check", *options, "--output-format", "json", *map(str, files))
    for said in json.loads(output)["errors"]:
        if said["severity"] == "error":
            file = ROOT / said["path"]
            yield file, Finding(said["line"], said["name"], said["description"])


def _ty(files: Sequence[Path], version: Version) -> Iterator[tuple[Path, Finding]]:
    options = ["--python", sys.prefix, "--python-version", version]
    output = _output("ty", "check", *options, "--output-format", "gitlab", *map(str, files))
    for said in json.loads(output):
        if said["severity"] != "info":
            file, line = said["location"]["path"], said["location"]["positions"]["begin"]["line"]
            yield ROOT / file, Finding(line, said["check_name"], said["description"])


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
