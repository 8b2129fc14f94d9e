"""Files that are replaced as a whole: a reader finds the old or the new one, whenever the writer is stopped."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

__all__ = ["in_turn", "replacing"]

_LONGEST_NAME = 255
"""In bytes: what most file systems take."""


@contextlib.contextmanager
def replacing(path: Path, writer: str = "") -> Generator[BinaryIO, None, None]:
    """Yield a new file to write to. It replaces `path` when everything is written and on the disk.

    While it is written it is called `.NAME.saving`, beside `path`, or has a hash of NAME in its place if that is too
    long. It is locked to keep out a second writer. If writing fails it is removed. A killed process leaves it behind;
    the next writer overwrites it. An existing file's permissions are kept; a new file gets those that the umask
    allows.

    Args:
        path: The file to replace or create. If it is a symbolic link, its target is, which may be
            missing.
        writer: Distinguishes the new files of writers that may write at the same time.

    Raises:
        OSError: The folder is missing or cannot be written to, the disk is full, `path` is not a
            file, or someone else is writing it. An existing file is left as it was.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a file; choose another path")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it first")
    temporary = target.with_name(_temporary(target.name + writer))
    mode = stat.S_IMODE(target.stat().st_mode) & 0o777 if target.exists() else None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    # While it is temporary its owner may write to it whatever the mode: if this writer is killed, the
    # next one has to.
    first = 0o666 if mode is None else mode | 0o200
    with os.fdopen(os.open(temporary, flags, first), "wb") as file:
        _lock(file, temporary, path)
        try:
            file.truncate(0)
            if mode is not None:
                os.fchmod(file.fileno(), first)  # the umask or a killed writer may have left others
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def in_turn(folder: Path) -> Generator[None, None, None]:
    """Wait until no other process is in here for the same folder, if its file system has locks."""
    descriptor: int | None = None
    with contextlib.suppress(OSError):
        import fcntl  # only on Unix; imported here so that `import mlax` works everywhere

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _temporary(name: str) -> str:
    """Return what a file is called while it is written."""
    temporary = f".{name}.saving"
    if len(os.fsencode(temporary)) <= _LONGEST_NAME:
        return temporary
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.saving"


def _lock(file: BinaryIO, temporary: Path, path: Path) -> None:
    """Lock a file that was just opened. Raise an error if another writer has it, or had it a moment ago."""
    import fcntl  # only on Unix; imported here so that `import mlax` works everywhere

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"another process is saving {path}; try again later") from None
    except OSError:
        pass  # a file system without locks
    mine = os.fstat(file.fileno())
    if not stat.S_ISREG(mine.st_mode):
        raise OSError(f"{temporary} is not a file; remove it")
    # The last writer may have renamed or removed it after we opened it and before we locked it.
    if not temporary.exists() or not os.path.samestat(mine, temporary.lstat()):
        raise BlockingIOError(f"another process has just saved {path}; try again")


def _sync_folder(folder: Path) -> None:
    """Write the folder's entry, the new name, to the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system does this by itself, or cannot
            raise
    finally:
        os.close(descriptor)
