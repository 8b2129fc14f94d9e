"""What is slow and the same for every test is made once for a run, though the tests run in several processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled; the first process to ask fills it, the others wait.

    Args:
        factory: The fixture `tmp_path_factory`.
        name: Of the folder, the same in all processes.
        make: Called with the folder.

    Raises:
        RuntimeError: `make` failed in another process, which has reported why.
    """
    base = factory.getbasetemp()
    # The workers of pytest-xdist have a folder each, in one that belongs to the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done, failed = folder.with_suffix(".done"), folder.with_suffix(".failed")
    try:
        folder.mkdir()
    except FileExistsError:
        while not done.exists():
            if failed.exists():
                raise RuntimeError(f"{name}: another worker could not make it") from None
            time.sleep(0.1)
        return folder
    try:
        make(folder)
    except BaseException:
        failed.touch()
        raise
    done.touch()
    return folder
