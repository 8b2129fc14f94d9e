"""Run by `test_interrupted`: kill processes that save, at as many points as possible, and check the files they
leave.

    python kill_the_writer.py FOLDER

This is a separate process, which never starts JAX's threads, because it forks.
"""

import itertools
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mlax

FILE = Path(sys.argv[1]) / "x.safetensors"
PARTS = (1 << 16, 3, 1)


def tree(version: int) -> dict[str, Any]:
    """Return a tree in which everything says the version."""
    return {"version": version, "parts": [np.full(size, version) for size in PARTS]}


def version() -> int:
    """Return the version of the file, which is whole."""
    loaded = mlax.load(FILE, like=tree(0))
    assert all((part == loaded["version"]).all() for part in loaded["parts"])
    return int(loaded["version"])


def in_child(work: Callable[[], object], seconds: float | None = None) -> int:
    """Do work in a new process; after some time kill it. Return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def count_calls(at: int, then: Callable[[], object]) -> Callable[[Any, str, Any], None]:
    """Return what counts calls, of Python and C, and does something at one of them."""
    number = itertools.count()

    def profile(_: Any, __: str, called: Any) -> None:
        if called is not sys.setprofile and next(number) == at:
            then()

    return profile


def killed_at_a_moment(kills: int) -> int:
    """Kill a process that saves one version after the other; return how many versions it came to."""
    rng = random.Random(0)
    mlax.save(FILE, tree(0))
    start = time.perf_counter()
    mlax.save(FILE, tree(0))
    duration = time.perf_counter() - start
    last = 0
    for _ in range(kills):

        def work(last: int = last) -> None:
            for number in itertools.count(last + 1):
                mlax.save(FILE, tree(number))

        in_child(work, rng.uniform(0, max(3 * duration, 0.03)))  # to fork takes some of it
        now = version()
        assert now >= last
        last = now
    return last


def killed_at_each_call() -> tuple[int, int]:
    """Kill a process at every call that saving makes; return how often the old and the new file was found."""
    calls: list[None] = []
    sys.setprofile(lambda *_: calls.append(None))
    mlax.save(FILE, tree(0))
    sys.setprofile(None)
    # The first half only looks at the tree. At the end the file is brought to the disk and renamed.
    last = len(calls) - 1
    points = [*range(last - 550, last - 100, 3), *range(last - 100, last)]
    found: list[int] = []
    for point in points:
        mlax.save(FILE, tree(0)) if found[-1:] == [1] else None

        def work(point: int = point) -> None:
            sys.setprofile(count_calls(point, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            mlax.save(FILE, tree(1))

        assert in_child(work) == signal.SIGKILL
        found.append(version())
    assert found == sorted(found), "there is one moment at which the new file is there"
    return found.count(0), found.count(1)


def interrupted_at_each_call() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does, at some of the calls."""
    mlax.save(FILE, tree(0))

    def interrupt() -> None:
        raise KeyboardInterrupt

    for point in itertools.count(0, 7):
        sys.setprofile(count_calls(point, interrupt))
        try:
            mlax.save(FILE, tree(point))
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.setprofile(None)
        version()


def disk_full() -> None:
    """Allow files of 4 KB only."""
    mlax.save(FILE, tree(5))

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            mlax.save(FILE, tree(6))
        except OSError as error:
            os._exit(error.errno or 0)

    status = in_child(work)
    assert os.waitstatus_to_exitcode(status) > 0
    assert version() == 5
    assert os.listdir(FILE.parent) == [FILE.name]


if __name__ == "__main__":
    print("versions", killed_at_a_moment(200))
    old, new = killed_at_each_call()
    print("old", old, "new", new)
    assert len(os.listdir(FILE.parent)) <= 2
    interrupted_at_each_call()
    disk_full()
