"""Room on Python's stack for deeply nested models."""

import sys

__all__ = ["MANY", "make_room"]

_FRAMES = 24  # of Python for each level: six of ours in a call, and what a `forward` and JAX need
MANY = 64  # nested modules; fewer always fit


def make_room(depth: int) -> None:
    """Let Python recurse deeply enough for this many nested modules.

    The limit is only raised, never lowered: another thread may be further down.
    """
    if sys.getrecursionlimit() < _FRAMES * depth:
        sys.setrecursionlimit(2 * _FRAMES * depth)
