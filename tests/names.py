"""Names of test cases: the same in every process, as pytest-xdist needs them."""

import re


def stable(value: object) -> str:
    """Return the repr of a value without the addresses in it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
