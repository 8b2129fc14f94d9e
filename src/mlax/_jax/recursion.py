"""Room on Python's stack for deeply nested models."""

import sys

__all__ = ["MANY", "make_room"]

_FRAMES = 24  # of Python for each level: eight of ours in a call, and what a `forward` and JAX need
_MOST = 20_000  # 2,500 levels or more; C's stack of 8 MB was full at about 7,000
MANY = 64  # nested modules; fewer always fit


def make_room(depth: int) -> None:
    """Let Python recurse deeply enough for this many nested modules.

    The limit is only raised, never lowered: another thread may be further down.
    """
    if sys.getrecursionlimit() < min(_FRAMES * depth, _MOST):
        sys.setrecursionlimit(min(2 * _FRAMES * depth, _MOST))
