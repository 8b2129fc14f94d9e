"""A reader finds the old or the new file, complete, whenever its writer was stopped."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mlax
from mlax._saving.replacing import replacing

pytestmark = pytest.mark.one_python


def test_killed_writers_leave_whole_files(tmp_path: Path) -> None:
    """At 200 random moments, at 250 calls, at Ctrl-C, and on a full disk."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("kill_the_writer.py"), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    versions, old, new = map(int, re.findall(r"\d+", done.stdout))
    assert versions >= 20, "the kills came too early to say anything"
    assert old >= 50
    assert new >= 3


def saved(path: Path) -> int:
    return mlax.load(path, like=0)


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o027, 0o640), (0o022, 0o644)):
        old = os.umask(mask)
        try:
            mlax.save(tmp_path / str(mask), 1)
        finally:
            os.umask(old)
        assert (tmp_path / str(mask)).stat().st_mode & 0o777 == mode


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    """From before the first byte is written, and whatever a killed writer left."""
    for mode in (0o600, 0o666, 0o440):
        path = tmp_path / f"{mode:o}"
        path.touch()
        path.chmod(mode)
        left = tmp_path / f".{path.name}.saving"
        left.touch(0o644)
        with replacing(path) as file:
            file.write(b"new")
            assert left.stat().st_mode & 0o777 == mode | 0o200
        assert path.stat().st_mode & 0o777 == mode
        assert path.read_bytes() == b"new"


def test_links_stay_links(tmp_path: Path) -> None:
    """Their target is replaced, or created."""
    folder = tmp_path / "folder"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/x")
    for number in (1, 2):
        mlax.save(link, number)
        assert link.is_symlink()
        assert saved(folder / "x") == number
    assert os.listdir(folder) == ["x"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "n" * 248])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        mlax.save(tmp_path / name, number)
        assert os.listdir(tmp_path) == [name]
        assert saved(tmp_path / name) == number


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mlax.save("x", 1)
    assert mlax.load("x", like=0) == 1
    assert mlax.load(Path("./x"), like=0) == 1


@pytest.mark.parametrize(
    ("place", "make", "error", "message"),
    [
        ("none/x", lambda _: None, FileNotFoundError, "does not exist; create it first"),
        (
            "file/x",
            lambda folder: (folder / "file").touch(),
            FileNotFoundError,
            "does not exist; create it first",
        ),
        ("x", lambda folder: (folder / "x").mkdir(), OSError, "x is not a file"),
        ("x", lambda folder: os.mkfifo(folder / "x"), OSError, "x is not a file"),
        ("x", lambda folder: (folder / ".x.saving").symlink_to("y"), OSError, ".x.saving"),
        ("x", lambda folder: os.mkfifo(folder / ".x.saving"), OSError, "is not a file; remove it"),
        ("x", lambda folder: (folder / ".x.saving").mkdir(), OSError, ".x.saving"),
    ],
)
def test_places_that_cannot_be_written(
    place: str, make: Callable[[Path], None], error: type[OSError], message: str, tmp_path: Path
) -> None:
    """Are named, and stay as they are."""
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=re.escape(message)):
        mlax.save(tmp_path / place, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".x.saving").write_bytes(bytes(10_000))
    mlax.save(tmp_path / "x", 1)
    assert saved(tmp_path / "x") == 1
    assert os.listdir(tmp_path) == ["x"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    """The second one gets an error; the first one can continue."""
    mlax.save(tmp_path / "x", 1)
    with (tmp_path / ".x.saving").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"mine")
        with pytest.raises(BlockingIOError, match="another process is saving"):
            mlax.save(tmp_path / "x", 2)
    assert (tmp_path / ".x.saving").read_bytes() == b"mine"
    assert saved(tmp_path / "x") == 1


def test_a_file_that_was_just_finished_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened before another writer renamed it, locked after."""
    flock = fcntl.flock

    def slow(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / ".x.saving").write_bytes(b"theirs")
        (tmp_path / ".x.saving").rename(tmp_path / "x")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with pytest.raises(BlockingIOError, match="another process has just saved"):
        mlax.save(tmp_path / "x", 2)
    assert (tmp_path / "x").read_bytes() == b"theirs"


def test_file_systems_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    mlax.save(tmp_path / "x", 2)
    assert saved(tmp_path / "x") == 2


def test_file_and_folder_are_on_the_disk_in_that_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content before the name, the name before `save` returns."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        size = os.fstat(descriptor).st_size
        assert size > 100 or events[-1] == "folder", "not flushed"
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        events.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    mlax.save(tmp_path / "x", 1)
    assert events == ["file", "name", "folder"]
