"""The public place of what is defined in private files."""

import sys
from collections.abc import Iterable
from types import FunctionType

__all__ = ["claim"]

_faces: set[str] = set()


def claim(face: str, names: Iterable[str]) -> None:
    """Make a module the `__module__` of the classes and functions that it exports.

    So they print, document and pickle under the name that users import, and files may move. What another face has
    claimed before stays there.

    Args:
        face: Name of the module, already imported.
        names: Names of what it exports; values other than classes and functions of mlax are left as they are.
    """
    _faces.add(face)
    for name in names:
        value: object = getattr(sys.modules[face], name)
        if isinstance(value, type | FunctionType):
            home = value.__module__
            if home.partition(".")[0] == "mlax" and home not in _faces:
                value.__module__ = face
