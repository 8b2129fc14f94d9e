"""Operators of nodes. They raise an error that names `.data`, which is what was forgotten: `x @ self.kernel`."""

from collections.abc import Callable
from typing import Any, NoReturn

from mlax._module.printing import with_article

__all__ = ["refuse_operators"]

_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
_NAMES = f"{_BINARY} r{_BINARY.replace(' ', ' r')} neg pos abs invert lt le gt ge"


def refuse_operators(cls: Any) -> None:
    """Give a class of nodes operators that raise an error with the cure, also beside arrays of JAX and NumPy."""
    cls.__array_ufunc__ = None  # or NumPy would take a node for an array of objects
    for name in _NAMES.split():
        setattr(cls, f"__{name}__", _refusing(name))


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *_: object) -> NoReturn:
        raise TypeError(
            f"{with_article(type(self).__name__)} is a node, not an array: it has no operators.\n"
            f"  Use the array in it, node.data."
        )

    refuse.__name__ = refuse.__qualname__ = f"__{name}__"
    return refuse
