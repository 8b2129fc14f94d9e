"""The command line ends quietly when its reader goes away, and on Ctrl-C; tried with real pipes and signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.codegen.checking.bad_specs import GOOD

CODEGEN = [sys.executable, "-m", "mlax_codegen"]
READER_GONE = 141

# Each prints something on standard output.
CALLS = [
    ["show"],
    ["show", "adam"],
    ["show", "adam", "--latex"],
    ["schema"],
    ["new", "fresh"],
    ["generate", "probe.toml", "--output", "mine"],
    ["generate", "probe.toml", "--output", "mine", "--check"],
    ["--help"],
    ["show", "--help"],
]
# And each of these on standard error.
MISTAKES = [["show", "adm"], ["generate"], ["generate", "gone.toml", "--output", "mine"], ["shwo"]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.toml").write_text(GOOD)
    return tmp_path


def unread() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def called(arguments: Sequence[str], *, buffered: bool = True) -> tuple[int, bytes]:
    """Return exit status and standard error of a call whose standard output nobody reads."""
    writing = unread()
    done = subprocess.run(
        [*CODEGEN, *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
    )
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_no_reader_of_the_output(arguments: list[str]) -> None:
    assert called(arguments) == (READER_GONE, b"")


def test_output_that_is_not_buffered() -> None:
    """The first line fails to be printed, not the flush at the end."""
    assert called(["show"], buffered=False) == (READER_GONE, b"")


def test_all_files_are_written_before_anything_is_printed(folder: Path) -> None:
    other = GOOD.replace('name = "probe"', 'name = "other"\nclass = "Other"')
    (folder / "other.toml").write_text(other)
    arguments = ["generate", "probe.toml", "other.toml", "--output", "mine"]
    assert called(arguments, buffered=False) == (READER_GONE, b"")
    assert {path.name for path in (folder / "mine").iterdir()} >= {"probe.py", "other.py"}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_no_reader_of_the_errors(arguments: list[str]) -> None:
    """Python 3.11's argparse ignores that it cannot print; the status may then stay that of a bad call."""
    writing = unread()
    done = subprocess.run(
        [*CODEGEN, *arguments], stdout=subprocess.PIPE, stderr=writing, check=False
    )
    os.close(writing)
    assert done.returncode in {2, READER_GONE}
    assert done.stdout == b""


@pytest.mark.parametrize("arguments", [["show"], ["shwo"]], ids=" ".join)
def test_no_reader_at_all(arguments: list[str]) -> None:
    """As in `mlax-codegen show 2>&1 | true`."""
    writing = unread()
    done = subprocess.run([*CODEGEN, *arguments], stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode in {2, READER_GONE}


def test_a_reader_that_has_seen_enough() -> None:
    """`mlax-codegen show | head -1` in a real shell prints the first line and nothing else."""
    pipeline = f"'{sys.executable}' -m mlax_codegen show | head -1"
    done = subprocess.run(["sh", "-c", pipeline], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


def test_streams_that_are_closed_from_the_start() -> None:
    command = f"'{sys.executable}' -m mlax_codegen show >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


def test_ctrl_c(folder: Path) -> None:
    """The spec is a pipe that this test holds open, so the command is waiting in `read` when the signal comes."""
    os.mkfifo(folder / "slow.toml")
    command = [*CODEGEN, "generate", "slow.toml", "--output", "mine"]
    # What was started in the background ignores Ctrl-C, and so would all that it starts.
    ignoring = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, ignoring)
    with process, (folder / "slow.toml").open("w"):  # returns when the command opens it, too
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (-signal.SIGINT, b"", b"")
    assert not (folder / "mine").exists()
