"""The public module of a class or function that is defined in a private file."""

import sys
from collections.abc import Iterable
from types import FunctionType

__all__ = ["claim"]

_faces: set[str] = set()


def claim(face: str, names: Iterable[str]) -> None:
    """Set `__module__` of the classes and functions that a public module exports to that module.

    They are then printed, documented and pickled under the name that users import, and files can
    move. A class or function claimed by another public module before keeps that one.

    Args:
        face: Name of the public module, which is already imported.
        names: Names that it exports. Values other than classes and functions of mlax are not
            changed.
    """
    _faces.add(face)
    for name in names:
        value: object = getattr(sys.modules[face], name)
        if isinstance(value, type | FunctionType):
            home = value.__module__
            if home.partition(".")[0] == "mlax" and home not in _faces:
                value.__module__ = face
