"""Files that are replaced whole: whoever opens one finds the old or the new, whenever the writer was stopped."""

import contextlib
import errno
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """Give a new file to write to, which takes the place of `path` when all is written and on the disk.

    Until then it is `.NAME.saving` beside it. If writing fails, that is removed; a killed process leaves it behind, and
    the next one writes over it. A lock on it keeps two writers apart. Who may read and write a file that is replaced
    stays as it was; a new one has what the umask says.

    Args:
        path: What to replace or make. Of a symbolic link what it points to, which may be missing.

    Raises:
        OSError: The folder is missing or cannot be written to, the disk is full, `path` is something else than a
            file, or somebody else is writing it. What was there is as it was.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is no file, and is not replaced by one")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; make it first")
    temporary = target.with_name(f".{target.name}.saving")
    mode = stat.S_IMODE(target.stat().st_mode) & 0o777 if target.exists() else None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    # Its owner may write to it meanwhile, whatever the mode: also the next one, if this one is killed.
    first = 0o666 if mode is None else mode | 0o200
    with os.fdopen(os.open(temporary, flags, first), "wb") as file:
        _lock(file, temporary, path)
        try:
            file.truncate(0)
            if mode is not None:
                os.fchmod(file.fileno(), first)  # what the umask took, or a killed writer left
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


def _lock(file: BinaryIO, temporary: Path, path: Path) -> None:
    """Lock a file that was just opened; refuse it if it is, or was a moment ago, somebody else's."""
    import fcntl  # Unix has it; `import mlax` works elsewhere too

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"somebody else is just saving {path}") from None
    except OSError:
        pass  # a file system without locks
    mine = os.fstat(file.fileno())
    if not stat.S_ISREG(mine.st_mode):
        raise OSError(f"{temporary} is in the way: it is no file")
    # Its last owner may have renamed or removed it between our opening and our locking it.
    if not temporary.exists() or not os.path.samestat(mine, temporary.lstat()):
        raise BlockingIOError(f"somebody else has just saved {path}")


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does this by itself, or cannot
            raise
    finally:
        os.close(descriptor)
