"""Writing generated files: all or none of a run's, each one replaced as a whole."""

import os
import re
import stat
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlax_codegen.writing.render import HEADER

__all__ = ["TYPED", "OutputError", "Plan", "generated_in", "is_generated", "plan", "write"]

TYPED = "py.typed"
"""The empty file that tells type checkers to read a package."""
_CLASS = re.compile(r"^class (\w+)\(Optimizer\):$", re.MULTILINE)


class OutputError(Exception):
    """A folder or file that cannot be written, in one line."""


@dataclass(frozen=True)
class Plan:
    """What a run would do to its folders, as paths in them; orphans are listed and never touched."""

    missing: list[Path]
    stale: list[Path]
    orphaned: list[Path]


def is_generated(path: Path) -> bool:
    """Whether a file says that it was generated."""
    return (_read(path) or b"").startswith(HEADER.encode())


def generated_in(folder: Path) -> dict[Path, str]:
    """Return the modules in a folder that were generated, with the class of each."""
    paths = filter(is_generated, sorted(folder.glob("*.py")))
    found = {path: _CLASS.search(path.read_text("utf-8")) for path in paths}
    return {path: match[1] for path, match in found.items() if match is not None}


def plan(
    outputs: Mapping[Path, str], folders: Mapping[Path, Collection[str]] | None = None
) -> Plan:
    """Compare what a run makes with what its folders have.

    Args:
        outputs: Text of each file.
        folders: Folders that have no other generated files than these, with the names of the specs they are from.
            Others may have modules of specs that this run was not given, so nothing is said of these.

    Raises:
        OutputError: The folder is a file, or a file of that name is not one of the generator's.
    """
    for folder in {path.parent for path in outputs}:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: this is not a folder")
    missing: list[Path] = []
    stale: list[Path] = []
    for path, text in outputs.items():
        present = _read(path)
        if present is None:
            missing.append(path)
        elif present == text.encode() or path.name == TYPED:
            continue
        elif not present.startswith(HEADER.encode()):
            raise OutputError(
                f"{path}: mlax-codegen did not write this file and does not overwrite it; move it away"
            )
        else:
            stale.append(path)
    orphaned = [
        path
        for folder, specs in (folders or {}).items()
        for path in sorted(folder.glob("*.py"))
        if path not in outputs and path.stem != "__init__" and _source(path) not in {None, *specs}
    ]
    return Plan(missing, stale, orphaned)


def write(outputs: Mapping[Path, str], changes: Plan) -> list[Path]:
    """Write the files that a plan says are missing or stale; return them.

    Every file is first written beside its place and then moved into it, so that each is old or new, never half.

    Raises:
        OutputError: A file could not be written. Nothing has changed, but for files that were moved before it.
    """
    paths = [*changes.missing, *changes.stale]
    prepared: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = path.resolve()  # a link stays one
            prepared.append((_prepared(target, outputs[path]), target))
        for path, (temporary, target) in zip(paths, prepared, strict=True):  # noqa: B007
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary, _ in prepared:
            temporary.unlink(missing_ok=True)  # gone where it was moved
    return paths


def _prepared(path: Path, text: str) -> Path:
    """Return a new file beside `path` that holds a text, safely on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".mlax-codegen.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _mode(path: Path) -> int:
    """Return the permissions of a file, or those that a new one gets."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from None


def _source(path: Path) -> str | None:
    """Return the name of the spec that a file says it was generated from; None of any other file."""
    first = (_read(path) or b"").split(b"\n", 1)[0].decode("utf-8", "replace")
    if not first.startswith(HEADER):
        return None
    return first.removeprefix(HEADER).partition(".toml")[0]
